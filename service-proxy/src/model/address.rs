//! Addresses as Kubernetes objects write them.

use std::net::{IpAddr, Ipv4Addr};

/// Parses an address as Kubernetes does for objects that it stored long ago: numbers of an IPv4 address may
/// have leading zeros and are decimal all the same (`172.30.0.041` is 172.30.0.41; service-proxy F6).
/// `None` for anything else.
pub fn parse_address(text: &str) -> Option<IpAddr> {
    text.parse()
        .ok()
        .or_else(|| padded_ipv4(text).map(IpAddr::V4))
}

fn padded_ipv4(text: &str) -> Option<Ipv4Addr> {
    let octets = text.split('.').map(octet).collect::<Option<Vec<u8>>>()?;
    <[u8; 4]>::try_from(octets).ok().map(Ipv4Addr::from)
}

fn octet(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_leading_zeros_as_decimal() {
        for (text, canonical) in [
            ("10.0.0.1", Some("10.0.0.1")),
            ("172.30.0.041", Some("172.30.0.41")),
            ("1.2.3.004", Some("1.2.3.4")),
            ("fd00:0::1", Some("fd00::1")),
            ("10.0.0", None),
            ("10.0.0.1.1", None),
            ("10.0.0.256", None),
            ("10.0.0.+1", None),
            ("10.0.0.", None),
            ("None", None),
            ("", None),
        ] {
            let parsed = parse_address(text).map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), canonical, "{text:?}");
        }
    }
}
