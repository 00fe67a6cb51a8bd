//! Sets and members to and from messages. Numbers are big-endian and say so.

use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};

use super::{Change, Definition, Kind, Member, Named, Protocol};
use crate::{
    Family,
    netlink::{
        Request, array_at,
        attribute::{Body, attributes, find, text},
    },
    nfnetlink::{self, Subsystem},
};

const CREATE: u16 = Subsystem::Sets.kind(2);
const DESTROY: u16 = Subsystem::Sets.kind(3);
const FLUSH: u16 = Subsystem::Sets.kind(4);
const SWAP: u16 = Subsystem::Sets.kind(6);
const LIST: u16 = Subsystem::Sets.kind(7);
const ADD: u16 = Subsystem::Sets.kind(9);
const DELETE: u16 = Subsystem::Sets.kind(10);
const GET_BY_NAME: u16 = Subsystem::Sets.kind(14);
const GET_BY_INDEX: u16 = Subsystem::Sets.kind(15);

/// What every kernel speaks.
const PROTOCOL: u8 = 6;
/// What is needed to ask for the number of a set: Linux 4.20.
const PROTOCOL_OF_NUMBERS: u8 = 7;

const IPSET_ATTR_PROTOCOL: u16 = 1;
const IPSET_ATTR_SETNAME: u16 = 2;
const IPSET_ATTR_TYPENAME: u16 = 3;
/// The same number as that of the type's name.
const IPSET_ATTR_SETNAME2: u16 = 3;
const IPSET_ATTR_REVISION: u16 = 4;
const IPSET_ATTR_FAMILY: u16 = 5;
const IPSET_ATTR_FLAGS: u16 = 6;
const IPSET_ATTR_DATA: u16 = 7;
const IPSET_ATTR_ADT: u16 = 8;
const IPSET_ATTR_INDEX: u16 = 11;

const IPSET_ATTR_IP: u16 = 1;
const IPSET_ATTR_PORT: u16 = 4;
const IPSET_ATTR_PORT_TO: u16 = 5;
const IPSET_ATTR_TIMEOUT: u16 = 6;
const IPSET_ATTR_PROTO: u16 = 7;
const IPSET_ATTR_MAXELEM: u16 = 19;
const IPSET_ATTR_IP2: u16 = 20;
const IPSET_ATTR_CIDR2: u16 = 21;

const IPSET_ATTR_IPADDR_IPV4: u16 = 1;
const IPSET_ATTR_IPADDR_IPV6: u16 = 2;

/// `IPSET_FLAG_LIST_HEADER`: sets without their members.
const LIST_HEADER: u32 = 1 << 2;
/// `NLA_F_NET_BYTEORDER`: the kernel takes numbers and addresses with it alone.
const BIG_ENDIAN: u16 = 0x4000;

/// What a message about a set says.
pub(super) struct Listed {
    pub(super) named: Named,
    /// `None`: of another kind, or with timeouts.
    pub(super) definition: Option<Definition>,
}

/// The message for a change.
pub(super) fn change(change: &Change) -> Request {
    match change {
        Change::Create(name, definition) => create(name, definition),
        // With the flag, a set that is not there is a refusal.
        Change::Destroy(name) => nfnetlink::request(DESTROY, NLM_F_EXCL, named(PROTOCOL, name)),
        Change::Flush(name) => nfnetlink::request(FLUSH, 0, named(PROTOCOL, name)),
        Change::Swap(one, other) => {
            let mut body = named(PROTOCOL, one);
            body.put_text(IPSET_ATTR_SETNAME2, other);
            nfnetlink::request(SWAP, 0, body)
        }
        Change::Add(name, member) => nfnetlink::request(ADD, 0, with_member(name, member)),
        Change::Delete(name, member) => nfnetlink::request(DELETE, 0, with_member(name, member)),
    }
}

/// Asks for the names and types of all sets.
pub(super) fn list_headers() -> Request {
    let mut body = start(PROTOCOL);
    body.put(IPSET_ATTR_FLAGS | BIG_ENDIAN, &LIST_HEADER.to_be_bytes());
    nfnetlink::request(LIST, 0, body)
}

/// Asks for one set with its members.
pub(super) fn list(name: &str) -> Request {
    nfnetlink::request(LIST, 0, named(PROTOCOL, name))
}

/// Asks for the number by which rules know a set.
pub(super) fn number_of(name: &str) -> Request {
    nfnetlink::request(GET_BY_NAME, 0, named(PROTOCOL_OF_NUMBERS, name))
}

