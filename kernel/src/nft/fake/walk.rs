//! What the kernel finds when it walks from each base chain to all chains that can be reached.

use nix::errno::Errno;

use super::{
    Attempt, Refused,
    reference::{chains_of_elements, target},
    refuse,
};
use crate::nft::{BaseChain, ChainKind, Expr, Hook, LookupTarget, ObservedSet, ObservedTable};

/// `NFT_JUMP_STACK_SIZE`.
const DEPTH: usize = 16;

// === impl Attempt ===

impl Attempt {
    /// Refuses loops, and rules that can't be at the hook that they are reached from.
    pub(super) fn validate(&self) -> Refused {
        let Some(table) = &self.table else {
            return Ok(());
        };
        table
            .chains
            .iter()
            .filter_map(|(name, chain)| Some((name, chain.base?)))
            .try_for_each(|(name, base)| walk(table, name, base, 0))
    }
}

fn walk(table: &ObservedTable, name: &str, base: BaseChain, depth: usize) -> Refused {
    if depth == DEPTH {
        return Err(refuse(
            Errno::EMLINK,
            format!("chain {name} is too deep or in a loop"),
        ));
    }
    let Some(chain) = table.chains.get(name) else {
        return Ok(());
    };
    for expression in chain.rules.iter().flat_map(|rule| &rule.expressions) {
        if !allowed(expression, base) {
            return Err(refuse(
                Errno::EOPNOTSUPP,
                format!(
                    "{name} has a statement that can't be reached from hook {}",
                    base.hook.name()
                ),
            ));
        }
        for next in targets(table, expression) {
            walk(table, next, base, depth + 1)?;
        }
    }
    Ok(())
}

/// The chains that an expression can go on in.
fn targets<'a>(table: &'a ObservedTable, expression: &'a Expr) -> Vec<&'a String> {
    match expression {
        Expr::Verdict(verdict) => target(verdict).into_iter().collect(),
        Expr::Lookup {
            set,
            to: LookupTarget::Verdict,
            ..
        } => match table.sets.get(set) {
            Some(ObservedSet::Known(set)) => {
                let mut chains: Vec<_> = chains_of_elements(set).collect();
                chains.sort();
                chains.dedup();
                chains
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn allowed(expression: &Expr, base: BaseChain) -> bool {
    match expression {
        Expr::Dnat { .. } => {
            base.kind == ChainKind::Nat && matches!(base.hook, Hook::Prerouting | Hook::Output)
        }
        Expr::Masquerade { .. } => base.kind == ChainKind::Nat && base.hook == Hook::Postrouting,
        Expr::Reject { .. } => base.hook != Hook::Postrouting,
        _ => true,
    }
}
