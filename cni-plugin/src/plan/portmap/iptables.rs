//! The rules in iptables: text for one call of `iptables-restore --noflush`.
//!
//! `PREROUTING` and `OUTPUT` lead what is for the node's own addresses to [`DNAT`], that to a chain of each
//! container, and that translates. What is to be masqueraded as well is marked first, and [`MASQ`], the first
//! that `POSTROUTING` leads to, masquerades what is marked.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use kernel::{
    Family,
    iptables::{self, Table},
};

use super::{
    Forward, Forwarding, Hold, PlanError,
    chain_rule::{Action, ChainRule},
    entry::{COMMENT_LEN, Entry, entries, owner},
};
use crate::plan::hashed_name::hashed;

/// Leads to the containers' chains.
const DNAT: &str = "CNI-HOSTPORT-DNAT";
/// Marks.
const SET_MARK: &str = "CNI-HOSTPORT-SETMARK";
/// Masquerades what is marked.
const MASQ: &str = "CNI-HOSTPORT-MASQ";
/// Leads to [`DNAT`].
const ENTRY: &str = "-m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT";
/// Leads to [`MASQ`].
const MASQ_ENTRY: &str =
    r#"-m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ"#;
/// Length of the names of the containers' chains.
const CHAIN_LEN: usize = 28;

/// The name of a container's chain.
pub fn chain(network: &str, container_id: &str) -> String {
    hashed(CHAIN_LEN, "CNI-DN-", &format!("{network}{container_id}"))
}

/// What makes the rules of an address; of the container's own chain, only what leads to an address of another
/// of its interfaces stays. `table` is the table `nat` as it is.
pub fn add(forwarding: &Forwarding<'_>, table: &Table) -> Result<String, PlanError> {
    let left_over = forwarding.check_holds(&holds(table))?;
    let chain = chain(forwarding.network, forwarding.container_id);
    let mut lines = vec![format!(":{chain} - [0:0]")];
    for chain in [DNAT, SET_MARK, MASQ] {
        let used = chain == DNAT || marks(forwarding);
        if used && table.chain(chain).is_none() {
            // Not `:CHAIN`, which empties one that somebody else made meanwhile.
            lines.push(format!("-N {chain}"));
        }
    }
    for (chain, rule) in shared_rules(forwarding) {
        if !has(table, chain, &rule) {
            lines.push(match chain {
                "POSTROUTING" => format!("-I {chain} 1 {rule}"),
                _ => format!("-A {chain} {rule}"),
            });
        }
    }
    for chain in left_over_chains(table, &left_over) {
        lines.extend(removal(table, &chain));
    }
    let wanted = chain_rules(forwarding);
    let is_others = |forward: &Forward| {
        forward.target.ip() != forwarding.address.ip()
            && !wanted.iter().any(|it| it.is_for(forward))
    };
    let kept = kept(table, &chain, is_others);
    lines.extend(entries_without(table, &chain, &kept));
    for rule in kept.iter().chain(&wanted) {
        lines.push(format!("-A {chain} {rule}"));
    }
    for entry in entries(forwarding) {
        lines.push(format!("-A {DNAT} {}", entry.text(forwarding, &chain)));
    }
    Ok(input(&lines))
}

/// What removes a container's rules, those only that lead to `addresses` if there are any; `None` if there
/// are none.
pub fn delete(
    network: &str,
    container_id: &str,
    addresses: &[IpAddr],
    table: &Table,
) -> Option<String> {
    let chain = chain(network, container_id);
    let is_others =
        |forward: &Forward| !addresses.is_empty() && !addresses.contains(&forward.target.ip());
    let kept = kept(table, &chain, is_others);
    let lines = match kept.is_empty() {
        true => removal(table, &chain),
        false => {
            let own = rules(table, &chain)
                .filter(|rule| ChainRule::parse(rule).is_some_and(|rule| !kept.contains(&rule)));
            let own = own.map(|rule| format!("-D {chain} {rule}"));
            entries_without(table, &chain, &kept).chain(own).collect()
        }
    };
    (!lines.is_empty()).then(|| input(&lines))
}

