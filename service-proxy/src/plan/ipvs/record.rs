//! What of the table says which virtual servers and addresses are ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use kernel::{
    Family,
    ipset::{Member, ObservedSet as ObservedIpset},
    ipvs::{Protocol, VirtualAddress},
    nft::{Command, Element, Key, ObservedSet, ObservedTable, Set, Table, Transaction, Value},
};

use super::SetName;
use crate::plan::nftables::{Balancer, VIRTUAL_ADDRESSES, VIRTUAL_SERVERS, capacity};

/// The virtual servers and addresses that a table says are ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    servers: BTreeSet<VirtualAddress>,
    addresses: BTreeSet<IpAddr>,
}

// === impl Record ===

impl Record {
    /// What a table says, if there is one.
    pub fn read(table: Option<&ObservedTable>) -> Self {
        let keys = |name: &str| {
            let set = table.and_then(|table| table.sets.get(name));
            let elements = match set {
                Some(ObservedSet::Known(set)) => Some(&set.elements),
                _ => None,
            };
            elements.into_iter().flat_map(BTreeMap::keys)
        };
        Self {
            servers: keys(VIRTUAL_SERVERS).filter_map(server).collect(),
            addresses: keys(VIRTUAL_ADDRESSES).filter_map(address).collect(),
        }
    }

    /// Of some virtual servers and addresses.
    pub fn new(servers: BTreeSet<VirtualAddress>, addresses: BTreeSet<IpAddr>) -> Self {
        Self { servers, addresses }
    }

    /// What sets say, whichever family's.
    pub fn of_sets(sets: &BTreeMap<String, ObservedIpset>) -> Self {
        let mut record = Self::default();
        for family in Family::ALL {
            for name in [SetName::IPVS_SERVERS, SetName::IPVS_IPS] {
                let Some(ObservedIpset::Known(set)) = sets.get(&name.of(family)) else {
                    continue;
                };
                for member in &set.members {
                    match *member {
                        Member::Ip(ip) => drop(record.addresses.insert(ip)),
                        Member::IpPort(protocol, socket) => {
                            record.servers.insert(VirtualAddress { protocol, socket });
                        }
                        _ => {}
                    }
                }
            }
        }
        record
    }

    /// What either of two says.
    pub fn with(mut self, other: Self) -> Self {
        self.servers.extend(other.servers);
        self.addresses.extend(other.addresses);
        self
    }

    /// The virtual servers.
    pub fn servers(&self) -> &BTreeSet<VirtualAddress> {
        &self.servers
    }

    /// The addresses.
    pub fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.addresses
    }

    /// Whether a virtual server is among them.
    pub fn has(&self, address: &VirtualAddress) -> bool {
        self.servers.contains(address)
    }
}

/// Puts virtual servers and addresses into a table.
pub fn fill(table: &mut Table, record: &Record) {
    let servers = record.servers.iter();
    let servers = servers.map(|it| (server_key(it), Element::default()));
    let addresses = record
        .addresses
        .iter()
        .map(|it| (address_key(*it), Element::default()));
    let mut put = |name: &str, elements: BTreeMap<Key, Element>| {
        if let Some(Set {
            size,
            elements: all,
            ..
        }) = table.sets.get_mut(name)
        {
            *size = capacity(name, elements.len());
            *all = elements;
        }
    };
    put(VIRTUAL_SERVERS, servers.collect());
    put(VIRTUAL_ADDRESSES, addresses.collect());
}

/// The room that the sets of so many virtual servers and addresses are made with.
pub fn rooms(servers: usize, addresses: usize) -> [u32; 2] {
    [
        capacity(VIRTUAL_SERVERS, servers),
        capacity(VIRTUAL_ADDRESSES, addresses),
    ]
}

/// Adds virtual servers and addresses, if there are any.
pub fn add<'a>(
    family: Family,
    servers: impl Iterator<Item = &'a VirtualAddress>,
    addresses: &[IpAddr],
) -> Option<Transaction> {
    transaction(family, servers, addresses, |set, keys| {
        let elements = keys.into_iter().map(|key| (key, Element::default()));
        Command::AddElements(set, elements.collect())
    })
}

/// Deletes them, if there are any.
pub fn delete<'a>(
    family: Family,
    servers: impl Iterator<Item = &'a VirtualAddress>,
    addresses: &[IpAddr],
) -> Option<Transaction> {
    transaction(family, servers, addresses, Command::DeleteElements)
}

fn transaction<'a>(
    family: Family,
    servers: impl Iterator<Item = &'a VirtualAddress>,
    addresses: &[IpAddr],
    command: impl Fn(String, Vec<Key>) -> Command,
) -> Option<Transaction> {
    let servers: Vec<_> = servers.map(server_key).collect();
    let addresses: Vec<_> = addresses.iter().copied().map(address_key).collect();
    let commands: Vec<_> = [(VIRTUAL_SERVERS, servers), (VIRTUAL_ADDRESSES, addresses)]
        .into_iter()
        .filter(|(_, keys)| !keys.is_empty())
        .map(|(set, keys)| command(set.to_owned(), keys))
        .collect();
    (!commands.is_empty()).then(|| Transaction {
        family: family.into(),
        table: Balancer::Ipvs.table().to_owned(),
        commands,
    })
}

fn server_key(address: &VirtualAddress) -> Key {
    vec![
        Value::Address(address.socket.ip()),
        Value::Protocol(address.protocol.number()),
        Value::Port(address.socket.port()),
    ]
}

fn address_key(address: IpAddr) -> Key {
    vec![Value::Address(address)]
}

fn server(key: &Key) -> Option<VirtualAddress> {
    let [
        Value::Address(ip),
        Value::Protocol(number),
        Value::Port(port),
    ] = *key.as_slice()
    else {
        return None;
    };
    let mut protocols = Protocol::ALL.into_iter();
    Some(VirtualAddress {
        protocol: protocols.find(|it| it.number() == number)?,
        socket: SocketAddr::new(ip, port),
    })
}

fn address(key: &Key) -> Option<IpAddr> {
    match *key.as_slice() {
        [Value::Address(ip)] => Some(ip),
        _ => None,
    }
}
