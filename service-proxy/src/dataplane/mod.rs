//! What makes Services work on a node: one of several ways into the kernel.

pub mod iptables;
pub mod ipvs;

use std::{collections::BTreeSet, fmt, mem, time::Instant};

use kernel::{Family, iptables::Backend, nft};
use nix::errno::Errno;

use crate::{
    drift::{CannotWatch, Drift},
    model::{Catalogue, ObjectName},
    plan::nftables::{IPVS_TABLE, NodeRules, Surroundings, TABLE, UNSERVED},
    reconcile::{self, Nftables, Outcome, Reconciler},
};

/// The nftables table of kube-proxy.
const KUBE_PROXY_TABLE: &str = "kube-proxy";
/// Its chain that refuses any other port of a cluster IP.
const KUBE_PROXY_UNSERVED: &str = "cluster-ips-check";

/// Lets the kernel follow Services.
pub trait Dataplane: fmt::Debug {
    /// Takes in what has become of Services, and lets the kernel follow.
    fn update(&mut self, catalogue: &Catalogue, services: &BTreeSet<ObjectName>) -> Outcome;

    /// Compares with the kernel, and puts right what differs. To be called now and then, and after a failure.
    fn resync(&mut self) -> Outcome;

    /// When to look at what waits for the end of connections, if there is any.
    fn look_at(&self) -> Option<Instant> {
        None
    }

    /// Looks at that alone, and removes what waits no longer.
    fn look(&mut self) -> Outcome {
        Outcome::default()
    }

    /// Watches for what others change, if that is announced. To be called before the first look at the kernel.
    ///
    /// # Errors
    /// If the kernel or the runtime refuses.
    fn watch(&self) -> Result<Option<Drift>, CannotWatch> {
        Ok(None)
    }

    /// Takes in what of a family's rules is the same for all Services; answers whether that is new, and the
    /// kernel does not follow before the next [`Dataplane::resync`].
    fn set_rules(&mut self, family: Family, rules: NodeRules) -> bool;

    /// The kind of iptables that it keeps its rules in, if it does.
    fn iptables(&self) -> Option<Backend> {
        None
    }

    /// Whether the rules are for the node and the networks as they are known by now.
    fn is_settled(&self, catalogue: &Catalogue) -> bool;

    /// The node and the networks that the rules are for.
    fn surroundings(&self) -> &Surroundings;
}

/// What Services are turned into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Elements of nftables maps.
    Nftables,
    /// Chains of iptables.
    Iptables(iptables::IptablesMode),
    /// Virtual servers of IPVS.
    Ipvs(ipvs::IpvsMode),
}

/// Why the kernel does not follow.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A program of iptables did.
    #[error(transparent)]
    Iptables(#[from] kernel::iptables::Error),
    /// IPVS can't be had.
    #[error(transparent)]
    Ipvs(#[from] ipvs::NotReady),
}

// === impl Mode ===

impl Mode {
    /// Its name, as kube-proxy's `/proxyMode` tells it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables(_) => "iptables",
            Self::Ipvs(_) => "ipvs",
        }
    }

    /// Makes ready for a node, with what of a family's rules is the same for all Services.
    ///
    /// # Errors
    /// If there is no way into the kernel.
    pub fn open(
        &self,
        node: &str,
        rules: impl FnMut(Family) -> NodeRules,
    ) -> Result<Box<dyn Dataplane>, Failure> {
        Ok(match self {
            Self::Nftables => Box::new(Reconciler::new(nft::Handle::open()?, node, rules)),
            Self::Iptables(mode) => Box::new(iptables::Tables::open(node, *mode, rules)?),
            Self::Ipvs(mode) => ipvs::open(mode, node, rules)?,
        })
    }

    /// Whether another way of it would be one of the same mode, which takes over what stands.
    pub fn is_kin(&self, other: &Self) -> bool {
        mem::discriminant(self) == mem::discriminant(other)
    }

    /// Removes what others have left: our other modes, and kube-proxy in any mode. To be called when this one
    /// works, as the dataplane has it, so that no connection finds neither. What is not ours or kube-proxy's stays.
    /// Answers whether all is removed: what connections of IPVS need stays for as long as they last.
    ///
    /// # Errors
    /// If the kernel or a program refuses to; what is not there is no error.
    pub fn remove_others(&self, dataplane: &dyn Dataplane) -> Result<bool, Failure> {
        remove_table(KUBE_PROXY_TABLE)?;
        if *self != Self::Nftables {
            remove_table(TABLE)?;
        }
        clean_up_iptables(&unused(dataplane))?;
        match self {
            Self::Ipvs(mode) => {
                match mode.filter {
                    ipvs::Filter::Table => ipvs::remove_sets().map(drop)?,
                    ipvs::Filter::Sets(_) => remove_table(IPVS_TABLE)?,
                }
                Ok(true)
            }
            Self::Nftables | Self::Iptables(_) => ipvs::clean_up(true),
        }
    }

    /// Removes all that this mode has put into the kernel, but chains of a kind of iptables that another dataplane
    /// has.
    ///
    /// # Errors
    /// If the kernel or a program refuses to; what is not there is no error.
    pub fn clean_up(&self, staying: &dyn Dataplane) -> Result<(), Failure> {
        match self {
            Self::Ipvs(mode) => {
                if mode.filter != ipvs::Filter::Table {
                    clean_up_iptables(&unused(staying))?;
                }
                ipvs::clean_up(false).map(drop)
            }
            Self::Nftables => remove_table(TABLE),
            Self::Iptables(_) => clean_up_iptables(&unused(staying)),
        }
    }
}