/// What removes the rules of a network's containers that are none of `alive`; `None` if there are none.
pub fn collect(network: &str, alive: &BTreeSet<String>, table: &Table) -> Option<String> {
    let mut lines = Vec::new();
    let of_network = format!("dnat name: \"{network}\" id: ");
    let chains: BTreeMap<String, String> = entry_owners(table)
        .filter(|(comment, _)| comment.starts_with(&of_network) && comment.len() < COMMENT_LEN)
        .map(|(comment, chain)| (chain, owner(&comment)))
        .collect();
    for (chain, container_id) in chains {
        if !alive.contains(&container_id) {
            lines.extend(removal(table, &chain));
        }
    }
    (!lines.is_empty()).then(|| input(&lines))
}

/// The first rule of an address that is not there, as the command that makes it.
pub fn missing(forwarding: &Forwarding<'_>, table: &Table) -> Option<String> {
    let chain = chain(forwarding.network, forwarding.container_id);
    let lost = |chain: &str, rule: String| format!("iptables -t nat -A {chain} {rule}");
    let mut shared = shared_rules(forwarding).into_iter();
    if let Some((chain, rule)) = shared.find(|(chain, rule)| !has(table, chain, rule)) {
        return Some(lost(chain, rule));
    }
    let there: Vec<Entry> = entries_to(table, &chain).filter_map(Entry::parse).collect();
    let mut wanted = entries(forwarding).into_iter();
    if let Some(entry) = wanted.find(|entry| !there.contains(entry)) {
        return Some(lost(DNAT, entry.text(forwarding, &chain)));
    }
    let there: Vec<ChainRule> = rules(table, &chain).filter_map(ChainRule::parse).collect();
    let mut wanted = chain_rules(forwarding).into_iter();
    let rule = wanted.find(|rule| !there.contains(rule))?;
    Some(lost(&chain, rule.to_string()))
}

/// The rules that all containers share, and their chains.
fn shared_rules(forwarding: &Forwarding<'_>) -> Vec<(&'static str, String)> {
    let mut rules = Vec::new();
    if marks(forwarding) {
        let mark = format!("{0:#x}/{0:#x}", forwarding.conf.mark);
        let comment = r#"-m comment --comment "CNI portfwd masquerade mark""#;
        rules.push((SET_MARK, format!("{comment} -j MARK --set-xmark {mark}")));
        rules.push((MASQ, format!("-m mark --mark {mark} -j MASQUERADE")));
        rules.push(("POSTROUTING", MASQ_ENTRY.to_owned()));
    }
    rules.push(("PREROUTING", ENTRY.to_owned()));
    rules.push(("OUTPUT", ENTRY.to_owned()));
    rules
}

/// Whether the marks are our own.
fn marks(forwarding: &Forwarding<'_>) -> bool {
    forwarding.conf.snat && forwarding.conf.external_set_mark_chain.is_none()
}

/// The rules of the container's chain: for each port what marks, then what translates.
fn chain_rules(forwarding: &Forwarding<'_>) -> Vec<ChainRule> {
    let conf = forwarding.conf;
    let set_mark = conf.external_set_mark_chain.as_deref().unwrap_or(SET_MARK);
    let mut rules = Vec::new();
    for forward in forwarding.forwards() {
        let rule = |source, action| ChainRule {
            source,
            host_ip: forward.host_ip,
            protocol: forward.protocol,
            port: forward.port,
            action,
        };
        if conf.snat {
            let sources = masqueraded_sources(forwarding).into_iter();
            rules.extend(sources.map(|source| rule(source, Action::Mark(set_mark.to_owned()))));
        }
        rules.push(rule(None, Action::Dnat(forward.target)));
    }
    rules
}

/// Whose packets are masqueraded: those of the container's subnet and of the node by loopback, or all.
fn masqueraded_sources(forwarding: &Forwarding<'_>) -> Vec<Option<IpNetwork>> {
    if forwarding.conf.masq_all {
        return vec![None];
    }
    let address = forwarding.address;
    let subnet = IpNetwork::new(address.network(), address.prefix()).unwrap_or(address);
    match forwarding.family() {
        Family::V4 => vec![Some(subnet), Some(IpNetwork::from(LOCALHOST))],
        Family::V6 => vec![Some(subnet)],
    }
}

