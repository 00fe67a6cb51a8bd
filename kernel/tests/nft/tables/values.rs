//! Random values: few, so that they meet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use kernel::{
    Family,
    nft::{DataType, Field, Value},
};
use proptest::{prelude::*, sample::select};

pub(super) fn value(kind: DataType) -> BoxedStrategy<Value> {
    match kind {
        DataType::Ipv4Addr => address(Family::V4).prop_map(Value::Address).boxed(),
        DataType::Ipv6Addr => address(Family::V6).prop_map(Value::Address).boxed(),
        DataType::InetProto => protocol().boxed(),
        DataType::InetService => select(vec![0, 1, 53, 80, 443, 8080, 65535])
            .prop_map(Value::Port)
            .boxed(),
        DataType::Mark => select(vec![0, 1, 0x4000, u32::MAX])
            .prop_map(Value::Mark)
            .boxed(),
        DataType::Number => (0u32..5).prop_map(Value::Number).boxed(),
        DataType::IfName => select(vec!["eth0", "cni0", "flannel.1", "a23456789012345", "odd*"])
            .prop_map(|name| Value::IfName(name.parse().unwrap()))
            .boxed(),
    }
}

pub(super) fn protocol() -> impl Strategy<Value = Value> {
    select(vec![6, 17, 132]).prop_map(Value::Protocol)
}

/// Few addresses near each other and the ends of the range.
pub(super) fn address(family: Family) -> impl Strategy<Value = IpAddr> {
    (
        select(vec![0u8, 10, 255]),
        select(vec![0u8, 1, 2, 128, 255]),
    )
        .prop_map(move |(first, last)| match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(first, last, 0, last)),
            Family::V6 => {
                let mut octets = [0; 16];
                (octets[0], octets[1], octets[15]) = (first, last, last);
                IpAddr::V6(Ipv6Addr::from(octets))
            }
        })
}

/// Networks of all lengths, and with bits behind the prefix.
pub(super) fn network(family: Family) -> impl Strategy<Value = IpNetwork> {
    (address(family), 0..=family.max_prefix())
        .prop_map(|(address, prefix)| IpNetwork::new(address, prefix).unwrap())
}

pub(super) fn comment() -> impl Strategy<Value = Option<String>> {
    prop_oneof![4 => Just(None), 1 => "[a-z/:# -]{1,20}".prop_map(Some), 1 => Just(Some("x".repeat(128)))]
}

/// A field of a type.
pub(super) fn field(kind: DataType, source: bool) -> Field {
    match (kind, source) {
        (DataType::Ipv4Addr | DataType::Ipv6Addr, true) => Field::SourceAddress,
        (DataType::Ipv4Addr | DataType::Ipv6Addr, false) => Field::DestinationAddress,
        (DataType::InetProto, _) => Field::Protocol,
        (DataType::InetService, true) => Field::SourcePort,
        (DataType::InetService, false) => Field::DestinationPort,
        (DataType::Mark, _) => Field::Mark,
        (DataType::Number, _) => Field::Random { modulus: 7 },
        (DataType::IfName, true) => Field::InputInterface,
        (DataType::IfName, false) => Field::OutputInterface,
    }
}
