//! What the kernel is told to do what a text says.

use std::collections::BTreeSet;

use super::{base, lines::Section};
use crate::nft::{Chain, Command, Expr, RawRule, Verdict};

/// Commands that are not to be taken apart, in their order: one for what is made, one for each chain that is
/// filled, behind those that it leads to, and one for all else.
pub(super) fn of(
    section: &Section<'_>,
    standing: &BTreeSet<String>,
    deleted: Vec<Command>,
) -> Vec<Vec<Command>> {
    let mut made = vec![Command::AddTable];
    let missing = base::chains(section.table).into_iter().flatten();
    made.extend(
        missing
            .filter(|(name, _)| !standing.contains(*name))
            .map(|(name, base)| {
                let chain = Chain {
                    base: Some(base),
                    rules: Vec::new(),
                };
                Command::AddChain(name.to_owned(), chain)
            }),
    );
    let new = section
        .chains
        .keys()
        .filter(|name| !standing.contains(**name));
    made.extend(new.map(|name| Command::AddChain((*name).to_owned(), Chain::default())));
    let mut portions = vec![made];
    for chain in in_order(section) {
        let rules = section.chains.get(chain).into_iter().flatten();
        let flush = standing
            .contains(chain)
            .then(|| Command::FlushChain(chain.to_owned()));
        portions.push(
            flush
                .into_iter()
                .chain(rules.map(|rule| append(chain, rule)))
                .collect(),
        );
    }
    let mut last = deleted;
    let insert =
        |(chain, rule): &(&str, RawRule)| Command::InsertRawRule((*chain).to_owned(), rule.clone());
    last.extend(section.insert.iter().map(insert));
    last.extend(
        section
            .append
            .iter()
            .map(|(chain, rule)| append(chain, rule)),
    );
    let removed = || {
        section
            .remove
            .iter()
            .filter(|chain| standing.contains(**chain))
    };
    last.extend(removed().map(|chain| Command::FlushChain((*chain).to_owned())));
    last.extend(removed().map(|chain| Command::DeleteChain((*chain).to_owned())));
    portions.push(last);
    portions
}

/// Puts portions together that have not more than so many commands; what is larger stays alone.
pub(super) fn portions(portions: Vec<Vec<Command>>, most: usize) -> Vec<Vec<Command>> {
    let mut together: Vec<Vec<Command>> = Vec::new();
    for portion in portions {
        match together.last_mut() {
            Some(last) if last.len() + portion.len() <= most => last.extend(portion),
            _ => together.push(portion),
        }
    }
    together.retain(|commands| !commands.is_empty());
    together
}

fn append(chain: &str, rule: &RawRule) -> Command {
    Command::AddRawRule(chain.to_owned(), rule.clone())
}

/// The chains that are filled, each behind those that it leads to.
fn in_order<'a>(section: &'a Section<'_>) -> Vec<&'a str> {
    let mut order = Vec::with_capacity(section.chains.len());
    let mut seen = BTreeSet::new();
    for chain in section.chains.keys() {
        visit(section, chain, &mut seen, &mut order);
    }
    order
}

fn visit<'a>(
    section: &'a Section<'_>,
    chain: &'a str,
    seen: &mut BTreeSet<&'a str>,
    order: &mut Vec<&'a str>,
) {
    let Some(rules) = section.chains.get(chain) else {
        return;
    };
    if !seen.insert(chain) {
        return;
    }
    for rule in rules {
        if let Some(Expr::Verdict(Verdict::Jump(next))) = rule.expressions.last() {
            visit(section, next, seen, order);
        }
    }
    order.push(chain);
}