/// IPv6 translates nothing to or from its loopback address.
const LOCALHOST: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// The ports that containers have by this table.
fn holds(table: &Table) -> Vec<Hold> {
    let owners: BTreeMap<String, String> = entry_owners(table)
        .map(|(comment, chain)| (chain, owner(&comment)))
        .collect();
    let holds = owners.iter().flat_map(|(chain, container_id)| {
        rules(table, chain)
            .filter_map(|rule| ChainRule::parse(rule)?.forward())
            .map(|forward| Hold {
                container_id: container_id.clone(),
                forward,
            })
    });
    holds.collect()
}

/// The comment of each rule that leads to a container's chain, and the chain.
fn entry_owners(table: &Table) -> impl Iterator<Item = (String, String)> {
    rules(table, DNAT).filter_map(|rule| {
        let words = iptables::words(rule);
        let value = |option| words.iter().skip_while(move |word| **word != option).nth(1);
        Some((value("--comment")?.clone(), value("-j")?.clone()))
    })
}

fn left_over_chains(table: &Table, containers: &[String]) -> BTreeSet<String> {
    entry_owners(table)
        .filter(|(comment, _)| containers.contains(&owner(comment)))
        .map(|(_, chain)| chain)
        .collect()
}

/// The rules of a container's chain for ports that lead where `is_others` says.
fn kept(table: &Table, chain: &str, is_others: impl Fn(&Forward) -> bool) -> Vec<ChainRule> {
    let there: Vec<ChainRule> = rules(table, chain).filter_map(ChainRule::parse).collect();
    let forwards: Vec<Forward> = there.iter().filter_map(ChainRule::forward).collect();
    let others: Vec<&Forward> = forwards.iter().filter(|it| is_others(it)).collect();
    let is_kept = |rule: &ChainRule| others.iter().any(|forward| rule.is_for(forward));
    there.into_iter().filter(is_kept).collect()
}

/// The commands that remove what leads to a container's chain, but for that which rules in it still need.
fn entries_without<'a>(
    table: &'a Table,
    chain: &str,
    kept: &'a [ChainRule],
) -> impl Iterator<Item = String> + 'a {
    let needs = |entry: &Entry| {
        let mut kept = kept.iter();
        kept.any(|rule| rule.protocol == entry.protocol && entry.ports.contains(&rule.port))
    };
    let gone = move |rule: &&str| Entry::parse(rule).is_none_or(|entry| !needs(&entry));
    let gone = entries_to(table, chain).filter(gone);
    gone.map(|rule| format!("-D {DNAT} {rule}"))
}

/// The commands that remove a container's chain and what leads to it.
fn removal(table: &Table, chain: &str) -> Vec<String> {
    let mut lines: Vec<String> = entries_to(table, chain)
        .map(|rule| format!("-D {DNAT} {rule}"))
        .collect();
    if table.chain(chain).is_some() {
        lines.push(format!("-F {chain}"));
        lines.push(format!("-X {chain}"));
    }
    lines
}

fn entries_to<'a>(table: &'a Table, chain: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let target = format!("-j {chain}");
    rules(table, DNAT).filter(move |rule| rule.ends_with(&target))
}

fn rules<'a>(table: &'a Table, chain: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let rules = table.chain(chain).map(|chain| chain.rules.as_slice());
    rules.unwrap_or_default().iter().map(String::as_str)
}

fn has(table: &Table, chain: &str, rule: &str) -> bool {
    rules(table, chain).any(|there| there == rule)
}

