//! The ipsets of IPVS mode in the kernel.

use std::collections::BTreeMap;

use kernel::{
    Family,
    ipset::{Change, Handle, Named},
};

use crate::plan::ipvs::{Former, SetName};

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

/// Removes the sets with kube-proxy's names, which nothing must look up any more; others stay, also those that have
/// such a name and are of another type. Answers with how many there were.
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
