//! Servers as the kernel has them in messages. Addresses and ports are in network byte order, an address takes
//! 16 bytes whatever its family; everything else is in the machine's order.

use std::net::{IpAddr, SocketAddr};

use super::{
    Change, Flags, Forwarding, ObservedReal, Protocol, RealServer, Timeouts, VirtualAddress,
    VirtualServer,
};
use crate::{
    Family, genl,
    netlink::{
        array_at,
        attribute::{Body, find, text},
    },
};

const IPVS_CMD_NEW_SERVICE: u8 = 1;
const IPVS_CMD_SET_SERVICE: u8 = 2;
const IPVS_CMD_DEL_SERVICE: u8 = 3;
const IPVS_CMD_GET_SERVICE: u8 = 4;
const IPVS_CMD_NEW_DEST: u8 = 5;
const IPVS_CMD_SET_DEST: u8 = 6;
const IPVS_CMD_DEL_DEST: u8 = 7;
const IPVS_CMD_GET_DEST: u8 = 8;
const IPVS_CMD_SET_CONFIG: u8 = 12;
const IPVS_CMD_GET_CONFIG: u8 = 13;

const IPVS_CMD_ATTR_SERVICE: u16 = 1;
const IPVS_CMD_ATTR_DEST: u16 = 2;
const IPVS_CMD_ATTR_TIMEOUT_TCP: u16 = 4;
const IPVS_CMD_ATTR_TIMEOUT_TCP_FIN: u16 = 5;
const IPVS_CMD_ATTR_TIMEOUT_UDP: u16 = 6;

const IPVS_SVC_ATTR_AF: u16 = 1;
const IPVS_SVC_ATTR_PROTOCOL: u16 = 2;
const IPVS_SVC_ATTR_ADDR: u16 = 3;
const IPVS_SVC_ATTR_PORT: u16 = 4;
const IPVS_SVC_ATTR_SCHED_NAME: u16 = 6;
const IPVS_SVC_ATTR_FLAGS: u16 = 7;
const IPVS_SVC_ATTR_TIMEOUT: u16 = 8;
const IPVS_SVC_ATTR_NETMASK: u16 = 9;

const IPVS_DEST_ATTR_ADDR: u16 = 1;
const IPVS_DEST_ATTR_PORT: u16 = 2;
const IPVS_DEST_ATTR_FWD_METHOD: u16 = 3;
const IPVS_DEST_ATTR_WEIGHT: u16 = 4;
const IPVS_DEST_ATTR_U_THRESH: u16 = 5;
const IPVS_DEST_ATTR_L_THRESH: u16 = 6;
const IPVS_DEST_ATTR_ACTIVE_CONNS: u16 = 7;
const IPVS_DEST_ATTR_INACT_CONNS: u16 = 8;
const IPVS_DEST_ATTR_PERSIST_CONNS: u16 = 9;
const IPVS_DEST_ATTR_ADDR_FAMILY: u16 = 11;

/// The length of `union nf_inet_addr`.
const ADDRESS_LEN: usize = 16;

/// Asks for all virtual servers.
pub(super) fn get_virtuals() -> Body {
    genl::start(IPVS_CMD_GET_SERVICE)
}

/// Asks for the real servers of a virtual one.
pub(super) fn get_reals(address: &VirtualAddress) -> Body {
    let mut body = genl::start(IPVS_CMD_GET_DEST);
    body.nest(IPVS_CMD_ATTR_SERVICE, |body| put_address(body, address));
    body
}

/// Asks for the timeouts.
pub(super) fn get_timeouts() -> Body {
    genl::start(IPVS_CMD_GET_CONFIG)
}

/// Sets the timeouts that are not 0.
pub(super) fn set_timeouts(timeouts: Timeouts) -> Body {
    let mut body = genl::start(IPVS_CMD_SET_CONFIG);
    for (kind, seconds) in [
        (IPVS_CMD_ATTR_TIMEOUT_TCP, timeouts.tcp),
        (IPVS_CMD_ATTR_TIMEOUT_TCP_FIN, timeouts.tcp_fin),
        (IPVS_CMD_ATTR_TIMEOUT_UDP, timeouts.udp),
    ] {
        if seconds != 0 {
            body.put(kind, &seconds.to_ne_bytes());
        }
    }
    body
}

/// Makes a change.
pub(super) fn change(change: &Change) -> Body {
    let command = match change {
        Change::AddVirtual(_) => IPVS_CMD_NEW_SERVICE,
        Change::SetVirtual(_) => IPVS_CMD_SET_SERVICE,
        Change::DeleteVirtual(_) => IPVS_CMD_DEL_SERVICE,
        Change::AddReal(..) => IPVS_CMD_NEW_DEST,
        Change::SetReal(..) => IPVS_CMD_SET_DEST,
        Change::DeleteReal(..) => IPVS_CMD_DEL_DEST,
    };
    let mut body = genl::start(command);
    body.nest(IPVS_CMD_ATTR_SERVICE, |body| {
        put_address(body, change.address());
        if let Change::AddVirtual(server) | Change::SetVirtual(server) = change {
            put_settings(body, server);
        }
    });
    match change {
        Change::AddReal(_, real) | Change::SetReal(_, real) => {
            body.nest(IPVS_CMD_ATTR_DEST, |body| put_real(body, real));
        }
        Change::DeleteReal(_, socket) => {
            body.nest(IPVS_CMD_ATTR_DEST, |body| put_real_socket(body, *socket));
        }
        Change::AddVirtual(_) | Change::SetVirtual(_) | Change::DeleteVirtual(_) => {}
    }
    body
}

