//! Masquerading, as the configuration asks for it by `ipMasq`.

mod iptables;
mod nftables;

use crate::{
    model::{
        AddResult, Attachment, BridgeConf, Error, MasqueradeBackend, NetConf, ValidAttachments,
    },
    plan::host_veth::Identity,
    plugin::packet_filters,
};

/// Has the container's packets leave under the node's address, but for those to its own subnet. Leaves no
/// rules if it fails.
pub fn add(conf: &BridgeConf, identity: &Identity, result: &AddResult) -> Result<(), Error> {
    match backend(conf)? {
        MasqueradeBackend::Iptables => iptables::add(identity, result),
        MasqueradeBackend::Nftables => nftables::add(identity, result),
    }
}

/// Removes the rules of an attachment, whichever backend the ADD was told to use.
pub fn del(attachment: &Attachment, conf: &NetConf) -> Result<(), Error> {
    let identity = Identity::of(attachment, conf.name());
    let removed = iptables::del(attachment, conf);
    removed.and(nftables::del(&identity))
}

/// Removes the rules of attachments that are not in use any more, of both backends.
pub fn gc(valid: &ValidAttachments, conf: &NetConf) -> Result<(), Error> {
    let removed = iptables::gc(valid, conf);
    removed.and(nftables::gc(valid, conf))
}

/// Names the first rule, or the first address without rules.
pub fn check(conf: &BridgeConf, identity: &Identity, result: &AddResult) -> Result<(), Error> {
    match backend(conf)? {
        MasqueradeBackend::Iptables => iptables::check(identity, result),
        MasqueradeBackend::Nftables => nftables::check(identity, result),
    }
}

/// The backend that the configuration names; otherwise iptables, unless only nftables works.
fn backend(conf: &BridgeConf) -> Result<MasqueradeBackend, Error> {
    Ok(match conf.masquerade_backend()? {
        Some(backend) => backend,
        None if packet_filters::is_nftables_the_only_one() => MasqueradeBackend::Nftables,
        None => MasqueradeBackend::Iptables,
    })
}
