//! DEL and GC: finding what an attachment left, whatever file or namespace was lost.

use kernel::{
    IfName,
    netns::Namespace,
    route::{Change, Handle, IfIndex, LinkKind},
};
use nix::errno::Errno;

use super::{host_veth_name, ipam, masquerade, spoof_check};
use crate::{
    model::{Attachment, BridgeConf, Error, NetConf, ValidAttachments},
    plan::host_veth::Identity,
    plugin::{Plugin, delegate::Delegate, reservations},
    source::Environment,
};

/// Removes the pair, then gives the addresses back: not before nobody can use them any more.
pub fn del(
    environment: &Environment,
    attachment: &Attachment,
    conf: &NetConf,
) -> Result<(), Error> {
    let bridge: BridgeConf = conf.view()?;
    if !delete_in_container(attachment)? {
        let identity = Identity::of(attachment, conf.name());
        delete_host_end(&mut Handle::open()?, &identity)?;
    }
    if bridge.mac_spoof_chk {
        spoof_check::del(&Identity::of(attachment, conf.name()))?;
    }
    if bridge.ip_masq {
        masquerade::del(attachment, conf)?;
    }
    ipam(environment, &bridge)?.map_or(Ok(()), |plugin| plugin.del(environment, attachment, conf))
}

/// Removes the pairs of attachments that are not in use any more, then gives their addresses back.
pub fn gc(
    environment: &Environment,
    valid: &ValidAttachments,
    conf: &NetConf,
) -> Result<(), Error> {
    let bridge: BridgeConf = conf.view()?;
    let ipam = ipam(environment, &bridge)?;
    let mut host = Handle::open()?;
    let mut removed = vec![delete_aliased(&mut host, valid, conf)];
    if ipam == Some(Delegate::Own(Plugin::HostLocal)) {
        // An ADD that was killed before it had named its pair had reserved its addresses.
        for (container_id, if_name) in reservations::left(valid, conf)? {
            let identity = Identity {
                network: conf.name().into(),
                container_id,
                if_name,
            };
            removed.push(delete_host_end(&mut host, &identity));
        }
    }
    if bridge.mac_spoof_chk {
        removed.push(spoof_check::gc(&mut host, valid));
    }
    if bridge.ip_masq {
        removed.push(masquerade::gc(valid, conf));
    }
    removed.into_iter().collect::<Result<(), Error>>()?;
    ipam.map_or(Ok(()), |plugin| plugin.gc(environment, valid, conf))
}

/// Deletes a veth pair by the name of one end. Answers whether it was there; an interface of another kind
/// is none of ours.
pub fn delete_veth(handle: &mut Handle, name: &IfName) -> Result<bool, Error> {
    match handle.link_by_name(name)? {
        Some(link) if link.kind == LinkKind::Veth => delete(handle, link.index),
        _ => Ok(false),
    }
}

/// Deletes the pairs of this network whose alias names an attachment that is not in use.
fn delete_aliased(
    host: &mut Handle,
    valid: &ValidAttachments,
    conf: &NetConf,
) -> Result<(), Error> {
    let left = host.aliased_links()?.into_iter().filter(|(link, alias)| {
        let identity = Identity::parse(alias);
        link.kind == LinkKind::Veth
            && identity.is_some_and(|it| {
                it.network == conf.name() && !valid.contains(&it.container_id, &it.if_name)
            })
    });
    // One that can't be deleted is no reason to keep the others.
    let deleted: Vec<_> = left.map(|(link, _)| delete(host, link.index)).collect();
    deleted.into_iter().try_for_each(|it| it.map(drop))
}

/// Deletes a pair by the host's end, unless its alias says that it is another attachment's whose name has
/// the same hash. An ADD that was killed has not written the alias yet.
fn delete_host_end(host: &mut Handle, identity: &Identity) -> Result<(), Error> {
    let name = host_veth_name(identity)?;
    let Some(link) = host.link_by_name(&name)? else {
        return Ok(());
    };
    let alias = host.link_details(link.index)?.and_then(|it| it.alias);
    let is_anothers = alias.is_some_and(|alias| {
        let owner = Identity::parse(&alias);
        owner.is_some_and(|owner| owner != *identity)
    });
    if link.kind == LinkKind::Veth && !is_anothers {
        delete(host, link.index)?;
    }
    Ok(())
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
    match namespace.visit(Handle::open).and_then(|handle| handle) {
        // The path is there, and no namespace: its mount is gone.
        Err(error) if error.errno() == Some(Errno::EINVAL) => Ok(false),
        handle => delete_veth(&mut handle?, &attachment.if_name),
    }
}

/// Answers whether it was there.
fn delete(handle: &mut Handle, index: IfIndex) -> Result<bool, Error> {
    match handle.apply(&[Change::DeleteLink(index)]) {
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(true),
    }
}
