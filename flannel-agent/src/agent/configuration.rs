//! Following the network configuration in etcd while the agent runs.

use std::convert::Infallible;

use tokio::sync::watch;

use super::to_show;
use crate::{
    model::{Held, NetConf},
    plan::ConfUpdate,
    report::Notices,
    source,
};

/// Has the agent go on with what it can of each changed configuration; what has to wait for a restart,
/// and what is no configuration, is said once.
pub async fn follow(
    key: &str,
    mut texts: watch::Receiver<Option<Vec<u8>>>,
    held: watch::Receiver<Option<Held>>,
    running: &watch::Sender<NetConf>,
) -> Infallible {
    let mut notices = Notices::default();
    // The sender lives as long as the agent.
    while texts.changed().await.is_ok() {
        let text = texts.borrow_and_update().clone();
        let held = held.borrow().as_ref().map(|held| *held.key.subnets());
        match text.as_deref().map(|text| (text, NetConf::parse(text))) {
            None => notices.set([format!(
                "{key} is gone from etcd; going on with the configuration of before"
            )]),
            Some((_, Err(cause))) => notices.set([format!(
                "{key} in etcd was changed: {cause}; going on with the configuration of before"
            )]),
            Some((text, Ok(changed))) => {
                let held = held.unwrap_or_default();
                let can_iptables = source::check_bridge_netfilter().is_ok();
                let update = ConfUpdate::new(&running.borrow(), &changed, &held, can_iptables);
                if *running.borrow() != update.running {
                    tracing::info!("network configuration {key}: {}", to_show(text, &changed));
                    running.send_replace(update.running);
                }
                let waits = format!(
                    "{key} in etcd was changed in {}, which takes effect when this agent is restarted",
                    update.waiting.join(", ")
                );
                notices.set((!update.waiting.is_empty()).then_some(waits));
            }
        }
    }
    std::future::pending().await
}
