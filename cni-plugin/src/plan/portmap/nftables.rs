//! The rules in nftables: the table `cni_hostport` of each family.
//!
//! `prerouting` and `output` lead what is for the node's own addresses by `hostports_all` to `hostports`,
//! which has a rule for each port; `masquerading` has those for what a container or the node sends to a
//! hostPort of its own. Each rule's comment is the container's id, which does not say the network: for GC, the
//! ids of a network are also in a chain of the network that nothing leads to.

use std::{collections::BTreeSet, net::IpAddr};

use kernel::{
    Family,
    nft::{
        BaseChain, Chain, ChainKind, Command, Field, Hook, Match, ObservedRule, ObservedTable,
        Operator, Rule, Statement, Transaction, Value, Verdict,
    },
};

use super::{Forwarding, Hold, PlanError, conditions, observed_rule::Parsed};
use crate::{
    model::Cidr,
    plan::{
        hashed_name::hashed,
        observed_rules::{
            addition_text, are, deletion, is, rules_of, transaction, transaction_if_any,
        },
    },
};

/// The table.
pub const TABLE: &str = "cni_hostport";
const PORTS: &str = "hostports";
/// Where older versions of the reference put the rules with a hostIP.
const OLD_PORTS: &str = "hostip_hostports";
const ALL: &str = "hostports_all";
const MASQUERADING: &str = "masquerading";
/// Priorities `dstnat` and `srcnat`.
const DNAT_PRIORITY: i32 = -100;
const SNAT_PRIORITY: i32 = 100;
/// Length of the names of the networks' chains.
const CHAIN_LEN: usize = 28;

/// What makes the rules of an address; `table` is the table as it is.
pub fn add(
    forwarding: &Forwarding<'_>,
    table: Option<&ObservedTable>,
) -> Result<Transaction, PlanError> {
    let left_over = forwarding.check_holds(&holds(table))?;
    let mut commands = vec![Command::AddTable];
    for (name, chain) in static_chains(forwarding)? {
        ensure(&mut commands, table, &name, chain);
    }
    let left = left_over.iter().flat_map(|id| of_container(table, id, &[]));
    commands.extend(left.collect::<Vec<_>>());
    let own = [forwarding.address.ip()];
    commands.extend(of_container(table, forwarding.container_id, &own));
    let ledger = ledger(forwarding.network);
    commands.extend(commented(table, &ledger, forwarding.container_id));
    for (chain, rule) in rules(forwarding) {
        commands.push(Command::AddRule(chain.to_owned(), rule));
    }
    let entry = rule(vec![Statement::Counter], Some(forwarding.container_id));
    commands.push(Command::AddRule(ledger, entry));
    Ok(transaction(forwarding.family().into(), TABLE, commands))
}

/// What removes a container's rules, those only that lead to `addresses` if there are any; `None` if there
/// are none.
pub fn delete(
    network: &str,
    container_id: &str,
    addresses: &[IpAddr],
    table: &ObservedTable,
) -> Option<Transaction> {
    let mut commands = of_container(Some(table), container_id, addresses);
    // What another interface of the container has, GC has to find by the network.
    if commands.len() == of_container(Some(table), container_id, &[]).len() {
        commands.extend(commented(Some(table), &ledger(network), container_id));
    }
    transaction_if_any(table.family, TABLE, commands)
}

/// What removes the rules of a network's containers that are none of `alive`; `None` if there are none. A
/// container that is in another network as well keeps its rules until it leaves that.
pub fn collect(
    network: &str,
    alive: &BTreeSet<String>,
    table: &ObservedTable,
) -> Option<Transaction> {
    let ours = ledger(network);
    let ids = |chain: &str| -> BTreeSet<String> {
        let rules = rules_of(Some(table), chain);
        rules.filter_map(|rule| rule.comment.clone()).collect()
    };
    let others = table.chains.keys();
    let elsewhere: BTreeSet<String> = others
        .filter(|name| name.starts_with(LEDGER) && **name != ours)
        .flat_map(|name| ids(name))
        .collect();
    let mut commands = Vec::new();
    for id in ids(&ours).difference(alive) {
        if !elsewhere.contains(id) {
            commands.extend(of_container(Some(table), id, &[]));
        }
        commands.extend(commented(Some(table), &ours, id));
    }
    transaction_if_any(table.family, TABLE, commands)
}

