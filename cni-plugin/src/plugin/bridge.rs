//! The bridge plugin: a veth pair from the container to a bridge of the host.

use std::os::fd::AsRawFd;

use ipnetwork::IpNetwork;
use kernel::{
    IfName,
    netns::Namespace,
    route::{Change, Handle, IfIndex, Link, LinkKind, VethPeer},
    sysctl,
};
use nix::errno::Errno;

use super::{Plugin, delegate};
use crate::{
    model::{AddResult, Attachment, BridgeConf, Code, Error, Interface, NetConf, ValidAttachments},
    plan::{self, bridge::PlanError, host_veth},
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
    let addition = Addition {
        name: bridge.bridge()?,
        port: host_veth_name(attachment, conf)?,
        peer: VethPeer {
            name: attachment.if_name.clone(),
            namespace: Some(namespace.as_raw_fd()),
            mac: bridge.mac(attachment)?,
            mtu: bridge.mtu(),
        },
        namespace: &namespace,
        conf: &bridge,
    };
    let ipam = ipam(&bridge)?;
    let result = match ipam {
        Some(plugin) => plugin.add(environment, attachment, conf)?,
        None => AddResult::default(),
    };
    addition.attach(result, &attachment.netns).map_err(|error| {
        let released = ipam.map_or(Ok(()), |plugin| plugin.del(environment, attachment, conf));
        and_left(error, released)
    })
}

/// Removes the pair, then gives the addresses back: not before nobody can use them any more.
pub fn del(
    environment: &Environment,
    attachment: &Attachment,
    conf: &NetConf,
) -> Result<(), Error> {
    let bridge: BridgeConf = conf.view()?;
    if !delete_in_container(attachment)? {
        let name = host_veth_name(attachment, conf)?;
        delete_veth(&mut Handle::open()?, &name)?;
    }
    ipam(&bridge)?.map_or(Ok(()), |plugin| plugin.del(environment, attachment, conf))
}

/// Looks whether the addresses are still reserved.
pub fn check(
    environment: &Environment,
    attachment: &Attachment,
    conf: &NetConf,
) -> Result<(), Error> {
    let bridge: BridgeConf = conf.view()?;
    conf.required_prev_result()?;
    ipam(&bridge)?.map_or(Ok(()), |plugin| plugin.check(environment, attachment, conf))
}

/// Gives back the addresses of attachments that are not in use any more.
pub fn gc(
    environment: &Environment,
    valid: &ValidAttachments,
    conf: &NetConf,
) -> Result<(), Error> {
    let bridge: BridgeConf = conf.view()?;
    ipam(&bridge)?.map_or(Ok(()), |plugin| plugin.gc(environment, valid, conf))
}

/// What the bridge needs, it makes; the addresses have to come from somewhere.
pub fn status(environment: &Environment, conf: &NetConf) -> Result<(), Error> {
    let bridge: BridgeConf = conf.view()?;
    ipam(&bridge)?.map_or(Ok(()), |plugin| plugin.status(environment, conf))
}

