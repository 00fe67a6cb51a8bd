//! Following the network configuration.

use std::convert::Infallible;

use tokio::sync::watch;

use super::{Error, Registry};
use crate::{backoff::Backoff, report::Notices};

/// Keeps what stands in etcd as network configuration up to date, for ever; `None` while nothing does.
pub async fn follow_config(
    registry: &Registry,
    texts: &watch::Sender<Option<Vec<u8>>>,
) -> Infallible {
    let mut backoff = Backoff::default();
    let mut notices = Notices::default();
    loop {
        let error = match follow_until_failure(registry, texts, &mut backoff, &mut notices).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        notices.set([format!(
            "{error}; trying again, going on with the network configuration of before"
        )]);
        backoff.wait().await;
    }
}

/// What was changed before the watch stood is found by reading after that.
async fn follow_until_failure(
    registry: &Registry,
    texts: &watch::Sender<Option<Vec<u8>>>,
    backoff: &mut Backoff,
    notices: &mut Notices,
) -> Result<Infallible, Error> {
    let mut watch = registry.watch_config().await?;
    loop {
        watch.next().await?;
        let text = registry.config().await?;
        backoff.reset();
        if notices.clear() {
            tracing::info!("the network configuration in etcd is followed again");
        }
        texts.send_if_modified(|before| {
            let is_changed = *before != text;
            *before = text;
            is_changed
        });
    }
}
