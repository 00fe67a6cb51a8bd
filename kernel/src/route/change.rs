//! Changes to the kernel's tables, as values.

use super::{Address, FdbEntry, IfIndex, LinkSettings, Neighbour, NewLink, Route};

/// One change. `Replace` makes or overwrites; `Add` fails where the object exists; `Delete` fails
/// where it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Makes an interface.
    AddLink(NewLink),
    /// Changes an interface.
    SetLink(IfIndex, LinkSettings),
    /// Removes an interface.
    DeleteLink(IfIndex),
    /// Gives an interface an address.
    ReplaceAddress(Address),
    /// Takes an address from an interface.
    DeleteAddress(Address),
    /// Makes a route, or replaces the one with its destination, table and metric.
    ReplaceRoute(Route),
    /// Removes a route.
    DeleteRoute(Route),
    /// Makes or replaces a neighbour.
    ReplaceNeighbour(Neighbour),
    /// Removes a neighbour.
    DeleteNeighbour(Neighbour),
    /// Makes a forwarding entry, or replaces the one of its Ethernet address.
    ReplaceFdb(FdbEntry),
    /// Removes a forwarding entry.
    DeleteFdb(FdbEntry),
}
