//! What IPVS mode has left, ours or kube-proxy's, is removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use kernel::{
    Family, conntrack, ipset,
    ipvs::{self, CannotOpen, Change, Protocol, VirtualAddress},
    nft::{self, ObservedSet, ObservedTable, Table},
    route::{self, Address, Change as RouteChange, IfIndex},
};

use super::{
    super::Failure,
    NotReady,
    kernel::{Addresses, find, name},
    sets,
};
use crate::{
    plan::{
        ipvs::{Former, Record, Virtual, Virtuals, difference},
        nftables::{Balancer, UNSERVED, VIRTUAL_ADDRESSES, VIRTUAL_SERVERS},
    },
    reconcile::remove_table,
};

/// What is left.
struct Remains {
    nft: nft::Handle,
    route: route::Handle,
    tables: Vec<(Family, ObservedTable)>,
    records: Vec<Record>,
    interface: Option<IfIndex>,
    /// All addresses on the interface.
    bound: BTreeSet<IpAddr>,
    /// Those that are to go.
    ours: BTreeSet<IpAddr>,
    /// The node's addresses on other interfaces.
    node: BTreeSet<IpAddr>,
    /// What a former kube-proxy's sets say.
    former: Former,
}

/// Removes the virtual servers and addresses that our table or sets name, and these. Where there is none, a former
/// kube-proxy's: those whose address is on the interface for the addresses of Services, and that, and those of
/// the NodePorts that its sets name, and these, which no rule must look up any more. With `gently`, what TCP
/// connections need is left for as long as they last. Answers whether nothing is left.
///
/// # Errors
/// If the kernel refuses; what is not there is no error.
pub fn clean_up(gently: bool) -> Result<bool, Failure> {
    let mut remains = Remains::read()?;
    let no_interface = remains.interface.is_none();
    if remains.tables.is_empty() && no_interface && remains.former == Former::default() {
        sets::remove()?;
        return Ok(true);
    }
    let leaving = remains.remove_servers(gently)?;
    let kept: BTreeSet<IpAddr> = leaving.keys().map(|it| it.socket.ip()).collect();
    remains.remove_addresses(&kept)?;
    remains.remove_tables(!leaving.is_empty())?;
    if leaving.is_empty() {
        sets::remove()?;
        tracing::info!("removed everything of IPVS mode");
    }
    Ok(leaving.is_empty())
}

// === impl Remains ===

impl Remains {
    fn read() -> Result<Self, Failure> {
        let mut nft = nft::Handle::open()?;
        let mut route = route::Handle::open()?;
        let mut tables = Vec::new();
        for family in Family::ALL {
            let table = nft.read(family, Balancer::Ipvs.table())?;
            tables.extend(table.map(|table| (family, table)));
        }
        let interface = find(&mut route, &name()?)?;
        let Addresses { bound, others } = Addresses::read(&mut route, interface)?;
        let records = tables.iter().map(|(_, table)| Record::read(Some(table)));
        let mut ipset = ipset::Handle::open()?;
        let records: Vec<_> = records.chain(sets::record(&mut ipset)?).collect();
        let recorded = records.iter().flat_map(Record::addresses);
        let ours = match records.is_empty() {
            true => bound.clone(),
            false => recorded.filter(|ip| bound.contains(ip)).copied().collect(),
        };
        Ok(Self {
            nft,
            route,
            tables,
            records,
            interface,
            bound,
            ours,
            node: others,
            former: sets::former(&mut ipset)?,
        })
    }

    /// Answers with those that have connections still.
    fn remove_servers(&mut self, gently: bool) -> Result<Virtuals, Failure> {
        let mut ipvs = match ipvs::Handle::open() {
            Ok(ipvs) => ipvs,
            Err(CannotOpen::NotInKernel(_)) => return Ok(Virtuals::new()),
            Err(error) => return Err(NotReady::from(error).into()),
        };
        let mut have = Virtuals::new();
        for server in ipvs.virtual_servers()? {
            let address = server.address;
            let recorded = self.records.iter().any(|record| record.has(&address));
            let its =
                self.ours.contains(&address.socket.ip()) || self.former.has(&address, &self.node);
            let former = self.records.is_empty() && its;
            if recorded || former {
                let reals = ipvs.real_servers(&address)?;
                let mut standing = Virtual::observed(server, reals);
                for real in standing.reals.values_mut() {
                    real.idle |= !gently;
                }
                have.insert(address, standing);
            }
        }
        let difference = difference(&have, &Virtuals::new());
        ipvs.apply(&difference.changes)?;
        forget_flows(&difference.changes)?;
        Ok(difference.leaving)
    }

    fn remove_addresses(&mut self, kept: &BTreeSet<IpAddr>) -> Result<(), Failure> {
        let Some(interface) = self.interface else {
            return Ok(());
        };
        let unneeded: BTreeSet<_> = self.ours.difference(kept).copied().collect();
        let delete = |ip: &IpAddr| {
            RouteChange::DeleteAddress(Address::global(interface, IpNetwork::from(*ip)))
        };
        let changes = if self.bound.is_subset(&unneeded) {
            vec![RouteChange::DeleteLink(interface)]
        } else {
            unneeded.iter().map(delete).collect()
        };
        Ok(self.route.apply(&changes)?)
    }

    /// Leaves nothing but what says which virtual servers are ours, if there are any.
    fn remove_tables(&mut self, servers_remain: bool) -> Result<(), Failure> {
        for (family, table) in &self.tables {
            if servers_remain {
                let record = record(*family, table);
                for transaction in nft::diff(Some(table), &record) {
                    self.nft.apply(&transaction)?;
                }
            } else {
                let name = Balancer::Ipvs.table();
                remove_table(&mut self.nft, *family, name, UNSERVED)?;
            }
        }
        Ok(())
    }
}

/// A table with nothing but what another says of virtual servers.
fn record(family: Family, table: &ObservedTable) -> Table {
    let sets = [VIRTUAL_SERVERS, VIRTUAL_ADDRESSES].into_iter();
    let sets = sets.filter_map(|name| match table.sets.get(name)? {
        ObservedSet::Known(set) => Some((name.to_owned(), set.clone())),
        _ => None,
    });
    Table {
        family,
        name: Balancer::Ipvs.table().to_owned(),
        chains: BTreeMap::new(),
        sets: sets.collect(),
    }
}

/// Lets UDP flows to virtual servers that are gone find another way.
fn forget_flows(changes: &[Change]) -> Result<(), Failure> {
    let gone = changes.iter().filter_map(|change| match change {
        Change::DeleteVirtual(address) if address.protocol == Protocol::Udp => Some(*address),
        _ => None,
    });
    let gone: BTreeSet<VirtualAddress> = gone.collect();
    if gone.is_empty() {
        return Ok(());
    }
    let mut tracked = conntrack::Handle::open()?;
    for family in Family::ALL {
        let mut flows = tracked.flows(family, Protocol::Udp)?;
        flows.retain(|flow| {
            gone.contains(&VirtualAddress {
                protocol: Protocol::Udp,
                socket: flow.original.destination,
            })
        });
        tracked.delete(&flows)?;
    }
    Ok(())
}
