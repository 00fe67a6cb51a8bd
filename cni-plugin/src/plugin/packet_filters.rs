//! Which of iptables and nftables a node has, what is in them, and how a table of nftables is changed.

use std::fs;

use kernel::{
    Family,
    iptables::Iptables,
    nft::{self, ObservedTable, TableFamily, Transaction},
};

use crate::model::Error;

/// How often rules are made once more that others changed meanwhile.
pub const ATTEMPTS: usize = 3;
/// Where the kernel lists the tables of the older iptables, by family.
const LEGACY_TABLES: [&str; 2] = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"];

/// Whether nftables can be used and iptables can't: then it is taken unasked, as the reference does.
pub fn is_nftables_the_only_one() -> bool {
    let iptables = Iptables::of_node(Family::V4).and_then(|it| it.save("filter"));
    // Any name will do: whether the kernel answers is asked, not what.
    let reads = |mut handle: nft::Handle| handle.read(Family::V4, "filter");
    iptables.is_err() && nft::Handle::open().and_then(reads).is_ok()
}

/// Whether iptables of any kind and family may have a chain, told without its programs: of the older kind
/// only the tables can be seen.
pub fn may_iptables_have(table: &str, chain: &str) -> Result<bool, Error> {
    let has_table = |path: &&str| {
        // Not there where the kernel has no iptables of that kind.
        let tables = fs::read_to_string(path).unwrap_or_default();
        tables.lines().any(|line| line == table)
    };
    if LEGACY_TABLES.iter().any(has_table) {
        return Ok(true);
    }
    let mut handle = nft::Handle::open()?;
    for family in Family::ALL {
        if handle.has_chain(family, table, chain)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether nftables has a table of a name, in either family.
pub fn has_nftables_table(table: &str) -> Result<bool, Error> {
    let mut handle = nft::Handle::open()?;
    for family in Family::ALL {
        if handle.read(family, table)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Carries out what `plan` makes of a table as it is. The caller holds the lock of the namespace; what others
/// change meanwhile has it planned once more.
pub fn change_nftables(
    family: impl Into<TableFamily>,
    table: &str,
    plan: impl Fn(Option<&ObservedTable>) -> Result<Vec<Transaction>, Error>,
) -> Result<(), Error> {
    let family = family.into();
    let mut handle = nft::Handle::open()?;
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        let transactions = plan(handle.read(family, table)?.as_ref())?;
        outcome = transactions.iter().try_for_each(|it| handle.apply(it));
        if outcome.is_ok() {
            break;
        }
    }
    Ok(outcome?)
}
