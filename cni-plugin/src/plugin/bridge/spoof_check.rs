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
    source::NamespaceLock,
};

/// How often rules are made once more that others changed meanwhile.
const ATTEMPTS: usize = 3;

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

fn change(change: impl Fn(Option<&ObservedTable>) -> Vec<Transaction>) -> Result<(), Error> {
    let _lock = NamespaceLock::take()?;
    let mut handle = nft::Handle::open()?;
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        let table = handle.read(FAMILY, TABLE)?;
        let transactions = change(table.as_ref());
        outcome = transactions.iter().try_for_each(|it| handle.apply(it));
        if outcome.is_ok() {
            break;
        }
    }
    outcome.map_err(|error| Error::from(error).during("macspoofchk"))
}
