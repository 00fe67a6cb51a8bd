//! Conditions in the words of nft(8), as far as they can be told to the kernel without it.

use ipnetwork::IpNetwork;
use kernel::{
    Family,
    nft::{Field, Match, Operator, Statement, Value},
};

use super::{Forwarding, PlanError};

/// The conditions of the address's family.
pub fn of(forwarding: &Forwarding<'_>) -> Result<Vec<Statement>, PlanError> {
    let family = forwarding.family();
    let joined = forwarding.conf.conditions(family).join(" ");
    let words: Vec<&str> = joined.split_ascii_whitespace().collect();
    let mut rest = words.as_slice();
    let mut statements = Vec::new();
    while !rest.is_empty() {
        let (statement, behind) = next(rest, family).ok_or_else(|| PlanError::Condition {
            key: match family {
                Family::V4 => "conditionsV4",
                Family::V6 => "conditionsV6",
            },
            words: rest.join(" "),
        })?;
        statements.push(statement);
        rest = behind;
    }
    Ok(statements)
}

fn next<'a>(words: &'a [&'a str], family: Family) -> Option<(Statement, &'a [&'a str])> {
    let family_name = match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    let (field, rest) = match words {
        [name, "saddr", rest @ ..] if *name == family_name => (Field::SourceAddress, rest),
        [name, "daddr", rest @ ..] if *name == family_name => (Field::DestinationAddress, rest),
        ["iifname", rest @ ..] | ["meta", "iifname", rest @ ..] => (Field::InputInterface, rest),
        _ => return None,
    };
    let (negated, rest) = match rest {
        ["!=", rest @ ..] => (true, rest),
        ["==", rest @ ..] | rest => (false, rest),
    };
    let (operand, rest) = rest.split_first()?;
    let value = match field {
        Field::InputInterface => Value::IfName(operand.trim_matches('"').parse().ok()?),
        _ => operand
            .parse::<IpNetwork>()
            .ok()
            .filter(|network| Family::of_network(network) == family)
            .map(value)?,
    };
    let operator = if negated {
        Operator::IsNot(value)
    } else {
        Operator::Is(value)
    };
    Some((Statement::Match(Match { field, operator }), rest))
}

/// A single address is not written as a network, so that the rule is the one that nft makes.
fn value(network: IpNetwork) -> Value {
    let single = match network {
        IpNetwork::V4(network) => network.prefix() == 32,
        IpNetwork::V6(network) => network.prefix() == 128,
    };
    if single {
        Value::Address(network.ip())
    } else {
        Value::Network(network)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::plan::portmap::tests::conf;

    fn conditions(words: &[&str]) -> Result<usize, String> {
        let conf = conf(json!({"conditionsV4": words}), json!([]));
        let forwarding = Forwarding {
            network: "n",
            container_id: "c",
            address: "10.1.0.2/24".parse().unwrap(),
            siblings: &[],
            conf: &conf,
        };
        let statements = of(&forwarding).map_err(|error| error.to_string());
        statements.map(|statements| statements.len())
    }

    #[test]
    fn addresses_and_interfaces_are_understood() {
        for (words, count) in [
            (&[][..], 0),
            (&["ip", "saddr", "!=", "10.0.0.0/8"], 1),
            (&["ip saddr 10.0.0.1 iifname \"eth0\""], 2),
            (&["meta", "iifname", "!=", "eth0"], 1),
        ] {
            assert_eq!(conditions(words), Ok(count), "{words:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for words in [
            &["ip6", "saddr", "10.0.0.1"][..],
            &["ip", "saddr"],
            &["ip", "saddr", "fd00::1"],
            &["tcp", "flags", "syn"],
        ] {
            let error = conditions(words).unwrap_err();
            let start = format!("conditionsV4: {:?} is not understood", words.join(" "));
            assert!(error.starts_with(&start), "{error}");
        }
    }
}
