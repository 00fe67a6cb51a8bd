//! What IPVS mode is asked for, and what it needs of the machine.

use std::{net::SocketAddr, time::Duration};

use ipnetwork::IpNetwork;
use kernel::{
    Family,
    ipset::{self, Definition, Kind},
    iptables::{self, Backend, Iptables, in_use},
    ipvs::{CannotOpen, Change, Flags, Handle, Protocol, Timeouts, VirtualAddress, VirtualServer},
    sysctl,
};
use nix::{errno::Errno, sys::utsname::uname};

use super::{Kernel, Machine, Servers};
use crate::{
    dataplane::{Dataplane, Failure},
    plan::{
        ipvs::{SetsGuard, Settings, conn_reuse_mode},
        nftables::NodeRules,
    },
};

/// How IPVS mode works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpvsMode {
    /// The name of what chooses the endpoint of a connection.
    pub scheduler: String,
    /// Networks whose virtual servers are not ours, whoever made them.
    pub excluded: Vec<IpNetwork>,
    /// The node answers ARP for nothing but what is on the interface asked.
    pub strict_arp: bool,
    /// How long connections are remembered.
    pub timeouts: Timeouts,
    /// What becomes of the connections of endpoints that have gone.
    pub farewell: Farewell,
    /// What stands beside virtual servers.
    pub filter: Filter,
}

/// What stands beside virtual servers: says who may connect, refuses, drops and masquerades.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// A table of nftables.
    #[default]
    Table,
    /// ipsets, and chains of iptables that look them up; of a kind of tables, if it is not to be found out.
    Sets(Option<Backend>),
}

/// What becomes of the TCP connections of endpoints that have gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Farewell {
    /// How long an endpoint may keep them; `None`: until they end.
    pub patience: Option<Duration>,
    /// They are reset once it serves no longer.
    pub reset: bool,
}

/// IPVS mode can't be had.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// There is no way to IPVS.
    #[error(transparent)]
    CannotOpen(#[from] CannotOpen),
    /// There is no such scheduler.
    #[error(
        "ipvs.scheduler (--ipvs-scheduler): {name:?}: the kernel has no such scheduler, nor can its module \
         ip_vs_{name} be loaded: {cause}"
    )]
    Scheduler {
        /// What it is called.
        name: String,
        /// What the kernel said.
        cause: kernel::Error,
    },
    /// There are no such sets.
    #[error("--ipvs-filter=ipset: {0}")]
    Sets(#[source] kernel::Error),
    /// The kernel refused something else.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
}

/// kube-proxy's.
const USUAL_SCHEDULER: &str = "rr";
/// An address that is nobody's (RFC 5737), for a virtual server that shows whether there is a scheduler.
const NOBODY: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 0)),
    20000,
);

// === impl IpvsMode ===

impl IpvsMode {
    /// What of it is the same for all Services.
    pub fn settings(&self) -> Settings {
        Settings {
            scheduler: self.scheduler.clone(),
            excluded: self.excluded.clone(),
        }
    }
}

// === impl Filter ===

impl Filter {
    /// The programs of iptables of both families that it needs, of some kind or of that which the node uses.
    ///
    /// # Errors
    /// If they are not installed.
    pub fn programs(self) -> iptables::Result<Vec<Iptables>> {
        let Self::Sets(backend) = self else {
            return Ok(Vec::new());
        };
        let backend = backend.map_or_else(in_use, Ok)?;
        let programs = Family::ALL.map(|family| Iptables::find(family, backend));
        programs.into_iter().collect()
    }
}

/// kube-proxy's.
impl Default for IpvsMode {
    fn default() -> Self {
        Self {
            scheduler: USUAL_SCHEDULER.to_owned(),
            excluded: Vec::new(),
            strict_arp: false,
            timeouts: Timeouts::default(),
            farewell: Farewell::default(),
            filter: Filter::default(),
        }
    }
}

/// Sets what the mode needs of the machine, which takes more than CAP_NET_ADMIN; what is set already is left.
///
/// # Errors
/// If it can't be set.
pub fn prepare(mode: &IpvsMode) -> Result<(), NotReady> {
    // The module brings most of the settings.
    Handle::open()?;
    for (key, value) in needed(mode) {
        sysctl::set(key, value)?;
    }
    Ok(())
}

