//! Addresses as the socket interface has them in memory (`struct sockaddr_in`, `sockaddr_in6`).

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use crate::{Family, netlink::array_at};

const SOCKADDR_IN_LEN: usize = 16;

pub(super) fn encode(endpoint: SocketAddr) -> Vec<u8> {
    let family = u16::from(Family::of(&endpoint.ip()).number());
    let mut bytes = family.to_ne_bytes().to_vec();
    bytes.extend(endpoint.port().to_be_bytes());
    match endpoint {
        SocketAddr::V4(endpoint) => {
            bytes.extend(endpoint.ip().octets());
            bytes.resize(SOCKADDR_IN_LEN, 0);
        }
        SocketAddr::V6(endpoint) => {
            bytes.extend(endpoint.flowinfo().to_be_bytes());
            bytes.extend(endpoint.ip().octets());
            bytes.extend(endpoint.scope_id().to_ne_bytes());
        }
    }
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(array_at(bytes, 0)?);
    let port = u16::from_be_bytes(array_at(bytes, 2)?);
    if family == Family::V4.number().into() {
        let ip: [u8; 4] = array_at(bytes, 4)?;
        return Some(SocketAddr::new(IpAddr::from(ip), port));
    }
    let ip: [u8; 16] = array_at(bytes, 8)?;
    let flow = u32::from_be_bytes(array_at(bytes, 4)?);
    let scope = u32::from_ne_bytes(array_at(bytes, 24)?);
    (family == Family::V6.number().into())
        .then(|| SocketAddrV6::new(ip.into(), port, flow, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_socket_interface() {
        let v4 = "192.0.2.1:51820".parse().unwrap();
        let expected = [2, 0, 0xca, 0x6c, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(encode(v4), expected);
        let v6 = "[fe80::1%3]:51820".parse().unwrap();
        let mut expected = vec![10, 0, 0xca, 0x6c, 0, 0, 0, 0, 0xfe, 0x80];
        expected.extend([0; 13]);
        expected.extend([1, 3, 0, 0, 0]);
        assert_eq!(encode(v6), expected);
        for endpoint in [v4, v6] {
            assert_eq!(decode(&encode(endpoint)), Some(endpoint));
        }
        assert_eq!(decode(&[9; 28]), None);
        assert_eq!(decode(&[2, 0, 1]), None);
    }
}
