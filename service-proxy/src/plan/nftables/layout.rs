//! The parts of a table that do not depend on Services.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use kernel::{
    Family,
    nft::{
        BaseChain, Chain, ChainKind, DataType, Field, Hook, Match, Operator, Policy, Rule, Set,
        SetData, Statement, Table, Value, Verdict,
    },
};

use super::elements::Elements;

/// The table, one of each family. Not `kube-proxy`, so that both can run while one takes over.
pub const TABLE: &str = "tweed-proxy";

/// Address, protocol and port of a Service : the chain for its number of endpoints.
pub const SERVICES: &str = "services";
/// Address, protocol and port of a Service, and a slot : address and port of an endpoint.
pub const ENDPOINTS: &str = "endpoints";
/// Address, protocol and port of a Service that nobody serves : what to do about it.
pub const NO_ENDPOINTS: &str = "no-endpoints";
/// The cluster IPs.
pub const CLUSTER_IPS: &str = "cluster-ips";
/// An endpoint's address, twice: a connection from an endpoint to itself.
pub const HAIRPIN: &str = "hairpin";
/// All sets and maps.
pub const SETS: [&str; 5] = [SERVICES, ENDPOINTS, NO_ENDPOINTS, CLUSTER_IPS, HAIRPIN];

/// The chain that refuses a connection; nft would take a chain `reject` for its own word.
pub const REFUSE: &str = "refuse";
const LOOK_UP: &str = "look-up";
const UNSERVED: &str = "unserved";

/// The mark of connections to be masqueraded, kube-proxy's (F28).
const MASQUERADE_MARK: u32 = 0x4000;

/// Priorities of the base chains, those of kube-proxy: `dstnat`, `srcnat` and `filter`.
const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;
const FILTER: i32 = 0;

/// The fewest elements that a set has room for; what is not used costs 11 bytes of a hash table.
const LEAST_CAPACITY: usize = 1 << 16;

/// What of a table does not depend on Services.
#[derive(Debug)]
pub struct Skeleton {
    /// The family.
    pub family: Family,
    /// The cluster's pod network.
    pub local: Option<IpNetwork>,
}

// === impl Skeleton ===

impl Skeleton {
    /// The table with elements, and chains for the different numbers of endpoints.
    pub fn table(&self, counts: impl Iterator<Item = usize>, mut elements: Elements) -> Table {
        let balance = counts.map(|count| (balance_chain(count), balance(count)));
        let sets = SETS.map(|name| (name.to_owned(), self.set(name, &mut elements)));
        Table {
            family: self.family,
            name: TABLE.to_owned(),
            chains: self.chains().into_iter().chain(balance).collect(),
            sets: sets.into(),
        }
    }

    fn chains(&self) -> BTreeMap<String, Chain> {
        let look_up = || vec![rule([jump(LOOK_UP)])];
        let check = || {
            vec![rule([
                has_any(Field::CtState, Field::CT_NEW),
                jump(UNSERVED),
            ])]
        };
        let chains = [
            (
                "nat-prerouting",
                base(ChainKind::Nat, Hook::Prerouting, DSTNAT, look_up()),
            ),
            (
                "nat-output",
                base(ChainKind::Nat, Hook::Output, DSTNAT, look_up()),
            ),
            (
                "nat-postrouting",
                base(ChainKind::Nat, Hook::Postrouting, SRCNAT, postrouting()),
            ),
            (
                "filter-forward",
                base(ChainKind::Filter, Hook::Forward, FILTER, check()),
            ),
            (
                "filter-output",
                base(ChainKind::Filter, Hook::Output, FILTER, check()),
            ),
            (LOOK_UP, regular(self.look_up())),
            (UNSERVED, regular(unserved())),
            (REFUSE, regular(vec![rule([Statement::Reject])])),
        ];
        chains.map(|(name, chain)| (name.to_owned(), chain)).into()
    }

    /// Marks what has to be masqueraded, then goes where the Service's endpoints are drawn from.
    fn look_up(&self) -> Vec<Rule> {
        let masquerade = self.local.map(|local| {
            commented(
                "not from a pod",
                [
                    in_set([Field::DestinationAddress], CLUSTER_IPS),
                    matches(Field::SourceAddress, Operator::IsNot(Value::Network(local))),
                    set_mark(MASQUERADE_MARK),
                ],
            )
        });
        let services = rule([verdict_map(SERVICES)]);
        masquerade.into_iter().chain([services]).collect()
    }