/// Asks for the name of the set with a number.
pub(super) fn name_of(number: u16) -> Request {
    let mut body = start(PROTOCOL_OF_NUMBERS);
    body.put(IPSET_ATTR_INDEX | BIG_ENDIAN, &number.to_be_bytes());
    nfnetlink::request(GET_BY_INDEX, 0, body)
}

pub(super) fn parse_number(body: &[u8]) -> Option<u16> {
    number16(find(list_of(body)?, IPSET_ATTR_INDEX)?)
}

pub(super) fn parse_name(body: &[u8]) -> Option<String> {
    text(find(list_of(body)?, IPSET_ATTR_SETNAME)?).map(str::to_owned)
}

/// What a set is; `None` for messages that only go on with its members.
pub(super) fn parse_header(body: &[u8]) -> Option<Listed> {
    let all = list_of(body)?;
    let kind = text(find(all, IPSET_ATTR_TYPENAME)?)?.to_owned();
    Some(Listed {
        definition: parse_definition(all, &kind),
        named: Named {
            name: parse_name(body)?,
            kind,
        },
    })
}

/// The members in a message, `None` for each that can't be understood.
pub(super) fn parse_members(body: &[u8], kind: Kind) -> Vec<Option<Member>> {
    let members = list_of(body).and_then(|all| find(all, IPSET_ATTR_ADT));
    attributes(members.unwrap_or_default())
        .filter(|(attribute, _)| *attribute == IPSET_ATTR_DATA)
        .map(|(_, payload)| parse_member(payload, kind))
        .collect()
}

fn parse_definition(all: &[u8], kind: &str) -> Option<Definition> {
    let kind = Kind::of_name(kind)?;
    let data = find(all, IPSET_ATTR_DATA)?;
    if find(data, IPSET_ATTR_TIMEOUT).is_some() {
        return None;
    }
    if kind == Kind::Port {
        let bound = |attribute| number16(find(data, attribute)?);
        let whole = (bound(IPSET_ATTR_PORT)?, bound(IPSET_ATTR_PORT_TO)?) == (0, u16::MAX);
        // Any family would do.
        return whole.then_some(Definition::new(kind, Family::V4));
    }
    let [family, ..] = *find(all, IPSET_ATTR_FAMILY)? else {
        return None;
    };
    let max = array_at(find(data, IPSET_ATTR_MAXELEM)?, 0).map(u32::from_be_bytes)?;
    Some(Definition {
        kind,
        family: Family::ALL.into_iter().find(|it| it.number() == family)?,
        max,
    })
}

fn parse_member(payload: &[u8], kind: Kind) -> Option<Member> {
    let ip = |attribute| parse_address(find(payload, attribute)?);
    let port = || number16(find(payload, IPSET_ATTR_PORT)?);
    let first = || {
        let protocol = *find(payload, IPSET_ATTR_PROTO)?.first()?;
        let mut protocols = Protocol::ALL.into_iter();
        let protocol = protocols.find(|it| it.number() == protocol)?;
        Some((protocol, SocketAddr::new(ip(IPSET_ATTR_IP)?, port()?)))
    };
    Some(match kind {
        Kind::Ip => Member::Ip(ip(IPSET_ATTR_IP)?),
        Kind::Port => Member::Port(port()?),
        Kind::IpPort => {
            let (protocol, socket) = first()?;
            Member::IpPort(protocol, socket)
        }
        Kind::IpPortIp => {
            let (protocol, socket) = first()?;
            Member::IpPortIp(protocol, socket, ip(IPSET_ATTR_IP2)?)
        }
        Kind::IpPortNet => {
            let (protocol, socket) = first()?;
            let ip = ip(IPSET_ATTR_IP2)?;
            let whole = Family::of(&ip).max_prefix();
            let prefix = find(payload, IPSET_ATTR_CIDR2).and_then(|it| it.first().copied());
            let network = IpNetwork::new(ip, prefix.unwrap_or(whole)).ok()?;
            Member::IpPortNet(protocol, socket, network)
        }
    })
}

fn parse_address(payload: &[u8]) -> Option<IpAddr> {
    attributes(payload).find_map(|(attribute, bytes)| match attribute {
        IPSET_ATTR_IPADDR_IPV4 => array_at::<4>(bytes, 0).map(IpAddr::from),
        IPSET_ATTR_IPADDR_IPV6 => array_at::<16>(bytes, 0).map(IpAddr::from),
        _ => None,
    })
}

