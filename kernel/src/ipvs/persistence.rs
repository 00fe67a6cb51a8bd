//! Which clients keep their real server.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use super::{Protocol, VirtualAddress};
use crate::{Error, Result};

/// All connections that are remembered, of the calling thread's network namespace (`ip_vs_conn_seq_show`).
const PATH: &str = "/proc/thread-self/net/ip_vs_conn";

/// A client of a persistent virtual server, with the real server that it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// The client, or the network that counts as one.
    pub client: IpAddr,
    /// The virtual server.
    pub address: VirtualAddress,
    /// The real server.
    pub real: SocketAddr,
}

/// All clients that keep a real server; none without IPVS.
///
/// # Errors
/// If the kernel can't be asked.
pub fn persistence() -> Result<Vec<Persistence>> {
    match fs::read_to_string(PATH) {
        Ok(text) => Ok(text.lines().filter_map(parse).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::new(format!("read {PATH}"), error)),
    }
}

/// `Pro FromIP FPrt ToIP TPrt DestIP DPrt State Expires`: what is kept comes from port 0.
fn parse(line: &str) -> Option<Persistence> {
    let words: Vec<_> = line.split_whitespace().take(7).collect();
    let [protocol, client, "0000", address, port, real, real_port] = *words else {
        return None;
    };
    let protocol = match protocol {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return None,
    };
    Some(Persistence {
        client: parse_address(client)?,
        address: VirtualAddress {
            protocol,
            socket: socket(address, port)?,
        },
        real: socket(real, real_port)?,
    })
}

fn socket(address: &str, port: &str) -> Option<SocketAddr> {
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(SocketAddr::new(parse_address(address)?, port))
}

/// IPv6 has colons, IPv4 is a number.
fn parse_address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse().ok();
    }
    let number = u32::from_str_radix(text, 16).ok()?;
    Some(Ipv4Addr::from(number).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_kept_comes_from_port_0() {
        for (line, expected) in [
            (
                "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData",
                None,
            ),
            (
                "TCP 0AF40402 0000 0A600014 0050 0AF40102 1F90 NONE          10790",
                Some(("10.244.4.2", "10.96.0.20:80", "10.244.1.2:8080")),
            ),
            (
                "TCP 0AF40402 9C40 0A600014 0050 0AF40102 1F90 ESTABLISHED     890",
                None,
            ),
            (
                "UDP fd00:0010:0244:0004:0000:0000:0000:0002 0000 fd00:0010:0096:0000:0000:0000:0000:0014 0035 \
                 fd00:0010:0244:0001:0000:0000:0000:0002 1F90 NONE             59",
                Some((
                    "fd00:10:244:4::2",
                    "[fd00:10:96::14]:53",
                    "[fd00:10:244:1::2]:8080",
                )),
            ),
        ] {
            let found = parse(line).map(|it| {
                (
                    it.client.to_string(),
                    it.address.socket.to_string(),
                    it.real.to_string(),
                )
            });
            let expected = expected
                .map(|(client, to, real)| (client.to_owned(), to.to_owned(), real.to_owned()));
            assert_eq!(found, expected, "{line}");
        }
    }
}
