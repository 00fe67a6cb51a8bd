//! The ipsets of IPVS mode in the kernel.

use std::collections::BTreeMap;

use kernel::{
    Family,
    ipset::{Change, Handle, Named, ObservedSet},
};

use crate::plan::ipvs::{Former, Record, SetName};

/// The sets of a family that there are.
///
/// # Errors
/// If they can't be read.
pub fn read(handle: &mut Handle, family: Family) -> kernel::Result<BTreeMap<String, ObservedSet>> {
    let names = SetName::ALL.map(|set| set.of(family));
    handle.read_all(names.iter().map(String::as_str))
}

/// What sets of either family say is ours; `None` if there are none that say so.
///
/// # Errors
/// If they can't be read; a kernel without sets has none.
pub fn record(handle: &mut Handle) -> kernel::Result<Option<Record>> {
    let names = handle.names()?;
    let recording = Family::ALL.map(|family| SetName::IPVS_SERVERS.of(family));
    if !names.iter().any(|named| recording.contains(&named.name)) {
        return Ok(None);
    }
    let mut sets = BTreeMap::new();
    for family in Family::ALL {
        sets.extend(read(handle, family)?);
    }
    Ok(Some(Record::of_sets(&sets)))
}

/// The NodePorts that the sets of a former kube-proxy tell.
///
/// # Errors
/// If they can't be read; a kernel without sets has none.
pub fn former(handle: &mut Handle) -> kernel::Result<Former> {
    if handle.names()?.is_empty() {
        return Ok(Former::default());
    }
    let names: Vec<_> = Former::sets().collect();
    let sets = handle.read_all(names.iter().map(String::as_str))?;
    Ok(Former::read(&sets))
}

/// Removes the sets with kube-proxy's names and ours, which nothing must look up any more; others stay, also those
/// that have such a name and are of another type. Answers with how many there were.
///
/// # Errors
/// If a rule looks one up, as one of another program's.
pub fn remove() -> kernel::Result<usize> {
    let mut handle = Handle::open()?;
    let names = handle.names()?;
    let kinds: BTreeMap<_, _> = Family::ALL
        .into_iter()
        .flat_map(|family| SetName::ALL.map(|set| (set.of(family), set.kind.name())))
        .collect();
    let documented = |named: &Named| kinds.get(&named.name) == Some(&named.kind.as_str());
    let gone = names.into_iter().filter(documented);
    let changes: Vec<_> = gone.map(|named| Change::Destroy(named.name)).collect();
    handle.apply(&changes)?;
    Ok(changes.len())
}