fn create(name: &str, definition: &Definition) -> Request {
    let mut body = named(PROTOCOL, name);
    body.put_text(IPSET_ATTR_TYPENAME, definition.kind.name());
    body.put(IPSET_ATTR_REVISION, &[definition.kind.revision()]);
    let family = match definition.kind {
        // It is of all families.
        Kind::Port => libc::AF_UNSPEC as u8,
        _ => definition.family.number(),
    };
    body.put(IPSET_ATTR_FAMILY, &[family]);
    body.nest(IPSET_ATTR_DATA, |data| match definition.kind {
        Kind::Port => {
            data.put(IPSET_ATTR_PORT | BIG_ENDIAN, &0_u16.to_be_bytes());
            data.put(IPSET_ATTR_PORT_TO | BIG_ENDIAN, &u16::MAX.to_be_bytes());
        }
        _ => {
            let max = definition.max.to_be_bytes();
            data.put(IPSET_ATTR_MAXELEM | BIG_ENDIAN, &max);
        }
    });
    nfnetlink::request(CREATE, NLM_F_CREATE | NLM_F_EXCL, body)
}

fn with_member(name: &str, member: &Member) -> Body {
    let mut body = named(PROTOCOL, name);
    body.nest(IPSET_ATTR_DATA, |data| match *member {
        Member::Ip(ip) => put_address(data, IPSET_ATTR_IP, ip),
        Member::Port(port) => put_port(data, port),
        Member::IpPort(protocol, socket) => put_first(data, protocol, socket),
        Member::IpPortIp(protocol, socket, ip) => {
            put_first(data, protocol, socket);
            put_address(data, IPSET_ATTR_IP2, ip);
        }
        Member::IpPortNet(protocol, socket, network) => {
            put_first(data, protocol, socket);
            put_address(data, IPSET_ATTR_IP2, network.network());
            data.put(IPSET_ATTR_CIDR2, &[network.prefix()]);
        }
    });
    body
}

fn put_first(data: &mut Body, protocol: Protocol, socket: SocketAddr) {
    put_address(data, IPSET_ATTR_IP, socket.ip());
    put_port(data, socket.port());
    data.put(IPSET_ATTR_PROTO, &[protocol.number()]);
}

fn put_port(data: &mut Body, port: u16) {
    data.put(IPSET_ATTR_PORT | BIG_ENDIAN, &port.to_be_bytes());
}

fn put_address(data: &mut Body, attribute: u16, ip: IpAddr) {
    data.nest(attribute, |address| match ip {
        IpAddr::V4(ip) => address.put(IPSET_ATTR_IPADDR_IPV4 | BIG_ENDIAN, &ip.octets()),
        IpAddr::V6(ip) => address.put(IPSET_ATTR_IPADDR_IPV6 | BIG_ENDIAN, &ip.octets()),
    });
}

fn named(protocol: u8, name: &str) -> Body {
    let mut body = start(protocol);
    body.put_text(IPSET_ATTR_SETNAME, name);
    body
}

/// The attributes of a message.
fn list_of(body: &[u8]) -> Option<&[u8]> {
    nfnetlink::split(body).map(|(_, attributes)| attributes)
}

/// A message of no family, with the version of the protocol.
fn start(protocol: u8) -> Body {
    let mut body = nfnetlink::start(0);
    body.put(IPSET_ATTR_PROTOCOL, &[protocol]);
    body
}

fn number16(payload: &[u8]) -> Option<u16> {
    array_at(payload, 0).map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member() -> impl Strategy<Value = Member> {
        let protocol = prop::sample::select(&Protocol::ALL);
        let parts = (any::<IpAddr>(), any::<u16>(), any::<IpAddr>(), 1..=32_u8);
        (0..5_u8, protocol, parts).prop_map(|(kind, protocol, (ip, port, other, prefix))| {
            let socket = SocketAddr::new(ip, port);
            let network = IpNetwork::new(other, prefix).unwrap();
            let network = IpNetwork::new(network.network(), prefix).unwrap();
            match kind {
                0 => Member::Ip(ip),
                1 => Member::IpPort(protocol, socket),
                2 => Member::IpPortIp(protocol, socket, other),
                3 => Member::IpPortNet(protocol, socket, network),
                _ => Member::Port(port),
            }
        })
    }

    proptest! {
        /// What the kernel shows has the form of what it is told.
        #[test]
        fn what_is_added_is_read(member in member()) {
            let message = with_member("A", &member).into_bytes();
            let data = find(list_of(&message).unwrap(), IPSET_ATTR_DATA).unwrap();
            prop_assert_eq!(parse_member(data, member.kind()), Some(member));
        }

        #[test]
        fn never_panics_on_any_bytes(bytes: Vec<u8>) {
            prop_assert!(parse_header(&bytes).is_none());
            for kind in Kind::ALL {
                prop_assert!(parse_members(&bytes, kind).len() <= bytes.len());
            }
        }
    }
}
