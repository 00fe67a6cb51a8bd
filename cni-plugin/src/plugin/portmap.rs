//! The portmap plugin: leads ports of the node into a container that plugins before it have attached.

use std::{collections::BTreeSet, net::IpAddr};

use ipnetwork::IpNetwork;
use kernel::{
    Family,
    conntrack::{self, Protocol},
    iptables::{self, Iptables},
    netns::Namespace,
    nft, route, sysctl,
};

use super::packet_filters::{self, ATTEMPTS, change_nftables};
use crate::{
    model::{
        AddResult, Attachment, Code, Error, NetConf, PortmapBackend, PortmapConf, ValidAttachments,
    },
    plan::portmap::{Forwarding, PlanError, iptables as in_iptables, nftables as in_nftables},
    source::NamespaceLock,
};

/// Makes the rules; answers with `prevResult`.
pub fn add(attachment: &Attachment, conf: &NetConf) -> Result<AddResult, Error> {
    let portmap = PortmapConf::of(conf)?;
    let Some(result) = conf.prev_result()? else {
        return Err(Error::config("must be called as chained plugin"));
    };
    if portmap.mappings.is_empty() {
        return Ok(result);
    }
    let backend = backend(&portmap)?;
    let siblings = siblings(attachment);
    let mut forwardings = forwardings(attachment, conf, &portmap, &result);
    for forwarding in &mut forwardings {
        forwarding.siblings = &siblings;
    }
    forward(backend, &forwardings, &portmap).map_err(|error| {
        let undone = unforward(backend, attachment, conf, &addresses(attachment, &result));
        match undone {
            Ok(()) => error,
            Err(left) => error.with_details(format!("and it could not be undone: {left}")),
        }
    })?;
    Ok(result)
}

/// Removes the rules; all is well if there are none.
pub fn del(attachment: &Attachment, conf: &NetConf) -> Result<(), Error> {
    let portmap = PortmapConf::of(conf)?;
    // What can't be read does not keep rules alive.
    let previous = conf.prev_result().ok().flatten();
    let addresses = previous.map_or_else(Vec::new, |result| addresses(attachment, &result));
    if portmap.mappings.is_empty() {
        return unforward_what_is_there(attachment, conf, &addresses);
    }
    unforward(backend(&portmap)?, attachment, conf, &addresses)?;
    for family in Family::ALL {
        forget_flows(&portmap, family)?;
    }
    Ok(())
}

/// Whether every rule is there; the error names the first that is not.
pub fn check(attachment: &Attachment, conf: &NetConf) -> Result<(), Error> {
    let portmap = PortmapConf::of(conf)?;
    let result = conf.required_prev_result()?;
    if portmap.mappings.is_empty() {
        return Ok(());
    }
    let backend = backend(&portmap)?;
    for forwarding in forwardings(attachment, conf, &portmap, &result) {
        let missing = match backend {
            PortmapBackend::Iptables => {
                let table = Iptables::of_node(forwarding.family())
                    .and_then(|iptables| iptables.save("nat"));
                in_iptables::missing(&forwarding, &table.map_err(failed)?)
            }
            PortmapBackend::Nftables => {
                let mut handle = nft::Handle::open()?;
                let table = handle.read(forwarding.family(), in_nftables::TABLE)?;
                in_nftables::missing(&forwarding, table.as_ref()).map_err(refused)?
            }
        };
        if let Some(rule) = missing {
            return Err(Error::new(
                Code::Internal,
                format!(
                    "hostPort rule of container {} is missing: {rule}",
                    attachment.container_id
                ),
            ));
        }
    }
    Ok(())
}

/// Removes the rules of the network's containers that are not in use any more.
pub fn gc(valid: &ValidAttachments, conf: &NetConf) -> Result<(), Error> {
    let portmap = PortmapConf::of(conf)?;
    let alive: BTreeSet<String> = valid.container_ids();
    let _lock = NamespaceLock::take()?;
    match backend(&portmap)? {
        PortmapBackend::Iptables => {
            change_iptables(|table| in_iptables::collect(conf.name(), &alive, table))
        }
        PortmapBackend::Nftables => {
            change_nftables_of_all(|table| in_nftables::collect(conf.name(), &alive, table))
        }
    }
}

