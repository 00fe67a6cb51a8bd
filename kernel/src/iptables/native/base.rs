//! The chains of iptables that the kernel calls.

use crate::nft::{BaseChain, ChainKind, Hook};

/// The chains of a table as `iptables-nft` makes them; `None` if it is none of iptables' tables.
pub(super) fn chains(table: &str) -> Option<Vec<(&'static str, BaseChain)>> {
    use ChainKind::{Filter, Nat, Route};
    use Hook::{Forward, Input, Output, Postrouting, Prerouting};
    let chains: &[(Hook, ChainKind, i32)] = match table {
        "mangle" => &[
            (Prerouting, Filter, -150),
            (Input, Filter, -150),
            (Forward, Filter, -150),
            (Output, Route, -150),
            (Postrouting, Filter, -150),
        ],
        "nat" => &[
            (Prerouting, Nat, -100),
            (Input, Nat, 100),
            (Output, Nat, -100),
            (Postrouting, Nat, 100),
        ],
        "filter" => &[
            (Input, Filter, 0),
            (Forward, Filter, 0),
            (Output, Filter, 0),
        ],
        _ => return None,
    };
    let chains = chains
        .iter()
        .map(|&(hook, kind, priority)| (name(hook), BaseChain::accepting(kind, hook, priority)));
    Some(chains.collect())
}

const fn name(hook: Hook) -> &'static str {
    match hook {
        Hook::Prerouting => "PREROUTING",
        Hook::Input => "INPUT",
        Hook::Forward => "FORWARD",
        Hook::Output => "OUTPUT",
        Hook::Postrouting => "POSTROUTING",
    }
}
