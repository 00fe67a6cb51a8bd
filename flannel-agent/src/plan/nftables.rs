//! Masquerading and forwarding as a table of nftables (spec 1.9).

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use kernel::{
    Family,
    nft::{
        BaseChain, Chain, ChainKind, Field, Hook, Match, Operator, Rule, Statement, Table, Value,
        Verdict,
    },
};

use super::{MASQUERADED, Rules};

/// flannel's name for the table of a family, so that either agent takes over from the other.
pub const fn nft_table_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "flannel-ipv4",
        Family::V6 => "flannel-ipv6",
    }
}

/// The table of a node whose subnet is `pod` in the network `cluster`; `None` if there should be none.
///
/// Two rules differ from flannel's: the mark is compared by its bit, and what comes from outside the
/// network for this node's pods is left alone, but not what goes to other nodes' pods: that has to be
/// masqueraded for the answers to come back.
pub fn nft_table(rules: Rules, pod: IpNetwork, cluster: IpNetwork) -> Option<Table> {
    let family = Family::of_network(&cluster);
    let mut chains = BTreeMap::new();
    if rules.masquerade {
        let chain = masquerading(rules.fully_random, pod, cluster);
        chains.insert("postrtg".to_owned(), chain);
    }
    if rules.forward {
        chains.insert("forward".to_owned(), forwarding(cluster));
    }
    (!chains.is_empty()).then(|| Table {
        family,
        name: nft_table_name(family).to_owned(),
        chains,
        sets: BTreeMap::new(),
    })
}

/// All multicast addresses of a family, which are never masqueraded.
pub(super) fn multicast(family: Family) -> IpNetwork {
    let (address, prefix) = match family {
        Family::V4 => (IpAddr::from([224, 0, 0, 0]), 4),
        Family::V6 => (IpAddr::from([0xff00, 0, 0, 0, 0, 0, 0, 0]), 8),
    };
    IpNetwork::new(address, prefix).unwrap_or_else(|_| address.into())
}

fn masquerading(fully_random: bool, pod: IpNetwork, cluster: IpNetwork) -> Chain {
    let returned = || Statement::Verdict(Verdict::Return);
    let masquerade = || Statement::Masquerade { fully_random };
    let multicast = multicast(Family::of_network(&cluster));
    let marked = Statement::Match(Match {
        field: Field::Mark,
        operator: Operator::HasAny(MASQUERADED),
    });
    chain(
        ChainKind::Nat,
        Hook::Postrouting,
        100,
        vec![
            vec![marked, returned()],
            vec![from(pod), to(cluster), returned()],
            vec![from(cluster), to(pod), returned()],
            vec![from_outside(cluster), to(pod), returned()],
            vec![from(cluster), to_outside(multicast), masquerade()],
            vec![from_outside(cluster), to(cluster), masquerade()],
        ],
    )
}

fn forwarding(cluster: IpNetwork) -> Chain {
    let accepted = || Statement::Verdict(Verdict::Accept);
    chain(
        ChainKind::Filter,
        Hook::Forward,
        0,
        vec![
            vec![from(cluster), accepted()],
            vec![to(cluster), accepted()],
        ],
    )
}

pub(super) fn chain(
    kind: ChainKind,
    hook: Hook,
    priority: i32,
    rules: Vec<Vec<Statement>>,
) -> Chain {
    let rule = |statements| Rule {
        statements,
        comment: None,
    };
    Chain {
        base: Some(BaseChain::accepting(kind, hook, priority)),
        rules: rules.into_iter().map(rule).collect(),
    }
}

fn from(network: IpNetwork) -> Statement {
    address(Field::SourceAddress, Operator::Is, network)
}

fn from_outside(network: IpNetwork) -> Statement {
    address(Field::SourceAddress, Operator::IsNot, network)
}

fn to(network: IpNetwork) -> Statement {
    address(Field::DestinationAddress, Operator::Is, network)
}

fn to_outside(network: IpNetwork) -> Statement {
    address(Field::DestinationAddress, Operator::IsNot, network)
}

fn address(field: Field, operator: fn(Value) -> Operator, network: IpNetwork) -> Statement {
    Statement::Match(Match {
        field,
        operator: operator(Value::Network(network)),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kernel::nft::diff;

    use super::*;

    fn text(rules: Rules, pod: &str, cluster: &str) -> String {
        let table = nft_table(rules, pod.parse().unwrap(), cluster.parse().unwrap());
        let table = table.unwrap();
        let commands: Vec<_> = diff(None, &table).iter().map(ToString::to_string).collect();
        commands.join("\n")
    }

    #[test]
    fn the_rules_are_flannels_with_its_faults_mended() {
        let all = Rules {
            masquerade: true,
            fully_random: true,
            forward: true,
        };
        let text = text(all, "10.5.34.0/24", "10.5.0.0/16");
        for rule in [
            "type nat hook postrouting priority 100",
            "type filter hook forward priority 0",
            "ip saddr 10.5.34.0/24 ip daddr 10.5.0.0/16 return",
            "ip saddr 10.5.0.0/16 ip daddr 10.5.34.0/24 return",
            "ip saddr != 10.5.0.0/16 ip daddr 10.5.34.0/24 return",
            "ip saddr 10.5.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random",
            "ip saddr != 10.5.0.0/16 ip daddr 10.5.0.0/16 masquerade fully-random",
            "ip saddr 10.5.0.0/16 accept",
            "ip daddr 10.5.0.0/16 accept",
        ] {
            assert!(text.contains(rule), "no {rule} in {text}");
        }
    }

    #[test]
    fn only_what_is_asked_for_is_there() {
        let none = Rules {
            masquerade: false,
            fully_random: true,
            forward: false,
        };
        let (pod, cluster) = ("fc00:0:0:7::/64", "fc00::/48");
        let table = nft_table(none, pod.parse().unwrap(), cluster.parse().unwrap());
        assert_eq!(table, None);
        let masquerade = Rules {
            masquerade: true,
            fully_random: false,
            ..none
        };
        let text = text(masquerade, pod, cluster);
        let rule = "ip6 saddr fc00::/48 ip6 daddr != ff00::/8 masquerade";
        assert!(text.contains(rule), "{text}");
        assert!(
            !text.contains("fully-random") && !text.contains("forward"),
            "{text}"
        );
    }
}