/// Makes the machine ready, and shows that the scheduler is there.
///
/// # Errors
/// If something can't be had.
pub fn open(
    mode: &IpvsMode,
    node: &str,
    rules: impl FnMut(Family) -> NodeRules,
) -> Result<Box<dyn Dataplane>, Failure> {
    prepare(mode)?;
    let mut ipvs = Handle::open().map_err(NotReady::from)?;
    try_scheduler(&mut ipvs, &mode.scheduler)?;
    if mode.timeouts != Timeouts::default() {
        ipvs.set_timeouts(mode.timeouts)?;
    }
    let (settings, farewell) = (mode.settings(), mode.farewell);
    let machine = Machine::open(ipvs, mode.filter.programs()?)?;
    let Some(backend) = machine.iptables() else {
        let servers = Servers::new(machine, node, &settings, farewell, rules);
        return Ok(Box::new(servers));
    };
    tracing::info!("writes ipsets and {backend}");
    try_sets()?;
    let guard = |family, rules: &NodeRules| SetsGuard::new(family, rules.clone());
    let servers = Servers::with(guard, machine, node, &settings, farewell, rules);
    Ok(Box::new(servers))
}

/// Shows that the kernel has all kinds of sets.
fn try_sets() -> Result<(), NotReady> {
    let mut sets = ipset::Handle::open()?;
    Kind::ALL.into_iter().try_for_each(|kind| {
        let definition = Definition::new(kind, Family::V4);
        sets.try_out(definition).map_err(NotReady::Sets)
    })
}

/// Why there is no IPVS mode on this kernel; `None`: nothing speaks against it.
pub fn missing() -> Option<String> {
    match Handle::open() {
        Err(CannotOpen::NotInKernel(error)) => Some(CannotOpen::NotInKernel(error).to_string()),
        // What else is wrong is told when it is opened.
        Ok(_) | Err(CannotOpen::Kernel(_)) => None,
    }
}

/// Kernel settings, with kube-proxy's values.
fn needed(mode: &IpvsMode) -> Vec<(&'static str, &'static str)> {
    // A kernel that does not tell its release is taken for a new one.
    let release = uname().map(|names| names.release().to_string_lossy().into_owned());
    let reuse = conn_reuse_mode(&release.unwrap_or_default());
    let strict = [
        ("net/ipv4/conf/all/arp_ignore", "1"),
        ("net/ipv4/conf/all/arp_announce", "2"),
    ];
    // The first lets conntrack see what IPVS translates, so that it can be masqueraded. With the next two, packets
    // of an endpoint that has gone are not dropped for minutes.
    [
        ("net/ipv4/vs/conntrack", "1"),
        ("net/ipv4/vs/expire_nodest_conn", "1"),
        ("net/ipv4/vs/expire_quiescent_template", "1"),
        ("net/ipv4/ip_forward", "1"),
    ]
    .into_iter()
    .chain(reuse.map(|value| ("net/ipv4/vs/conn_reuse_mode", value)))
    .chain(strict.into_iter().filter(|_| mode.strict_arp))
    .collect()
}

/// Makes a virtual server with a scheduler, and removes it at once.
fn try_scheduler(ipvs: &mut Handle, scheduler: &str) -> Result<(), NotReady> {
    let address = VirtualAddress {
        protocol: Protocol::Tcp,
        socket: NOBODY,
    };
    let server = VirtualServer {
        address,
        scheduler: scheduler.to_owned(),
        flags: Flags::default(),
        timeout: 0,
        client_prefix: Family::V4.max_prefix(),
    };
    match ipvs.apply(&[Change::AddVirtual(server)]) {
        Ok(()) => Ok(ipvs.apply(&[Change::DeleteVirtual(address)])?),
        // Somebody else tries in this moment, or did not live to remove it. The scheduler is looked up first.
        Err(error) if error.is_exists() => Ok(()),
        Err(cause) if matches!(cause.errno(), Some(Errno::ENOENT | Errno::EINVAL)) => {
            let name = scheduler.to_owned();
            Err(NotReady::Scheduler { name, cause })
        }
        Err(error) => Err(error.into()),
    }
}