fn input(lines: &[String]) -> String {
    format!("*nat\n{}\nCOMMIT\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kernel::iptables::Chain;
    use serde_json::json;

    use super::*;
    use crate::{model::PortmapConf, plan::portmap::tests::conf};

    fn forwarding<'a>(conf: &'a PortmapConf, id: &'a str, address: &str) -> Forwarding<'a> {
        Forwarding {
            network: "cbr0",
            container_id: id,
            address: address.parse().unwrap(),
            siblings: &[],
            conf,
        }
    }

    /// What a kernel without chains of ours makes of an input with additions only.
    fn carried_out(input: &str) -> Table {
        let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in input.lines() {
            let (command, rest) = line.split_once(' ').unwrap_or_default();
            match command {
                "-N" => drop(chains.insert(rest.to_owned(), Vec::new())),
                "-A" => {
                    let (chain, rule) = rest.split_once(' ').unwrap();
                    chains.entry(chain.into()).or_default().push(rule.into());
                }
                "-I" => chains
                    .entry("POSTROUTING".into())
                    .or_default()
                    .push(rest.strip_prefix("POSTROUTING 1 ").unwrap().into()),
                _ => {}
            }
        }
        let chain = |(name, rules)| Chain {
            name,
            policy: None,
            rules,
        };
        Table {
            chains: chains.into_iter().map(chain).collect(),
        }
    }

    fn web() -> PortmapConf {
        let mapping = json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp"});
        conf(json!({}), json!([mapping]))
    }

    #[test]
    fn the_first_port_makes_everything() {
        let conf = web();
        let text = add(&forwarding(&conf, "c1", "10.1.17.2/24"), &Table::default()).unwrap();
        let chain = chain("cbr0", "c1");
        assert_eq!(
            text,
            format!(
                "*nat\n:{chain} - [0:0]\n-N CNI-HOSTPORT-DNAT\n-N CNI-HOSTPORT-SETMARK\n-N CNI-HOSTPORT-MASQ\n\
                -A CNI-HOSTPORT-SETMARK -m comment --comment \"CNI portfwd masquerade mark\" -j MARK --set-xmark 0x2000/0x2000\n\
                -A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE\n\
                -I POSTROUTING 1 -m comment --comment \"CNI portfwd requiring masquerade\" -j CNI-HOSTPORT-MASQ\n\
                -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n\
                -A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n\
                -A {chain} -s 10.1.17.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK\n\
                -A {chain} -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK\n\
                -A {chain} -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.1.17.2:80\n\
                -A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: \\\"cbr0\\\" id: \\\"c1\\\"\" -m multiport --dports 8080 -j {chain}\n\
                COMMIT\n"
            )
        );
    }

    #[test]
    fn a_port_that_is_held_is_refused_and_what_is_left_over_replaced() {
        let conf = web();
        let first = forwarding(&conf, "c1", "10.1.17.2/24");
        let table = carried_out(&add(&first, &Table::default()).unwrap());
        let error = add(&forwarding(&conf, "c2", "10.1.17.3/24"), &table).unwrap_err();
        assert_eq!(
            error.to_string(),
            "host port 8080/tcp is held by container c1, which it leads to at 10.1.17.2:80: remove that container, or choose another hostPort or hostIP"
        );
        let text = add(&forwarding(&conf, "c2", "10.1.17.2/24"), &table).unwrap();
        assert!(
            text.contains(&format!("-X {}\n", chain("cbr0", "c1"))),
            "{text}"
        );
        assert!(!text.contains("-N "), "{text}");
        let again = add(&first, &table).unwrap();
        assert_eq!(again.matches("-D ").count(), 1, "{again}");
    }

    #[test]
    fn every_rule_that_is_lost_is_named() {
        let conf = web();
        let forwarding = forwarding(&conf, "c1", "10.1.17.2/24");
        let table = carried_out(&add(&forwarding, &Table::default()).unwrap());
        assert_eq!(missing(&forwarding, &table), None);
        for (chain_index, chain) in table.chains.iter().enumerate() {
            for (rule_index, rule) in chain.rules.iter().enumerate() {
                let mut damaged = table.clone();
                damaged.chains[chain_index].rules.remove(rule_index);
                let lost = format!("iptables -t nat -A {} {rule}", chain.name);
                assert_eq!(missing(&forwarding, &damaged), Some(lost));
            }
        }
    }

    #[test]
    fn only_own_rules_are_removed() {
        let conf = web();
        let table =
            carried_out(&add(&forwarding(&conf, "c1", "10.1.17.2/24"), &Table::default()).unwrap());
        assert_eq!(delete("cbr0", "c2", &[], &table), None);
        assert_eq!(delete("other", "c1", &[], &table), None);
        let chain = chain("cbr0", "c1");
        let text = delete("cbr0", "c1", &[], &table).unwrap();
        assert!(
            text.ends_with(&format!("-F {chain}\n-X {chain}\nCOMMIT\n")),
            "{text}"
        );
        let alive = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        assert_eq!(collect("cbr0", &alive(&["c1"]), &table), None);
        assert_eq!(collect("other", &alive(&[]), &table), None);
        assert_eq!(collect("cbr0", &alive(&["c2"]), &table), Some(text));
    }

    #[test]
    fn each_interface_of_a_container_has_rules_of_its_own() {
        let port = |port: u16| {
            let mapping = json!({"hostPort": port, "containerPort": 80, "protocol": "tcp"});
            conf(json!({}), json!([mapping]))
        };
        let (one, two) = (port(8081), port(8082));
        let (eth0, eth1) = (
            forwarding(&one, "c1", "10.1.17.2/24"),
            forwarding(&two, "c1", "10.1.17.3/24"),
        );
        let table = carried_out(&add(&eth0, &Table::default()).unwrap());
        let second = add(&eth1, &table).unwrap();
        assert!(!second.contains("-D "), "{second}");
        let chain = chain("cbr0", "c1");
        let to = |address: &str| format!("-j DNAT --to-destination {address}:80\n");
        assert!(second.contains(&to("10.1.17.2")) && second.contains(&to("10.1.17.3")));
        let both = merged(&table, &chain, &second);
        assert_eq!(missing(&eth0, &both), None);
        assert_eq!(missing(&eth1, &both), None);
        let first_gone = delete("cbr0", "c1", &["10.1.17.2".parse().unwrap()], &both).unwrap();
        assert!(
            first_gone.contains("8081") && !first_gone.contains("8082"),
            "{first_gone}"
        );
        assert!(!first_gone.contains("-X"), "{first_gone}");
        let all_gone = delete("cbr0", "c1", &[], &both).unwrap();
        assert!(all_gone.ends_with(&format!("-X {chain}\nCOMMIT\n")));
        // Another port of the one that has the same address now replaces what it had.
        let again = add(&forwarding(&two, "c1", "10.1.17.2/24"), &table).unwrap();
        assert!(!again.contains("8081 -j DNAT"), "{again}");
        assert_eq!(again.matches("-D CNI-HOSTPORT-DNAT").count(), 1, "{again}");
    }

    /// A table once an input with additions was carried out that replaces a chain.
    fn merged(table: &Table, replaced: &str, input: &str) -> Table {
        let mut table = table.clone();
        for made in carried_out(input).chains {
            match table.chains.iter_mut().find(|it| it.name == made.name) {
                Some(there) if there.name == replaced => *there = made,
                Some(there) => there.rules.extend(made.rules),
                None => table.chains.push(made),
            }
        }
        table
    }

    #[test]
    fn ports_are_listed_by_fifteen_and_conditions_are_quoted() {
        let mappings: Vec<_> = (1..=16)
            .map(|port| json!({"hostPort": port, "containerPort": port, "protocol": "udp"}))
            .collect();
        let keys = json!({"conditionsV4": ["!", "-s", "10.0.0.0/8", "a b"], "masqAll": true, "externalSetMarkChain": "KUBE-MARK-MASQ"});
        let conf = conf(keys, json!(mappings));
        let text = add(&forwarding(&conf, "c1", "10.1.17.2/24"), &Table::default()).unwrap();
        assert!(
            text.contains(
                "--dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 ! -s 10.0.0.0/8 \"a b\" -j"
            ),
            "{text}"
        );
        assert!(text.contains("--dports 16 ! -s"), "{text}");
        assert!(
            text.contains(" -p udp -m udp --dport 16 -j KUBE-MARK-MASQ\n"),
            "{text}"
        );
        assert!(!text.contains("CNI-HOSTPORT-MASQ"), "{text}");
    }
}
