//! Keeping the rules for masquerading and forwarding as they should be.

use std::{convert::Infallible, fs, time::Duration};

use ipnetwork::IpNetwork;
use kernel::{
    Family, IfName,
    iptables::{self, Backend, Iptables},
    netlink::{Drained, Monitor, Protocol},
    nft,
};
use tokio::{
    io::unix::AsyncFd,
    sync::watch,
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior},
};

use super::{CannotWatch, advertisements};
use crate::{
    model::{self, ByFamily, Held, NetConf},
    plan::{self, OwnChain, Rules},
    report::{Metrics, Notices},
};

/// The multicast group of changes to nf_tables (`NFNLGRP_NFTABLES`).
const NFT_CHANGES: u32 = 7;

/// The least time between two looks after announced changes. Others may change their rules all the time,
/// and looking through iptables means to run its programs.
const fn pause(by: model::PacketFilter) -> Duration {
    match by {
        model::PacketFilter::Nftables => Duration::from_millis(100),
        model::PacketFilter::Iptables => Duration::from_secs(1),
    }
}

/// Keeps the rules of all families.
pub struct PacketFilter {
    by: model::PacketFilter,
    rules: Rules,
    networks: ByFamily<IpNetwork>,
    /// The devices whose router advertisements are dropped.
    unadvertised: Vec<IfName>,
    resync: Duration,
    changes: AsyncFd<Monitor>,
    switched: bool,
    metrics: Metrics,
    failures: Notices,
}

/// Why the rules are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// nftables refuses something.
    #[error(transparent)]
    Nftables(#[from] kernel::Error),
    /// iptables refuses something.
    #[error(transparent)]
    Iptables(#[from] iptables::Error),
    /// The program ends.
    #[error("the work on iptables was not finished: {0}")]
    Unfinished(#[from] tokio::task::JoinError),
}

// === impl PacketFilter ===

impl PacketFilter {
    /// Rules for these networks, looked at on changes and every `resync`. Router advertisements that come in by
    /// the devices `unadvertised` are dropped.
    pub fn new(
        by: model::PacketFilter,
        rules: Rules,
        networks: ByFamily<IpNetwork>,
        unadvertised: Vec<IfName>,
        resync: Duration,
        metrics: Metrics,
    ) -> Result<Self, CannotWatch> {
        Ok(Self {
            by,
            rules,
            networks,
            unadvertised,
            resync,
            changes: watch_changes()?,
            switched: false,
            metrics,
            failures: Notices::default(),
        })
    }

    /// Keeps the rules for the subnets of the lease, for ever, by what the configuration says; nothing is
    /// done before there is one.
    pub async fn run(
        &mut self,
        mut held: watch::Receiver<Option<Held>>,
        mut conf: watch::Receiver<NetConf>,
    ) -> Infallible {
        let mut timer = tokio::time::interval(self.resync);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due: Option<Instant> = None;
        let mut earliest = Instant::now();
        loop {
            // The sender lives as long as the agent; without it the others go on.
            tokio::select! {
                Ok(()) = held.changed() => {}
                Ok(()) = conf.changed() => {
                    self.by = conf.borrow_and_update().packet_filter;
                    self.switched = false;
                }
                _ = timer.tick() => {}
                () = changed(&mut self.changes), if due.is_none() => {
                    due = Some(earliest.max(Instant::now()));
                    continue;
                }
                () = tokio::time::sleep_until(due.unwrap_or(earliest)), if due.is_some() => {
                    earliest = Instant::now() + pause(self.by);
                }
            }
            due = None;
            let Some(held) = *held.borrow_and_update() else {
                continue;
            };
            // First, as the other is only the first time what is no repair.
            let dropped = self.drop_advertisements().err().map(|error| {
                format!(
                    "pods of other nodes can configure this node by IPv6 router advertisements, unless it forwards \
                     IPv6: accept_ra can't be set in this container, and nftables refuses to drop them: {error}; set \
                     it on the node; trying again"
                )
            });
            let ruled = self.reconcile(&held).await.err().map(|error| {
                format!(
                    "masquerading and forwarding are not as they should be: {error}; trying again"
                )
            });
            self.tell(dropped.into_iter().chain(ruled).collect());
        }
    }

    fn tell(&mut self, failures: Vec<String>) {
        if !failures.is_empty() {
            self.failures.set(failures);
        } else if self.failures.clear() {
            tracing::info!("the packet filter is as it should be again");
        }
    }

    fn drop_advertisements(&self) -> kernel::Result<()> {
        let sent = advertisements::drop_by_rule(&self.unadvertised)?;
        self.metrics.rules_changed(sent, self.switched);
        if sent > 0 {
            tracing::info!("router advertisements from other nodes: {sent} changes in nftables");
        }
        Ok(())
    }

    async fn reconcile(&mut self, held: &Held) -> Result<(), RulesError> {
        match self.by {
            model::PacketFilter::Nftables => {
                self.nftables(held)?;
                if !self.switched {
                    spawn_blocking(remove_iptables).await??;
                }
            }
            model::PacketFilter::Iptables => {
                let chains = self.chains(held);
                spawn_blocking(|| repair_iptables(chains)).await??;
                if !self.switched {
                    remove_nftables("iptables is used instead")?;
                }
            }
        }
        self.switched = true;
        Ok(())
    }

    /// Makes the tables right, and removes those of families without any rules.
    fn nftables(&self, held: &Held) -> Result<(), RulesError> {
        let mut kernel = nft::Handle::open()?;
        for family in Family::ALL {
            let wanted = self.subnets(family, held);
            match wanted.and_then(|(pod, cluster)| plan::nft_table(self.rules, pod, cluster)) {
                Some(table) => kernel.reconcile(&table)?,
                None => {
                    let name = plan::nft_table_name(family);
                    if kernel.read(family, name)?.is_some() {
                        kernel.delete_table_if_present(family, name)?;
                    }
                }
            }
        }
        self.metrics.rules_changed(kernel.sent(), self.switched);
        if kernel.sent() > 0 {
            tracing::info!(
                "masquerading and forwarding: {} changes in nftables",
                kernel.sent()
            );
        }
        Ok(())
    }

    fn chains(&self, held: &Held) -> ByFamily<[OwnChain; 2]> {
        let chains = |family| {
            let (pod, cluster) = self.subnets(family, held)?;
            Some((family, plan::iptables_chains(self.rules, pod, cluster)))
        };
        Family::ALL.into_iter().filter_map(chains).collect()
    }

    /// The node's subnet and the network of a family that has them.
    fn subnets(&self, family: Family, held: &Held) -> Option<(IpNetwork, IpNetwork)> {
        Some((held.key.subnet(family)?, *self.networks.get(family)?))
    }
}

#[expect(
    deprecated,
    reason = "its replacement is unsafe; a monitor keeps its descriptor as long as it lives"
)]
fn watch_changes() -> Result<AsyncFd<Monitor>, CannotWatch> {
    let monitor = Monitor::open(Protocol::Netfilter, &[NFT_CHANGES])
        .map_err(|error| kernel::Error::new("nft monitor", error))?;
    Ok(AsyncFd::new(monitor)?)
}

