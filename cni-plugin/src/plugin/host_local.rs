//! The host-local plugin: gives out addresses of this host's ranges.

use std::net::IpAddr;

use crate::{
    model::{
        AddResult, Attachment, Cidr, Code, Error, IpConfig, IpamConf, IpamLocation, NetConf, Range,
        RangeSet,
    },
    plan::allocation,
    source::{AddressStore, Reservations},
};

/// Reserves one address of each range set, or none at all.
pub fn add(attachment: &Attachment, conf: &NetConf) -> Result<AddResult, Error> {
    let ipam = IpamConf::for_add(conf, attachment)?;
    let store = AddressStore::open(&ipam.location)?;
    let known = store.reservations()?;
    let choices = choose(attachment, &ipam, &store, &known)?;
    for (index, ip) in choices.iter().enumerate() {
        let reserved = store.reserve(ip.address.0.ip(), attachment, index, &known);
        if let Err(error) = reserved {
            // The one that failed may be half made.
            return Err(undo(&store, &choices[..=index], error));
        }
    }
    Ok(AddResult {
        ips: choices,
        routes: ipam.routes,
        ..Default::default()
    })
}

/// Gives back all addresses of an attachment.
pub fn del(attachment: &Attachment, conf: &NetConf) -> Result<(), Error> {
    let location = IpamLocation::for_del(conf)?;
    let Some(store) = AddressStore::open_existing(&location)? else {
        return Ok(());
    };
    let known = store.reservations()?;
    let mut owned = owned(&known, |owner| owner.is(attachment));
    if owned.is_empty() {
        // Old versions of host-local wrote no interface names.
        owned = self::owned(&known, |owner| owner.may_be(attachment));
    }
    // One address that can't be given back is no reason to keep the others.
    let results: Vec<_> = owned.into_iter().map(|ip| store.release(ip)).collect();
    results.into_iter().collect()
}

/// One address of each set: the requested one, or else the next free one.
fn choose(
    attachment: &Attachment,
    ipam: &IpamConf,
    store: &AddressStore,
    known: &Reservations,
) -> Result<Vec<IpConfig>, Error> {
    let owned = owned(known, |owner| {
        owner.is(attachment) || owner.may_be(attachment)
    });
    let mut requested = ipam.requested.clone();
    let mut choices = Vec::new();
    for (index, set) in ipam.range_sets.iter().enumerate() {
        let wanted = requested.iter().position(|ip| set.range_of(*ip).is_some());
        let wanted = wanted.map(|position| requested.remove(position));
        let last = store.last_reserved(index)?;
        let (address, range) =
            choose_one(attachment, set, wanted, last, known, &owned).map_err(|message| {
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

fn choose_one<'a>(
    attachment: &Attachment,
    set: &'a RangeSet,
    wanted: Option<IpAddr>,
    last: Option<IpAddr>,
    known: &Reservations,
    owned: &[IpAddr],
) -> Result<(IpAddr, &'a Range), String> {
    let is_taken = |ip: IpAddr| matches!(known.get(&ip), Some(Some(_)));
    let wanted = wanted.and_then(|ip| Some((ip, set.range_of(ip)?)));
    if let Some((ip, range)) = wanted {
        return allocation::requested(set, range, ip, is_taken).map_err(|error| error.to_string());
    }
    if let Some(ip) = owned.iter().find(|ip| set.range_of(**ip).is_some()) {
        return Err(format!(
            "{ip} has been allocated to {}, duplicate allocation is not allowed",
            attachment.container_id
        ));
    }
    allocation::next(set, last, is_taken).map_err(|error| error.to_string())
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

fn owned(known: &Reservations, is_owner: impl Fn(&crate::model::Owner) -> bool) -> Vec<IpAddr> {
    let owned = known
        .iter()
        .filter(|(_, owner)| owner.as_ref().is_some_and(&is_owner));
    owned.map(|(ip, _)| *ip).collect()
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