/// The backend that the configuration names; otherwise iptables, unless only nftables works.
fn backend(portmap: &PortmapConf) -> Result<PortmapBackend, Error> {
    let backend = match portmap.backend {
        Some(backend) => backend,
        None if packet_filters::is_nftables_the_only_one() => PortmapBackend::Nftables,
        None => PortmapBackend::Iptables,
    };
    portmap.check_backend(backend)?;
    Ok(backend)
}

/// What each family's first address of the container gets.
fn forwardings<'a>(
    attachment: &'a Attachment,
    conf: &'a NetConf,
    portmap: &'a PortmapConf,
    result: &AddResult,
) -> Vec<Forwarding<'a>> {
    let networks = container_networks(attachment, result);
    let first = |family| {
        networks
            .iter()
            .find(move |it| Family::of_network(it) == family)
    };
    let networks = Family::ALL.into_iter().filter_map(first);
    networks
        .map(|address| Forwarding {
            network: conf.name(),
            container_id: &attachment.container_id,
            address: *address,
            siblings: &[],
            conf: portmap,
        })
        .collect()
}

/// The addresses of the container's other interfaces; none where its namespace can't be looked into, which the
/// rules don't need.
fn siblings(attachment: &Attachment) -> Vec<IpAddr> {
    let inside = Namespace::open(&attachment.netns).and_then(|it| route::Handle::open_in(&it));
    let read = inside.and_then(|mut inside| {
        let own = inside.link_by_name(&attachment.if_name)?;
        Ok((own, inside.addresses(None)?))
    });
    let Ok((own, mut addresses)) = read else {
        return Vec::new();
    };
    addresses.retain(|it| Some(it.interface) != own.as_ref().map(|link| link.index));
    addresses.iter().map(|it| it.address.ip()).collect()
}

/// The addresses of the attachment's interface; those of no interface at all are its as well.
fn container_networks(attachment: &Attachment, result: &AddResult) -> Vec<IpNetwork> {
    let ours = |index: Option<u32>| {
        let interface = index.and_then(|index| result.interfaces.get(index as usize));
        interface.is_none_or(|interface| {
            interface.name == attachment.if_name.as_str() && !interface.sandbox.is_empty()
        })
    };
    let ips = result.ips.iter().filter(|ip| ours(ip.interface));
    ips.map(|ip| ip.address.0).collect()
}

fn addresses(attachment: &Attachment, result: &AddResult) -> Vec<IpAddr> {
    let networks = container_networks(attachment, result);
    networks.iter().map(IpNetwork::ip).collect()
}

