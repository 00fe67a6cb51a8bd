//! What becomes of host-local's reservations after the ADD: CHECK, GC and STATUS.

use std::{net::IpAddr, path::Path};

use crate::{
    model::{Attachment, Code, Error, IpConfig, IpamLocation, NetConf, Owner, ValidAttachments},
    source::{AddressStore, Reservations},
};

/// Each address of `prevResult` has to be reserved for the attachment.
pub fn check(attachment: &Attachment, conf: &NetConf) -> Result<(), Error> {
    let result = conf.required_prev_result()?;
    let location = IpamLocation::for_del(conf)?;
    let known = match AddressStore::open_existing(&location)? {
        Some(store) => store.reservations()?,
        None => Reservations::new(),
    };
    let is_held = |owner: &Owner| owner.is(attachment) || owner.may_be(attachment);
    if !known.values().flatten().any(is_held) {
        return Err(gone(format!(
            "host-local: Failed to find address added by container {}",
            attachment.container_id
        ))
        .with_details(format!("looked in {}", location.dir.display())));
    }
    for IpConfig { address, .. } in &result.ips {
        let ip = address.0.ip();
        let state = match known.get(&ip) {
            Some(Some(owner)) if is_held(owner) => continue,
            Some(Some(_)) => "is reserved for another container",
            Some(None) => "is empty",
            None => "is missing",
        };
        let path = location.dir.join(ip.to_string());
        return Err(gone(format!(
            "host-local: address {ip} of container {} {}: file {} {state}",
            attachment.container_id,
            attachment.if_name,
            path.display()
        )));
    }
    Ok(())
}

/// Gives back the addresses of attachments that are not in use any more, and files that say nobody's name.
pub fn gc(valid: &ValidAttachments, conf: &NetConf) -> Result<(), Error> {
    let location = IpamLocation::for_del(conf)?;
    let Some(store) = AddressStore::open_existing(&location)? else {
        return Ok(());
    };
    let known = store.reservations()?;
    let left = known
        .iter()
        .filter(|(_, owner)| owner.as_ref().is_none_or(|owner| !owner.is_one_of(valid)));
    // One address that can't be given back is no reason to keep the others.
    let mut removed: Vec<_> = left.map(|(ip, _)| store.release(*ip)).collect();
    removed.push(store.remove_left());
    removed.into_iter().collect()
}

/// The addresses that an attachment holds.
pub fn held(attachment: &Attachment, conf: &NetConf) -> Result<Vec<IpAddr>, Error> {
    let location = IpamLocation::for_del(conf)?;
    let known = match AddressStore::open_existing(&location)? {
        Some(store) => store.reservations()?,
        None => Reservations::new(),
    };
    let is_held = |owner: &Option<Owner>| owner.as_ref().is_some_and(|it| it.is(attachment));
    let held = known.into_iter().filter(|(_, owner)| is_held(owner));
    Ok(held.map(|(ip, _)| ip).collect())
}

/// Container id and interface name of attachments that hold addresses and are not in use any more.
pub fn left(valid: &ValidAttachments, conf: &NetConf) -> Result<Vec<(String, String)>, Error> {
    let location = IpamLocation::for_del(conf)?;
    let Some(store) = AddressStore::open_existing(&location)? else {
        return Ok(Vec::new());
    };
    let known = store.reservations()?;
    let owners = known.values().flatten().filter(|it| !it.is_one_of(valid));
    Ok(owners
        .filter_map(Owner::names)
        .map(|(id, if_name)| (id.to_owned(), if_name.to_owned()))
        .collect())
}

/// An ADD can succeed if the files can be where they belong.
pub fn status(conf: &NetConf) -> Result<(), Error> {
    let dir = IpamLocation::for_del(conf)?.dir;
    let existing = dir.ancestors().find(|path| path.exists());
    match existing {
        Some(path) if path.is_dir() => Ok(()),
        other => Err(Error::new(
            Code::NotAvailable,
            format!(
                "host-local can't keep addresses in {}: {} is no directory",
                dir.display(),
                other.unwrap_or(Path::new("/")).display()
            ),
        )),
    }
}

fn gone(message: String) -> Error {
    Error::new(Code::Internal, message)
}
