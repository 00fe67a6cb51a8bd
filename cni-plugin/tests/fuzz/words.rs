//! What calls and files are made of.

use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::{lab, mutation::nested};

/// Words that mean something somewhere, and what is just outside of it.
const WORDS: [&str; 58] = [
    "/",
    "/made-outside",
    "../../../../../../made-outside",
    "c1\r\n/../../../../../../made-outside",
    "",
    " ",
    "0",
    "1",
    "-1",
    "\0",
    "\r\n",
    "ü",
    "..",
    "../../x",
    "c1",
    "c1\r\neth0",
    "eth0",
    "cni0",
    "host-local",
    "bridge",
    "flannel",
    "1.1.0",
    "0.4.0",
    "9.9.9",
    "10.1.2.3",
    "10.1.2.3/24",
    "10.1.2.0/24",
    "10.1.2.0/33",
    "0.0.0.0/0",
    "0.0.0.0",
    "255.255.255.252/30",
    "255.255.255.255/32",
    "255.255.255.255",
    "::",
    "::/0",
    "fd00::/64",
    "fd00::1",
    "::ffff:10.1.2.3",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126",
    "02:00:00:00:00:01",
    "02:00:00",
    "IP=10.1.2.9",
    "MAC=02:00:00:00:00:09",
    "tcp",
    "sctp",
    "iptables",
    "nftables",
    "dport",
    "! -s",
    "net.ipv4.conf.IFNAME.arp_filter",
    "net/ipv6/conf/IFNAME/../../../../kernel/pid_max",
    "kernel.pid_max",
    "c1_eth0.json",
    r#"{"mac": "02:00:00:00:00:07", "promisc": true, "mtu": 1500}"#,
    "CNI-DN-x; flush ruleset",
    "a b\n-A POSTROUTING -j DROP",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

pub fn word() -> impl Strategy<Value = String> {
    prop_oneof![4 => select(&WORDS[..]).prop_map(str::to_owned), 1 => ".{0,20}"]
}

pub fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => word().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => select(&[0, -1, 1, 68, 1500, 65_535, 65_536, 4_294_967_296, i64::MAX, i64::MIN][..]).prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => word().prop_map(|word| json!([[{"subnet": word}]])),
        1 => (word(), word()).prop_map(|(start, end)| {
            json!({"subnet": "10.1.2.0/24", "rangeStart": start, "rangeEnd": end})
        }),
    ];
    nested(leaf, || word().boxed())
}

/// A line of `subnet.env`, right or nearly so.
fn line() -> impl Strategy<Value = String> {
    let keys = [
        "FLANNEL_NETWORK",
        "FLANNEL_SUBNET",
        "FLANNEL_IPV6_NETWORK",
        "FLANNEL_IPV6_SUBNET",
        "FLANNEL_MTU",
        "FLANNEL_IPMASQ",
        "OTHER",
    ];
    prop_oneof![
        4 => (select(keys.to_vec()), word()).prop_map(|(key, word)| format!("{key}={word}")),
        1 => word(),
    ]
}

pub fn subnet_env() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(lab::SUBNET_ENV.to_owned()),
        prop::collection::vec(line(), 0..8).prop_map(|lines| lines.join("\n")),
    ]
}

pub fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => word().prop_map(String::into_bytes),
        1 => value().prop_map(|value| value.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}
