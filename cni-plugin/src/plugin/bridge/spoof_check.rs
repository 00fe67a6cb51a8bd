//! Dropping what a container sends under another's Ethernet address (`macspoofchk`).

use kernel::{
    Mac,
    nft::{self, ObservedTable, Transaction},
    route::{self, Link},
};

use crate::{
    model::{Code, Error, ValidAttachments},
    plan::{
        host_veth::Identity,
        mac_spoof::{self as plan, FAMILY, TABLE},
    },
    plugin::packet_filters::change_nftables,
    source::NamespaceLock,
};

/// Has the bridge take frames from a port only if they have one address.
pub fn add(identity: &Identity, port: &Link, mac: Mac) -> Result<(), Error> {
    change(|table| vec![plan::add(identity, &port.name, mac, table)])
}

/// Removes the rules of an attachment.
pub fn del(identity: &Identity) -> Result<(), Error> {
    change(|table| {
        let removal = table.and_then(|table| plan::delete(identity, table));
        removal.into_iter().collect()
    })
}

/// Removes the rules of attachments that are not in use any more.
pub fn gc(host: &mut route::Handle, valid: &ValidAttachments) -> Result<(), Error> {
    let links = host.links()?;
    let is_there = |name: &str| links.iter().any(|link| link.name.as_str() == name);
    let is_in_use = |reference: &str| {
        let mut listed = valid.iter();
        listed.any(|(id, if_name)| format!("{id}-{if_name}") == reference)
    };
    change(|table| table.map_or_else(Vec::new, |table| plan::collect(table, is_in_use, is_there)))
}

/// Names the first rule that is missing.
pub fn check(identity: &Identity, port: &Link, mac: Option<Mac>) -> Result<(), Error> {
    let table = nft::Handle::open()?.read(FAMILY, TABLE)?;
    let missing = mac.and_then(|mac| plan::missing(identity, &port.name, mac, table.as_ref()));
    match missing {
        None => Ok(()),
        Some(rule) => Err(Error::new(
            Code::Internal,
            format!(
                "macspoofchk rule of container {} is missing: {rule}",
                identity.container_id
            ),
        )),
    }
}

fn change(plan: impl Fn(Option<&ObservedTable>) -> Vec<Transaction>) -> Result<(), Error> {
    let _lock = NamespaceLock::take()?;
    change_nftables(FAMILY, TABLE, |table| Ok(plan(table)))
        .map_err(|error| error.during("macspoofchk"))
}
