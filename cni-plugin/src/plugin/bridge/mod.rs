//! The bridge plugin: a veth pair from the container to a bridge of the host.

mod check;
mod masquerade;
mod removal;
mod spoof_check;
mod vlan;

pub use check::check;
use removal::delete_veth;
pub use removal::{del, gc};

use std::os::fd::AsRawFd;

use ipnetwork::IpNetwork;
use kernel::{
    IfName,
    netns::Namespace,
    route::{Change, Handle, IfIndex, Link, LinkKind, VethPeer},
    sysctl,
};

use super::{Plugin, delegate::Delegate};
use crate::{
    model::{AddResult, Attachment, BridgeConf, Code, Error, Interface, NetConf, Vlans},
    plan::{self, bridge::PlanError, host_veth::Identity},
    source::Environment,
};

/// The index of the container's interface in the result.
const CONTAINER_INTERFACE: u32 = 2;

/// Gets addresses, then makes the pair; gives the addresses back if that fails.
pub fn add(
    environment: &Environment,
    attachment: &Attachment,
    conf: &NetConf,
) -> Result<AddResult, Error> {
    let bridge = BridgeConf::for_add(conf)?;
    let namespace = Namespace::open(&attachment.netns).map_err(|error| {
        let attempted = format!("failed to open netns {:?}", attachment.netns);
        Error::from(error).during(&attempted)
    })?;
    let identity = Identity::of(attachment, conf.name());
    let addition = Addition {
        name: bridge.bridge()?,
        port: host_veth_name(&identity)?,
        peer: VethPeer {
            name: attachment.if_name.clone(),
            namespace: Some(namespace.as_raw_fd()),
            mac: bridge.mac(attachment)?,
            mtu: bridge.mtu(),
        },
        identity: &identity,
        namespace: &namespace,
        conf: &bridge,
        vlans: bridge.vlans()?,
        gateway: bridge.gateway_interface()?,
    };
    let ipam = ipam(environment, &bridge)?;
    let result = match &ipam {
        Some(plugin) => plugin.add(environment, attachment, conf)?,
        None => AddResult::default(),
    };
    let attached = if ipam.is_some() && result.ips.is_empty() {
        let text = "IPAM plugin returned missing IP config";
        Err(Error::new(Code::Internal, text))
    } else {
        addition.attach(result, &attachment.netns)
    };
    attached.map_err(|error| {
        let released = ipam.map_or(Ok(()), |plugin| plugin.del(environment, attachment, conf));
        and_left(error, released)
    })
}

/// What the bridge needs, it makes; the addresses have to come from somewhere.
pub fn status(environment: &Environment, conf: &NetConf) -> Result<(), Error> {
    let bridge: BridgeConf = conf.view()?;
    ipam(environment, &bridge)?.map_or(Ok(()), |plugin| plugin.status(environment, conf))
}

/// All that is needed to attach a container once it has addresses.
struct Addition<'a> {
    /// The bridge.
    name: IfName,
    /// The host's end of the pair.
    port: IfName,
    /// The container's end.
    peer: VethPeer,
    /// Whose pair it is.
    identity: &'a Identity,
    namespace: &'a Namespace,
    conf: &'a BridgeConf,
    /// Those of the port.
    vlans: Vlans,
    /// The interface that has the gateway's addresses.
    gateway: IfName,
}

// === impl Addition ===

