//! Masquerading by iptables.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::{
    Family,
    iptables::{self, Iptables},
};

use crate::{
    model::{AddResult, Attachment, Code, Error, NetConf, ValidAttachments},
    plan::{host_veth::Identity, masquerade::iptables::Masquerade},
    plugin::{bridge::and_left, reservations},
};

const TABLE: &str = "nat";

/// Leaves no rules if it fails.
pub fn add(identity: &Identity, result: &AddResult) -> Result<(), Error> {
    let rules = Masquerade::new(&identity.network, &identity.container_id);
    make(&rules, result).map_err(|error| {
        let sources: Vec<_> = result.ips.iter().map(|ip| ip.address.0.ip()).collect();
        and_left(error, remove(&rules, &sources))
    })
}

fn make(masquerade: &Masquerade, result: &AddResult) -> Result<(), Error> {
    for family in families(result) {
        let addresses = addresses(result, family);
        let iptables = Iptables::of_node(family).map_err(failed)?;
        let table = iptables.save(TABLE).map_err(failed)?;
        if let Some(text) = masquerade.addition(&table, &addresses) {
            iptables.restore(&text).map_err(failed)?;
        }
    }
    Ok(())
}

/// Removes the rules of an attachment, by its addresses where they are known, else all of the container's.
pub fn del(attachment: &Attachment, conf: &NetConf) -> Result<(), Error> {
    let sources = sources(attachment, conf);
    remove(
        &Masquerade::new(conf.name(), &attachment.container_id),
        &sources,
    )
}

/// Removes rules of a container in both families. Without iptables there are none.
fn remove(masquerade: &Masquerade, sources: &[IpAddr]) -> Result<(), Error> {
    for_each_table(|iptables, table| {
        let text = masquerade.removal(table, sources);
        text.map_or(Ok(()), |text| iptables.restore(&text).map_err(failed))
    })
}

/// Removes the rules of containers that are not in use any more.
pub fn gc(valid: &ValidAttachments, conf: &NetConf) -> Result<(), Error> {
    let is_in_use = |id: &str| valid.contains_container(id);
    for_each_table(|iptables, table| {
        let left = Masquerade::left(table, conf.name(), is_in_use);
        let texts = left.iter().filter_map(|it| it.removal(table, &[]));
        // One that can't be removed is no reason to keep the others.
        let removed: Vec<_> = texts.map(|text| iptables.restore(&text)).collect();
        removed.into_iter().try_for_each(|it| it.map_err(failed))
    })
}

/// Names the first address of the result that has no rules.
pub fn check(identity: &Identity, result: &AddResult) -> Result<(), Error> {
    let masquerade = Masquerade::new(&identity.network, &identity.container_id);
    for family in families(result) {
        let table = Iptables::of_node(family).and_then(|iptables| iptables.save(TABLE));
        let table = table.map_err(failed)?;
        if let Some(address) = masquerade.missing(&table, &addresses(result, family)) {
            return Err(Error::new(
                Code::Internal,
                format!(
                    "masquerade rule of address {address} is missing from iptables table {TABLE}"
                ),
            ));
        }
    }
    Ok(())
}

fn for_each_table(
    work: impl Fn(&Iptables, &iptables::Table) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut done = Ok(());
    for family in Family::ALL {
        let iptables = match Iptables::of_node(family) {
            Err(iptables::Error::Missing { .. }) => continue,
            other => other.map_err(failed)?,
        };
        let table = iptables.save(TABLE).map_err(failed)?;
        // One family that fails is no reason to keep the other's rules.
        done = done.and(work(&iptables, &table));
    }
    done
}

/// The addresses of an attachment, by what the runtime or host-local's files say of it.
fn sources(attachment: &Attachment, conf: &NetConf) -> Vec<IpAddr> {
    let said = conf.prev_result().ok().flatten().unwrap_or_default();
    let mut sources: Vec<IpAddr> = said.ips.iter().map(|ip| ip.address.0.ip()).collect();
    if sources.is_empty() {
        sources = reservations::held(attachment, conf).unwrap_or_default();
    }
    sources
}

fn families(result: &AddResult) -> impl Iterator<Item = Family> {
    let used = |family: &Family| result.has(*family);
    Family::ALL.into_iter().filter(used)
}

fn addresses(result: &AddResult, family: Family) -> Vec<IpNetwork> {
    let addresses = result.ips.iter().map(|ip| ip.address.0);
    let of_family = |it: &IpNetwork| Family::of_network(it) == family;
    addresses.filter(of_family).collect()
}

fn failed(error: iptables::Error) -> Error {
    let hint = match &error {
        iptables::Error::Missing { .. } => {
            "install iptables, or set ipMasq to false and let flannel-agent --ip-masq do it"
        }
        _ => "",
    };
    Error::new(Code::Internal, format!("ipMasq: {error}")).with_details(hint)
}
