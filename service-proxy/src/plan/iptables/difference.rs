//! What has to be done for the tables to be as they should.

use std::collections::{BTreeMap, BTreeSet};

use kernel::{
    iptables::{self, HINTS},
    nft::Change,
};

use super::{
    canonical::{canonical, target},
    entries::List,
    name,
    ruleset::{ChainId, Changes, Ruleset, Shared, Table},
    skeleton,
};

/// The tables as they stand. A table that is missing has no chains.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    chains: BTreeMap<ChainId, Found>,
    /// Loopback addresses are routed, and stay so.
    loopback_is_routed: bool,
}

/// A chain as it stands.
#[derive(Clone, Debug)]
struct Found {
    /// It is one of the kernel's own.
    base: bool,
    rules: Vec<String>,
}

// === impl Observed ===

impl FromIterator<(Table, iptables::Table)> for Observed {
    fn from_iter<T: IntoIterator<Item = (Table, iptables::Table)>>(tables: T) -> Self {
        let chains = tables.into_iter().flat_map(|(table, observed)| {
            observed.chains.into_iter().map(move |chain| {
                let found = Found {
                    base: chain.policy.is_some(),
                    rules: chain.rules,
                };
                (table.chain(chain.name), found)
            })
        });
        Self {
            chains: chains.collect(),
            loopback_is_routed: false,
        }
    }
}

impl Observed {
    /// The same where loopback addresses are routed or not, and stay so: the rule against those who would make use
    /// of that stays too then (CVE-2020-8558).
    pub fn with_loopback_routed(self, routed: bool) -> Self {
        Self {
            loopback_is_routed: routed,
            ..self
        }
    }

    /// Whether a rule of ours or kube-proxy's guards loopback addresses that are routed.
    pub fn guards_loopback(&self) -> bool {
        skeleton::all_shared()
            .filter(|shared| is_firewall(&shared.chain))
            .any(|shared| self.has(&shared))
    }

    /// Whether kubelet is on the node, and uses these tables. It makes the rule that guards loopback addresses when it
    /// starts, and not again while its own chains are there.
    pub fn has_kubelet(&self) -> bool {
        let mut hints = HINTS.iter().map(|it| Table::Mangle.chain(*it));
        hints.any(|it| self.chains.contains_key(&it))
    }

    /// Whether that rule is needed, whatever we want of it.
    fn needs_guard(&self) -> bool {
        self.loopback_is_routed || self.has_kubelet()
    }

    /// Whether kubelet's chain is needed, whatever we want of it.
    fn needs_firewall(&self) -> bool {
        self.needs_guard() || self.has_rules_of_kubelet()
    }

    fn has(&self, shared: &Shared) -> bool {
        let wanted = canonical(&shared.rule);
        let mut rules = self.rules(&shared.chain).iter();
        rules.any(|rule| canonical(rule) == wanted)
    }

    /// The rules of a chain; none if it is not there.
    pub(super) fn rules(&self, chain: &ChainId) -> &[String] {
        self.chains
            .get(chain)
            .map_or(&[], |found| found.rules.as_slice())
    }

    /// Whether there is more in kubelet's chain than what we put there.
    fn has_rules_of_kubelet(&self) -> bool {
        let mut chains = self.chains.iter().filter(|(chain, _)| is_firewall(chain));
        let ours: Vec<_> = skeleton::all_shared()
            .filter(|shared| is_firewall(&shared.chain))
            .map(|shared| canonical(&shared.rule))
            .collect();
        chains.any(|(_, found)| {
            let mut rules = found.rules.iter();
            rules.any(|rule| !ours.contains(&canonical(rule)))
        })
    }

    fn is_as(&self, chain: &ChainId, rules: &[String]) -> bool {
        self.chains.get(chain).is_some_and(|found| {
            found.rules.len() == rules.len()
                && found
                    .rules
                    .iter()
                    .zip(rules)
                    .all(|(have, want)| have == want || canonical(have) == canonical(want))
        })
    }
}

/// What has to be done for all that is ours to be as it should.
pub fn difference(want: &Ruleset, have: &Observed) -> Changes {
    let mut changes = Changes::default();
    for (chain, rules) in &want.chains {
        if !have.is_as(chain, rules) {
            changes.chains.insert(chain.clone(), Some(rules.clone()));
        }
    }
    for shared in &want.shared {
        if !have.has(shared) {
            changes.insert.push(shared.clone());
        }
        let made = shared.chain.name.starts_with("KUBE-");
        if made && !have.chains.contains_key(&shared.chain) {
            changes.make.insert(shared.chain.clone());
        }
    }
    changes.delete = obsolete(&want.shared, have);
    let martians = want.shared.iter().any(|rule| is_firewall(&rule.chain));
    let spared = martians || have.needs_firewall();
    let gone = have.chains.keys().filter(|chain| {
        let obsolete = is_ours(chain) || is_of_ipvs(chain);
        (obsolete && !want.chains.contains_key(chain)) || (is_firewall(chain) && !spared)
    });
    remove(gone.cloned().collect(), have, &mut changes);
    changes
}

