//! The keys of a flannel network.

use std::{future::Future, time::Duration};

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, GetOptions, KeyValue, KvClient, LeaseClient,
    PutOptions, Txn, TxnOp, WatchClient, WatchOptions, WatchStream,
};

use super::{Error, error::Cause};
use crate::{
    model::{Attributes, Claim, Entry, Guard, Held, LeaseKey, Snapshot},
    options::LEASE_TTL,
};

/// How long a request may take. A watch has no end, but has to begin within it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a connection is probed (etcd refuses less than 5 s), and how long the answer may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// Largest answer that is accepted, in bytes: the leases of some 100,000 nodes.
const ANSWER_LIMIT: usize = 64 << 20;

/// The keys below one prefix.
#[derive(Clone)]
pub struct Registry {
    kv: KvClient,
    lease: LeaseClient,
    watch: WatchClient,
    endpoints: String,
    prefix: String,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The lease is held.
    Written(Held),
    /// Something changed since the claim was made; nothing is written.
    Raced,
}

// === impl Registry ===

impl Registry {
    /// Prepares for talking to servers; connections come about as they are needed, and again after they
    /// were lost.
    pub async fn connect(endpoints: &[String], prefix: &str) -> Result<Self, Error> {
        let options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        let joined = endpoints.join(",");
        let client = Client::connect(endpoints, Some(options))
            .await
            .map_err(|error| Error {
                attempted: "connect".into(),
                endpoints: joined.clone(),
                cause: Cause::Etcd(error),
            })?;
        Ok(Self {
            kv: client.kv_client().max_decoding_message_size(ANSWER_LIMIT),
            lease: client.lease_client(),
            watch: client
                .watch_client()
                .max_decoding_message_size(ANSWER_LIMIT),
            endpoints: joined,
            prefix: prefix.to_owned(),
        })
    }

    /// The key of the network configuration.
    pub fn config_key(&self) -> String {
        format!("{}/config", self.prefix)
    }

    /// What the keys of leases begin with. It ends with a slash, so that nothing beside is taken for one.
    pub fn leases_prefix(&self) -> String {
        format!("{}/subnets/", self.prefix)
    }

    /// The network configuration, if there is one.
    pub async fn config(&self) -> Result<Option<Vec<u8>>, Error> {
        let key = self.config_key();
        let mut kv = self.kv.clone();
        let found = self
            .call(&format!("get {key}"), kv.get(key.as_str(), None))
            .await?;
        Ok(found.kvs().first().map(|kv| kv.value().to_vec()))
    }

    /// All leases, by one range read however many there are.
    pub async fn leases(&self) -> Result<Snapshot, Error> {
        let prefix = self.leases_prefix();
        let mut kv = self.kv.clone();
        let options = GetOptions::new().with_prefix();
        let found = self
            .call(
                &format!("get --prefix {prefix}"),
                kv.get(prefix.as_str(), Some(options)),
            )
            .await?;
        Ok(Snapshot {
            revision: found.header().map_or(0, |header| header.revision()),
            entries: found.kvs().iter().filter_map(|kv| self.entry(kv)).collect(),
        })
    }

    /// Writes a lease, if what the claim was made of still is true. `read` is the revision that it was
    /// read in. The lease ends after [`LEASE_TTL`], unless it is a reservation.
    pub async fn write(
        &self,
        claim: &Claim,
        own: &Attributes,
        read: i64,
    ) -> Result<Outcome, Error> {
        let reservation = matches!(
            claim.guard,
            Guard::Unchanged {
                reservation: true,
                ..
            }
        );
        let etcd_lease = if reservation { 0 } else { self.grant().await? };
        let key = self.lease_key(&claim.key);
        let put = TxnOp::put(
            key.as_str(),
            own.to_json(),
            Some(PutOptions::new().with_lease(etcd_lease)),
        );
        let outdated = match &claim.guard {
            Guard::Free { outdated } => {
                outdated.map(|(key, _)| TxnOp::delete(self.lease_key(&key), None))
            }
            Guard::Unchanged { .. } => None,
        };
        let transaction = Txn::new()
            .when(self.conditions(claim, read))
            .and_then(outdated.into_iter().chain([put]).collect::<Vec<_>>());
        let mut kv = self.kv.clone();
        // If the answer gets lost, the lease may be in use: it is left to end by itself.
        let answer = self
            .call(&format!("txn for {key}"), kv.txn(transaction))
            .await?;
        if answer.succeeded() {
            return Ok(Outcome::Written(Held {
                key: claim.key,
                mod_revision: answer.header().map_or(0, |header| header.revision()),
                reservation,
            }));
        }
        if etcd_lease != 0 {
            self.revoke(etcd_lease).await?;
        }
        Ok(Outcome::Raced)
    }