/// Removes everything of all modes, kube-proxy's too, and what was set for them.
///
/// # Errors
/// If the kernel or a program refuses to; what is not there is no error.
pub fn clean_up() -> Result<(), Failure> {
    remove_table(TABLE)?;
    remove_table(KUBE_PROXY_TABLE)?;
    iptables::stop_routing_loopback()?;
    clean_up_iptables(&Backend::ALL)?;
    ipvs::clean_up(false).map(drop)
}

/// The kinds of iptables that a dataplane does not write.
fn unused(dataplane: &dyn Dataplane) -> Vec<Backend> {
    let others = |backend: &Backend| dataplane.iptables() != Some(*backend);
    Backend::ALL.into_iter().filter(others).collect()
}

fn remove_table(table: &str) -> Result<(), Failure> {
    let refusing = match table {
        KUBE_PROXY_TABLE => KUBE_PROXY_UNSERVED,
        _ => UNSERVED,
    };
    let mut kernel = nft::Handle::open()?;
    for family in Family::ALL {
        if reconcile::remove_table(&mut kernel, family, table, refusing)? {
            tracing::info!("removed table {table} of {family} from nftables");
        }
    }
    Ok(())
}

fn clean_up_iptables(backends: &[Backend]) -> Result<(), Failure> {
    for (family, backend) in iptables::clean_up(backends)? {
        tracing::info!("removed everything of {family} from {backend}");
    }
    Ok(())
}

// === impl Failure ===

impl Failure {
    /// What to do about it, or what is done about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Kernel(error) => match error.errno() {
                Some(Errno::EPERM | Errno::EACCES) => "run it as root or with CAP_NET_ADMIN",
                Some(Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT) => {
                    "the kernel needs nf_tables with NAT, masquerade, reject and numgen"
                }
                _ => "everything is compared with the kernel and tried again soon",
            },
            Self::Iptables(
                kernel::iptables::Error::Refused { .. } | kernel::iptables::Error::Kernel(_),
            ) => {
                "run it as root or with CAP_NET_ADMIN and CAP_NET_RAW; the kernel needs xtables with comment, \
                 mark, conntrack, addrtype, statistic, recent, DNAT and MASQUERADE; it is tried again soon"
            }
            Self::Ipvs(ipvs::NotReady::CannotOpen(_)) => {
                "install the modules ip_vs and dummy, or say mode: nftables or iptables"
            }
            Self::Ipvs(ipvs::NotReady::Scheduler { .. }) => {
                "say rr, wrr, lc, wlc, sh, dh, mh, sed, nq, lblc, lblcr, fo or ovf, or install the module"
            }
            Self::Ipvs(ipvs::NotReady::Sets(_)) => {
                "install the modules ip_set_hash_ip, ip_set_hash_ipport, ip_set_hash_ipportip, \
                 ip_set_hash_ipportnet, ip_set_bitmap_port and xt_set, or say --ipvs-filter=nft"
            }
            Self::Ipvs(ipvs::NotReady::Kernel(_)) => {
                "run it as root or with CAP_NET_ADMIN, with /proc/sys to be written"
            }
            Self::Iptables(_) => "everything is compared with the kernel and tried again soon",
        }
    }
}

// === impl Dataplane for Reconciler ===

impl<K: Nftables + fmt::Debug> Dataplane for Reconciler<K> {
    fn update(&mut self, catalogue: &Catalogue, services: &BTreeSet<ObjectName>) -> Outcome {
        Self::update(self, catalogue, services)
    }

    fn resync(&mut self) -> Outcome {
        Self::resync(self)
    }

    fn watch(&self) -> Result<Option<Drift>, CannotWatch> {
        Self::watch(self)
    }

    fn set_rules(&mut self, family: Family, rules: NodeRules) -> bool {
        Self::set_rules(self, family, rules)
    }

    fn is_settled(&self, catalogue: &Catalogue) -> bool {
        Self::is_settled(self, catalogue)
    }

    fn surroundings(&self) -> &Surroundings {
        Self::surroundings(self)
    }
}