/// What has to be done for nothing to be left of ours, nor of kube-proxy's iptables and IPVS modes (F41).
pub fn clean_up(have: &Observed) -> Changes {
    let mut changes = Changes {
        delete: obsolete(&[], have),
        ..Changes::default()
    };
    let gone = have.chains.keys().filter(|chain| {
        is_ours(chain) || is_of_ipvs(chain) || (is_firewall(chain) && !have.needs_firewall())
    });
    remove(gone.cloned().collect(), have, &mut changes);
    changes
}

/// Whether a change of a table by somebody else can have changed what should stand: something happened to a
/// chain of ours, or a rule was taken out of one that has rules of ours.
pub fn is_drift(change: &Change) -> bool {
    let table = Table::ALL.into_iter().find(|it| it.name() == change.table);
    let Some(table) = table else {
        return false;
    };
    let Some(name) = &change.chain else {
        return change.removed;
    };
    let chain = table.chain(name.as_str());
    let shares = || skeleton::all_shared().any(|shared| shared.chain == chain);
    is_ours(&chain) || is_of_ipvs(&chain) || (change.removed && shares())
}

/// Rules of ours in chains of others that are not wanted any more. What leads to kubelet's chain is kubelet's
/// as well, for as long as it has rules there.
fn obsolete(want: &[Shared], have: &Observed) -> Vec<Shared> {
    let needed = have.needs_firewall();
    let to_firewall = |shared: &Shared| target(&shared.rule) == Some(name::FIREWALL);
    skeleton::all_shared()
        .filter(|shared| !(needed && to_firewall(shared)))
        .filter(|shared| !(have.needs_guard() && is_firewall(&shared.chain)))
        .filter(|shared| !want.contains(shared) && have.has(shared))
        .collect()
}

/// Removes chains, with the rules of the kernel's own chains that lead there. Those that chains of others
/// lead to stay as they are, with all that they lead to.
fn remove(mut gone: BTreeSet<ChainId>, have: &Observed, changes: &mut Changes) {
    let mut delete = Vec::new();
    loop {
        let before = gone.len();
        delete.clear();
        for (rule, to) in leading(&gone, have, changes) {
            if have.chains.get(&rule.chain).is_some_and(|it| it.base) {
                delete.push(rule);
            } else {
                gone.remove(&to);
            }
        }
        if gone.len() == before {
            break;
        }
    }
    for rule in delete {
        let form = canonical(&rule.rule);
        let known = |it: &Shared| it.chain == rule.chain && canonical(&it.rule) == form;
        if !changes.delete.iter().any(known) {
            changes.delete.push(rule);
        }
    }
    let gone = gone.into_iter().map(|chain| (chain, None));
    changes.chains.extend(gone);
    // A chain that is removed is emptied before.
    let chains = &changes.chains;
    changes
        .delete
        .retain(|rule| !chains.contains_key(&rule.chain));
}

/// The rules that lead from a chain which stays as it is to one that is to go, and that chain.
fn leading(gone: &BTreeSet<ChainId>, have: &Observed, changes: &Changes) -> Vec<(Shared, ChainId)> {
    let staying = have
        .chains
        .iter()
        .filter(|(chain, _)| !gone.contains(chain) && !changes.chains.contains_key(chain));
    let rules =
        staying.flat_map(|(chain, found)| found.rules.iter().map(move |rule| (chain, rule)));
    rules
        .filter_map(|(chain, rule)| {
            let to = chain.table.chain(target(rule)?);
            let rule = Shared {
                chain: chain.clone(),
                rule: rule.clone(),
            };
            gone.contains(&to).then_some((rule, to))
        })
        .collect()
}

/// Whether a chain is one that this program makes in iptables mode, or kube-proxy.
fn is_ours(chain: &ChainId) -> bool {
    let name = chain.name.as_str();
    let fixed = name == name::CANARY
        || List::ALL.iter().any(|list| list.entry() == *chain)
        || match chain.table {
            Table::Nat => [name::MARK_MASQ, name::POSTROUTING].contains(&name),
            Table::Filter => name == name::FORWARD,
            Table::Mangle => false,
        };
    let of_services =
        || chain.table == Table::Nat && name::OF_SERVICES.iter().any(|it| name.starts_with(it));
    let of_tree = || {
        List::ALL
            .iter()
            .any(|list| list.entry().table == chain.table && name.starts_with(list.tree_prefix()))
    };
    fixed || of_services() || of_tree()
}

/// Whether a chain is one that only kube-proxy's IPVS mode has.
fn is_of_ipvs(chain: &ChainId) -> bool {
    name::OF_IPVS.contains(&chain.name.as_str())
}

fn is_firewall(chain: &ChainId) -> bool {
    chain.table == Table::Filter && chain.name == name::FIREWALL
}
