//! What a CHECK of the bridge plugin compares: what the ADD made, against what stands.

use ipnetwork::IpNetwork;
use kernel::{
    Mac,
    route::{Address, Link, LinkDetails, LinkKind, NextHop, PortVlans, Route, RouteOptions},
};

use super::{container, port_vlans};
use crate::model::{self, AddResult, Attachment, IpConfig, Vlans};

/// What the kernel makes of larger values in a route (`fib_convert_metrics`).
const MOST_MTU: u32 = 65_535 - 15;
const MOST_ADVMSS: u32 = 65_535 - 40;

/// What should be there.
#[derive(Debug)]
pub struct Expected<'a> {
    /// What the ADD answered.
    pub result: &'a AddResult,
    /// The container's side.
    pub attachment: &'a Attachment,
    /// The bridge's name.
    pub bridge: &'a str,
    /// The interface that has the gateway's addresses: the bridge, or one in the container's VLAN.
    pub gateway: &'a str,
    /// The gateway's addresses, if it has to have them.
    pub gateways: Vec<IpNetwork>,
    /// The container's Ethernet address, if the configuration asks for one.
    pub mac: Option<Mac>,
    /// MTU in bytes, if the configuration asks for one.
    pub mtu: Option<u32>,
    /// Whether the container can reach itself.
    pub hairpin: bool,
    /// Whether the bridge takes frames for others.
    pub promiscuous: bool,
    /// Whether the container can't talk to other isolated ones.
    pub isolated: bool,
    /// The VLANs of the port.
    pub vlans: Vlans,
    /// Whether the container's interface is to be up.
    pub up: bool,
}

/// What stands on the host.
#[derive(Debug, Default)]
pub struct OnHost {
    /// The bridge.
    pub bridge: Option<(Link, LinkDetails)>,
    /// The addresses of the gateway's interface.
    pub addresses: Vec<Address>,
    /// VLANs of the port.
    pub vlans: Vec<PortVlans>,
    /// The host's end of the pair.
    pub port: Option<(Link, LinkDetails)>,
}

/// What stands in the container.
#[derive(Debug, Default)]
pub struct InContainer {
    /// Its interface.
    pub link: Option<Link>,
    /// The interface's addresses.
    pub addresses: Vec<Address>,
    /// Routes of all interfaces, one for each next hop.
    pub routes: Vec<(Route, RouteOptions)>,
}

/// The first thing that is not as the ADD made it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The result of the ADD is of another container, or damaged.
    #[error("prevResult: {0}")]
    Result(String),
    /// An interface of the host is not there, or not what it was.
    #[error("{what} {name}: {is}")]
    Interface {
        /// What it is for.
        what: &'static str,
        /// Its name.
        name: String,
        /// What is wrong with it.
        is: String,
    },
}

// === impl Expected ===

impl<'a> Expected<'a> {
    /// The interface of the container in the result.
    ///
    /// # Errors
    /// If there is none of its name in its network namespace.
    pub fn container(&self) -> Result<(usize, &'a model::Interface), Mismatch> {
        let Attachment { if_name, netns, .. } = self.attachment;
        let mut interfaces = self.result.interfaces.iter().enumerate();
        let (index, interface) = interfaces
            .find(|(_, it)| it.name == if_name.as_str() && !it.sandbox.is_empty())
            .ok_or_else(|| Mismatch::Result(format!("no interface {if_name} of a container")))?;
        if interface.sandbox == *netns {
            return Ok((index, interface));
        }
        Err(Mismatch::Result(format!(
            "sandbox of interface {if_name} is {}, and CNI_NETNS is {netns}",
            interface.sandbox
        )))
    }