    fn set(&self, name: &str, elements: &mut Elements) -> Set {
        let address = match self.family {
            Family::V4 => DataType::Ipv4Addr,
            Family::V6 => DataType::Ipv6Addr,
        };
        let socket = [address, DataType::InetProto, DataType::InetService];
        let (key, data) = match name {
            ENDPOINTS => (
                [&socket[..], &[DataType::Number]].concat(),
                Some(SetData::Value(vec![address, DataType::InetService])),
            ),
            CLUSTER_IPS => (vec![address], None),
            HAIRPIN => (vec![address; 2], None),
            _ => (socket.to_vec(), Some(SetData::Verdict)),
        };
        let elements = elements.take(name);
        Set {
            key,
            data,
            size: capacity(elements.len()),
            interval: false,
            comment: None,
            elements,
        }
    }
}

/// The name of the chain that draws one of a number of endpoints.
pub fn balance_chain(count: usize) -> String {
    format!("balance-{count}")
}

/// The chain that draws one of a number of endpoints.
///
/// A packet can be on its way through the chain while a change is committed: from then on the kernel shows
/// it the new elements, and the slot that it has drawn may be gone. There is a first one as long as there
/// is any, so that is looked up next.
pub fn balance(count: usize) -> Chain {
    let draw = |modulus| {
        let mut fields = SOCKET.to_vec();
        fields.push(Field::Random { modulus });
        let map = ENDPOINTS.to_owned();
        Statement::DnatMap { fields, map }
    };
    let mut rules = vec![rule([draw(u32::try_from(count).unwrap_or(u32::MAX))])];
    if count > 1 {
        rules.push(commented("the slot has just gone", [draw(1)]));
    }
    regular(rules)
}

/// How many elements a set is made for that has some: twice as many and more, as the room of a set can't be
/// changed while it exists.
pub fn capacity(length: usize) -> u32 {
    let wanted = (2 * length).next_power_of_two().max(LEAST_CAPACITY);
    u32::try_from(wanted).unwrap_or(u32::MAX)
}

const SOCKET: [Field; 3] = [
    Field::DestinationAddress,
    Field::Protocol,
    Field::DestinationPort,
];

fn postrouting() -> Vec<Rule> {
    let masquerade = Statement::Masquerade { fully_random: true };
    vec![
        rule([
            has_any(Field::Mark, MASQUERADE_MARK),
            set_mark(0),
            masquerade.clone(),
        ]),
        commented(
            "an endpoint that reaches itself",
            [
                has_any(Field::CtStatus, Field::CT_DNAT),
                in_set([Field::SourceAddress, Field::DestinationAddress], HAIRPIN),
                masquerade,
            ],
        ),
    ]
}

/// What still has a Service's address after the look-up is served by nobody, or is another port of a
/// cluster IP (F15).
fn unserved() -> Vec<Rule> {
    let refuse = Statement::Verdict(Verdict::Goto(REFUSE.to_owned()));
    vec![
        rule([verdict_map(NO_ENDPOINTS)]),
        commented(
            "no such port",
            [in_set([Field::DestinationAddress], CLUSTER_IPS), refuse],
        ),
    ]
}

fn base(kind: ChainKind, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain {
        base: Some(BaseChain {
            kind,
            hook,
            priority,
            policy: Policy::Accept,
        }),
        rules,
    }
}

fn regular(rules: Vec<Rule>) -> Chain {
    Chain { base: None, rules }
}

fn rule<const N: usize>(statements: [Statement; N]) -> Rule {
    Rule {
        statements: statements.into(),
        comment: None,
    }
}

fn commented<const N: usize>(comment: &str, statements: [Statement; N]) -> Rule {
    Rule {
        comment: Some(comment.to_owned()),
        ..rule(statements)
    }
}

fn jump(chain: &str) -> Statement {
    Statement::Verdict(Verdict::Jump(chain.to_owned()))
}

fn matches(field: Field, operator: Operator) -> Statement {
    Statement::Match(Match { field, operator })
}

fn has_any(field: Field, bits: u32) -> Statement {
    matches(field, Operator::HasAny(bits))
}

fn in_set<const N: usize>(fields: [Field; N], set: &str) -> Statement {
    Statement::InSet {
        fields: fields.into(),
        negated: false,
        set: set.to_owned(),
    }
}

fn verdict_map(map: &str) -> Statement {
    Statement::VerdictMap {
        fields: SOCKET.into(),
        map: map.to_owned(),
    }
}

/// Makes the masquerade bit of the mark what it is in `bits`.
fn set_mark(bits: u32) -> Statement {
    Statement::SetMark {
        mask: MASQUERADE_MARK,
        bits,
    }
}