    /// Watches the leases from a revision on.
    pub(super) async fn watch_leases(&self, from: i64) -> Result<WatchStream, Error> {
        let prefix = self.leases_prefix();
        let mut watch = self.watch.clone();
        let options = WatchOptions::new().with_prefix().with_start_revision(from);
        self.call(
            &format!("watch --prefix {prefix}"),
            watch.watch(prefix.as_str(), Some(options)),
        )
        .await
    }

    /// The name and the entry that a key and its value are.
    pub(super) fn entry(&self, kv: &KeyValue) -> Option<(String, Entry)> {
        let name = self.name(kv)?;
        let entry = Entry::parse(&name, kv.value(), kv.mod_revision(), kv.lease());
        Some((name, entry))
    }

    /// The name of an entry: its key without the prefix.
    pub(super) fn name(&self, kv: &KeyValue) -> Option<String> {
        let key = String::from_utf8_lossy(kv.key());
        key.strip_prefix(&self.leases_prefix()).map(str::to_owned)
    }

    pub(super) fn failed(&self, attempted: impl Into<String>, cause: Cause) -> Error {
        Error {
            attempted: attempted.into(),
            endpoints: self.endpoints.clone(),
            cause,
        }
    }

    /// What has to be true of etcd for a claim to hold.
    ///
    /// Keys of one IPv4 subnet begin alike, whether they have an IPv6 part or not: that no key begins so
    /// says that the subnet is free. Of an IPv6 subnet only the whole list can say that, so nothing may
    /// have been written to it since it was read.
    fn conditions(&self, claim: &Claim, read: i64) -> Vec<Compare> {
        let key = self.lease_key(&claim.key);
        let outdated = match &claim.guard {
            Guard::Unchanged { mod_revision, .. } => {
                return vec![Compare::mod_revision(key, CompareOp::Equal, *mod_revision)];
            }
            Guard::Free { outdated } => outdated,
        };
        let is_free = Compare::version(key, CompareOp::Equal, 0);
        let keeps_ipv4 = outdated.is_some_and(|(old, _)| {
            old.subnet(kernel::Family::V4) == claim.key.subnet(kernel::Family::V4)
        });
        let mut conditions = vec![if keeps_ipv4 {
            is_free
        } else {
            is_free.with_prefix()
        }];
        if let Some((old, revision)) = outdated {
            let old = self.lease_key(old);
            conditions.push(Compare::mod_revision(old, CompareOp::Equal, *revision));
        }
        if claim.key.subnet(kernel::Family::V6).is_some() {
            let all = Compare::mod_revision(self.leases_prefix(), CompareOp::Less, read + 1);
            conditions.push(all.with_prefix());
        }
        conditions
    }

    async fn grant(&self) -> Result<i64, Error> {
        let ttl = LEASE_TTL.as_secs();
        let mut lease = self.lease.clone();
        let granted = self
            .call(
                &format!("lease grant {ttl}"),
                lease.grant(ttl.cast_signed(), None),
            )
            .await?;
        Ok(granted.id())
    }

    async fn revoke(&self, etcd_lease: i64) -> Result<(), Error> {
        let mut lease = self.lease.clone();
        self.call(
            &format!("lease revoke {etcd_lease:x}"),
            lease.revoke(etcd_lease),
        )
        .await
        .map(drop)
    }

    fn lease_key(&self, key: &LeaseKey) -> String {
        format!("{}{key}", self.leases_prefix())
    }

    async fn call<T>(
        &self,
        attempted: &str,
        request: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failed(attempted, Cause::Etcd(error))),
            Err(_) => Err(self.failed(attempted, Cause::NoAnswer)),
        }
    }
}
