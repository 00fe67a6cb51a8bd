//! Masquerading by nftables.

use ipnetwork::IpNetwork;
use kernel::nft::{Handle, ObservedTable, Transaction};

use crate::{
    model::{AddResult, Code, Error, NetConf, ValidAttachments},
    plan::{
        host_veth::Identity,
        masquerade::nftables::{self as plan, FAMILY, TABLE},
    },
    plugin::packet_filters::change_nftables,
    source::NamespaceLock,
};

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

fn change(plan: impl Fn(Option<&ObservedTable>) -> Option<Transaction>) -> Result<(), Error> {
    let _lock = NamespaceLock::take()?;
    change_nftables(FAMILY, TABLE, |table| Ok(plan(table).into_iter().collect()))
        .map_err(|error| error.during("ipMasq"))
}

fn addresses(result: &AddResult) -> Vec<IpNetwork> {
    result.ips.iter().map(|ip| ip.address.0).collect()
}