/// The first rule of an address that is not there, as the command that makes it.
pub fn missing(
    forwarding: &Forwarding<'_>,
    table: Option<&ObservedTable>,
) -> Result<Option<String>, PlanError> {
    let statics = static_chains(forwarding)?.into_iter();
    let statics = statics.flat_map(|(name, chain)| {
        let rules = chain.rules.into_iter();
        rules
            .map(move |rule| (name.clone(), rule))
            .collect::<Vec<_>>()
    });
    let own = rules(forwarding).into_iter();
    let mut wanted = statics.chain(own.map(|(name, rule)| (name.to_owned(), rule)));
    let family = forwarding.family().into();
    let lost =
        wanted.find(|(chain, rule)| !rules_of(table, chain).any(|there| is(there, rule, family)));
    Ok(lost.map(|(chain, rule)| addition_text(family, TABLE, &chain, rule)))
}

/// The names of the networks' chains begin like this.
const LEDGER: &str = "network_";

fn ledger(network: &str) -> String {
    hashed(CHAIN_LEN, LEDGER, network)
}

/// The chains that all containers share, and their constant rules.
fn static_chains(forwarding: &Forwarding<'_>) -> Result<Vec<(String, Chain)>, PlanError> {
    let jump = |chain: &str| Statement::Verdict(Verdict::Jump(chain.to_owned()));
    let plain = Chain::default;
    let mut entry = conditions::of(forwarding)?;
    entry.push(Statement::Match(Match {
        field: Field::DestinationType,
        operator: Operator::IsLocal,
    }));
    entry.push(jump(ALL));
    let all = Chain {
        base: None,
        rules: vec![
            rule(vec![jump(OLD_PORTS)], None),
            rule(vec![jump(PORTS)], None),
        ],
    };
    let base = |hook, priority, rules| Chain {
        base: Some(BaseChain::accepting(ChainKind::Nat, hook, priority)),
        rules,
    };
    let entry = vec![rule(entry, None)];
    let mut chains = vec![
        (PORTS, plain()),
        (OLD_PORTS, plain()),
        (ALL, all),
        (
            "prerouting",
            base(Hook::Prerouting, DNAT_PRIORITY, entry.clone()),
        ),
        ("output", base(Hook::Output, DNAT_PRIORITY, entry)),
    ];
    if forwarding.conf.snat {
        chains.push((
            MASQUERADING,
            base(Hook::Postrouting, SNAT_PRIORITY, Vec::new()),
        ));
    }
    let named = chains
        .into_iter()
        .map(|(name, chain)| (name.to_owned(), chain));
    let mut chains: Vec<(String, Chain)> = named.collect();
    chains.push((ledger(forwarding.network), plain()));
    Ok(chains)
}

