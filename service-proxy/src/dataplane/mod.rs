//! What makes Services work on a node: one of several ways into the kernel.

pub mod iptables;

use std::{collections::BTreeSet, fmt};

use kernel::{Family, iptables::Backend, nft};
use nix::errno::Errno;

use crate::{
    model::{Catalogue, ObjectName},
    plan::{iptables::Settings, nftables::NodeRules},
    reconcile::{self, Nftables, Outcome, Reconciler},
};

/// Lets the kernel follow Services.
pub trait Dataplane: fmt::Debug {
    /// Takes in what has become of Services, and lets the kernel follow.
    fn update(&mut self, catalogue: &Catalogue, services: &BTreeSet<ObjectName>) -> Outcome;

    /// Compares with the kernel, and puts right what differs. To be called now and then, and after a failure.
    fn resync(&mut self) -> Outcome;
}

/// What Services are turned into.
#[derive(Clone, Debug)]
pub enum Mode {
    /// Elements of nftables maps.
    Nftables,
    /// Chains of iptables.
    Iptables {
        /// The kind of tables, if it is not to be found out.
        backend: Option<Backend>,
        /// What of the rules is the same for all Services, of IPv4 and IPv6.
        settings: Box<[Settings; 2]>,
    },
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
}

// === impl Mode ===

impl Mode {
    /// Its name, as kube-proxy's `/proxyMode` tells it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables { .. } => "iptables",
        }
    }

    /// Makes ready for a node.
    ///
    /// # Errors
    /// If there is no way into the kernel.
    pub fn open(&self, node: &str, rules: &[NodeRules; 2]) -> Result<Box<dyn Dataplane>, Failure> {
        Ok(match self {
            Self::Nftables => {
                let [v4, v6] = rules;
                Box::new(Reconciler::new(
                    nft::Handle::open()?,
                    node,
                    |family| match family {
                        Family::V4 => v4.clone(),
                        Family::V6 => v6.clone(),
                    },
                ))
            }
            Self::Iptables { backend, settings } => Box::new(iptables::Tables::open(
                node,
                *backend,
                (**settings).clone(),
            )?),
        })
    }

    /// Removes what another mode has left. To be called when this one works, so that no connection finds
    /// neither. What is not ours or kube-proxy's stays; of kube-proxy's, what `--cleanup` would remove.
    pub fn remove_others(&self) {
        let removed = match self {
            Self::Nftables => clean_up_iptables(),
            Self::Iptables { .. } => clean_up_nftables(),
        };
        if let Err(failure) = removed {
            tracing::warn!(
                "remove what another mode has left: {failure}; it is out of date from now on, remove it by \
                 --cleanup and start again"
            );
        }
    }
}

/// Removes everything of all modes.
///
/// # Errors
/// If the kernel or a program refuses to; what is not there is no error.
pub fn clean_up() -> Result<(), Failure> {
    clean_up_nftables()?;
    clean_up_iptables()
}

fn clean_up_nftables() -> Result<(), Failure> {
    for family in reconcile::clean_up(&mut nft::Handle::open()?)? {
        tracing::info!("removed everything of {family} from nftables");
    }
    Ok(())
}

fn clean_up_iptables() -> Result<(), Failure> {
    for (family, backend) in iptables::clean_up()? {
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
            Self::Iptables(kernel::iptables::Error::Refused { .. }) => {
                "run it as root or with CAP_NET_ADMIN and CAP_NET_RAW; the kernel needs xtables with comment, \
                 mark, conntrack, addrtype, statistic, recent, DNAT and MASQUERADE; it is tried again soon"
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
}
