//! The bandwidth plugin: limits what a container receives, at the host's end of its pair, and what it sends,
//! at a device of its own that all of it is redirected to.

use std::collections::BTreeSet;

use kernel::{
    IfName,
    netns::Namespace,
    route::{self, Change, Link, LinkKind, NewLink, NewLinkKind},
    tc::{self, Qdisc, Redirect, Tbf},
};

use crate::{
    model::{
        AddResult, Attachment, BandwidthConf, Code, Error, Interface, NetConf, ValidAttachments,
    },
    plan::hashed_name::hashed,
    source::NamespaceLock,
};

/// The names of the devices begin like this.
const PREFIX: &str = "bwp";
/// The reference's priority of the filter that redirects.
const PRIORITY: u16 = 1;

/// Sets the limits; answers with `prevResult` and the device.
pub fn add(attachment: &Attachment, conf: &NetConf) -> Result<AddResult, Error> {
    let bandwidth = BandwidthConf::of(conf)?;
    let Some(mut result) = conf.prev_result()? else {
        return Err(Error::config("must be called as chained plugin"));
    };
    if bandwidth.is_unlimited() {
        return Ok(result);
    }
    let _lock = NamespaceLock::take()?;
    let mut links = route::Handle::open()?;
    let port = host_port(&mut links, attachment, &result)?;
    let mut control = tc::Handle::open()?;
    if let Some(bucket) = bandwidth.ingress {
        control.apply(&[tc::Change::ReplaceTbf(port.index, bucket)])?;
    }
    if let Some(bucket) = bandwidth.egress {
        let name = device(conf.name(), &attachment.container_id)?;
        let made = limit_egress(&mut links, &mut control, &port, &name, bucket);
        let made = made.map_err(|error| match delete(&mut links, &name) {
            Ok(()) => error,
            Err(left) => error.with_details(format!("and it could not be undone: {left}")),
        })?;
        result.interfaces.push(Interface {
            name: made.name.to_string(),
            mac: made.mac,
            ..Interface::default()
        });
    }
    Ok(result)
}

/// Removes the device; the other limit goes with the pair.
pub fn del(attachment: &Attachment, conf: &NetConf) -> Result<(), Error> {
    BandwidthConf::of(conf)?;
    let name = device(conf.name(), &attachment.container_id)?;
    delete(&mut route::Handle::open()?, &name)
}

/// Whether the limits are those of the configuration.
pub fn check(attachment: &Attachment, conf: &NetConf) -> Result<(), Error> {
    let bandwidth = BandwidthConf::of(conf)?;
    let result = conf.required_prev_result()?;
    if bandwidth.is_unlimited() {
        return Ok(());
    }
    let mut links = route::Handle::open()?;
    let port = host_port(&mut links, attachment, &result)?;
    let mut control = tc::Handle::open()?;
    if let Some(bucket) = bandwidth.ingress {
        check_bucket(&mut control, &port, bucket)?;
    }
    if let Some(bucket) = bandwidth.egress {
        let name = device(conf.name(), &attachment.container_id)?;
        let link = links.link_by_name(&name)?;
        let link = link.ok_or_else(|| internal(format!("get ifb device: {name} not found")))?;
        check_bucket(&mut control, &link, bucket)?;
        let redirects = control.redirects(port.index)?;
        if !redirects.iter().any(|redirect| redirect.to == link.index) {
            return Err(internal(format!(
                "what {} receives is not redirected to {name}",
                port.name
            )));
        }
    }
    Ok(())
}

/// Removes devices that nothing is redirected to: their pairs are gone. The names do not say the network, so
/// this is for all networks; those of attachments in use are kept in any case.
pub fn gc(valid: &ValidAttachments, conf: &NetConf) -> Result<(), Error> {
    let _lock = NamespaceLock::take()?;
    let mut handle = route::Handle::open()?;
    let links = handle.links()?;
    let in_use: BTreeSet<String> = valid
        .container_ids()
        .iter()
        .map(|id| hashed(IfName::MAX_LEN, PREFIX, &format!("{}{id}", conf.name())))
        .collect();
    let mut control = tc::Handle::open()?;
    let mut targets = BTreeSet::new();
    for link in links.iter().filter(|link| link.kind == LinkKind::Veth) {
        let redirects = control.redirects(link.index)?;
        targets.extend(redirects.iter().map(|redirect| redirect.to));
    }
    for link in links.iter().filter(|link| is_device(link)) {
        if !in_use.contains(link.name.as_str()) && !targets.contains(&link.index) {
            delete(&mut handle, &link.name)?;
        }
    }
    Ok(())
}

