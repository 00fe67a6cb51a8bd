//! Removing what this mode, or kube-proxy's, has left.

use kernel::{
    Family,
    iptables::{self, Backend, Error, Iptables},
    sysctl,
};
use nix::errno::Errno;

use super::{ROUTE_LOCALNET, accounting};
use crate::plan::iptables::{Observed, Table, clean_up as remains};

/// Removes everything of iptables mode, ours and kube-proxy's, by either way into the kernel or by one of them;
/// answers with where there was something. What is not installed has nothing. While loopback addresses are routed,
/// the rule that guards them stays.
///
/// # Errors
/// If a program refuses to.
pub fn clean_up(backends: &[Backend]) -> iptables::Result<Vec<(Family, Backend)>> {
    let mut removed = Vec::new();
    for family in Family::ALL {
        for &backend in backends {
            let programs = match Iptables::find(family, backend) {
                Err(Error::Missing { .. }) => continue,
                found => found?,
            };
            let observed = match observe(&programs) {
                // The kernel does not know this way.
                Err(Error::Refused { .. }) => continue,
                observed => observed?,
            };
            let changes = remains(&observed);
            if !changes.is_empty() {
                programs.restore(&changes.to_string())?;
                removed.push((family, backend));
            }
        }
    }
    // Where one way is left alone, it is in use, and its rules count in them or will.
    if backends.len() == Backend::ALL.len() {
        accounting::remove();
    }
    Ok(removed)
}

/// Ends the routing of loopback addresses, where a rule of ours or kube-proxy's guards it: nothing else is known
/// to want it there. A rule that kubelet has made as well says nothing of who wants it; it stays, and so does the
/// routing. Where `/proc/sys` is read-only, as in a container that is not privileged, it goes on, and so does the guard.
///
/// # Errors
/// If the kernel refuses to.
pub fn stop_routing_loopback() -> kernel::Result<()> {
    if !(routes_loopback(Family::V4) && is_guarded_by_proxies()) {
        return Ok(());
    }
    match sysctl::set(ROUTE_LOCALNET, "0") {
        Err(error) if error.errno() == Some(Errno::EROFS) => {
            tracing::warn!(
                "{error}: loopback addresses are routed still, and the rule in KUBE-FIREWALL that guards them stays; \
                 set it on the node, then clean up again"
            );
            Ok(())
        }
        other => other.map(drop),
    }
}

fn is_guarded_by_proxies() -> bool {
    let observed = Backend::ALL.into_iter().filter_map(|backend| {
        let programs = Iptables::find(Family::V4, backend);
        // What can't be read guards nothing.
        programs.and_then(|programs| observe(&programs)).ok()
    });
    let observed: Vec<_> = observed.collect();
    observed.iter().any(Observed::guards_loopback) && !observed.iter().any(Observed::has_kubelet)
}

fn routes_loopback(family: Family) -> bool {
    // Where that can't be read, there is no such setting.
    family == Family::V4 && sysctl::get(ROUTE_LOCALNET).is_ok_and(|value| value != "0")
}

/// Reads the tables of a family by their programs; makes none.
///
/// # Errors
/// If they can't be read.
pub fn observe(programs: &Iptables) -> iptables::Result<Observed> {
    let mut saved = programs.save_tables(&Table::ALL.map(Table::name))?;
    let tables = Table::ALL.into_iter().filter_map(|table| {
        let observed = saved.remove(table.name())?;
        Some((table, observed))
    });
    let observed: Observed = tables.collect();
    Ok(observed.with_loopback_routed(routes_loopback(programs.family())))
}
