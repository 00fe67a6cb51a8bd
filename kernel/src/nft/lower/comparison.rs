//! Comparisons of a field with constants.

use ipnetwork::IpNetwork;

use super::load;
use crate::{
    Family,
    nft::{Expr, Field, Match, Operator, Register, Value},
};

/// `RTN_LOCAL`.
const ROUTE_TYPE_LOCAL: u32 = 2;

/// `None` if the operator does not fit the field.
pub(super) fn lower_match(comparison: &Match, family: Family) -> Option<Vec<Expr>> {
    let field = comparison.field;
    match &comparison.operator {
        Operator::Is(Value::Network(network)) => in_network(field, network, false, family),
        Operator::IsNot(Value::Network(network)) => in_network(field, network, true, family),
        Operator::Is(value) => equal(field, value, false, family),
        Operator::IsNot(value) => equal(field, value, true, family),
        Operator::StartsWith(name) => starts_with(field, name, false, family),
        Operator::StartsNotWith(name) => starts_with(field, name, true, family),
        Operator::HasAny(bits) => any_bit(field, *bits, true, family),
        Operator::HasNone(bits) => any_bit(field, *bits, false, family),
        Operator::IsLocal => is_local(field, false, family),
        Operator::IsNotLocal => is_local(field, true, family),
    }
}

fn equal(field: Field, value: &Value, negated: bool, family: Family) -> Option<Vec<Expr>> {
    let fits = match (field, value) {
        (Field::SourceAddress | Field::DestinationAddress, Value::Address(address)) => {
            Family::of(address) == family
        }
        (Field::Protocol, Value::Protocol(_))
        | (Field::Icmpv6Type, Value::Icmpv6Type(_))
        | (Field::SourcePort | Field::DestinationPort, Value::Port(_))
        | (Field::Mark, Value::Mark(_))
        | (Field::Random { .. }, Value::Number(_))
        | (Field::EtherSource, Value::Mac(_))
        | (Field::InputInterface | Field::OutputInterface, Value::IfName(_)) => true,
        _ => false,
    };
    let value = value.encode().ok().filter(|_| fits)?;
    Some(vec![
        load(field, family, Register::FIRST),
        compare(value, negated),
    ])
}

/// Compares the first bytes of an address, under a mask where the prefix ends within a byte.
fn in_network(
    field: Field,
    network: &IpNetwork,
    negated: bool,
    family: Family,
) -> Option<Vec<Expr>> {
    let is_address = matches!(field, Field::SourceAddress | Field::DestinationAddress);
    (is_address && Family::of_network(network) == family).then_some(())?;
    let mut load = load(field, family, Register::FIRST);
    let address = Value::Address(network.network()).encode().ok()?;
    let whole_bytes = usize::from(network.prefix() / 8);
    if network.prefix() > 0 && network.prefix().is_multiple_of(8) {
        if let Expr::Payload { len, .. } = &mut load {
            *len = whole_bytes as u32;
        }
        return Some(vec![
            load,
            compare(address.get(..whole_bytes)?.to_vec(), negated),
        ]);
    }
    let mask = Value::Address(network.mask()).encode().ok()?;
    Some(vec![load, bitwise(mask), compare(address, negated)])
}

/// Compares as many bytes of the name as the prefix has.
fn starts_with(
    field: Field,
    prefix: &crate::IfName,
    negated: bool,
    family: Family,
) -> Option<Vec<Expr>> {
    matches!(field, Field::InputInterface | Field::OutputInterface).then(|| {
        vec![
            load(field, family, Register::FIRST),
            compare(prefix.as_str().as_bytes().to_vec(), negated),
        ]
    })
}

fn any_bit(field: Field, bits: u32, any: bool, family: Family) -> Option<Vec<Expr>> {
    matches!(field, Field::CtState | Field::CtStatus | Field::Mark).then(|| {
        let mask = bits.to_ne_bytes().to_vec();
        let none = 0u32.to_ne_bytes().to_vec();
        vec![
            load(field, family, Register::FIRST),
            bitwise(mask),
            compare(none, any),
        ]
    })
}

fn is_local(field: Field, negated: bool, family: Family) -> Option<Vec<Expr>> {
    matches!(field, Field::SourceType | Field::DestinationType).then(|| {
        let local = ROUTE_TYPE_LOCAL.to_ne_bytes().to_vec();
        vec![
            load(field, family, Register::FIRST),
            compare(local, negated),
        ]
    })
}

fn compare(value: Vec<u8>, negated: bool) -> Expr {
    Expr::Compare {
        from: Register::FIRST,
        negated,
        value,
    }
}

fn bitwise(mask: Vec<u8>) -> Expr {
    let xor = vec![0; mask.len()];
    Expr::Bitwise {
        from: Register::FIRST,
        to: Register::FIRST,
        mask,
        xor,
    }
}
