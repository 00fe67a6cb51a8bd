//! What becomes of a packet, and which objects of the kernel it meets.

use std::net::{IpAddr, SocketAddr};

use kernel::{Family, nft, route};
use serde::Serialize;

use super::{Error, iptables, ipvs, plan, source::Objects};
use crate::dataplane::{Mode, ipvs::INTERFACE};
use crate::plan::{
    Frontend,
    explain::{Explanation, Packet, Surroundings, View},
    nftables::{Involved, TABLE, kept},
};

/// What becomes of a packet, and what it meets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// What becomes of it.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// The endpoint that the sender keeps (session affinity); `None`: it has none, or that can't be used any more.
    pub session: Option<SocketAddr>,
    /// The elements, rules of iptables or virtual servers that it meets.
    pub kernel: Vec<Object>,
}

/// An element of a set or map in the kernel, a member of an ipset, a rule of iptables, a virtual or real server, or an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// The command that would add it, in the language of nft, iptables, ipset, ipvsadm or ip.
    pub command: String,
    /// Whether it is there.
    pub present: bool,
}

/// Explains a packet by the objects and by what the kernel says of its addresses.
pub fn explain(objects: &Objects, packet: &Packet) -> Result<Found, Error> {
    let family = Family::of(&packet.source);
    let surroundings = surroundings(packet, &objects.mode)?;
    let view = View {
        catalogue: &objects.catalogue,
        here: objects.here(),
        rules: objects.rules(family),
        surroundings: &surroundings,
        manners: iptables::manners(objects, family),
    };
    let explanation = view.explain(packet);
    let Some(frontend) = &explanation.frontend else {
        return Ok(Found {
            explanation,
            session: None,
            kernel: Vec::new(),
        });
    };
    let (kept, kernel) = match &objects.mode {
        Mode::Nftables => met(objects, frontend, packet)?,
        Mode::Iptables(mode) => iptables::met(objects, *mode, frontend, packet)?,
        Mode::Ipvs(mode) => ipvs::met(objects, mode, frontend, packet)?,
    };
    let serves = |kept: &SocketAddr| {
        let mut fates = explanation.endpoints.iter();
        fates.any(|fate| fate.address == *kept && fate.out.is_none())
    };
    Ok(Found {
        session: kept.filter(serves),
        kernel,
        explanation,
    })
}

fn surroundings(packet: &Packet, mode: &Mode) -> kernel::Result<Surroundings> {
    let mut handle = route::Handle::open()?;
    let mut own = handle.addresses(None)?;
    // In IPVS mode the node has the addresses of Services too, and they are none where NodePorts are served.
    if let (Mode::Ipvs(_), Ok(name)) = (mode, INTERFACE.parse())
        && let Some(link) = handle.link_by_name(&name)?
    {
        own.retain(|it| it.interface != link.index);
    }
    let on_node = |address: IpAddr| own.iter().any(|it| it.address.ip() == address);
    // A sender that there is no way to is none that a packet can be answered to.
    let way = handle.lookup(packet.source).ok().flatten();
    let interface = match way {
        Some(way) => handle.link_by_index(way.interface)?,
        None => None,
    };
    Ok(Surroundings {
        source_on_node: on_node(packet.source),
        source_interface: interface.map(|link| link.name),
        destination_on_node: on_node(packet.destination.ip()),
    })
}

/// The endpoint that a sender keeps, and the elements that should stand for a frontend, each with whether it does.
fn met(
    objects: &Objects,
    frontend: &Frontend,
    packet: &Packet,
) -> Result<(Option<SocketAddr>, Vec<Object>), Error> {
    let family = Family::of(&packet.source);
    let observed = nft::Handle::open()?.read(family, TABLE)?;
    let observed = observed.as_ref();
    let kept = observed.and_then(|table| kept(table, frontend, packet.source));
    let mut plan = plan(objects, family);
    if let Some(observed) = observed {
        plan.adopt(observed);
    }
    let object = |involved: Involved| Object {
        present: observed.is_some_and(|table| involved.stands(table)),
        command: involved.command,
    };
    let objects = plan.involved(frontend).into_iter().map(object).collect();
    let kept = kept.map(|(address, port)| SocketAddr::new(address, port));
    Ok((kept, objects))
}