/// The virtual server of a message; `None` for one that packets' marks lead to.
pub(super) fn parse_virtual(message: &[u8]) -> Option<VirtualServer> {
    let server = find(message.get(genl::HEADER_LEN..)?, IPVS_CMD_ATTR_SERVICE)?;
    let family = parse_family(find(server, IPVS_SVC_ATTR_AF)?)?;
    let protocol = u16::from_ne_bytes(array_at(find(server, IPVS_SVC_ATTR_PROTOCOL)?, 0)?);
    let mut protocols = Protocol::ALL.into_iter();
    let protocol = protocols.find(|it| u16::from(it.number()) == protocol)?;
    let ip = parse_address(family, find(server, IPVS_SVC_ATTR_ADDR)?)?;
    let port = parse_port(find(server, IPVS_SVC_ATTR_PORT)?)?;
    let flags = number(server, IPVS_SVC_ATTR_FLAGS)? & !Flags::HASHED.0;
    let netmask = array_at(find(server, IPVS_SVC_ATTR_NETMASK)?, 0)?;
    Some(VirtualServer {
        address: VirtualAddress {
            protocol,
            socket: SocketAddr::new(ip, port),
        },
        scheduler: text(find(server, IPVS_SVC_ATTR_SCHED_NAME)?)?.to_owned(),
        flags: Flags(flags),
        timeout: number(server, IPVS_SVC_ATTR_TIMEOUT)?,
        client_prefix: parse_netmask(family, netmask),
    })
}

/// A real server of a message. `family` is the virtual server's: kernels before 3.18 don't say it.
pub(super) fn parse_real(message: &[u8], family: Family) -> Option<ObservedReal> {
    let real = find(message.get(genl::HEADER_LEN..)?, IPVS_CMD_ATTR_DEST)?;
    let family = match find(real, IPVS_DEST_ATTR_ADDR_FAMILY) {
        Some(family) => parse_family(family)?,
        None => family,
    };
    let ip = parse_address(family, find(real, IPVS_DEST_ATTR_ADDR)?)?;
    let port = parse_port(find(real, IPVS_DEST_ATTR_PORT)?)?;
    let count = |kind| number(real, kind).unwrap_or_default();
    Some(ObservedReal {
        server: RealServer {
            socket: SocketAddr::new(ip, port),
            forwarding: Forwarding::from_number(number(real, IPVS_DEST_ATTR_FWD_METHOD)?)?,
            weight: number(real, IPVS_DEST_ATTR_WEIGHT)?,
            upper_threshold: count(IPVS_DEST_ATTR_U_THRESH),
            lower_threshold: count(IPVS_DEST_ATTR_L_THRESH),
        },
        active: count(IPVS_DEST_ATTR_ACTIVE_CONNS),
        inactive: count(IPVS_DEST_ATTR_INACT_CONNS),
        persistent: count(IPVS_DEST_ATTR_PERSIST_CONNS),
    })
}

/// The timeouts of a message.
pub(super) fn parse_timeouts(message: &[u8]) -> Option<Timeouts> {
    let body = message.get(genl::HEADER_LEN..)?;
    Some(Timeouts {
        tcp: number(body, IPVS_CMD_ATTR_TIMEOUT_TCP)?,
        tcp_fin: number(body, IPVS_CMD_ATTR_TIMEOUT_TCP_FIN)?,
        udp: number(body, IPVS_CMD_ATTR_TIMEOUT_UDP)?,
    })
}

fn put_address(body: &mut Body, address: &VirtualAddress) {
    let protocol = u16::from(address.protocol.number());
    body.put(
        IPVS_SVC_ATTR_AF,
        &u16::from(address.family().number()).to_ne_bytes(),
    );
    body.put(IPVS_SVC_ATTR_PROTOCOL, &protocol.to_ne_bytes());
    body.put(IPVS_SVC_ATTR_ADDR, &octets(address.socket.ip()));
    body.put(IPVS_SVC_ATTR_PORT, &address.socket.port().to_be_bytes());
}

fn put_settings(body: &mut Body, server: &VirtualServer) {
    let netmask = netmask(server.address.family(), server.client_prefix);
    // `struct ip_vs_flags`: the bits, and which of them count.
    let flags = [server.flags.0.to_ne_bytes(), u32::MAX.to_ne_bytes()].concat();
    body.put_text(IPVS_SVC_ATTR_SCHED_NAME, &server.scheduler);
    body.put(IPVS_SVC_ATTR_FLAGS, &flags);
    body.put(IPVS_SVC_ATTR_TIMEOUT, &server.timeout.to_ne_bytes());
    body.put(IPVS_SVC_ATTR_NETMASK, &netmask);
}

