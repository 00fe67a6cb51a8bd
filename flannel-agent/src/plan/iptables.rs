//! Masquerading and forwarding as rules of iptables, in flannel's text (spec 1.9).

use ipnetwork::IpNetwork;
use kernel::{Family, iptables::Table};

use super::{MASQUERADED, Rules, nftables::multicast};

const MASQUERADE_COMMENT: &str = r#"-m comment --comment "flanneld masq""#;
const FORWARD_COMMENT: &str = r#"-m comment --comment "flanneld forward""#;

/// A chain of flannel's, to which one of the kernel's jumps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnChain {
    /// The table that it is in.
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The kernel's chain.
    pub parent: &'static str,
    /// The comment of the jump.
    comment: &'static str,
    /// Its rules as iptables-save prints them; none if the chain should not be there.
    pub rules: Vec<String>,
}

// === impl OwnChain ===

impl OwnChain {
    /// The rule of the parent.
    fn jump(&self) -> String {
        format!("{} -j {}", self.comment, self.name)
    }

    /// What iptables-restore has to be told for this chain to stand; `None` if it stands as it should.
    pub fn repair(&self, have: &Table) -> Option<String> {
        let jump = self.jump();
        let parent = have.chain(self.parent);
        let jumps = parent.map_or(0, |it| {
            it.rules.iter().filter(|rule| **rule == jump).count()
        });
        let standing = have.chain(self.name);
        let (wanted_jumps, is_right) = if self.rules.is_empty() {
            (0, standing.is_none())
        } else {
            (1, standing.is_some_and(|it| it.rules == self.rules))
        };
        if is_right && jumps == wanted_jumps {
            return None;
        }
        let mut text = format!("*{}\n:{} - [0:0]\n", self.table, self.name);
        for _ in wanted_jumps..jumps {
            text += &format!("-D {} {jump}\n", self.parent);
        }
        for rule in &self.rules {
            text += &format!("-A {} {rule}\n", self.name);
        }
        if self.rules.is_empty() {
            text += &format!("-X {}\n", self.name);
        } else if jumps == 0 {
            text += &format!("-A {} {jump}\n", self.parent);
        }
        Some(text + "COMMIT\n")
    }
}

/// flannel's chains without any rules: none of them should stand.
pub const fn no_iptables_chains() -> [OwnChain; 2] {
    [
        OwnChain {
            table: "nat",
            name: "FLANNEL-POSTRTG",
            parent: "POSTROUTING",
            comment: MASQUERADE_COMMENT,
            rules: Vec::new(),
        },
        OwnChain {
            table: "filter",
            name: "FLANNEL-FWD",
            parent: "FORWARD",
            comment: FORWARD_COMMENT,
            rules: Vec::new(),
        },
    ]
}

/// The chains of a node whose subnet is `pod` in the network `cluster`.
pub fn iptables_chains(rules: Rules, pod: IpNetwork, cluster: IpNetwork) -> [OwnChain; 2] {
    let [mut masquerading, mut forwarding] = no_iptables_chains();
    if rules.masquerade {
        masquerading.rules = masquerade(rules.fully_random, pod, cluster);
    }
    if rules.forward {
        let accept = |what| format!("{what} {cluster} {FORWARD_COMMENT} -j ACCEPT");
        forwarding.rules = ["-s", "-d"].map(accept).into();
    }
    [masquerading, forwarding]
}

fn masquerade(fully_random: bool, pod: IpNetwork, cluster: IpNetwork) -> Vec<String> {
    let multicast = multicast(Family::of_network(&cluster));
    let target = if fully_random {
        "MASQUERADE --random-fully"
    } else {
        "MASQUERADE"
    };
    [
        (
            format!("-m mark --mark {MASQUERADED:#x}/{MASQUERADED:#x}"),
            "RETURN",
        ),
        (format!("-s {pod} -d {cluster}"), "RETURN"),
        (format!("-s {cluster} -d {pod}"), "RETURN"),
        (format!("! -s {cluster} -d {pod}"), "RETURN"),
        (format!("-s {cluster} ! -d {multicast}"), target),
        (format!("! -s {cluster} -d {cluster}"), target),
    ]
    .map(|(matches, target)| format!("{matches} {MASQUERADE_COMMENT} -j {target}"))
    .into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kernel::iptables::Chain;

    use super::*;

    fn chains(masquerade: bool) -> [OwnChain; 2] {
        let rules = Rules {
            masquerade,
            fully_random: true,
            forward: true,
        };
        iptables_chains(
            rules,
            "10.5.34.0/24".parse().unwrap(),
            "10.5.0.0/16".parse().unwrap(),
        )
    }

    fn table(chains: &[(&str, &[String])]) -> Table {
        let chain = |&(name, rules): &(&str, &[String])| Chain {
            name: name.to_owned(),
            policy: None,
            rules: rules.to_vec(),
        };
        Table {
            chains: chains.iter().map(chain).collect(),
        }
    }

    #[test]
    fn the_text_is_flannels() {
        let [nat, filter] = chains(true);
        assert_eq!(
            nat.repair(&Table::default()).unwrap(),
            r#"*nat
:FLANNEL-POSTRTG - [0:0]
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.5.34.0/24 -d 10.5.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.5.0.0/16 -d 10.5.34.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.34.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.5.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
COMMIT
"#
        );
        assert_eq!(
            filter.repair(&Table::default()).unwrap(),
            r#"*filter
:FLANNEL-FWD - [0:0]
-A FLANNEL-FWD -s 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
COMMIT
"#
        );
    }

    #[test]
    fn what_stands_is_left_and_what_is_not_wanted_goes() {
        let [nat, _] = chains(true);
        let jump = [nat.jump()];
        let right = table(&[("POSTROUTING", &jump), ("FLANNEL-POSTRTG", &nat.rules)]);
        assert_eq!(nat.repair(&right), None);
        let twice = [nat.jump(), nat.jump()];
        let twice = table(&[("POSTROUTING", &twice), ("FLANNEL-POSTRTG", &nat.rules)]);
        let repair = nat.repair(&twice).unwrap();
        assert_eq!(repair.matches("-D POSTROUTING").count(), 1, "{repair}");
        let [none, _] = chains(false);
        assert_eq!(none.repair(&Table::default()), None);
        assert_eq!(
            none.repair(&right).unwrap(),
            "*nat\n:FLANNEL-POSTRTG - [0:0]\n\
             -D POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG\n\
             -X FLANNEL-POSTRTG\nCOMMIT\n"
        );
    }
}