/// Makes the device, limits it, and redirects to it all that comes from the container.
fn limit_egress(
    links: &mut route::Handle,
    control: &mut tc::Handle,
    port: &Link,
    name: &IfName,
    bucket: Tbf,
) -> Result<Link, Error> {
    let device = NewLink {
        mtu: Some(port.mtu),
        up: true,
        ..NewLink::new(name.clone(), NewLinkKind::Ifb)
    };
    // One that is left over from an ADD that failed is as good.
    match links.apply(&[Change::AddLink(device)]) {
        Err(error) if !error.is_exists() => return Err(Error::from(error).during("adding link")),
        _ => {}
    }
    let link = links.link_by_name(name)?.filter(is_device);
    let link = link.ok_or_else(|| internal(format!("{name} is no device of this plugin")))?;
    let mut changes = vec![tc::Change::ReplaceTbf(link.index, bucket)];
    if control.ingress(port.index)?.is_none() {
        changes.push(tc::Change::AddIngress(port.index));
    }
    let redirect = Redirect {
        priority: PRIORITY,
        to: link.index,
    };
    if !control.redirects(port.index)?.contains(&redirect) {
        changes.push(tc::Change::AddRedirect(port.index, redirect));
    }
    control.apply(&changes)?;
    Ok(link)
}

/// The host's end of the container's pair; one that `prevResult` knows.
fn host_port(
    links: &mut route::Handle,
    attachment: &Attachment,
    result: &AddResult,
) -> Result<Link, Error> {
    if result.interfaces.is_empty() {
        return Err(internal("no interfaces provided"));
    }
    let name = &attachment.if_name;
    let opened = Namespace::open(&attachment.netns).and_then(|it| route::Handle::open_in(&it));
    let mut inside = opened.map_err(|error| {
        Error::from(error).during(&format!("failed to open netns {:?}", attachment.netns))
    })?;
    let peer = inside.link_by_name(name)?.and_then(|link| link.parent);
    let peer =
        peer.ok_or_else(|| internal(format!("container interface {name} has no veth peer")))?;
    let port = links.link_by_index(peer)?;
    let port =
        port.ok_or_else(|| internal(format!("veth peer with index {} is not in host ns", peer.0)))?;
    let mut known = result.interfaces.iter();
    known
        .any(|it| it.sandbox.is_empty() && it.name == port.name.as_str())
        .then_some(port)
        .ok_or_else(|| internal("no veth peer of container interface found in host ns"))
}

fn check_bucket(control: &mut tc::Handle, link: &Link, want: Tbf) -> Result<(), Error> {
    let text = match control.root(link.index)? {
        Some(Qdisc::Tbf(have)) if have == want => return Ok(()),
        Some(Qdisc::Tbf(have)) if have.rate != want.rate => "Rate doesn't match",
        Some(Qdisc::Tbf(have)) if have.limit != want.limit => "Limit doesn't match",
        Some(Qdisc::Tbf(_)) => "Buffer doesn't match",
        _ => "Failed to find qdisc",
    };
    Err(internal(text).with_details(format!("interface {}: want {want}", link.name)))
}

fn device(network: &str, container_id: &str) -> Result<IfName, Error> {
    let name = hashed(IfName::MAX_LEN, PREFIX, &format!("{network}{container_id}"));
    name.parse().map_err(Error::config)
}

fn is_device(link: &Link) -> bool {
    link.kind == LinkKind::Ifb && link.name.as_str().starts_with(PREFIX)
}

/// Deletes a device of ours, if there is one.
fn delete(handle: &mut route::Handle, name: &IfName) -> Result<(), Error> {
    let Some(link) = handle.link_by_name(name)?.filter(is_device) else {
        return Ok(());
    };
    match handle.apply(&[Change::DeleteLink(link.index)]) {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

fn internal(text: impl Into<String>) -> Error {
    Error::new(Code::Internal, text)
}
