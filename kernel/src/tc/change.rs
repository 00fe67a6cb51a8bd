//! Changes of traffic control, as values.

use std::fmt;

use super::{Redirect, Tbf};
use crate::route::IfIndex;

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Puts a token bucket at the root of an interface, in the place of what is there.
    ReplaceTbf(IfIndex, Tbf),
    /// Removes what is at the root of an interface, whatever it is; the default comes back.
    DeleteRoot(IfIndex),
    /// Makes the place for filters of what arrives; fails where there is one.
    AddIngress(IfIndex),
    /// Removes that place, whether `ingress` or `clsact`, with all filters.
    DeleteIngress(IfIndex),
    /// Redirects what arrives; fails where there is a filter of that priority.
    AddRedirect(IfIndex, Redirect),
    /// Removes the filters of a priority.
    DeleteRedirect(IfIndex, u16),
}

// === impl Change ===

/// The command of iproute2 that does the same.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReplaceTbf(on, tbf) => {
                write!(f, "tc qdisc replace dev {on} root handle 1: {tbf}")
            }
            Self::DeleteRoot(on) => write!(f, "tc qdisc delete dev {on} root"),
            Self::AddIngress(on) => write!(f, "tc qdisc add dev {on} ingress"),
            Self::DeleteIngress(on) => write!(f, "tc qdisc delete dev {on} ingress"),
            Self::AddRedirect(on, Redirect { priority, to }) => write!(
                f,
                "tc filter add dev {on} ingress protocol all prio {priority} u32 match u32 0 0 \
                 flowid 1:1 action mirred egress redirect dev {to}"
            ),
            Self::DeleteRedirect(on, priority) => write!(
                f,
                "tc filter delete dev {on} ingress protocol all prio {priority} u32"
            ),
        }
    }
}
