//! Looking at virtual servers, and at the table and the addresses beside them.

use std::{io::Write, net::SocketAddr};

use ipnetwork::IpNetwork;
use kernel::{
    Family,
    ipvs::{Change, VirtualAddress, persistence},
};

use super::{
    Error, Finding,
    explain::{Object, is_present},
    source::Objects,
};
use crate::{
    dataplane::{
        Failure,
        ipvs::{INTERFACE, IpvsMode, Look},
    },
    flows::tracked,
    plan::{
        Frontend,
        explain::Packet,
        frontends,
        ipvs::{Involved, Observed, Plan, Step},
        nftables::kept,
    },
};

/// Prints what would have to be changed, family by family.
pub fn diff(objects: &Objects, mode: &IpvsMode, out: &mut impl Write) -> Result<Finding, Error> {
    let mut look = Look::open().map_err(Failure::from)?;
    let mut has_interface = look.has_interface()?;
    let mut finding = Finding::Fine;
    for family in Family::ALL {
        let mut plan = plan(objects, mode, family, &look);
        let observed = look.observe(&plan)?;
        let step = plan.compare(observed, true);
        if step.is_empty() {
            continue;
        }
        finding = Finding::Differs;
        if !has_interface && !step.bind.is_empty() {
            writeln!(out, "ip link add {INTERFACE} type dummy")?;
            has_interface = true;
        }
        print(&step, out)?;
    }
    Ok(finding)
}

/// The endpoint that a sender keeps, and what should stand for a frontend, each with whether it does.
pub fn met(
    objects: &Objects,
    mode: &IpvsMode,
    frontend: &Frontend,
    packet: &Packet,
) -> Result<(Option<SocketAddr>, Vec<Object>), Error> {
    let mut look = Look::open().map_err(Failure::from)?;
    let mut plan = plan(objects, mode, Family::of(&packet.source), &look);
    let observed = look.observe(&plan)?;
    plan.compare(observed.clone(), true);
    let involved = plan.involved(frontend, packet.destination);
    Ok((
        session(&observed, frontend, packet)?,
        objects_of(involved, &observed),
    ))
}

/// The endpoint that a sender keeps, by IPVS or where maps take its place.
fn session(
    observed: &Observed,
    frontend: &Frontend,
    packet: &Packet,
) -> kernel::Result<Option<SocketAddr>> {
    let address = VirtualAddress {
        protocol: tracked(packet.protocol),
        socket: packet.destination,
    };
    let mut all = persistence()?.into_iter();
    let found = all.find(|it| it.client == packet.source && it.address == address);
    let by_maps = || {
        let table = observed.table.as_ref()?;
        let (address, port) = kept(table, frontend, packet.source)?;
        Some(SocketAddr::new(address, port))
    };
    Ok(found.map(|it| it.real).or_else(by_maps))
}

fn objects_of(involved: Involved, observed: &Observed) -> Vec<Object> {
    let table = observed.table.as_ref();
    let mut objects = Vec::new();
    for element in involved.elements {
        objects.push(Object {
            present: table.is_some_and(|table| is_present(table, &element)),
            command: element.command,
        });
    }
    if let Some(wanted) = involved.server {
        let address = wanted.server.address;
        let stands = observed.virtuals.get(&address);
        for real in wanted.reals.values() {
            let standing = stands.and_then(|it| it.reals.get(&real.server.socket));
            objects.push(Object {
                present: standing.is_some_and(|it| it.server == real.server),
                command: Change::AddReal(address, real.server).to_string(),
            });
        }
        let server = Object {
            present: stands.is_some_and(|it| it.server == wanted.server),
            command: Change::AddVirtual(wanted.server).to_string(),
        };
        objects.insert(objects.len() - wanted.reals.len(), server);
    }
    objects.extend(involved.address.map(|ip| Object {
        present: observed.bound.contains(&ip),
        command: address_command("add", ip.into()),
    }));
    objects
}

/// Prints what has to be done, one after the other.
fn print(step: &Step, out: &mut impl Write) -> std::io::Result<()> {
    for transaction in &step.first {
        write!(out, "{transaction}")?;
    }
    for change in &step.servers {
        writeln!(out, "{change}")?;
    }
    for (verb, addresses) in [("add", &step.bind), ("delete", &step.unbind)] {
        for ip in addresses {
            writeln!(out, "{}", address_command(verb, (*ip).into()))?;
        }
    }
    for transaction in &step.last {
        write!(out, "{transaction}")?;
    }
    Ok(())
}

fn address_command(verb: &str, address: IpNetwork) -> String {
    format!("ip address {verb} {address} dev {INTERFACE}")
}

/// What should stand in the kernel.
fn plan(objects: &Objects, mode: &IpvsMode, family: Family, look: &Look) -> Plan {
    let here = objects.here();
    let wanted = objects.catalogue.all().map(|service| {
        let slices = objects.catalogue.slices_of(&service.name);
        let frontends = frontends(service, slices, family, here);
        (service.name.clone(), frontends)
    });
    let mut plan = Plan::new(family, objects.rules(family).clone(), mode.settings());
    plan.settle(&objects.around, look.node());
    plan.load(wanted);
    plan
}
