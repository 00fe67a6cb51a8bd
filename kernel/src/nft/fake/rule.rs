//! What a rule can refer to.

use nix::errno::Errno;

use super::{Refused, reference::check_target, refuse};
use crate::{
    Family,
    netlink::align,
    nft::{DataType, Expr, Field, ObservedSet, ObservedTable, Rule, Set, SetData, Statement, Term},
};

/// Refuses a rule that names a chain or set that is not there, or a set of another type.
pub(super) fn check(table: &ObservedTable, rule: &Rule, expressions: &[Expr]) -> Refused {
    for expression in expressions {
        if let Expr::Verdict(verdict) = expression {
            check_target(table, verdict)?;
        }
    }
    rule.statements
        .iter()
        .try_for_each(|statement| match statement {
            Statement::InSet { fields, set, .. } => {
                let set = keyed(table, set, fields)?;
                expect(set.data.is_none(), "a set is looked in as a map")
            }
            Statement::VerdictMap { fields, map } => {
                let set = keyed(table, map, fields)?;
                expect(
                    set.data == Some(SetData::Verdict),
                    "the map is no verdict map",
                )
            }
            Statement::DnatMap { fields, map } => expect_socket(table, keyed(table, map, fields)?),
            Statement::DnatTerms { key, map } => {
                expect_socket(table, keyed_by_terms(table, map, key)?)
            }
            Statement::Update { map, key, data, .. } => {
                check_term(table, data)?;
                check_change(table, map, key)
            }
            Statement::Delete { map, key } => check_change(table, map, key),
            _ => Ok(()),
        })
}

/// That a map leads to addresses of the table's family and ports.
fn expect_socket(table: &ObservedTable, map: &Set) -> Refused {
    let address = table.family.of_packets().map(DataType::address);
    let data = address.map(|it| SetData::Value(vec![it, DataType::InetService]));
    expect(
        data.is_some() && map.data == data,
        "the map's data is no address and port",
    )
}

fn check_change(table: &ObservedTable, map: &str, key: &[Term]) -> Refused {
    let set = keyed_by_terms(table, map, key)?;
    expect(set.dynamic, "the map is not dynamic")?;
    expect_marks(set)
}

fn check_term(table: &ObservedTable, term: &Term) -> Refused {
    match term {
        Term::Field(_) => Ok(()),
        Term::Mapped { key, map } => expect_marks(keyed_by_terms(table, map, key)?),
    }
}

fn expect_marks(set: &Set) -> Refused {
    let marks = Some(SetData::Value(vec![DataType::Mark; 2]));
    expect(set.data == marks, "the map's data is not two marks")
}

/// The set of a name, if its key is as long as the terms are, each padded.
fn keyed_by_terms<'a>(table: &'a ObservedTable, name: &str, terms: &[Term]) -> Refused<&'a Set> {
    terms.iter().try_for_each(|term| check_term(table, term))?;
    let fields: Vec<_> = terms
        .iter()
        .map(|term| match term {
            Term::Field(field) => *field,
            Term::Mapped { .. } => Field::Mark,
        })
        .collect();
    keyed(table, name, &fields)
}

/// The set of a name, if its key is as long as the fields are, each padded.
fn keyed<'a>(table: &'a ObservedTable, name: &str, fields: &[Field]) -> Refused<&'a Set> {
    let set = match table.sets.get(name) {
        Some(ObservedSet::Known(set)) => set,
        Some(ObservedSet::Foreign) => {
            return Err(refuse(Errno::EINVAL, format!("set {name} is not ours")));
        }
        None => return Err(refuse(Errno::ENOENT, format!("no such set: {name}"))),
    };
    // Fields with an address are refused by now where there is none.
    let family = table.family.of_packets().unwrap_or(Family::V4);
    let fields = fields.iter().map(|field| align(field.len(family)));
    let key = set.key.iter().map(|kind| align(kind.len()));
    expect(fields.eq(key), "the fields are not those of the set's key")?;
    Ok(set)
}

fn expect(condition: bool, message: &str) -> Refused {
    if condition {
        Ok(())
    } else {
        Err(refuse(Errno::EINVAL, message))
    }
}
