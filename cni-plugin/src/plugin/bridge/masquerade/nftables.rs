//! Masquerading by nftables.

use ipnetwork::IpNetwork;
use kernel::nft::{Handle, ObservedTable, Transaction};

use crate::{
    model::{AddResult, Code, Error, NetConf, ValidAttachments},
    plan::{
        host_veth::Identity,
        masquerade::nftables::{self as plan, FAMILY, TABLE},
    },
    source::NamespaceLock,
};

/// How often rules are made once more that others changed meanwhile.
const ATTEMPTS: usize = 3;

/// A transaction is carried out whole or not at all, so there is nothing to undo.
pub fn add(identity: &Identity, result: &AddResult) -> Result<(), Error> {
    let addresses = addresses(result);
    change(|table| plan::add(identity, &addresses, table))
}

/// Removes the rules of an attachment.
pub fn del(identity: &Identity) -> Result<(), Error> {
    change(|table| plan::delete(identity, table?))
}

/// Removes the rules of attachments that are not in use any more.
pub fn gc(valid: &ValidAttachments, conf: &NetConf) -> Result<(), Error> {
    let identity = |(container_id, if_name): &(String, String)| Identity {
        network: conf.name().to_owned(),
        container_id: container_id.clone(),
        if_name: if_name.clone(),
    };
    change(|table| plan::collect(conf.name(), valid.iter().map(identity), table?))
}

/// Names the first rule that is missing.
pub fn check(identity: &Identity, result: &AddResult) -> Result<(), Error> {
    let table = Handle::open()?.read(FAMILY, TABLE)?;
    match plan::missing(identity, &addresses(result), table.as_ref()) {
        None => Ok(()),
        Some(rule) => Err(Error::new(
            Code::Internal,
            format!(
                "masquerade rule of container {} is missing: {rule}",
                identity.container_id
            ),
        )),
    }
}

fn change(change: impl Fn(Option<&ObservedTable>) -> Option<Transaction>) -> Result<(), Error> {
    let _lock = NamespaceLock::take()?;
    let mut handle = Handle::open()?;
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        let table = handle.read(FAMILY, TABLE)?;
        let Some(transaction) = change(table.as_ref()) else {
            return Ok(());
        };
        outcome = handle.apply(&transaction);
        if outcome.is_ok() {
            break;
        }
    }
    outcome.map_err(|error| Error::from(error).during("ipMasq"))
}

fn addresses(result: &AddResult) -> Vec<IpNetwork> {
    result.ips.iter().map(|ip| ip.address.0).collect()
}