impl Addition<'_> {
    /// Makes the pair and all around it; removes the pair if something fails after it was made. The bridge
    /// stays: it may serve others by now.
    fn attach(&self, mut result: AddResult, sandbox: &str) -> Result<AddResult, Error> {
        if self.conf.is_default_gateway {
            plan::bridge::add_default_routes(&mut result);
        }
        for ip in &mut result.ips {
            ip.interface = Some(CONTAINER_INTERFACE);
        }
        if !self.conf.dns.is_empty() {
            result.dns = self.conf.dns.clone();
        }
        let mut host = Handle::open()?;
        let bridge = self.make_pair(&mut host, &result)?;
        let gateway = self.join_vlans(&mut host, bridge.index, &result);
        gateway
            .and_then(|gateway| Ok((gateway, self.connect(&mut host, bridge, &result)?)))
            .and_then(|links| self.pass_own_mac_only(&links.1).map(|()| links))
            .and_then(|links| self.masquerade(&result).map(|()| links))
            .map(|(gateway, [bridge, port, container])| {
                result.interfaces = vec![
                    interface(&bridge, ""),
                    interface(&port, ""),
                    interface(&container, sandbox),
                ];
                let gateway = gateway.iter().map(|link| interface(link, ""));
                result.interfaces.extend(gateway);
                result
            })
            .map_err(|error| {
                let deleted = delete_veth(&mut host, &self.port);
                let undone = deleted.and(self.forget_mac());
                and_left(error, undone)
            })
    }

    /// Makes the bridge, gives it what it lacks, and makes the pair. If this fails there is no pair. Answers
    /// with the bridge as it was before the pair.
    fn make_pair(&self, host: &mut Handle, result: &AddResult) -> Result<Link, Error> {
        let gateways = match self.vlans.access {
            Some(_) => Vec::new(),
            None => self.gateways(result)?,
        };
        // Before anything is made: what can't be done is known by now.
        plan::container::changes(result, IfIndex(0), false).map_err(refused)?;
        let bridge = self.ensure_bridge(host, &gateways)?;
        let mut changes = self.complete_bridge(host, &bridge, &gateways, result)?;
        if !self.vlans.is_empty() {
            changes.push(plan::port_vlans::filtering(bridge.index));
        }
        if self.conf.promisc_mode {
            changes.push(plan::bridge::promiscuous(bridge.index));
        }
        changes.push(plan::bridge::veth(
            self.port.clone(),
            self.peer.clone(),
            bridge.index,
        ));
        let mut outcomes = host.apply_each(&changes)?;
        let pair = outcomes.pop().unwrap_or(Ok(()));
        pair.map_err(|error| self.pair_error(error))?;
        let completed: Result<(), kernel::Error> = outcomes.into_iter().collect();
        if let Err(error) = completed {
            let deleted = delete_veth(host, &self.port);
            return Err(and_left(error.into(), deleted.map(|_| ())));
        }
        Ok(bridge)
    }

    /// The gateway's addresses, if there is to be one here.
    fn gateways(&self, result: &AddResult) -> Result<Vec<IpNetwork>, Error> {
        if self.conf.is_gateway || self.conf.is_default_gateway {
            plan::bridge::gateways(result).map_err(refused)
        } else {
            Ok(Vec::new())
        }
    }

    fn pass_own_mac_only(&self, [_, port, container]: &[Link; 3]) -> Result<(), Error> {
        match container.mac.filter(|_| self.conf.mac_spoof_chk) {
            Some(mac) => spoof_check::add(self.identity, port, mac),
            None => Ok(()),
        }
    }

    fn forget_mac(&self) -> Result<(), Error> {
        match self.conf.mac_spoof_chk {
            true => spoof_check::del(self.identity),
            false => Ok(()),
        }
    }

    /// Leaves no rules if it fails.
    fn masquerade(&self, result: &AddResult) -> Result<(), Error> {
        if !self.conf.ip_masq {
            return Ok(());
        }
        masquerade::add(self.conf, self.identity, result)
    }

    /// What the bridge lacks. It loses the address of another subnet where the configuration says so, or
    /// where the node had that subnet earlier and no container is left of that time.
    fn complete_bridge(
        &self,
        host: &mut Handle,
        bridge: &Link,
        gateways: &[IpNetwork],
        result: &AddResult,
    ) -> Result<Vec<Change>, Error> {
        use_link_local_at_once(bridge, gateways)?;
        let observed = host.addresses(Some(bridge.index))?;
        let plan = |may_go: &dyn Fn(IpNetwork) -> bool| {
            plan::bridge::complete_bridge(bridge, &observed, gateways, may_go)
        };
        let planned = match plan(&|_| self.conf.force_address) {
            Err(PlanError::OtherAddress { .. }) if !has_ports(host, bridge)? => {
                plan(&|address| plan::bridge::is_of_older_subnet(address, result))
            }
            planned => planned,
        };
        planned.map_err(refused)
    }

    /// Sets up what the pair connects, and answers with the links: bridge, port, container.
    fn connect(
        &self,
        host: &mut Handle,
        bridge: Link,
        result: &AddResult,
    ) -> Result<[Link; 3], Error> {
        let (mut inside, container) = self.set_up_container(result)?;
        let port = existing(host.link_by_name(&self.port)?, &self.port)?;
        let settings = plan::bridge::port_settings(self.conf, self.identity.alias());
        host.apply(&[Change::SetLink(port.index, settings)])?;
        if self.conf.is_gateway || self.conf.is_default_gateway {
            for key in plan::bridge::forwarding(result) {
                sysctl::set(key, "1")?;
            }
        }
        // After the port was read, which makes the bridge take frames from it.
        if !self.conf.disable_container_interface {
            inside.apply(&[plan::container::announce(&container)])?;
        }
        let bridge = match plan::bridge::changes_by_port(&bridge, &port, &self.gateways(result)?) {
            true => existing(host.link_by_index(bridge.index)?, &self.name)?,
            false => bridge,
        };
        Ok([bridge, port, container])
    }

    /// The bridge, made if there is none. Others may make it at the same moment.
    fn ensure_bridge(&self, host: &mut Handle, gateways: &[IpNetwork]) -> Result<Link, Error> {
        let name = &self.name;
        let link = match host.link_by_name(name)? {
            Some(link) => link,
            None => {
                let change = plan::bridge::new_bridge(name.clone(), self.conf.mtu(), gateways);
                match host.apply(&[change]) {
                    Err(error) if !error.is_exists() => return Err(error.into()),
                    _ => existing(host.link_by_name(name)?, name)?,
                }
            }
        };
        if link.kind == LinkKind::Bridge {
            Ok(link)
        } else {
            Err(Error::config(format!(
                "{:?} already exists but is not a bridge",
                name.as_str()
            )))
        }
    }

    /// Sets up the container's interface, on one visit; answers with it and the way to it.
    fn set_up_container(&self, result: &AddResult) -> Result<(Handle, Link), Error> {
        let name = &self.peer.name;
        self.namespace.visit(|| {
            let detect_duplicates = self.conf.enable_dad;
            for (key, value) in plan::container::settings(result, name, detect_duplicates) {
                set_if_there(&key, value)?;
            }
            let mut handle = Handle::open()?;
            let link = existing(handle.link_by_name(name)?, name)?;
            if !self.conf.disable_container_interface {
                let changes = plan::container::changes(result, link.index, detect_duplicates);
                handle.apply(&changes.map_err(refused)?)?;
            }
            Ok((handle, link))
        })?
    }

    fn pair_error(&self, error: kernel::Error) -> Error {
        let (port, container) = (self.port.as_str(), self.peer.name.as_str());
        if error.is_exists() {
            let text = format!(
                "container veth name ({container:?}) peer provided ({port:?}) already exists: DEL the attachment before it is added again"
            );
            return Error::new(Code::Internal, text);
        }
        let attempted = format!(
            "failed to connect {port:?} to bridge {} from network namespace {}",
            self.name,
            self.namespace.path().display()
        );
        Error::from(error).during(&attempted)
    }
}