/// All that is needed to attach a container once it has addresses.
struct Addition<'a> {
    /// The bridge.
    name: IfName,
    /// The host's end of the pair.
    port: IfName,
    /// The container's end.
    peer: VethPeer,
    namespace: &'a Namespace,
    conf: &'a BridgeConf,
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
        self.connect(&mut host, bridge, &result)
            .map(|[bridge, port, container]| {
                result.interfaces = vec![
                    interface(&bridge, ""),
                    interface(&port, ""),
                    interface(&container, sandbox),
                ];
                result
            })
            .map_err(|error| {
                let deleted = delete_veth(&mut host, &self.port);
                and_left(error, deleted.map(|_| ()))
            })
    }

    /// Makes the bridge, gives it what it lacks, and makes the pair. If this fails there is no pair.
    fn make_pair(&self, host: &mut Handle, result: &AddResult) -> Result<IfIndex, Error> {
        let gateways = if self.conf.is_gateway || self.conf.is_default_gateway {
            plan::bridge::gateways(result).map_err(refused)?
        } else {
            Vec::new()
        };
        // Before anything is made: what can't be done is known by now.
        plan::bridge::container(result, IfIndex(0)).map_err(refused)?;
        let bridge = self.ensure_bridge(host, &gateways)?;
        let observed = host.addresses(Some(bridge.index))?;
        let mut changes =
            plan::bridge::complete_bridge(&bridge, &observed, &gateways).map_err(refused)?;
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
        Ok(bridge.index)
    }

    /// Sets up what the pair connects, and answers with the links: bridge, port, container.
    fn connect(
        &self,
        host: &mut Handle,
        bridge: IfIndex,
        result: &AddResult,
    ) -> Result<[Link; 3], Error> {
        let (mut inside, container) = self.set_up_container(result)?;
        let port = existing(host.link_by_name(&self.port)?, &self.port)?;
        if self.conf.hairpin_mode {
            host.apply(&[plan::bridge::hairpin(port.index)])?;
        }
        if self.conf.is_gateway || self.conf.is_default_gateway {
            for key in plan::bridge::forwarding(result) {
                sysctl::set(key, "1")?;
            }
        }
        // After the port was read, which makes the bridge take frames from it.
        inside.apply(&[plan::bridge::announce(&container)])?;
        let bridge = existing(host.link_by_index(bridge)?, &self.name)?;
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
        self.namespace.run(|| {
            for (key, value) in plan::bridge::container_settings(result, name) {
                set_if_there(&key, value)?;
            }
            let mut handle = Handle::open()?;
            let link = existing(handle.link_by_name(name)?, name)?;
            let changes = plan::bridge::container(result, link.index).map_err(refused)?;
            handle.apply(&changes)?;
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

/// Deletes the pair by the container's end. Answers whether it was there: not if the namespace is gone, or
/// if it is the plugin's own, where an interface of that name is the host's.
fn delete_in_container(attachment: &Attachment) -> Result<bool, Error> {
    if attachment.netns.is_empty() {
        return Ok(false);
    }
    let namespace = match Namespace::open(&attachment.netns) {
        Err(error) if error.is_not_found() => return Ok(false),
        other => other?,
    };
    if namespace.is_same(&Namespace::current()?)? {
        return Ok(false);
    }
    match Handle::open_in(&namespace) {
        // The path is there, and no namespace: its mount is gone.
        Err(error) if error.errno() == Some(Errno::EINVAL) => Ok(false),
        handle => delete_veth(&mut handle?, &attachment.if_name),
    }
}

/// Deletes a veth pair by the name of one end. Answers whether it was there; an interface of another kind
/// is none of ours.
fn delete_veth(handle: &mut Handle, name: &IfName) -> Result<bool, Error> {
    match handle.link_by_name(name)? {
        Some(link) if link.kind == LinkKind::Veth => {
            match handle.apply(&[Change::DeleteLink(link.index)]) {
                Err(error) if !error.is_not_found() => Err(error.into()),
                _ => Ok(true),
            }
        }
        _ => Ok(false),
    }
}

/// The IPAM plugin, if the network has addresses.
fn ipam(bridge: &BridgeConf) -> Result<Option<Plugin>, Error> {
    bridge
        .ipam_type()
        .map(|name| delegate("ipam.type", name, Plugin::HostLocal))
        .transpose()
}

fn host_veth_name(attachment: &Attachment, conf: &NetConf) -> Result<IfName, Error> {
    let Attachment {
        container_id,
        if_name,
        ..
    } = attachment;
    let name = host_veth::name(conf.name(), container_id, if_name.as_str());
    name.parse().map_err(Error::config)
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
        PlanError::RouteKey { .. } | PlanError::Prefix(_) => Error::config(error),
    }
}

/// The error of an ADD, with what could not be undone in its details.
fn and_left(error: Error, undone: Result<(), Error>) -> Error {
    match undone {
        Ok(()) => error,
        Err(left) => error.with_details(format!("and it could not be undone: {left}")),
    }
}
