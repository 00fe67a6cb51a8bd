//! Rules as the instructions that `iptables-nft` 1.8.8 and later makes of them, and back.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{Match, Maybe, Rule, Target, Transport};
use crate::{
    Family,
    nft::{
        Expr, ExtensionKind, Header, MetaKey, ObservedRule, RawRule, Register, Verdict,
        check_comment,
    },
};

/// Where the destination port is in the headers of TCP and UDP.
const DESTINATION_PORT: u32 = 2;
const PORT_LEN: u32 = 2;

/// Instructions that are being read.
struct Reader<'a> {
    rest: &'a [Expr],
    family: Family,
    rule: Rule,
}

// === impl Rule ===

impl Rule {
    /// The instructions; `None` if a text in it is too long.
    ///
    /// A comment behind all other matches is kept beside the rule, where the programs look for one too and print
    /// it in the same place: as a match it costs a call for each packet, and an object of the kernel's that each
    /// change of the table comes by.
    pub(in crate::iptables) fn raw(&self, family: Family, text: &str) -> Option<RawRule> {
        let (matches, comment) = match self.matches.split_last() {
            Some((Match::Comment(last), others)) if check_comment(Some(last)).is_ok() => {
                (others, Some(last.clone()))
            }
            _ => (&self.matches[..], None),
        };
        Some(RawRule {
            expressions: self.expressions(matches, family)?,
            protocol: self.protocol,
            comment,
            text: text.to_owned(),
        })
    }

    fn expressions(&self, matches: &[Match], family: Family) -> Option<Vec<Expr>> {
        let mut list = Vec::with_capacity(8);
        if let Some(input) = &self.input {
            list.push(load_meta(MetaKey::InputName));
            list.push(compare(input.negated, interface(&input.value)));
        }
        if let Some(protocol) = self.protocol {
            list.push(load_meta(MetaKey::Protocol));
            list.push(compare(false, vec![protocol]));
        }
        let (source, destination) = offsets(family);
        for (offset, network) in [(source, &self.source), (destination, &self.destination)] {
            if let Some(network) = network {
                list.extend(address(offset, *network));
            }
        }
        for it in matches {
            it.encode(&mut list)?;
        }
        list.push(Expr::Counter);
        if let Some(target) = &self.target {
            list.push(target.encode(family)?);
        }
        Some(list)
    }

    /// What a rule is; `None` if there is anything in it that this does not know.
    pub(in crate::iptables) fn of_observed(
        observed: &ObservedRule,
        family: Family,
    ) -> Option<Self> {
        let mut reader = Reader {
            rest: &observed.expressions,
            family,
            rule: Self::default(),
        };
        while !reader.rest.is_empty() {
            reader.next()?;
        }
        let mut rule = reader.rule;
        let known = rule.expressions(&rule.matches, family)? == observed.expressions;
        let comment = observed.comment.iter().cloned();
        rule.matches.extend(comment.map(Match::Comment));
        known.then_some(rule)
    }
}

// === impl Match ===

impl Match {
    fn encode(&self, list: &mut Vec<Expr>) -> Option<()> {
        match self {
            Self::Ports(Transport::Tcp | Transport::Udp, Some((first, last))) => {
                list.push(load(Header::Transport, DESTINATION_PORT, PORT_LEN));
                let [first, last] = [first, last].map(|port| port.to_be_bytes().to_vec());
                list.push(if first == last {
                    compare(false, first)
                } else {
                    Expr::Range {
                        from: Register::FIRST,
                        first,
                        last,
                    }
                });
            }
            Self::Mark {
                negated,
                value,
                mask,
            } => {
                list.push(load_meta(MetaKey::Mark));
                if *mask != u32::MAX {
                    list.push(masked(mask.to_ne_bytes().to_vec()));
                }
                list.push(compare(*negated, value.to_ne_bytes().to_vec()));
            }
            other => {
                let (name, revision, info) = other.extension()?;
                list.push(Expr::Extension {
                    kind: ExtensionKind::Match,
                    name: name.to_owned(),
                    revision,
                    info,
                });
            }
        }
        Some(())
    }
}

// === impl Target ===

impl Target {
    fn encode(&self, family: Family) -> Option<Expr> {
        let verdict = match self {
            Self::Accept => Verdict::Accept,
            Self::Drop => Verdict::Drop,
            Self::Return => Verdict::Return,
            Self::Jump(chain) => Verdict::Jump(chain.clone()),
            other => {
                let (name, revision, info) = other.extension(family)?;
                return Some(Expr::Extension {
                    kind: ExtensionKind::Target,
                    name: name.to_owned(),
                    revision,
                    info,
                });
            }
        };
        Some(Expr::Verdict(verdict))
    }
}

// === impl Reader ===

