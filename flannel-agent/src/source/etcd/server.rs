//! One etcd server.

use std::{future::Future, sync::Arc, time::Duration};

use etcd_client::{
    Client, ConnectOptions, GetOptions, GetResponse, KvClient, LeaseClient, Txn, TxnResponse,
    WatchClient, WatchOptions, WatchResponse, WatchStream,
};
use tokio::sync::OnceCell;

use super::{Access, Error, error::Cause};

/// How long a request may take. A watch has no end, but has to begin within it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a connection is probed (etcd refuses less than 5 s), and how long the answer may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// Largest answer that is accepted, in bytes: the leases of some 100,000 nodes.
const ANSWER_LIMIT: usize = 64 << 20;

/// The requests to a server, each with a time limit and with an error that names it.
#[derive(Clone)]
pub(super) struct Server {
    endpoint: String,
    user: Option<(String, String)>,
    /// Set when the user has been made known to the server.
    authenticated: Arc<OnceCell<()>>,
    client: Client,
    kv: KvClient,
    lease: LeaseClient,
    watch: WatchClient,
}

/// A watch that stands until it fails.
pub(super) struct LeaseWatch {
    attempted: String,
    endpoint: String,
    stream: WatchStream,
}

// === impl Server ===

impl Server {
    /// Prepares for talking to it; nothing is sent yet.
    pub(super) async fn connect(endpoint: &str, access: &Access) -> Result<Self, Error> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some(tls) = access.tls() {
            options = options.with_tls(tls.clone());
        }
        let client = Client::connect([endpoint], Some(options))
            .await
            .map_err(|error| Error::new("connect", endpoint, &Cause::Etcd(error)))?;
        Ok(Self {
            endpoint: endpoint.to_owned(),
            user: access.user().cloned(),
            authenticated: Arc::default(),
            kv: client.kv_client().max_decoding_message_size(ANSWER_LIMIT),
            lease: client.lease_client(),
            watch: client
                .watch_client()
                .max_decoding_message_size(ANSWER_LIMIT),
            client,
        })
    }

    pub(super) async fn get(&self, key: &str) -> Result<GetResponse, Error> {
        let mut kv = self.kv.clone();
        self.answer(&format!("get {key}"), kv.get(key, None)).await
    }

    pub(super) async fn get_prefix(&self, prefix: &str) -> Result<GetResponse, Error> {
        let mut kv = self.kv.clone();
        let request = kv.get(prefix, Some(GetOptions::new().with_prefix()));
        self.answer(&format!("get --prefix {prefix}"), request)
            .await
    }

    /// `what` is the key that it is about.
    pub(super) async fn transact(
        &self,
        what: &str,
        transaction: Txn,
    ) -> Result<TxnResponse, Error> {
        let mut kv = self.kv.clone();
        self.answer(&format!("txn for {what}"), kv.txn(transaction))
            .await
    }

    /// Answers with the id of a new etcd lease.
    pub(super) async fn grant(&self, ttl: Duration) -> Result<i64, Error> {
        let seconds = ttl.as_secs();
        let mut lease = self.lease.clone();
        let request = lease.grant(seconds.cast_signed(), None);
        let granted = self
            .answer(&format!("lease grant {seconds}"), request)
            .await?;
        Ok(granted.id())
    }

    pub(super) async fn revoke(&self, id: i64) -> Result<(), Error> {
        let mut lease = self.lease.clone();
        self.answer(&format!("lease revoke {id:x}"), lease.revoke(id))
            .await
            .map(drop)
    }

    /// Watches from a revision on.
    pub(super) async fn watch_prefix(&self, prefix: &str, from: i64) -> Result<LeaseWatch, Error> {
        let attempted = format!("watch --prefix {prefix}");
        let mut watch = self.watch.clone();
        let options = WatchOptions::new().with_prefix().with_start_revision(from);
        let stream = self
            .answer(&attempted, watch.watch(prefix, Some(options)))
            .await?;
        Ok(LeaseWatch {
            attempted,
            endpoint: self.endpoint.clone(),
            stream,
        })
    }

    /// Names the user before the first request, not when connecting: the server may be away then.
    async fn authenticate(&self) -> Result<(), etcd_client::Error> {
        let Some(user) = &self.user else {
            return Ok(());
        };
        let mut client = self.client.clone();
        let authenticate = async || client.update_user(Some(user.clone())).await;
        self.authenticated.get_or_try_init(authenticate).await?;
        Ok(())
    }

    async fn answer<T>(
        &self,
        attempted: &str,
        request: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Error> {
        let failed = |cause| Error::new(attempted, &self.endpoint, &cause);
        let request = async {
            self.authenticate().await?;
            request.await
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
            Ok(answer) => answer.map_err(|error| failed(Cause::Etcd(error))),
            Err(_) => Err(failed(Cause::NoAnswer)),
        }
    }
}

// === impl LeaseWatch ===

impl LeaseWatch {
    /// What the server tells next, however long that takes. The first message has no events and says
    /// that the watch stands.
    pub(super) async fn next(&mut self) -> Result<WatchResponse, Error> {
        let cause = match self.stream.message().await {
            Ok(Some(response)) if !response.canceled() => return Ok(response),
            Ok(Some(response)) => Cause::WatchEnded(match response.compact_revision() {
                0 => response.cancel_reason().to_owned(),
                revision => format!("the history before revision {revision} is compacted"),
            }),
            Ok(None) => Cause::WatchEnded("by the server".into()),
            Err(error) => Cause::Etcd(error),
        };
        Err(Error::new(&self.attempted, &self.endpoint, &cause))
    }
}
