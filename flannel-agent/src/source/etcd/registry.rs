//! The keys of a flannel network.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use etcd_client::{Compare, CompareOp, KeyValue, PutOptions, Txn, TxnOp};
use kernel::Family;

use super::{
    Access, Error,
    server::{LeaseWatch, Server},
};
use crate::{
    model::{Attributes, Claim, Entry, Guard, Held, LEASE_TTL, LeaseKey, Owner, Owners, Snapshot},
    report::Metrics,
};

/// The keys below one prefix.
///
/// One server is asked until it fails, then the next. (The client's own way with several servers is to
/// spread requests over them, with no regard to which of them are away.)
#[derive(Clone)]
pub struct Registry {
    servers: Vec<Server>,
    /// Which of them is asked.
    current: Arc<AtomicUsize>,
    prefix: String,
    metrics: Metrics,
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
    pub async fn connect(
        endpoints: &[String],
        access: &Access,
        prefix: &str,
    ) -> Result<Self, Error> {
        let mut servers = Vec::new();
        for endpoint in endpoints {
            servers.push(Server::connect(endpoint, access).await?);
        }
        if servers.is_empty() {
            return Err(Error::no_server());
        }
        Ok(Self {
            servers,
            current: Arc::default(),
            prefix: prefix.to_owned(),
            metrics: Metrics::default(),
        })
    }

    /// Has what it does counted.
    pub fn counted_by(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// What counts.
    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
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
        let found = self.ask(|server| async { server.get(&key).await }).await?;
        Ok(found.kvs().first().map(|kv| kv.value().to_vec()))
    }

    /// All leases, by one range read however many there are.
    pub async fn leases(&self) -> Result<Snapshot, Error> {
        let prefix = self.leases_prefix();
        let found = self
            .ask(|server| async { server.get_prefix(&prefix).await })
            .await?;
        Ok(Snapshot {
            revision: found.header().map_or(0, |header| header.revision()),
            entries: found.kvs().iter().filter_map(|kv| self.entry(kv)).collect(),
            ..Snapshot::default()
        })
    }

    /// What the keys of owners begin with. flanneld watches what begins with `<prefix>/subnets`, and takes
    /// whatever looks like a lease in there for one.
    pub fn owners_prefix(&self) -> String {
        format!("{}/tweed/owners/", self.prefix)
    }

    /// The owners of the leases of a snapshot. A lease that was written again since it was read has none,
    /// and can't be claimed by what was read.
    pub async fn owners(&self, snapshot: &Snapshot) -> Result<Owners, Error> {
        let prefix = self.owners_prefix();
        let mut found = self
            .ask(|server| async { server.get_prefix(&prefix).await })
            .await?;
        let owner = |kv: &KeyValue| {
            let key = String::from_utf8_lossy(kv.key());
            let name = key.strip_prefix(&prefix)?.to_owned();
            match serde_json::from_slice(kv.value()) {
                Ok(owner) => Some((name, owner, kv.mod_revision())),
                Err(error) => {
                    tracing::warn!("{key} in etcd is ignored: {error}");
                    None
                }
            }
        };
        let all = found.take_kvs();
        Ok(Owners::new(all.iter().filter_map(owner), snapshot))
    }

    /// Writes a lease and its owner, if what the claim was made of is still true. `read` is the revision
    /// that it was read in. They end after [`LEASE_TTL`], unless it is a reservation.
    pub async fn write(
        &self,
        claim: &Claim,
        own: &Attributes,
        owner: &Owner,
        read: i64,
    ) -> Result<Outcome, Error> {
        let reservation = matches!(
            claim.guard,
            Guard::Unchanged {
                reservation: true,
                ..
            }
        );
        let etcd_lease = if reservation {
            0
        } else {
            self.ask(|server| async { server.grant(LEASE_TTL).await })
                .await?
        };
        let transaction = Txn::new()
            .when(self.conditions(claim, read))
            .and_then(self.writes(claim, own, owner, etcd_lease));
        // This is asked once: if the answer gets lost, a second one would say that it was too late. The
        // etcd lease may be in use then; it is left to end by itself.
        let server = self.server(self.current.load(Ordering::Relaxed));
        let answer = server
            .transact(&self.lease_key(&claim.key), transaction)
            .await?;
        if answer.succeeded() {
            return Ok(Outcome::Written(Held {
                key: claim.key,
                mod_revision: answer.header().map_or(0, |header| header.revision()),
                reservation,
            }));
        }
        if !reservation {
            server.revoke(etcd_lease).await?;
        }
        Ok(Outcome::Raced)
    }

    /// Watches the network configuration, and what begins like its key, from now on.
    pub(super) async fn watch_config(&self) -> Result<LeaseWatch, Error> {
        let key = self.config_key();
        self.ask(|server| async { server.watch_prefix(&key, 0).await })
            .await
    }

    /// Watches the leases from a revision on.
    pub(super) async fn watch_leases(&self, from: i64) -> Result<LeaseWatch, Error> {
        let prefix = self.leases_prefix();
        self.ask(|server| async { server.watch_prefix(&prefix, from).await })
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
        let keeps_ipv4 =
            outdated.is_some_and(|(old, _)| old.subnet(Family::V4) == claim.key.subnet(Family::V4));
        let mut conditions = vec![if keeps_ipv4 {
            is_free
        } else {
            is_free.with_prefix()
        }];
        if let Some((old, revision)) = outdated {
            let old = self.lease_key(old);
            conditions.push(Compare::mod_revision(old, CompareOp::Equal, *revision));
        }
        if claim.key.subnet(Family::V6).is_some() {
            let all = Compare::mod_revision(self.leases_prefix(), CompareOp::Less, read + 1);
            conditions.push(all.with_prefix());
        }
        conditions
    }

    /// What is written when the conditions hold.
    fn writes(
        &self,
        claim: &Claim,
        own: &Attributes,
        owner: &Owner,
        etcd_lease: i64,
    ) -> Vec<TxnOp> {
        let options = || Some(PutOptions::new().with_lease(etcd_lease));
        let mut writes = Vec::new();
        if let Guard::Free {
            outdated: Some((old, _)),
        } = &claim.guard
        {
            writes.push(TxnOp::delete(self.lease_key(old), None));
            writes.push(TxnOp::delete(self.owner_key(old), None));
        }
        let (lease, by) = (self.lease_key(&claim.key), self.owner_key(&claim.key));
        writes.push(TxnOp::put(lease, own.to_json(), options()));
        writes.push(TxnOp::put(by, owner.to_json(), options()));
        writes
    }

    fn lease_key(&self, key: &LeaseKey) -> String {
        format!("{}{key}", self.leases_prefix())
    }

    fn owner_key(&self, key: &LeaseKey) -> String {
        format!("{}{key}", self.owners_prefix())
    }

    /// Asks the current server, and if it fails the others in turn; the one that answers is the current
    /// one from then on. For requests that do no harm when they are carried out twice.
    async fn ask<'a, T, F>(&'a self, request: impl Fn(&'a Server) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let start = self.current.load(Ordering::Relaxed);
        let mut failure = None;
        for offset in 0..self.servers.len() {
            match request(self.server(start + offset)).await {
                Ok(answer) => {
                    self.current.store(start + offset, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => {
                    self.metrics.source_failed();
                    failure = Some(error.after(failure));
                }
            }
        }
        Err(failure.unwrap_or_else(Error::no_server))
    }

    /// The server of a number, which goes round.
    fn server(&self, number: usize) -> &Server {
        &self.servers[number % self.servers.len()]
    }
}