/// The IPAM plugin, if the network has addresses.
fn ipam(environment: &Environment, bridge: &BridgeConf) -> Result<Option<Delegate>, Error> {
    bridge
        .ipam_type()
        .map(|name| Delegate::find(name, Plugin::HostLocal, environment))
        .transpose()
}

fn host_veth_name(identity: &Identity) -> Result<IfName, Error> {
    identity.name().parse().map_err(Error::config)
}

fn interface(link: &Link, sandbox: &str) -> Interface {
    Interface {
        name: link.name.to_string(),
        mac: link.mac,
        mtu: link.mtu,
        sandbox: sandbox.to_owned(),
        ..Interface::default()
    }
}

/// A link that was there a moment ago.
fn existing(link: Option<Link>, name: &IfName) -> Result<Link, Error> {
    link.ok_or_else(|| {
        Error::new(
            Code::Internal,
            format!("interface {name} was removed by somebody else while it was set up"),
        )
    })
}

/// Whether a bridge has ports.
fn has_ports(host: &mut Handle, bridge: &Link) -> Result<bool, Error> {
    let links = host.links()?;
    Ok(links.iter().any(|link| link.master == Some(bridge.index)))
}

/// Has an interface with gateway addresses use its link-local address as soon as it has one. The kernel asks
/// from that who has a container's address when it forwards; while it looks for duplicates of it, for a
/// second or two, it does not ask, and what comes for the containers is lost. An interface that has a carrier
/// already has its address already.
fn use_link_local_at_once(gateway: &Link, addresses: &[IpNetwork]) -> Result<(), Error> {
    if gateway.carrier || !addresses.iter().any(IpNetwork::is_ipv6) {
        return Ok(());
    }
    let (key, value) = plan::bridge::no_duplicate_detection(&gateway.name);
    set_if_there(&key, value)
}

/// Sets a kernel setting; one that this kernel does not have can be done without.
fn set_if_there(key: &str, value: &str) -> Result<(), Error> {
    match sysctl::set(key, value) {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

fn refused(error: PlanError) -> Error {
    match error {
        PlanError::OtherAddress { .. } => Error::new(Code::Internal, error.to_string()).with_details(
            "the bridge serves another subnet: delete it when no container uses it any more, or name another in the network's bridge key",
        ),
        PlanError::RouteScope { .. } | PlanError::Prefix(_) => Error::config(error),
    }
}

/// The error of an ADD, with what could not be undone in its details.
fn and_left(error: Error, undone: Result<(), Error>) -> Error {
    match undone {
        Ok(()) => error,
        Err(left) => error.with_details(format!("and it could not be undone: {left}")),
    }
}
