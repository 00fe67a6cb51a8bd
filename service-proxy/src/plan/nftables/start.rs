//! The order of a cold start: what the whole cluster waits for comes first, and the rest piece by piece.

use std::collections::BTreeMap;

use kernel::nft::{Command, Element, Key, Table, Transaction, create};

use super::{
    Plan, elements,
    layout::{self, CLUSTER_IPS},
    pool::Pool,
    shared,
};
use crate::model::ObjectName;

/// The elements of a set.
type Elements = BTreeMap<Key, Element>;

/// How many elements a commit has at most, but for those of the first Services: more would let the kernel's
/// other users of nftables wait for longer.
pub const PIECE: usize = 8192;

// === impl Plan ===

impl Plan {
    /// What has to be sent where nothing stands: all at once if that is little, otherwise all rules with the
    /// Services that others need to start, and then the others' elements. Connections to Services that are not
    /// complete find none of their elements, as those that lead to the others come last.
    pub fn cold_start(&self, mut table: Table) -> Vec<Transaction> {
        let length: usize = table.sets.values().map(|set| set.elements.len()).sum();
        if length <= PIECE {
            return vec![create(table)];
        }
        let later = self.take_later(&mut table);
        let mut transactions = vec![create(table)];
        let pieces = later.into_iter().flat_map(|(set, all)| pieces(set, all));
        transactions.extend(pieces.map(|command| Transaction {
            family: self.family().into(),
            table: self.table_name().to_owned(),
            commands: vec![command],
        }));
        transactions
    }

    /// Takes out what is not of the first Services; answers with it in the order in which it is sent.
    fn take_later(&self, table: &mut Table) -> Vec<(&'static str, Elements)> {
        let first = self.first_elements();
        let mut later = Vec::new();
        for name in layout::sets() {
            if let Some(set) = table.sets.get_mut(name) {
                let all = std::mem::take(&mut set.elements).into_iter();
                let (now, others) = all.partition(|(key, _)| first.of(name).contains_key(key));
                set.elements = now;
                later.push((name, others));
            }
        }
        later.sort_by_key(|(name, _)| rank(name));
        later
    }

    /// The elements of the first Services, and of what they share with others.
    fn first_elements(&self) -> elements::Elements {
        let mut elements = elements::Elements::default();
        for frontend in self.claims.keys() {
            let claim = self.claim(frontend);
            if let Some(claim) = claim.filter(|claim| is_first(&claim.balance.name.service)) {
                elements.add_frontend(frontend, claim);
                for need in shared::needs(frontend, claim) {
                    elements.add_need(&need);
                }
            }
        }
        elements
    }
}

/// Whether other programs wait for a Service when they start: the API server and the cluster's DNS.
fn is_first(service: &ObjectName) -> bool {
    match &*service.namespace {
        "default" => &*service.name == "kubernetes",
        "kube-system" => service.name.contains("dns"),
        _ => false,
    }
}

/// When the elements of a set are sent: what leads to others after these.
fn rank(set: &str) -> usize {
    let leads = |pool: Pool| pool.frontends() == set;
    match set {
        CLUSTER_IPS => 2,
        _ if Pool::ALL.into_iter().any(leads) => 1,
        _ => 0,
    }
}

fn pieces(set: &str, elements: Elements) -> impl Iterator<Item = Command> {
    let mut rest = elements.into_iter();
    std::iter::from_fn(move || {
        let piece: Vec<_> = rest.by_ref().take(PIECE).collect();
        (!piece.is_empty()).then_some(piece)
    })
    .map(move |piece| Command::AddElements(set.to_owned(), piece))
}
