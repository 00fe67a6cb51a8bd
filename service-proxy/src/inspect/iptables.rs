//! Looking at the chains of iptables mode.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
};

use kernel::{Family, iptables};

use super::{Error, Finding, explain::Object, source::Objects};
use crate::{
    dataplane::{
        Failure, Mode,
        iptables::{IptablesMode, read},
    },
    plan::{
        Frontend,
        explain::{Manners, Packet},
        iptables::{Dispatch, Involved, Plan, ServicePort, difference},
    },
};

/// Prints what would have to be changed, family by family.
pub fn diff(objects: &Objects, mode: IptablesMode, out: &mut impl Write) -> Result<Finding, Error> {
    let backend = mode.backend().map_err(Failure::from)?;
    let mut finding = Finding::Fine;
    for family in Family::ALL {
        let plan = plan(objects, mode, family);
        let changes = difference(&plan.ruleset(), &read(family, backend)?);
        if !changes.is_empty() {
            finding = Finding::Differs;
            write!(out, "# {family}, {backend}\n{changes}")?;
        }
    }
    Ok(finding)
}

/// The endpoint that a sender keeps, and the rules that should stand for a frontend, each with whether it does.
pub fn met(
    objects: &Objects,
    mode: IptablesMode,
    frontend: &Frontend,
    packet: &Packet,
) -> Result<(Option<SocketAddr>, Vec<Object>), Error> {
    let backend = mode.backend().map_err(Failure::from)?;
    let family = Family::of(&packet.source);
    let plan = plan(objects, mode, family);
    let observed = read(family, backend)?;
    let involved = plan.involved(frontend);
    let kept = plan
        .remembered(frontend)
        .into_iter()
        .find(|(list, _)| remembers(list, packet.source))
        .map(|(_, endpoint)| endpoint);
    let object = |it: Involved| Object {
        present: observed.has_rule(&it),
        command: it.command(family),
    };
    Ok((kept, involved.into_iter().map(object).collect()))
}

/// Where the mode differs from others.
pub fn manners(objects: &Objects, family: Family) -> Manners {
    match objects.mode {
        Mode::Nftables => Manners::default(),
        Mode::Ipvs(_) => Manners {
            names_no_interface: true,
            ..Manners::default()
        },
        Mode::Iptables(mode) => Manners {
            serves_loopback: mode
                .settings_now(family, objects.rules(family).clone())
                .serves_loopback(),
            indifferent: mode.dispatch == Dispatch::Flat,
            ..Manners::default()
        },
    }
}

/// Whether a list of clients has one. How long ago it came is told in a unit that only the kernel knows.
pub fn remembers(list: &str, client: IpAddr) -> bool {
    let clients = iptables::recent(list).unwrap_or_default();
    clients.contains(&client)
}

/// What should stand in the kernel.
fn plan(objects: &Objects, mode: IptablesMode, family: Family) -> Plan {
    let here = objects.here();
    let settings = mode.settings_now(family, objects.rules(family).clone());
    let ports = objects.catalogue.all().map(|service| {
        let slices = objects.catalogue.slices_of(&service.name);
        let ports = ServicePort::all(service, slices, family, here);
        (service.name.clone(), ports)
    });
    let mut plan = Plan::new(settings);
    plan.update(ports.collect());
    plan
}
