//! The host-local plugin: gives out addresses of this host's ranges.

#[cfg(test)]
mod chaos;

use std::net::IpAddr;

use crate::{
    model::{
        AddResult, Attachment, Cidr, Code, Error, IpConfig, IpamConf, IpamLocation, NetConf, Owner,
        Range, RangeSet,
    },
    plan::allocation,
    source::{AddressStore, Owned, read_resolv_conf},
};

/// Reserves one address of each range set, or none at all.
pub fn add(attachment: &Attachment, conf: &NetConf) -> Result<AddResult, Error> {
    let ipam = IpamConf::for_add(conf, attachment)?;
    let dns = ipam.resolv_conf.as_deref().map(read_resolv_conf);
    let dns = dns.transpose()?.unwrap_or_default();
    let store = AddressStore::open(&ipam.location)?;
    let owned = store.owned(attachment)?;
    let choices = choose(attachment, &ipam, &store, &owned)?;
    for (index, ip) in choices.iter().enumerate() {
        let reserved = store.reserve(ip.address.0.ip(), attachment, index);
        if let Err(error) = reserved {
            // The one that failed may be half made.
            return Err(undo(&store, &choices[..=index], error));
        }
    }
    let chosen = choices.iter().map(|ip| ip.address.0.ip());
    let held: Vec<IpAddr> = owned.exact.iter().copied().chain(chosen).collect();
    let [key, _] = Owner::keys_of(attachment);
    store.note(&key, &held);
    Ok(AddResult {
        ips: choices,
        routes: ipam.routes,
        dns,
        ..Default::default()
    })
}

/// Gives back all addresses of an attachment.
pub fn del(attachment: &Attachment, conf: &NetConf) -> Result<(), Error> {
    let location = IpamLocation::for_del(conf)?;
    let Some(store) = AddressStore::open_existing(&location)? else {
        return Ok(());
    };
    let Owned { exact, unnamed } = store.owned(attachment)?;
    let [key, container_key] = Owner::keys_of(attachment);
    // Old versions of host-local wrote no interface names.
    let (key, addresses) = if exact.is_empty() {
        (container_key, unnamed)
    } else {
        (key, exact)
    };
    if addresses.is_empty() {
        return Ok(());
    }
    // One address that can't be given back is no reason to keep the others.
    let results: Vec<_> = addresses.into_iter().map(|ip| store.release(ip)).collect();
    let released: Result<(), Error> = results.into_iter().collect();
    released?;
    store.note(&key, &[]);
    Ok(())
}

/// One address of each set: the requested one, or else the next free one.
fn choose(
    attachment: &Attachment,
    ipam: &IpamConf,
    store: &AddressStore,
    owned: &Owned,
) -> Result<Vec<IpConfig>, Error> {
    let mut requested = ipam.requested.clone();
    let mut choices = Vec::new();
    for (index, set) in ipam.range_sets.iter().enumerate() {
        let wanted = requested.iter().position(|ip| set.range_of(*ip).is_some());
        let wanted = wanted.map(|position| requested.remove(position));
        let chosen = match wanted.and_then(|ip| Some((ip, set.range_of(ip)?))) {
            Some((ip, range)) => {
                let taken = store.owner(ip)?.is_some();
                allocation::requested(set, range, ip, |_| taken).map_err(|error| error.to_string())
            }
            None => refuse_second(attachment, set, owned)
                .map_or_else(|| next(set, index, store), |text| Ok(Err(text)))?,
        };
        let (address, range) = chosen.map_err(|message| {
            let message = format!("failed to allocate for range {index}: {message}");
            Error::new(Code::Internal, message)
        })?;
        choices.push(ip_config(address, range)?);
    }
    if requested.is_empty() {
        return Ok(choices);
    }
    let rest: Vec<String> = requested.iter().map(IpAddr::to_string).collect();
    Err(Error::config(format!(
        "failed to allocate all requested IPs: {}",
        rest.join(" ")
    )))
}

/// The next free address of a set. An address whose file nobody has filled is as good as free, but to know
/// of all of them takes a look into every file.
fn next<'a>(
    set: &'a RangeSet,
    index: usize,
    store: &AddressStore,
) -> Result<Result<(IpAddr, &'a Range), String>, Error> {
    let last = store.last_reserved(index)?;
    if let Ok(found) = allocation::next(set, last, |ip| store.is_taken(ip)) {
        return Ok(Ok(found));
    }
    let known = store.reservations()?;
    let is_taken = |ip: IpAddr| matches!(known.get(&ip), Some(Some(_)));
    Ok(allocation::next(set, last, is_taken).map_err(|error| error.to_string()))
}

/// Why the attachment gets no address of a set: it has one.
fn refuse_second(attachment: &Attachment, set: &RangeSet, owned: &Owned) -> Option<String> {
    let mut all = owned.exact.iter().chain(&owned.unnamed);
    let ip = all.find(|ip| set.range_of(**ip).is_some())?;
    Some(format!(
        "{ip} has been allocated to {}, duplicate allocation is not allowed",
        attachment.container_id
    ))
}

fn ip_config(address: IpAddr, range: &Range) -> Result<IpConfig, Error> {
    let address =
        ipnetwork::IpNetwork::new(address, range.subnet.prefix()).map_err(Error::config)?;
    Ok(IpConfig {
        address: Cidr(address),
        gateway: Some(range.gateway),
        interface: None,
    })
}

/// Gives back what was reserved before `error`.
fn undo(store: &AddressStore, reserved: &[IpConfig], error: Error) -> Error {
    let released: Result<Vec<()>, Error> = reserved
        .iter()
        .map(|ip| store.release(ip.address.0.ip()))
        .collect();
    match released {
        Ok(_) => error,
        Err(left) => error.with_details(left.to_string()),
    }
}
