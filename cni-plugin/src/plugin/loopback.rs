//! The loopback plugin: brings up the container's `lo`, whatever interface the runtime names.

use ipnetwork::IpNetwork;
use kernel::{
    IfName, Mac,
    netns::Namespace,
    route::{Change, Handle, Link, LinkSettings},
};
use nix::errno::Errno;

use crate::model::{AddResult, Attachment, Cidr, Code, Error, Interface, IpConfig, NetConf};

/// Brings it up, which gives it its addresses. Answers with `prevResult` if there is one.
pub fn add(attachment: &Attachment, conf: &NetConf) -> Result<AddResult, Error> {
    let previous = conf.prev_result()?;
    let mut handle = handle(attachment)?;
    let link = loopback(&mut handle)?;
    handle.apply(&[set_up(&link, true)])?;
    let mut addresses = Vec::new();
    for address in handle.addresses(Some(link.index))? {
        if !address.address.ip().is_loopback() {
            return Err(Error::new(
                Code::Internal,
                format!(
                    "loopback interface found with non-loopback address \"{}\"",
                    address.address.ip()
                ),
            ));
        }
        addresses.push(address.address);
    }
    Ok(previous.unwrap_or_else(|| result(attachment, &link, &addresses)))
}

/// Takes it down; all is well if the namespace is gone.
pub fn del(attachment: &Attachment) -> Result<(), Error> {
    if attachment.netns.is_empty() {
        return Ok(());
    }
    let namespace = match Namespace::open(&attachment.netns) {
        Err(error) if error.is_not_found() => return Ok(()),
        other => other?,
    };
    // The node's own would be taken from under everybody.
    if namespace.is_same(&Namespace::current()?)? {
        return Ok(());
    }
    match Handle::open_in(&namespace) {
        // The path is there, and no namespace: its mount is gone.
        Err(error) if error.errno() == Some(Errno::EINVAL) => Ok(()),
        handle => {
            let mut handle = handle?;
            let link = loopback(&mut handle)?;
            Ok(handle.apply(&[set_up(&link, false)])?)
        }
    }
}

/// Whether it is up.
pub fn check(attachment: &Attachment) -> Result<(), Error> {
    if loopback(&mut handle(attachment)?)?.up {
        return Ok(());
    }
    Err(Error::new(Code::Internal, "loopback interface is down"))
}

fn handle(attachment: &Attachment) -> Result<Handle, Error> {
    let opened =
        Namespace::open(&attachment.netns).and_then(|namespace| Handle::open_in(&namespace));
    opened.map_err(|error| {
        Error::from(error).during(&format!("failed to open netns {:?}", attachment.netns))
    })
}

fn loopback(handle: &mut Handle) -> Result<Link, Error> {
    let name: IfName = "lo".parse().map_err(Error::config)?;
    handle
        .link_by_name(&name)?
        .ok_or_else(|| Error::new(Code::Internal, "the network namespace has no interface lo"))
}

fn set_up(link: &Link, up: bool) -> Change {
    let settings = LinkSettings {
        up: Some(up),
        ..LinkSettings::default()
    };
    Change::SetLink(link.index, settings)
}

/// The first address of each family.
fn result(attachment: &Attachment, link: &Link, addresses: &[IpNetwork]) -> AddResult {
    let of_family = |v4| {
        addresses
            .iter()
            .find(move |address| address.is_ipv4() == v4)
    };
    let ips = [of_family(true), of_family(false)].into_iter().flatten();
    AddResult {
        interfaces: vec![Interface {
            name: link.name.to_string(),
            mac: Some(Mac([0; 6])),
            sandbox: attachment.netns.clone(),
            ..Interface::default()
        }],
        ips: ips
            .map(|address| IpConfig {
                address: Cidr(*address),
                gateway: None,
                interface: Some(0),
            })
            .collect(),
        ..AddResult::default()
    }
}