/// The container's own rules, and their chains.
fn rules(forwarding: &Forwarding<'_>) -> Vec<(&'static str, Rule)> {
    let id = Some(forwarding.container_id);
    let mut rules: Vec<(&'static str, Rule)> = Vec::new();
    for forward in forwarding.forwards() {
        let mut statements = Vec::new();
        if let Some(host_ip) = forward.host_ip {
            statements.push(equals(Field::DestinationAddress, Value::Address(host_ip)));
        }
        statements.push(equals(
            Field::Protocol,
            Value::Protocol(forward.protocol.number()),
        ));
        statements.push(equals(Field::DestinationPort, Value::Port(forward.port)));
        statements.push(Statement::Dnat(forward.target));
        rules.push((PORTS, rule(statements, id)));
    }
    if forwarding.conf.snat {
        let address = forwarding.address.ip();
        for source in masqueraded_sources(forwarding) {
            let statements = vec![
                equals(Field::SourceAddress, source),
                equals(Field::DestinationAddress, Value::Address(address)),
                Statement::Masquerade {
                    fully_random: false,
                },
            ];
            rules.push((MASQUERADING, rule(statements, id)));
        }
    }
    rules
}

/// Whose packets are masqueraded: those of the container and of the node by loopback, or all.
fn masqueraded_sources(forwarding: &Forwarding<'_>) -> Vec<Value> {
    let (family, address) = (forwarding.family(), forwarding.address.ip());
    if forwarding.conf.masq_all {
        return vec![Value::Network(Cidr::default_of(family).0)];
    }
    let mut sources = vec![Value::Address(address)];
    if family == Family::V4 {
        let localhost = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        sources.push(Value::Address(localhost));
    }
    sources
}

/// Makes a chain, or what it lacks. The rules of those that containers add to are left alone.
fn ensure(commands: &mut Vec<Command>, table: Option<&ObservedTable>, name: &str, want: Chain) {
    let Some(table) = table.filter(|table| table.chains.contains_key(name)) else {
        commands.push(Command::AddChain(name.to_owned(), want));
        return;
    };
    let there = rules_of(Some(table), name);
    if want.rules.is_empty() || are(there, &want.rules, table.family) {
        return;
    }
    commands.push(Command::FlushChain(name.to_owned()));
    let rules = want.rules.into_iter();
    commands.extend(rules.map(|rule| Command::AddRule(name.to_owned(), rule)));
}

/// The commands that delete a container's rules, those only that lead to `addresses` if there are any.
fn of_container(table: Option<&ObservedTable>, id: &str, addresses: &[IpAddr]) -> Vec<Command> {
    let ours = |rule: &&ObservedRule| {
        let destination = Parsed::of(rule).destination;
        rule.comment.as_deref() == Some(id)
            && (addresses.is_empty() || destination.is_none_or(|ip| addresses.contains(&ip)))
    };
    let chains = [PORTS, OLD_PORTS, MASQUERADING].into_iter();
    let commands = chains.flat_map(|chain| {
        let rules = rules_of(table, chain).filter(ours);
        rules.map(move |rule| deletion(chain, rule))
    });
    commands.collect()
}

/// The commands that delete the rules of a chain with a comment.
fn commented(table: Option<&ObservedTable>, chain: &str, comment: &str) -> Vec<Command> {
    rules_of(table, chain)
        .filter(|rule| rule.comment.as_deref() == Some(comment))
        .map(|rule| deletion(chain, rule))
        .collect()
}

/// The ports that containers have by this table.
fn holds(table: Option<&ObservedTable>) -> Vec<Hold> {
    let rules = [PORTS, OLD_PORTS]
        .into_iter()
        .flat_map(|chain| rules_of(table, chain));
    rules
        .filter_map(|rule| {
            Some(Hold {
                container_id: rule.comment.clone()?,
                forward: Parsed::of(rule).forward?,
            })
        })
        .collect()
}

fn equals(field: Field, value: Value) -> Statement {
    Statement::Match(Match {
        field,
        operator: Operator::Is(value),
    })
}

fn rule(statements: Vec<Statement>, comment: Option<&str>) -> Rule {
    Rule {
        statements,
        comment: comment.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kernel::nft::Fake;
    use serde_json::json;

    use super::*;
    use crate::{model::PortmapConf, plan::portmap::tests::conf};

    fn web(host_ip: &str) -> PortmapConf {
        let mapping =
            json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": host_ip});
        conf(json!({}), json!([mapping]))
    }

    fn forwarding<'a>(conf: &'a PortmapConf, id: &'a str, address: &str) -> Forwarding<'a> {
        Forwarding {
            network: "cbr0",
            container_id: id,
            address: address.parse().unwrap(),
            siblings: &[],
            conf,
        }
    }

    fn make(fake: &mut Fake, forwarding: &Forwarding<'_>) -> Result<(), PlanError> {
        let table = fake.read(forwarding.family(), TABLE);
        let transaction = add(forwarding, table.as_ref())?;
        fake.apply(&transaction).unwrap();
        Ok(())
    }

    #[test]
    fn rules_are_made_once_and_found_again() {
        for address in ["10.1.17.2/24", "fd00:0:0:17::2/64"] {
            let mut fake = Fake::default();
            let conf = web("");
            let forwarding = forwarding(&conf, "c1", address);
            make(&mut fake, &forwarding).unwrap();
            let family = forwarding.family();
            let rules = |fake: &Fake| -> usize {
                let table = fake.read(family, TABLE).unwrap();
                table.chains.values().map(|chain| chain.rules.len()).sum()
            };
            let count = rules(&fake);
            make(&mut fake, &forwarding).unwrap();
            assert_eq!(rules(&fake), count);
            let table = fake.read(family, TABLE);
            assert_eq!(missing(&forwarding, table.as_ref()), Ok(None));
        }
    }

    #[test]
    fn every_rule_that_is_lost_is_named() {
        let mut fake = Fake::default();
        let conf = web("10.0.0.1");
        let forwarding = forwarding(&conf, "c1", "10.1.17.2/24");
        make(&mut fake, &forwarding).unwrap();
        let table = fake.read(Family::V4, TABLE).unwrap();
        let chains = table
            .chains
            .iter()
            .filter(|(name, _)| !name.starts_with(LEDGER));
        for (name, chain) in chains {
            for index in 0..chain.rules.len() {
                let mut damaged = table.clone();
                damaged.chains.get_mut(name).unwrap().rules.remove(index);
                let lost = missing(&forwarding, Some(&damaged)).unwrap().unwrap();
                let start = format!("nft add rule ip cni_hostport {name} ");
                assert!(lost.starts_with(&start), "{lost}");
            }
        }
        assert!(missing(&forwarding, None).unwrap().is_some());
    }

    #[test]
    fn a_port_that_is_held_is_refused_and_what_is_left_over_replaced() {
        let mut fake = Fake::default();
        let (all, one, two) = (web(""), web("10.0.0.1"), web("10.0.0.2"));
        make(&mut fake, &forwarding(&one, "c1", "10.1.17.2/24")).unwrap();
        make(&mut fake, &forwarding(&two, "c2", "10.1.17.3/24")).unwrap();
        let error = make(&mut fake, &forwarding(&all, "c3", "10.1.17.4/24")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("host port 8080/tcp is held by container c1"),
            "{text}"
        );
        make(&mut fake, &forwarding(&one, "c3", "10.1.17.2/24")).unwrap();
        let table = fake.read(Family::V4, TABLE);
        assert!(of_container(table.as_ref(), "c1", &[]).is_empty());
    }

    #[test]
    fn only_own_rules_are_removed() {
        let mut fake = Fake::default();
        let (one, two) = (web("10.0.0.1"), web("10.0.0.2"));
        make(&mut fake, &forwarding(&one, "c1", "10.1.17.2/24")).unwrap();
        make(&mut fake, &forwarding(&two, "c2", "10.1.17.3/24")).unwrap();
        let table = fake.read(Family::V4, TABLE).unwrap();
        assert_eq!(delete("cbr0", "c3", &[], &table), None);
        let other = "10.1.17.9".parse().unwrap();
        let own = "10.1.17.2".parse().unwrap();
        let commands = |addresses: &[IpAddr]| {
            delete("cbr0", "c1", addresses, &table).map_or(0, |it| it.commands.len())
        };
        assert_eq!(
            (commands(&[other]), commands(&[own]), commands(&[])),
            (0, 4, 4)
        );
        fake.apply(&delete("cbr0", "c1", &[], &table).unwrap())
            .unwrap();
        let table = fake.read(Family::V4, TABLE);
        let second = forwarding(&two, "c2", "10.1.17.3/24");
        assert_eq!(missing(&second, table.as_ref()), Ok(None));
        assert_eq!(delete("cbr0", "c1", &[], &table.unwrap()), None);
    }

    #[test]
    fn another_interface_of_the_container_keeps_its_ports() {
        let mut fake = Fake::default();
        let conf = web("");
        make(&mut fake, &forwarding(&conf, "c1", "10.1.17.2/24")).unwrap();
        let second = forwarding(&conf, "c1", "10.1.17.3/24");
        let siblings = ["10.1.17.2".parse().unwrap()];
        let alive = Forwarding {
            siblings: &siblings,
            ..second
        };
        let table = fake.read(Family::V4, TABLE);
        let held = add(&alive, table.as_ref()).unwrap_err();
        assert!(matches!(held, PlanError::Held { .. }), "{held}");
        // An address that the container has no more is that of an ADD that nobody undid.
        add(&second, table.as_ref()).unwrap();
    }

    #[test]
    fn only_a_networks_own_dead_are_collected() {
        let mut fake = Fake::default();
        let (one, two) = (web("10.0.0.1"), web("10.0.0.2"));
        make(&mut fake, &forwarding(&one, "c1", "10.1.17.2/24")).unwrap();
        let second = Forwarding {
            network: "other",
            ..forwarding(&two, "c2", "10.2.0.3/24")
        };
        make(&mut fake, &second).unwrap();
        let table = fake.read(Family::V4, TABLE).unwrap();
        let alive = BTreeSet::from(["c1".to_owned()]);
        assert_eq!(collect("cbr0", &alive, &table), None);
        fake.apply(&collect("cbr0", &BTreeSet::new(), &table).unwrap())
            .unwrap();
        let table = fake.read(Family::V4, TABLE);
        assert!(of_container(table.as_ref(), "c1", &[]).is_empty());
        assert_eq!(missing(&second, table.as_ref()), Ok(None));
    }
}
