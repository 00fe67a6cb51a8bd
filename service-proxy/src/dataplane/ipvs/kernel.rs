//! What of the kernel IPVS mode needs.

use std::{collections::BTreeSet, net::IpAddr};

use ipnetwork::IpNetwork;
use kernel::{
    Family, IfName, ipset,
    iptables::{Backend, Iptables},
    ipvs::{self, Change, ObservedReal, VirtualAddress, VirtualServer},
    nft::{self, ObservedTable, Transaction},
    route::{self, Address, Change as RouteChange, IfIndex, NewLink, NewLinkKind},
};

use super::sets;
use crate::{
    drift::{AddressDrift, CannotWatch, Concerns, Drift},
    plan::ipvs::Former,
    reconcile::Nftables,
};

/// The interface that has the addresses of Services, with kube-proxy's name.
pub const INTERFACE: &str = "kube-ipvs0";

/// What IPVS mode needs: the kernel, or in tests of plans a fake.
pub trait Kernel {
    /// All virtual servers.
    fn virtual_servers(&mut self) -> kernel::Result<Vec<VirtualServer>>;

    /// The real servers of a virtual one.
    fn real_servers(&mut self, address: &VirtualAddress) -> kernel::Result<Vec<ObservedReal>>;

    /// Changes virtual servers; what is refused does not keep what follows from being done. Answers with how many
    /// changes others were faster, so that what stands may differ from what was thought.
    fn change(&mut self, changes: &[Change]) -> kernel::Result<usize>;

    /// The NodePorts of which a former kube-proxy has left virtual servers.
    fn former(&mut self) -> kernel::Result<Former>;

    /// The node's addresses.
    fn addresses(&mut self) -> kernel::Result<Addresses>;

    /// Gives the node addresses on the interface for those of Services, which is made if it is not there, and
    /// takes others from it.
    fn set_addresses(&mut self, add: &[IpAddr], remove: &[IpAddr]) -> kernel::Result<()>;

    /// The kind of iptables whose tables have chains of ours.
    fn iptables(&self) -> Option<Backend> {
        None
    }

    /// Watches for what others change, where that is announced, and of addresses for what matters.
    ///
    /// # Errors
    /// If the kernel or the runtime refuses.
    fn watch_with(&self, concerns: &Concerns) -> Result<Option<Drift>, CannotWatch>;
}

/// The node's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Those on the interface for the addresses of Services.
    pub bound: BTreeSet<IpAddr>,
    /// Those on others.
    pub others: BTreeSet<IpAddr>,
}

// === impl Addresses ===

impl Addresses {
    /// All that there are, where the interface for those of Services is this one, if it is there.
    pub fn read(route: &mut route::Handle, interface: Option<IfIndex>) -> kernel::Result<Self> {
        let all = route.addresses(None)?.into_iter();
        let (bound, others): (Vec<_>, Vec<_>) = all.partition(|it| Some(it.interface) == interface);
        let ips =
            |addresses: Vec<Address>| addresses.into_iter().map(|it| it.address.ip()).collect();
        Ok(Self {
            bound: ips(bound),
            others: ips(others),
        })
    }
}

/// The kernel that this program runs on.
#[derive(Debug)]
pub struct Machine {
    nft: nft::Handle,
    ipvs: ipvs::Handle,
    pub(super) ipset: ipset::Handle,
    route: route::Handle,
    /// The programs of iptables, if chains stand beside virtual servers.
    pub(super) iptables: Vec<Iptables>,
}

// === impl Machine ===

impl Machine {
    /// The kernel, with IPVS, and with the programs of iptables where these are needed.
    ///
    /// # Errors
    /// If a socket can't be had.
    pub fn open(ipvs: ipvs::Handle, iptables: Vec<Iptables>) -> kernel::Result<Self> {
        Ok(Self {
            iptables,
            nft: nft::Handle::open()?,
            ipvs,
            ipset: ipset::Handle::open()?,
            route: route::Handle::open()?,
        })
    }

    fn interface(&mut self) -> kernel::Result<IfIndex> {
        let name = name()?;
        if let Some(index) = find(&mut self.route, &name)? {
            return Ok(index);
        }
        // It stays down: its addresses are the node's all the same, and nothing else is to come of it.
        let link = NewLink::new(name.clone(), NewLinkKind::Dummy);
        self.route.apply(&[RouteChange::AddLink(link)])?;
        let missing = || {
            let attempted = format!("ip link show {INTERFACE}");
            kernel::Error::new(attempted, nix::errno::Errno::ENODEV)
        };
        find(&mut self.route, &name)?.ok_or_else(missing)
    }
}

impl Nftables for Machine {
    fn read(&mut self, family: Family, table: &str) -> kernel::Result<Option<ObservedTable>> {
        self.nft.read(family, table)
    }

    fn apply(&mut self, transaction: &Transaction) -> kernel::Result<()> {
        self.nft.apply(transaction)
    }

    fn generation(&mut self) -> kernel::Result<u32> {
        self.nft.generation()
    }
}

impl Kernel for Machine {
    fn virtual_servers(&mut self) -> kernel::Result<Vec<VirtualServer>> {
        self.ipvs.virtual_servers()
    }

    fn real_servers(&mut self, address: &VirtualAddress) -> kernel::Result<Vec<ObservedReal>> {
        self.ipvs.real_servers(address)
    }

    fn change(&mut self, changes: &[Change]) -> kernel::Result<usize> {
        self.ipvs.converge(changes)
    }

    fn former(&mut self) -> kernel::Result<Former> {
        sets::former(&mut self.ipset)
    }

    fn addresses(&mut self) -> kernel::Result<Addresses> {
        let interface = find(&mut self.route, &name()?)?;
        Addresses::read(&mut self.route, interface)
    }

    fn set_addresses(&mut self, add: &[IpAddr], remove: &[IpAddr]) -> kernel::Result<()> {
        if add.is_empty() && remove.is_empty() {
            return Ok(());
        }
        let interface = self.interface()?;
        let address = |ip: &IpAddr| Address::global(interface, IpNetwork::from(*ip));
        let add = add
            .iter()
            .map(|ip| RouteChange::ReplaceAddress(address(ip)));
        let remove = remove
            .iter()
            .map(|ip| RouteChange::DeleteAddress(address(ip)));
        self.route.apply(&add.chain(remove).collect::<Vec<_>>())
    }

    fn iptables(&self) -> Option<Backend> {
        self.iptables.first().map(Iptables::backend)
    }

    fn watch_with(&self, concerns: &Concerns) -> Result<Option<Drift>, CannotWatch> {
        let addresses = AddressDrift::open(&name()?, concerns)?;
        Drift::of_ipvs(&self.nft, addresses).map(Some)
    }
}

/// The interface for the addresses of Services, if it is there.
pub fn find(route: &mut route::Handle, name: &IfName) -> kernel::Result<Option<IfIndex>> {
    Ok(route.link_by_name(name)?.map(|link| link.index))
}

/// Its name.
pub fn name() -> kernel::Result<IfName> {
    INTERFACE.parse().map_err(|error| {
        let invalid = std::io::Error::other(error);
        kernel::Error::new(format!("name an interface {INTERFACE}"), invalid)
    })
}