    /// The host's end of the pair in the result.
    ///
    /// # Errors
    /// If there is none.
    pub fn port(&self) -> Result<&'a model::Interface, Mismatch> {
        let mut interfaces = self.result.interfaces.iter();
        interfaces
            .find(|it| it.sandbox.is_empty() && it.name != self.bridge)
            .ok_or_else(|| Mismatch::Result("no interface of the host beside the bridge".into()))
    }

    /// Compares the host's side.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare_host(&self, found: &OnHost) -> Result<(), Mismatch> {
        let bridge = self.compare_bridge(found)?;
        let name = &self.port()?.name;
        let wrong = |is: &str| Err(mismatch("host interface", name, is));
        let Some((port, details)) = &found.port else {
            return wrong("is missing");
        };
        let settings = details.port.unwrap_or_default();
        if port.kind != LinkKind::Veth {
            return wrong("is no veth");
        }
        if port.master != Some(bridge.index) {
            return wrong(&format!("is not connected to bridge {}", self.bridge));
        }
        if !port.up {
            return wrong("link is down");
        }
        if settings.hairpin != self.hairpin {
            return wrong(if self.hairpin {
                "hairpin mode is off"
            } else {
                "hairpin mode is on"
            });
        }
        if self.isolated && !settings.isolated {
            return wrong("port isolation is off");
        }
        if let Some(id) = port_vlans::missing(&self.vlans, &found.vlans) {
            return wrong(&format!("VLAN {id} is missing"));
        }
        self.compare_mtu("host interface", port, self.port()?.mtu)
    }

    fn compare_bridge(&self, found: &'a OnHost) -> Result<&'a Link, Mismatch> {
        let wrong = |is: &str| Err(mismatch("bridge", self.bridge, is));
        let Some((bridge, details)) = &found.bridge else {
            return wrong("is missing");
        };
        if bridge.kind != LinkKind::Bridge {
            return wrong("is no bridge");
        }
        if !bridge.up {
            return wrong("link is down");
        }
        if self.promiscuous && !details.promiscuous {
            return wrong("promiscuous mode is off");
        }
        if !self.vlans.is_empty() && details.vlan_filtering != Some(true) {
            return wrong("VLAN filtering is off");
        }
        let has = |wanted: &IpNetwork| found.addresses.iter().any(|it| it.address == *wanted);
        match self.gateways.iter().find(|wanted| !has(wanted)) {
            Some(gateway) => {
                let is = format!("gateway address {gateway} is missing");
                let what = if self.gateway == self.bridge {
                    "bridge"
                } else {
                    "gateway interface"
                };
                Err(mismatch(what, self.gateway, &is))
            }
            None => Ok(bridge),
        }
    }

    /// Compares the container's side. `port` is the host's end of the pair.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare_container(
        &self,
        found: &InContainer,
        port: Option<&Link>,
    ) -> Result<(), Mismatch> {
        let (index, wanted) = self.container()?;
        let what = "container interface";
        let wrong = |is: &str| Err(mismatch(what, &wanted.name, is));
        let Some(link) = &found.link else {
            return wrong(&format!("is missing in {}", wanted.sandbox));
        };
        if link.kind != LinkKind::Veth {
            return wrong("is no veth");
        }
        if let Some(port) = port.filter(|port| link.parent != Some(port.index)) {
            return wrong(&format!("its other end is not {}", port.name));
        }
        if let Some(mac) = self.mac.filter(|mac| link.mac != Some(*mac)) {
            return wrong(&format!("its MAC address is not {mac}"));
        }
        if self.up && !link.up {
            return wrong("link is down");
        }
        self.compare_mtu(what, link, wanted.mtu)?;
        let is_here = |ip: &&IpConfig| ip.interface.is_none_or(|it| it as usize == index);
        let has = |ip: &&IpConfig| {
            let mut addresses = found.addresses.iter();
            addresses.any(|it| it.interface == link.index && it.address == ip.address.0)
        };
        let mut wanted = self.result.ips.iter().filter(is_here);
        if let Some(ip) = wanted.find(|ip| !has(ip)) {
            return wrong(&format!("address {} is missing", ip.address));
        }
        let mut wanted = self.result.routes.iter();
        wanted.try_for_each(|route| match self.route_fault(&found.routes, route) {
            Some(is) => wrong(&format!("route to {} {is}", route.dst)),
            None => Ok(()),
        })
    }

    /// What the result says counts before the configuration: plugins that came later may have changed it.
    fn compare_mtu(&self, what: &'static str, link: &Link, said: u32) -> Result<(), Mismatch> {
        let wanted = if said == 0 { self.mtu } else { Some(said) };
        match wanted.filter(|wanted| link.mtu != *wanted) {
            Some(wanted) => {
                let is = format!("MTU is {}, not {wanted}", link.mtu);
                Err(mismatch(what, link.name.as_str(), &is))
            }
            None => Ok(()),
        }
    }

    /// What is wrong with a route, if anything is.
    fn route_fault(
        &self,
        found: &[(Route, RouteOptions)],
        wanted: &model::Route,
    ) -> Option<String> {
        let candidates = found.iter().filter(|(it, _)| self.is_route(it, wanted));
        let mut faults: Vec<_> = candidates
            .map(|(_, options)| options_fault(options, wanted))
            .collect();
        if faults.contains(&None) {
            return None;
        }
        faults.pop().unwrap_or(Some("is missing".into()))
    }

    fn is_route(&self, found: &Route, wanted: &model::Route) -> bool {
        let gateway = self.result.way(wanted);
        let by = match found.next_hop {
            NextHop::Gateway { gateway, .. } => Some(gateway),
            NextHop::Link(_) => None,
            NextHop::Blackhole => return false,
        };
        found.destination == wanted.dst.masked().0
            && by == gateway
            && found.table == container::table(wanted)
            && wanted.priority.is_none_or(|it| it == found.metric)
    }
}

/// What is wrong with a route's options, if anything is. 0 leaves one to the kernel, which takes none above its
/// own limit.
fn options_fault(found: &RouteOptions, wanted: &model::Route) -> Option<String> {
    let options = [
        ("mtu", wanted.mtu, MOST_MTU, found.mtu),
        ("advmss", wanted.advmss, MOST_ADVMSS, found.advmss),
    ];
    options.into_iter().find_map(|(what, want, most, have)| {
        let want = want.filter(|want| *want != 0)?.min(most);
        let have = have.unwrap_or_default();
        (have != want).then(|| format!("has {what} {have}, not {want}"))
    })
}

fn mismatch(what: &'static str, name: &str, is: &str) -> Mismatch {
    Mismatch::Interface {
        what,
        name: name.to_owned(),
        is: is.to_owned(),
    }
}
