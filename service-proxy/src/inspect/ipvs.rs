//! Looking at virtual servers, and at what stands and the addresses beside them.

use std::{fmt, io::Write, net::SocketAddr};

use ipnetwork::IpNetwork;
use kernel::{
    Family,
    ipvs::{Change, VirtualAddress, persistence},
};

use super::{Error, Finding, explain::Object, iptables::remembers, source::Objects};
use crate::{
    dataplane::ipvs::{Filter, Guarding, INTERFACE, IpvsMode, Look, Machine},
    flows::tracked,
    plan::{
        Frontend,
        explain::Packet,
        frontends,
        ipvs::{Guard, Involved, Observed, Plan, SetsGuard, Step, TableGuard},
        nftables::NodeRules,
    },
};

/// Prints what would have to be changed, family by family.
pub fn diff(objects: &Objects, mode: &IpvsMode, out: &mut impl Write) -> Result<Finding, Error> {
    match mode.filter {
        Filter::Table => differences(objects, mode, |_, _| TableGuard, out),
        Filter::Sets(_) => differences(objects, mode, SetsGuard::new, out),
    }
}

fn differences<G: Guard>(
    objects: &Objects,
    mode: &IpvsMode,
    guard: impl Fn(Family, NodeRules) -> G,
    out: &mut impl Write,
) -> Result<Finding, Error>
where
    G::Change: fmt::Display,
    Machine: Guarding<G>,
{
    let mut look = Look::open(mode.filter)?;
    let mut has_interface = look.has_interface()?;
    let mut finding = Finding::Fine;
    for family in Family::ALL {
        let mut plan = plan(objects, mode, family, &guard, &look);
        let observed = look.observe(&plan)?;
        let step = plan.compare(observed, true);
        if step.is_empty() {
            continue;
        }
        finding = Finding::Differs;
        if let Some(backend) = look.iptables() {
            writeln!(out, "# {family}, {backend}")?;
        }
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
    match mode.filter {
        Filter::Table => met_beside(objects, mode, |_, _| TableGuard, frontend, packet),
        Filter::Sets(_) => met_beside(objects, mode, SetsGuard::new, frontend, packet),
    }
}

fn met_beside<G: Guard>(
    objects: &Objects,
    mode: &IpvsMode,
    guard: impl Fn(Family, NodeRules) -> G,
    frontend: &Frontend,
    packet: &Packet,
) -> Result<(Option<SocketAddr>, Vec<Object>), Error>
where
    Observed<G::Observed>: Clone,
    Machine: Guarding<G>,
{
    let mut look = Look::open(mode.filter)?;
    let mut plan = plan(objects, mode, Family::of(&packet.source), guard, &look);
    let observed = look.observe(&plan)?;
    plan.compare(observed.clone(), true);
    let involved = plan.involved(frontend, packet.destination, &observed);
    let kept = match session(packet)? {
        None => plan.kept(&observed, frontend, packet.source, &remembers),
        kept => kept,
    };
    Ok((kept, objects_of(involved, &observed)))
}

/// The endpoint that a sender keeps by IPVS.
fn session(packet: &Packet) -> kernel::Result<Option<SocketAddr>> {
    let address = VirtualAddress {
        protocol: tracked(packet.protocol),
        socket: packet.destination,
    };
    let mut all = persistence()?.into_iter();
    let found = all.find(|it| it.client == packet.source && it.address == address);
    Ok(found.map(|it| it.real))
}

fn objects_of<O>(involved: Involved, observed: &Observed<O>) -> Vec<Object> {
    let of_guard = involved.guard.into_iter();
    let of_guard = of_guard.map(|(command, present)| Object { command, present });
    let mut objects: Vec<_> = of_guard.collect();
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
fn print<C: fmt::Display>(step: &Step<C>, out: &mut impl Write) -> std::io::Result<()> {
    for change in &step.first {
        write!(out, "{change}")?;
    }
    for change in &step.servers {
        writeln!(out, "{change}")?;
    }
    for (verb, addresses) in [("add", &step.bind), ("delete", &step.unbind)] {
        for ip in addresses {
            writeln!(out, "{}", address_command(verb, (*ip).into()))?;
        }
    }
    for change in &step.last {
        write!(out, "{change}")?;
    }
    Ok(())
}

fn address_command(verb: &str, address: IpNetwork) -> String {
    format!("ip address {verb} {address} dev {INTERFACE}")
}

/// What should stand in the kernel.
fn plan<G: Guard>(
    objects: &Objects,
    mode: &IpvsMode,
    family: Family,
    guard: impl Fn(Family, NodeRules) -> G,
    look: &Look,
) -> Plan<G> {
    let here = objects.here();
    let wanted = objects.catalogue.all().map(|service| {
        let slices = objects.catalogue.slices_of(&service.name);
        let frontends = frontends(service, slices, family, here);
        let ports = G::ports(service, family, &frontends);
        (service.name.clone(), frontends, ports)
    });
    let rules = objects.rules(family);
    let guard = guard(family, rules.clone());
    let mut plan = Plan::with(guard, family, rules.clone(), mode.settings());
    plan.settle(&objects.around, look.node());
    plan.load(wanted);
    plan
}