/// Waits for any change to nf_tables. Announcements that can't be received count as one.
async fn changed(changes: &mut AsyncFd<Monitor>) {
    loop {
        match changes.readable_mut().await {
            Ok(mut guard) => guard.clear_ready(),
            // Only when the runtime ends.
            Err(_) => std::future::pending().await,
        }
        match changes.get_mut().drain() {
            Ok(Drained::Messages(messages)) if messages.is_empty() => {}
            _ => return,
        }
    }
}

fn repair_iptables(chains: ByFamily<[OwnChain; 2]>) -> Result<(), RulesError> {
    let backend = iptables::in_use()?;
    for (family, chains) in chains.iter() {
        let iptables = Iptables::find(family, backend)?;
        for chain in chains {
            repair(&iptables, chain)?;
        }
    }
    Ok(())
}

/// Removes flannel's chains, wherever they stand. What isn't there is not looked at by iptables: its
/// programs load modules and make tables by looking.
fn remove_iptables() -> Result<(), RulesError> {
    let mut kernel = nft::Handle::open()?;
    for family in Family::ALL {
        for chain in plan::no_iptables_chains() {
            let table = kernel.read(family, chain.table)?;
            if table.is_some_and(|table| table.chains.contains_key(chain.name)) {
                repair(&Iptables::find(family, Backend::Nft)?, &chain)?;
            }
            if has_legacy_table(family, chain.table) {
                repair(&Iptables::find(family, Backend::Legacy)?, &chain)?;
            }
        }
    }
    Ok(())
}

fn repair(iptables: &Iptables, chain: &OwnChain) -> Result<(), RulesError> {
    if let Some(text) = chain.repair(&iptables.save(chain.table)?) {
        let (family, name) = (iptables.family(), chain.name);
        tracing::info!("masquerading and forwarding: {family} chain {name} changed in iptables");
        iptables.restore(&text)?;
    }
    Ok(())
}

/// A kernel without the older tables has no such file.
fn has_legacy_table(family: Family, table: &str) -> bool {
    let path = match family {
        Family::V4 => "/proc/net/ip_tables_names",
        Family::V6 => "/proc/net/ip6_tables_names",
    };
    let names = fs::read_to_string(path).unwrap_or_default();
    names.lines().any(|name| name == table)
}

/// Removes all rules, whichever way they were made.
pub fn remove_rules() -> Result<(), RulesError> {
    advertisements::remove(&mut nft::Handle::open()?)?;
    remove_nftables("that was asked for")?;
    remove_iptables()
}

fn remove_nftables(why: &str) -> Result<(), RulesError> {
    let mut kernel = nft::Handle::open()?;
    for family in Family::ALL {
        if kernel.delete_table_if_present(family, plan::nft_table_name(family))? {
            tracing::info!("the {family} table of nftables is removed: {why}");
        }
    }
    Ok(())
}