impl Reader<'_> {
    /// Takes in what comes next.
    fn next(&mut self) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        match first {
            Expr::Counter => {}
            Expr::Verdict(verdict) => self.rule.target = Some(target(verdict)?),
            Expr::Extension {
                kind: ExtensionKind::Match,
                name,
                info,
                ..
            } => self.rule.matches.push(Match::of_extension(name, info)?),
            Expr::Extension { name, info, .. } => {
                self.rule.target = Some(Target::of_extension(self.family, name, info)?);
            }
            load => return self.comparison(load, rest),
        }
        self.rest = rest;
        Some(())
    }

    /// Something that is loaded, perhaps masked, and compared.
    fn comparison(&mut self, load: &Expr, rest: &[Expr]) -> Option<()> {
        let (mask, compared) = match rest.first()? {
            Expr::Bitwise { mask, .. } => (Some(mask), rest.get(1)?),
            other => (None, other),
        };
        let (negated, value) = match compared {
            Expr::Compare { negated, value, .. } => (*negated, value),
            Expr::Range { first, last, .. } => {
                let ports = Some((port(first)?, port(last)?));
                self.take_ports(ports)?;
                self.skip(2);
                return Some(());
            }
            _ => return None,
        };
        match load {
            Expr::Meta {
                key: MetaKey::InputName,
                ..
            } => {
                let value = interface_text(value)?;
                self.rule.input = Some(Maybe { negated, value });
            }
            Expr::Meta {
                key: MetaKey::Protocol,
                ..
            } => self.rule.protocol = value.first().copied(),
            Expr::Meta {
                key: MetaKey::Mark, ..
            } => self.rule.matches.push(Match::Mark {
                negated,
                value: mark(value)?,
                mask: mask.map_or(Some(u32::MAX), |mask| mark(mask))?,
            }),
            Expr::Payload {
                header: Header::Transport,
                ..
            } => {
                let port = port(value)?;
                self.take_ports(Some((port, port)))?;
            }
            Expr::Payload { offset, .. } => {
                let value = network(self.family, value, mask)?;
                let network = Some(Maybe { negated, value });
                let (source, destination) = offsets(self.family);
                match *offset {
                    it if it == source => self.rule.source = network,
                    it if it == destination => self.rule.destination = network,
                    _ => return None,
                }
            }
            _ => return None,
        }
        self.skip(if mask.is_some() { 3 } else { 2 });
        Some(())
    }

    fn take_ports(&mut self, ports: Option<(u16, u16)>) -> Option<()> {
        let protocol = self.rule.protocol?;
        let transport = Transport::ALL
            .into_iter()
            .find(|it| *it as u8 == protocol)?;
        self.rule.matches.push(Match::Ports(transport, ports));
        Some(())
    }

    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }
}

fn target(verdict: &Verdict) -> Option<Target> {
    Some(match verdict {
        Verdict::Accept => Target::Accept,
        Verdict::Drop => Target::Drop,
        Verdict::Return => Target::Return,
        Verdict::Jump(chain) => Target::Jump(chain.clone()),
        Verdict::Goto(_) => return None,
    })
}

/// Where the source and the destination address are in the network header.
const fn offsets(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (12, 16),
        Family::V6 => (8, 24),
    }
}

fn load(header: Header, offset: u32, len: u32) -> Expr {
    Expr::Payload {
        header,
        offset,
        len,
        to: Register::FIRST,
    }
}

fn load_meta(key: MetaKey) -> Expr {
    Expr::Meta {
        key,
        to: Register::FIRST,
    }
}

fn compare(negated: bool, value: Vec<u8>) -> Expr {
    Expr::Compare {
        from: Register::FIRST,
        negated,
        value,
    }
}

fn masked(mask: Vec<u8>) -> Expr {
    Expr::Bitwise {
        from: Register::FIRST,
        to: Register::FIRST,
        xor: vec![0; mask.len()],
        mask,
    }
}

/// A prefix of whole bytes is compared as it is, others by a mask.
fn address(offset: u32, network: Maybe<IpNetwork>) -> Vec<Expr> {
    let Maybe { negated, value } = network;
    let mut bytes = octets(value.ip());
    let prefix = value.prefix();
    if prefix.is_multiple_of(8) {
        bytes.truncate((prefix / 8).into());
        let len = (prefix / 8).into();
        return vec![load(Header::Network, offset, len), compare(negated, bytes)];
    }
    let len = if value.is_ipv4() { 4 } else { 16 };
    vec![
        load(Header::Network, offset, len),
        masked(octets(value.mask())),
        compare(negated, bytes),
    ]
}

fn network(family: Family, value: &[u8], mask: Option<&Vec<u8>>) -> Option<IpNetwork> {
    let prefix = match mask {
        Some(mask) => mask.iter().map(|byte| byte.count_ones()).sum(),
        None => u32::try_from(value.len()).ok()? * 8,
    };
    let mut bytes = value.to_vec();
    bytes.resize(family.address_len(), 0);
    let address: IpAddr = match family {
        Family::V4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
        Family::V6 => <[u8; 16]>::try_from(bytes).ok()?.into(),
    };
    IpNetwork::new(address, prefix.try_into().ok()?).ok()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A name with the NUL at its end, or how one begins.
fn interface(pattern: &str) -> Vec<u8> {
    match pattern.strip_suffix('+') {
        Some(beginning) => beginning.as_bytes().to_vec(),
        None => [pattern.as_bytes(), &[0]].concat(),
    }
}

fn interface_text(value: &[u8]) -> Option<String> {
    let (name, end) = match value.strip_suffix(&[0]) {
        Some(name) => (name, ""),
        None => (value, "+"),
    };
    Some(format!("{}{end}", std::str::from_utf8(name).ok()?))
}

fn port(value: &[u8]) -> Option<u16> {
    value.try_into().ok().map(u16::from_be_bytes)
}

fn mark(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}
