//! What was written to etcd, by a watch from the beginning.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use etcd_client::{Client, EventType, WatchOptions};
use flannel_agent::model::Owner;
use tokio::sync::oneshot;

use crate::lab::{Lab, PREFIX, eventually, runtime};

/// One write: `None` for a deletion.
pub type Write = (String, Option<String>);

/// Records all writes below `<prefix>/subnets/` and `<prefix>/tweed/` until it is ended. Watches again,
/// from the then present, when etcd was away.
pub struct History {
    writes: Arc<Mutex<Vec<Write>>>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// All that was written.
pub struct Writes(pub Vec<Write>);

// === impl History ===

impl History {
    pub fn record(lab: &Lab) -> Self {
        let writes = Arc::default();
        let (stop, stopped) = oneshot::channel();
        let standing = Arc::new(AtomicBool::new(false));
        let stands = Arc::clone(&standing);
        let namespace = kernel::netns::Namespace::open(lab.hub.namespace.path()).unwrap();
        let into = Arc::clone(&writes);
        let thread = std::thread::spawn(move || {
            let record = || {
                runtime().block_on(async {
                    tokio::select! {
                        () = watch(&into, &stands) => {}
                        _ = stopped => {}
                    }
                });
            };
            namespace.run(record).unwrap();
        });
        eventually("the watch stands", || standing.load(Ordering::Relaxed));
        Self {
            writes,
            stop,
            thread,
        }
    }

    /// What was written so far.
    pub fn so_far(&self) -> Writes {
        Writes(self.writes.lock().unwrap().clone())
    }

    pub fn end(self) -> Writes {
        let writes = self.so_far();
        self.stop.send(()).unwrap();
        self.thread.join().unwrap();
        writes
    }
}

/// Begins again whenever it fails, for ever.
async fn watch(into: &Mutex<Vec<Write>>, stands: &AtomicBool) {
    loop {
        if let Err(error) = watch_until_failure(into, stands).await {
            eprintln!("the history is watched again: {error}");
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn watch_until_failure(
    into: &Mutex<Vec<Write>>,
    stands: &AtomicBool,
) -> Result<(), etcd_client::Error> {
    let mut client = Client::connect(["http://127.0.0.1:2379"], None).await?;
    let options = WatchOptions::new().with_prefix();
    let mut stream = client.watch(format!("{PREFIX}/"), Some(options)).await?;
    while let Some(response) = stream.message().await? {
        stands.fetch_or(response.created(), Ordering::Relaxed);
        let mut writes = into.lock().unwrap();
        for event in response.events() {
            let kv = event.kv().unwrap();
            let key = kv.key_str()?.trim_start_matches(PREFIX).to_owned();
            let value = match event.event_type() {
                EventType::Put => Some(kv.value_str()?.to_owned()),
                EventType::Delete => None,
            };
            writes.push((key, value));
        }
    }
    Ok(())
}

// === impl Writes ===

impl Writes {
    /// Leases that another node wrote while they stood, as `key: before -> after`.
    pub fn taken_over(&self) -> Vec<String> {
        let mut standing: BTreeMap<&str, &str> = BTreeMap::new();
        let mut taken = Vec::new();
        for (key, value) in self
            .0
            .iter()
            .filter(|(key, _)| key.starts_with("/subnets/"))
        {
            let before = match value {
                Some(value) => standing.insert(key, value),
                None => standing.remove(key.as_str()),
            };
            if let (Some(before), Some(after)) = (before, value)
                && before != after
            {
                taken.push(format!("{key}: {before} -> {after}"));
            }
        }
        taken
    }

    /// Who has ever written each lease, by Ethernet addresses.
    pub fn owners(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (key, value) in &self.0 {
            let (Some(name), Some(value)) = (key.strip_prefix("/tweed/owners/"), value) else {
                continue;
            };
            let owner: Owner = serde_json::from_str(value).unwrap();
            let macs = owners.entry(name.to_owned()).or_default();
            macs.insert(owner.mac.unwrap().to_string());
        }
        owners
    }
}
