//! The rules in iptables: a chain of each container, which `POSTROUTING` leads to.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::{Family, iptables::Table};

use crate::plan::hashed_name::hashed;

const POSTROUTING: &str = "POSTROUTING";
/// Length of the name of a chain, in characters.
const CHAIN_LEN: usize = 28;

/// The rules of one container in one network; of all of its interfaces, as the reference plugin has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masquerade {
    network: String,
    container_id: String,
}

// === impl Masquerade ===

impl Masquerade {
    /// The rules of a container in a network.
    pub fn new(network: &str, container_id: &str) -> Self {
        Self {
            network: network.to_owned(),
            container_id: container_id.to_owned(),
        }
    }

    /// What the table `nat` lacks for addresses of one family, as input of `iptables-restore`; `None` if
    /// it lacks nothing.
    pub fn addition(&self, table: &Table, addresses: &[IpNetwork]) -> Option<String> {
        let chain = self.chain();
        let has = |name: &str, rule: &String| {
            let chain = table.chain(name);
            chain.is_some_and(|chain| chain.rules.contains(rule))
        };
        let inside = addresses.iter().map(|it| self.within_subnet(*it));
        let outside = addresses
            .first()
            .map(|it| self.outside(Family::of_network(it)));
        let mut lines = String::new();
        for rule in inside.chain(outside).filter(|rule| !has(&chain, rule)) {
            lines += &format!("-A {chain} {rule}\n");
        }
        for rule in addresses.iter().map(|it| self.entry(it.ip())) {
            if !has(POSTROUTING, &rule) {
                lines += &format!("-A {POSTROUTING} {rule}\n");
            }
        }
        let declared = match table.chain(&chain) {
            Some(_) => String::new(),
            None => format!(":{chain} - [0:0]\n"),
        };
        (!lines.is_empty()).then(|| format!("*nat\n{declared}{lines}COMMIT\n"))
    }

    /// The first of some addresses that the table `nat` has no rule for.
    pub fn missing(&self, table: &Table, addresses: &[IpNetwork]) -> Option<IpAddr> {
        let has = |address: &IpNetwork| self.addition(table, &[*address]).is_none();
        let mut addresses = addresses.iter();
        addresses.find(|it| !has(it)).map(|it| it.ip())
    }

    /// What takes the container's rules out of the table `nat`, as input of `iptables-restore`; `None` if
    /// there are none. With `sources` only the rules of those addresses: another interface may have others.
    pub fn removal(&self, table: &Table, sources: &[IpAddr]) -> Option<String> {
        let chain = self.chain();
        table.chain(&chain)?;
        let jump = format!(" -j {chain}");
        let entries: Vec<_> = table
            .chain(POSTROUTING)
            .map_or(&[][..], |chain| &chain.rules)
            .iter()
            .filter(|rule| rule.ends_with(&jump))
            .collect();
        let ours: Vec<_> = sources.iter().map(|source| self.entry(*source)).collect();
        let (gone, kept): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .partition(|rule| ours.is_empty() || ours.contains(rule));
        let mut lines: String = gone
            .iter()
            .map(|rule| format!("-D {POSTROUTING} {rule}\n"))
            .collect();
        if kept.is_empty() {
            lines += &format!("-F {chain}\n-X {chain}\n");
        }
        (!lines.is_empty()).then(|| format!("*nat\n{lines}COMMIT\n"))
    }

    /// Containers of a network that the table `nat` has rules of and that are not in use.
    pub fn left(table: &Table, network: &str, is_in_use: impl Fn(&str) -> bool) -> Vec<Self> {
        let mut left: Vec<Self> = Vec::new();
        let rules = table.chain(POSTROUTING).map_or(&[][..], |it| &it.rules);
        for id in rules.iter().filter_map(|rule| container_of(rule, network)) {
            let found = Self::new(network, id);
            // A rule in the same words may lead elsewhere: then it is somebody else's.
            if !is_in_use(id) && table.chain(&found.chain()).is_some() && !left.contains(&found) {
                left.push(found);
            }
        }
        left
    }

    fn chain(&self) -> String {
        let text = format!("{}{}", self.network, self.container_id);
        hashed(CHAIN_LEN, "CNI-", &text)
    }