fn forward(
    backend: PortmapBackend,
    forwardings: &[Forwarding<'_>],
    portmap: &PortmapConf,
) -> Result<(), Error> {
    let _lock = NamespaceLock::take()?;
    for forwarding in forwardings {
        match backend {
            PortmapBackend::Iptables => forward_in_iptables(forwarding)?,
            PortmapBackend::Nftables => forward_in_nftables(forwarding)?,
        }
        forget_flows(portmap, forwarding.family())?;
        if portmap.snat && forwarding.family() == Family::V4 {
            route_localnet(forwarding.address.ip())?;
        }
    }
    Ok(())
}

fn forward_in_iptables(forwarding: &Forwarding<'_>) -> Result<(), Error> {
    let iptables = Iptables::of_node(forwarding.family()).map_err(failed)?;
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        let table = iptables.save("nat").map_err(failed)?;
        let input = in_iptables::add(forwarding, &table).map_err(refused)?;
        outcome = iptables.restore(&input).map_err(failed);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn forward_in_nftables(forwarding: &Forwarding<'_>) -> Result<(), Error> {
    change_nftables(forwarding.family(), in_nftables::TABLE, |table| {
        let transaction = in_nftables::add(forwarding, table).map_err(refused)?;
        Ok(vec![transaction])
    })
}

fn unforward(
    backend: PortmapBackend,
    attachment: &Attachment,
    conf: &NetConf,
    addresses: &[IpAddr],
) -> Result<(), Error> {
    let (network, id) = (conf.name(), attachment.container_id.as_str());
    let _lock = NamespaceLock::take()?;
    match backend {
        PortmapBackend::Iptables => {
            change_iptables(|table| in_iptables::delete(network, id, addresses, table))
        }
        PortmapBackend::Nftables => {
            change_nftables_of_all(|table| in_nftables::delete(network, id, addresses, table))
        }
    }
}

/// For a runtime that has lost what the ADD was told: removes the rules from both backends. Most containers
/// have none, so iptables' programs are not run before it is known that there is something for them.
fn unforward_what_is_there(
    attachment: &Attachment,
    conf: &NetConf,
    addresses: &[IpAddr],
) -> Result<(), Error> {
    let chain = in_iptables::chain(conf.name(), &attachment.container_id);
    if packet_filters::may_iptables_have("nat", &chain)? {
        unforward(PortmapBackend::Iptables, attachment, conf, addresses)?;
    }
    if packet_filters::has_nftables_table(in_nftables::TABLE)? {
        unforward(PortmapBackend::Nftables, attachment, conf, addresses)?;
    }
    Ok(())
}

/// Changes the table of each family that can be read; one of them has to be.
fn change_iptables(change: impl Fn(&iptables::Table) -> Option<String>) -> Result<(), Error> {
    let mut unreadable = Vec::new();
    for family in Family::ALL {
        let read = Iptables::of_node(family)
            .and_then(|iptables| iptables.save("nat").map(|table| (iptables, table)));
        match read {
            Ok((iptables, table)) => {
                if let Some(input) = change(&table) {
                    iptables.restore(&input).map_err(failed)?;
                }
            }
            Err(error) => unreadable.push(error.to_string()),
        }
    }
    if unreadable.len() < Family::ALL.len() {
        return Ok(());
    }
    let text = format!(
        "neither iptables nor ip6tables is usable: {}",
        unreadable.join("; ")
    );
    Err(Error::new(Code::Internal, text))
}

/// Changes the table of each family that has one.
fn change_nftables_of_all(
    plan: impl Fn(&nft::ObservedTable) -> Option<nft::Transaction>,
) -> Result<(), Error> {
    Family::ALL.into_iter().try_for_each(|family| {
        change_nftables(family, in_nftables::TABLE, |table| {
            Ok(table.and_then(&plan).into_iter().collect())
        })
    })
}

/// Has UDP packets of flows that are known already take the way that new ones take.
fn forget_flows(portmap: &PortmapConf, family: Family) -> Result<(), Error> {
    let udp = portmap
        .mappings
        .iter()
        .filter(|it| it.protocol == Protocol::Udp);
    let ports: BTreeSet<u16> = udp.map(|it| it.host_port).collect();
    if ports.is_empty() {
        return Ok(());
    }
    let mut handle = conntrack::Handle::open()?;
    let mut flows = handle.flows(family, Protocol::Udp)?;
    flows.retain(|flow| ports.contains(&flow.original.destination.port()));
    handle.delete(&flows)?;
    Ok(())
}

/// Lets packets from 127.0.0.1 leave by the interface that leads to the container.
fn route_localnet(address: IpAddr) -> Result<(), Error> {
    let mut handle = route::Handle::open()?;
    let Some(way) = handle.lookup(address)? else {
        return Ok(());
    };
    let Some(link) = handle.link_by_index(way.interface)? else {
        return Ok(());
    };
    let key = format!("net/ipv4/conf/{}/route_localnet", link.name);
    sysctl::set(&key, "1")
        .map(drop)
        .map_err(|error| Error::from(error).during("unable to enable route_localnet"))
}

fn failed(error: iptables::Error) -> Error {
    let code = match error {
        iptables::Error::Busy { .. } => Code::TryAgainLater,
        _ => Code::Internal,
    };
    Error::new(code, error.to_string())
}

fn refused(error: PlanError) -> Error {
    Error::config(error)
}
