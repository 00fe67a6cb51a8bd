//! What a rule can refer to.

use nix::errno::Errno;

use super::{Refused, reference::check_target, refuse};
use crate::{
    Family,
    netlink::align,
    nft::{DataType, Expr, Field, ObservedSet, ObservedTable, Rule, Set, SetData, Statement},
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
            Statement::DnatMap { fields, map } => {
                let address = table.family.of_packets().map(DataType::address);
                let set = keyed(table, map, fields)?;
                let data = address.map(|it| SetData::Value(vec![it, DataType::InetService]));
                expect(
                    data.is_some() && set.data == data,
                    "the map's data is no address and port",
                )
            }
            _ => Ok(()),
        })
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
