//! The rules of a container's own chain, to and from the text that iptables' programs know.

use std::{fmt, net::IpAddr};

use ipnetwork::IpNetwork;
use kernel::{conntrack::Protocol, iptables};

use super::Forward;

/// A rule of `CNI-DN-...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainRule {
    /// `-s`, without host bits.
    pub source: Option<IpNetwork>,
    /// `-d`, a single address.
    pub host_ip: Option<IpAddr>,
    /// `-p`
    pub protocol: Protocol,
    /// `--dport`
    pub port: u16,
    /// `-j`
    pub action: Action,
}

/// What becomes of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Goes through the chain that marks it for masquerading.
    Mark(String),
    /// `DNAT --to-destination`
    Dnat(std::net::SocketAddr),
}

// === impl ChainRule ===

impl ChainRule {
    /// Reads what follows `-A CHAIN`; `None` for a rule that is none of these.
    pub fn parse(text: &str) -> Option<Self> {
        let words = iptables::words(text);
        let value = |option: &str| {
            let place = words.iter().position(|word| word == option)?;
            words.get(place + 1)
        };
        let mut protocols = Protocol::ALL.into_iter();
        let protocol =
            protocols.find(|it| value("-p").is_some_and(|name| it.to_string() == *name))?;
        let network = |option: &str| match value(option) {
            None => Some(None),
            Some(text) => text.parse::<IpNetwork>().ok().map(Some),
        };
        Some(Self {
            source: network("-s")?,
            host_ip: network("-d")?.map(|network| network.ip()),
            protocol,
            port: value("--dport")?.parse().ok()?,
            action: match value("-j")?.as_str() {
                "DNAT" => Action::Dnat(value("--to-destination")?.parse().ok()?),
                chain => Action::Mark(chain.to_owned()),
            },
        })
    }

    /// Whether it is for the packets that a port of the node gets.
    pub fn is_for(&self, forward: &Forward) -> bool {
        (self.protocol, self.port, self.host_ip)
            == (forward.protocol, forward.port, forward.host_ip)
    }

    /// Where it leads, if it leads somewhere.
    pub fn forward(&self) -> Option<Forward> {
        match self.action {
            Action::Dnat(target) => Some(Forward {
                protocol: self.protocol,
                port: self.port,
                host_ip: self.host_ip,
                target,
            }),
            Action::Mark(_) => None,
        }
    }
}

impl fmt::Display for ChainRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = self.source {
            write!(f, "-s {source} ")?;
        }
        if let Some(host_ip) = self.host_ip {
            write!(f, "-d {} ", IpNetwork::from(host_ip))?;
        }
        let (protocol, port) = (self.protocol, self.port);
        write!(f, "-p {protocol} -m {protocol} --dport {port} ")?;
        match &self.action {
            Action::Mark(chain) => write!(f, "-j {chain}"),
            Action::Dnat(target) => write!(f, "-j DNAT --to-destination {target}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn rules_are_read_as_they_are_written() {
        for text in [
            "-s 10.1.17.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK",
            "-s 127.0.0.1/32 -d 10.0.0.1/32 -p udp -m udp --dport 53 -j CNI-HOSTPORT-SETMARK",
            "-p sctp -m sctp --dport 1 -j DNAT --to-destination 10.1.17.2:80",
            "-d fd00::1/128 -p tcp -m tcp --dport 1 -j DNAT --to-destination [fd00::2]:80",
        ] {
            assert_eq!(ChainRule::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_rules_are_none_of_them() {
        for text in [
            "",
            "-j RETURN",
            "-p icmp -j DNAT",
            "-p tcp -m tcp --dport x -j X",
            "-p tcp -m tcp --dport 1 -j DNAT --to-destination 10.0.0.1",
            "-s nowhere -p tcp -m tcp --dport 1 -j X",
        ] {
            assert_eq!(ChainRule::parse(text), None, "{text}");
        }
    }
}
