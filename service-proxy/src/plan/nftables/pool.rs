//! Maps that lead from frontends to endpoints, and the chains in between.

use kernel::nft::{Chain, Field, Key, Rule, Statement, Value};

use super::layout::{NODE_PORT_SESSION_SERVICES, SESSION_SERVICES};
use crate::plan::{Address, Frontend};

/// One map of frontends and one of their endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pool {
    /// Addresses of Services.
    Services,
    /// Addresses of Services, for connections from outside that only endpoints on this node may take.
    LocalServices,
    /// NodePorts.
    NodePorts,
    /// NodePorts, for connections from outside that only endpoints on this node may take.
    LocalNodePorts,
}

/// What is looked up of a packet for an address of a Service.
pub const SOCKET: [Field; 3] = [
    Field::DestinationAddress,
    Field::Protocol,
    Field::DestinationPort,
];

/// What is looked up of a packet for a NodePort.
pub const PORT: [Field; 2] = [Field::Protocol, Field::DestinationPort];

// === impl Pool ===

impl Pool {
    /// All pools.
    pub const ALL: [Self; 4] = [
        Self::Services,
        Self::LocalServices,
        Self::NodePorts,
        Self::LocalNodePorts,
    ];

    /// The pool of a frontend.
    pub fn of(frontend: &Frontend, local: bool) -> Self {
        match (frontend.address, local) {
            (Address::Own(_), false) => Self::Services,
            (Address::Own(_), true) => Self::LocalServices,
            (Address::Node, false) => Self::NodePorts,
            (Address::Node, true) => Self::LocalNodePorts,
        }
    }

    /// The map of frontends : the chain for their number of endpoints.
    pub const fn frontends(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::LocalServices => "local-services",
            Self::NodePorts => "node-ports",
            Self::LocalNodePorts => "local-node-ports",
        }
    }

    /// The map of frontends and slots : address and port of an endpoint.
    pub const fn endpoints(self) -> &'static str {
        match self {
            Self::Services => "endpoints",
            Self::LocalServices => "local-endpoints",
            Self::NodePorts => "node-port-endpoints",
            Self::LocalNodePorts => "local-node-port-endpoints",
        }
    }

    /// The name of the chain that draws one of a number of endpoints.
    pub fn chain_name(self, count: usize) -> String {
        match self {
            Self::Services => format!("balance-{count}"),
            Self::LocalServices => format!("local-balance-{count}"),
            Self::NodePorts => format!("node-port-balance-{count}"),
            Self::LocalNodePorts => format!("local-node-port-balance-{count}"),
        }
    }

    /// The map of frontends : the number of their Service port, where clients keep their endpoints.
    pub const fn session_services(self) -> &'static str {
        match self {
            Self::Services | Self::LocalServices => SESSION_SERVICES,
            Self::NodePorts | Self::LocalNodePorts => NODE_PORT_SESSION_SERVICES,
        }
    }

    /// What is looked up of a packet.
    pub fn fields(self) -> &'static [Field] {
        match self {
            Self::Services | Self::LocalServices => &SOCKET,
            Self::NodePorts | Self::LocalNodePorts => &PORT,
        }
    }

    /// The chain that draws one of a number of endpoints.
    ///
    /// A packet can be on its way through the chain while a change is committed: from then on the kernel
    /// shows it the new elements, and the slot that it has drawn may be gone. There is a first one as long
    /// as there is any, so that is looked up next.
    pub fn chain(self, count: usize) -> Chain {
        let draw = |modulus| Statement::DnatMap {
            fields: [self.fields(), &[Field::Random { modulus }]].concat(),
            map: self.endpoints().to_owned(),
        };
        let mut rules = vec![Rule {
            statements: vec![draw(u32::try_from(count).unwrap_or(u32::MAX))],
            comment: None,
        }];
        if count > 1 {
            rules.push(Rule {
                statements: vec![draw(1)],
                comment: Some("the slot has just gone".to_owned()),
            });
        }
        Chain { base: None, rules }
    }
}

/// The key of a frontend in the maps that it is in.
pub fn key(frontend: &Frontend) -> Key {
    let address = match frontend.address {
        Address::Own(address) => Some(Value::Address(address)),
        Address::Node => None,
    };
    let rest = [
        Value::Protocol(frontend.protocol.number()),
        Value::Port(frontend.port),
    ];
    address.into_iter().chain(rest).collect()
}
