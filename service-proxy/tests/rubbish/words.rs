//! What objects and configurations are damaged with.

use proptest::{prelude::*, sample::select};
use serde_json::Value;

use super::mutation::nested;

/// Words that mean something somewhere, and what is just outside of it.
const WORDS: [&str; 50] = [
    "",
    " ",
    "0",
    "1",
    "-1",
    "\0",
    "\r\n",
    "ü",
    "..",
    "/",
    "None",
    "a-sound",
    "n1",
    "shop",
    "kube-system",
    "10.96.0.1",
    "10.96.0.1/32",
    "10.96.0.0/33",
    "010.096.000.001",
    "0.0.0.0",
    "0.0.0.0/0",
    "255.255.255.255",
    "127.0.0.1",
    "224.0.0.1",
    "169.254.0.1",
    "::",
    "::/0",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "ff02::1",
    "fd00::1",
    "::ffff:10.96.0.1",
    "TCP",
    "UDP",
    "SCTP",
    "tcp",
    "IPv4",
    "IPv6",
    "FQDN",
    "Local",
    "Cluster",
    "ClientIP",
    "ExternalName",
    "a\nb",
    "\"; flush ruleset",
    "x\n-A KUBE-SERVICES -j DROP",
    "1h",
    "-1s",
    "9223372036854775807s",
];

const NUMBERS: [i64; 14] = [
    0,
    -1,
    1,
    68,
    65_535,
    65_536,
    86_400,
    86_401,
    2_147_483_647,
    -2_147_483_648,
    4_294_967_295,
    4_294_967_296,
    i64::MAX,
    i64::MIN,
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(&WORDS[..]).prop_map(str::to_owned),
        1 => ".{0,20}",
        1 => (1..600_usize).prop_map(|length| "x".repeat(length)),
    ]
}

/// Any value, small.
pub fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => word().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        3 => select(&NUMBERS[..]).prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
    ];
    nested(leaf, || word().boxed())
}