fn put_real(body: &mut Body, real: &RealServer) {
    put_real_socket(body, real.socket);
    for (kind, number) in [
        (IPVS_DEST_ATTR_FWD_METHOD, real.forwarding.number()),
        (IPVS_DEST_ATTR_WEIGHT, real.weight),
        (IPVS_DEST_ATTR_U_THRESH, real.upper_threshold),
        (IPVS_DEST_ATTR_L_THRESH, real.lower_threshold),
    ] {
        body.put(kind, &number.to_ne_bytes());
    }
}

fn put_real_socket(body: &mut Body, socket: SocketAddr) {
    let family = u16::from(Family::of(&socket.ip()).number());
    body.put(IPVS_DEST_ATTR_ADDR, &octets(socket.ip()));
    body.put(IPVS_DEST_ATTR_PORT, &socket.port().to_be_bytes());
    body.put(IPVS_DEST_ATTR_ADDR_FAMILY, &family.to_ne_bytes());
}

fn parse_family(payload: &[u8]) -> Option<Family> {
    let number = u16::from_ne_bytes(array_at(payload, 0)?);
    Family::ALL
        .into_iter()
        .find(|family| u16::from(family.number()) == number)
}

fn octets(ip: IpAddr) -> [u8; ADDRESS_LEN] {
    match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let mut octets = [0; ADDRESS_LEN];
            octets[..4].copy_from_slice(&ip.octets());
            octets
        }
    }
}

fn parse_address(family: Family, payload: &[u8]) -> Option<IpAddr> {
    Some(match family {
        Family::V4 => array_at::<4>(payload, 0)?.into(),
        Family::V6 => array_at::<ADDRESS_LEN>(payload, 0)?.into(),
    })
}

fn parse_port(payload: &[u8]) -> Option<u16> {
    array_at(payload, 0).map(u16::from_be_bytes)
}

/// A netmask for IPv4, a prefix length for IPv6.
fn netmask(family: Family, prefix: u8) -> [u8; 4] {
    match family {
        Family::V6 => u32::from(prefix).to_ne_bytes(),
        Family::V4 => {
            let host_bits = u32::from(32_u8.saturating_sub(prefix));
            u32::MAX.checked_shl(host_bits).unwrap_or(0).to_be_bytes()
        }
    }
}

fn parse_netmask(family: Family, netmask: [u8; 4]) -> u8 {
    let prefix = match family {
        Family::V6 => u32::from_ne_bytes(netmask),
        Family::V4 => u32::from_be_bytes(netmask).leading_ones(),
    };
    u8::try_from(prefix).unwrap_or(family.max_prefix())
}

fn number(body: &[u8], kind: u16) -> Option<u32> {
    array_at(find(body, kind)?, 0).map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn virtual_server() -> impl Strategy<Value = VirtualServer> {
        let protocol = prop::sample::select(&Protocol::ALL);
        let socket = (any::<IpAddr>(), any::<u16>());
        let flags = any::<u32>().prop_map(|bits| Flags(bits & !Flags::HASHED.0));
        (
            protocol,
            socket,
            "[a-z]{1,15}",
            flags,
            any::<u32>(),
            1..=32_u8,
        )
            .prop_map(
                |(protocol, (ip, port), scheduler, flags, timeout, client_prefix)| VirtualServer {
                    address: VirtualAddress {
                        protocol,
                        socket: SocketAddr::new(ip, port),
                    },
                    scheduler,
                    flags,
                    timeout,
                    client_prefix,
                },
            )
    }

    proptest! {
        /// What the kernel shows has the form of what it is told.
        #[test]
        fn what_is_set_is_read(server in virtual_server(), ip: IpAddr, counts: [u32; 3]) {
            let message = change(&Change::AddVirtual(server.clone())).into_bytes();
            prop_assert_eq!(parse_virtual(&message), Some(server.clone()));
            let real = RealServer {
                socket: SocketAddr::new(ip, 80),
                forwarding: Forwarding::Tunnel,
                weight: counts[0],
                upper_threshold: counts[1],
                lower_threshold: counts[2],
            };
            let message = change(&Change::AddReal(server.address, real)).into_bytes();
            let observed = ObservedReal { server: real, active: 0, inactive: 0, persistent: 0 };
            prop_assert_eq!(parse_real(&message, Family::V4), Some(observed));
        }

        #[test]
        fn never_panics_on_any_bytes(bytes: Vec<u8>) {
            prop_assert_eq!(parse_virtual(&bytes), None);
            prop_assert_eq!(parse_real(&bytes, Family::V6), None);
            prop_assert_eq!(parse_timeouts(&bytes), None);
        }
    }

    #[test]
    fn masks_by_prefix() {
        for (prefix, mask) in [(32, [255; 4]), (24, [255, 255, 255, 0]), (0, [0; 4])] {
            assert_eq!(netmask(Family::V4, prefix), mask);
            assert_eq!(parse_netmask(Family::V4, mask), prefix);
        }
    }
}