    /// As `iptables-save` prints it. Neither name nor id can contain a quotation mark.
    fn comment(&self) -> String {
        let Self {
            network,
            container_id,
        } = self;
        format!(r#"-m comment --comment "name: \"{network}\" id: \"{container_id}\"""#)
    }

    fn entry(&self, address: IpAddr) -> String {
        let len = Family::of(&address).address_len() * 8;
        format!("-s {address}/{len} {} -j {}", self.comment(), self.chain())
    }

    fn within_subnet(&self, address: IpNetwork) -> String {
        let (network, prefix) = (address.network(), address.prefix());
        format!("-d {network}/{prefix} {} -j ACCEPT", self.comment())
    }

    fn outside(&self, family: Family) -> String {
        let multicast = match family {
            Family::V4 => "224.0.0.0/4",
            Family::V6 => "ff00::/8",
        };
        format!("! -d {multicast} {} -j MASQUERADE", self.comment())
    }
}

/// The container that the comment of a rule names, if it names the network as well.
fn container_of<'a>(rule: &'a str, network: &str) -> Option<&'a str> {
    let start = format!(r#"--comment "name: \"{network}\" id: \""#);
    let (_, rest) = rule.split_once(&start)?;
    rest.split_once(r#"\""#).map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use kernel::iptables::Chain;

    use super::*;

    fn addresses() -> [IpNetwork; 1] {
        ["10.1.17.2/24".parse().unwrap()]
    }

    /// The table that a text of additions makes of an empty one.
    fn table(text: &str) -> Table {
        let mut table = Table::default();
        let mut chain = |name: &str| {
            let found = table.chains.iter().position(|it| it.name == name);
            found.unwrap_or_else(|| {
                table.chains.push(Chain {
                    name: name.into(),
                    policy: None,
                    rules: Vec::new(),
                });
                table.chains.len() - 1
            })
        };
        let rules: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("-A ")?.split_once(' '))
            .map(|(name, rule)| (chain(name), rule))
            .collect();
        for (index, rule) in rules {
            table.chains[index].rules.push(rule.into());
        }
        table
    }

    #[test]
    fn rules_are_those_of_the_reference() {
        let masquerade = Masquerade::new("test", "1234");
        let comment = r#"-m comment --comment "name: \"test\" id: \"1234\"""#;
        let chain = "CNI-2bbe0c48b91a7d1b8a6753a8";
        let text = masquerade
            .addition(&Table::default(), &addresses())
            .unwrap();
        assert_eq!(
            text,
            format!(
                "*nat\n:{chain} - [0:0]\n-A {chain} -d 10.1.17.0/24 {comment} -j ACCEPT\n\
                 -A {chain} ! -d 224.0.0.0/4 {comment} -j MASQUERADE\n\
                 -A POSTROUTING -s 10.1.17.2/32 {comment} -j {chain}\nCOMMIT\n"
            )
        );
        let table = table(&text);
        assert_eq!(masquerade.addition(&table, &addresses()), None);
        assert_eq!(masquerade.missing(&table, &addresses()), None);
        assert_eq!(
            masquerade.missing(&Table::default(), &addresses()),
            Some(addresses()[0].ip())
        );
        let removal = masquerade.removal(&table, &[]).unwrap();
        assert_eq!(
            removal,
            format!(
                "*nat\n-D POSTROUTING -s 10.1.17.2/32 {comment} -j {chain}\n-F {chain}\n-X {chain}\nCOMMIT\n"
            )
        );
        assert_eq!(masquerade.removal(&Table::default(), &[]), None);
    }

    #[test]
    fn another_interface_of_the_container_keeps_its_rules() {
        let masquerade = Masquerade::new("n", "c");
        let both = ["10.1.17.2/24", "10.1.17.3/24"].map(|it| it.parse().unwrap());
        let table = table(&masquerade.addition(&Table::default(), &both).unwrap());
        let removal = masquerade.removal(&table, &[both[0].ip()]).unwrap();
        assert!(removal.contains("10.1.17.2/32") && !removal.contains("10.1.17.3"));
        assert!(!removal.contains("-X"), "{removal}");
    }

    #[test]
    fn rules_are_found_by_network_and_container() {
        let text = |network: &str, id: &str| {
            let masquerade = Masquerade::new(network, id);
            let text = masquerade.addition(&Table::default(), &addresses());
            text.unwrap()
        };
        let all = text("n", "c1") + &text("n", "c2") + &text("other", "c3");
        let table = table(&all);
        assert_eq!(
            Masquerade::left(&table, "n", |id| id == "c1"),
            [Masquerade::new("n", "c2")]
        );
    }
}
