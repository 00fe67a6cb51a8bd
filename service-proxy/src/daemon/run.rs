//! What the daemon waits for, and in which order it is looked at.

use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};

use super::{Daemon, Error, Orders, SourceSettings};
use crate::{
    configuration::Follow,
    drift::Drift,
    report::{Events, Happening},
    source::{Kube, Manifests, News, Source, kube::Access},
    tuning,
};

/// Runs until a SIGTERM or SIGINT; what stands in the kernel stays there.
///
/// # Errors
/// If it can't start.
pub async fn run(mut orders: Orders) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    orders.settings.tuning.protect();
    tuning::use_all_descriptors();
    let (mut source, all, events) = open(&orders).await?;
    events.tell(Happening::Started);
    let mut file = orders.file.take();
    let mut daemon = Daemon::new(orders, events)?;
    daemon.learn(all);
    loop {
        // Not before: where somebody listens, the kernel announces every element of the first sync by itself.
        if !daemon.watching && !daemon.starting {
            daemon.drift = daemon.dataplane.watch()?;
            daemon.watching = true;
            // What has happened since the first sync.
            daemon.look_at = Instant::now();
        }
        let known = source.is_complete() && !daemon.waiting;
        let behind = known && daemon.is_behind();
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            text = changed(&mut file) => daemon.reload(text),
            () = sleep_until(daemon.free_at), if behind => daemon.follow(),
            () = disturbed(&mut daemon.drift) => daemon.disturbed(),
            () = sleep_until(daemon.look_at), if known => daemon.resync(),
            () = ended(daemon.dataplane.look_at()), if known => daemon.look(),
            news = source.next() => daemon.learn(news),
        }
    }
    tracing::info!("stopped; what it has put into the kernel stays and goes on to work");
    Ok(())
}

/// Waits until the configuration's file has changed, for ever if there is none.
async fn changed(file: &mut Option<Follow>) -> Result<String, String> {
    match file {
        Some(file) => file.next().await,
        None => std::future::pending().await,
    }
}

/// Waits until somebody else has changed what is ours, for ever where that is not announced.
async fn disturbed(drift: &mut Option<Drift>) {
    match drift {
        Some(drift) => drift.next().await,
        None => std::future::pending().await,
    }
}

/// Waits until it is time to look for connections that have ended, for ever if nothing waits for any.
async fn ended(look_at: Option<Instant>) {
    match look_at {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(time: Instant) {
    tokio::time::sleep_until(time.into()).await;
}

/// Opens the source; answers with what it has at once, and where Events are told.
async fn open(orders: &Orders) -> Result<(Source, Vec<News>, Events), Error> {
    match &orders.source {
        SourceSettings::Manifests(path) => {
            let (manifests, all) = Manifests::open(path)?;
            let all = all.into_iter().map(News::Change).collect();
            Ok((Source::Manifests(manifests), all, Events::default()))
        }
        SourceSettings::Kube { kubeconfig, master } => {
            let access = Access::new(kubeconfig.clone(), master.clone()).await?;
            tracing::info!(
                "follows API server {} for node {}",
                access.server(),
                orders.node
            );
            let events = Events::start(access.client().clone(), &orders.node);
            let kube = Kube::follow(access, &orders.node);
            Ok((Source::Kube(kube), Vec::new(), events))
        }
    }
}
