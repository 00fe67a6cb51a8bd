//! host-local called by itself, on directories in whatever state.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use std::fs;

use lab::{Host, Outcome, address};
use serde_json::{Value, json};

fn conf(host: &Host, ranges: Value) -> Value {
    json!({
        "name": "net",
        "cniVersion": "1.0.0",
        "ipam": {"type": "host-local", "dataDir": host.path("networks"), "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]},
    })
}

fn call(host: &Host, verb: &str, id: &str, conf: &Value) -> Outcome {
    let call = host.call("host-local", verb).id(id);
    call.env("CNI_NETNS", "/nowhere").conf(conf).make()
}

#[test]
fn the_result_is_that_of_an_ipam_plugin() {
    let host = Host::new();
    let mut conf = conf(&host, json!([[{"subnet": "10.1.2.0/24"}]]));
    conf["cniVersion"] = "0.4.0".into();
    assert_eq!(
        call(&host, "ADD", "c1", &conf).stdout,
        "{\n    \"cniVersion\": \"0.4.0\",\n    \"ips\": [\n        {\n            \"version\": \"4\",\n            \"address\": \"10.1.2.2/24\",\n            \"gateway\": \"10.1.2.1\"\n        }\n    ],\n    \"routes\": [\n        {\n            \"dst\": \"0.0.0.0/0\"\n        }\n    ],\n    \"dns\": {}\n}"
    );
}

#[test]
fn a_full_range_says_so_and_keeps_no_half() {
    let host = Host::new();
    let conf = conf(
        &host,
        json!([[{"subnet": "fd00::/64"}], [{"subnet": "10.1.2.0/30"}]]),
    );
    call(&host, "ADD", "c1", &conf).result();
    let error = call(&host, "ADD", "c2", &conf).error();
    assert_eq!(
        error,
        (
            999,
            "failed to allocate for range 1: no IP addresses available in range set: 10.1.2.1-10.1.2.2".into(),
            String::new()
        )
    );
    assert!(!host.files("networks/net").contains(&"fd00::3".to_owned()));
    call(&host, "DEL", "c1", &conf).silent_success();
    call(&host, "ADD", "c2", &conf).result();
}

#[test]
fn requested_addresses_are_given_or_refused() {
    let host = Host::new();
    let mut conf = conf(&host, json!([[{"subnet": "10.1.2.0/24"}]]));
    for (id, ips, outcome) in [
        ("c1", json!(["10.1.2.77"]), Ok("10.1.2.77")),
        (
            "c2",
            json!(["10.1.2.77/24"]),
            Err(
                "failed to allocate for range 0: requested IP address 10.1.2.77 is not available in range set 10.1.2.1-10.1.2.254",
            ),
        ),
        (
            "c3",
            json!(["10.1.2.1"]),
            Err("failed to allocate for range 0: requested ip 10.1.2.1 is subnet's gateway"),
        ),
        (
            "c4",
            json!(["10.9.9.9"]),
            Err("failed to allocate all requested IPs: 10.9.9.9"),
        ),
    ] {
        conf["runtimeConfig"] = json!({"ips": ips});
        let got = call(&host, "ADD", id, &conf);
        match outcome {
            Ok(ip) => assert_eq!(address(&got.result(), 0).to_string(), ip),
            Err(message) => assert_eq!(got.error().1, message),
        }
    }
    assert_eq!(
        host.files("networks/net"),
        ["10.1.2.77", "last_reserved_ip.0", "lock"]
    );
}

#[test]
fn requests_come_by_three_ways_and_ranges_of_the_runtime_first() {
    let host = Host::new();
    let mut conf = conf(
        &host,
        json!([[{"subnet": "10.1.2.0/24"}, {"subnet": "10.1.4.0/24"}], [{"subnet": "fd00::/64"}]]),
    );
    conf["args"] = json!({"cni": {"ips": ["10.1.4.9"]}});
    let result = call(&host, "ADD", "c1", &conf).result();
    assert_eq!(result["ips"][0]["address"], "10.1.4.9/24");
    conf["runtimeConfig"] = json!({"ipRanges": [[{"subnet": "10.9.0.0/16"}]], "ips": ["fd00::77"]});
    conf["args"] = Value::Null;
    let requested = host
        .call("host-local", "ADD")
        .id("c2")
        .env("CNI_NETNS", "/nowhere");
    let requested = requested.env("CNI_ARGS", "IP=10.1.4.10").conf(&conf).make();
    let addresses: Vec<String> = (0..3)
        .map(|index| address(&requested.result(), index).to_string())
        .collect();
    assert_eq!(addresses, ["10.9.0.2", "10.1.4.10", "fd00::77"]);
}

#[test]
fn name_servers_are_those_of_the_file_that_is_named() {
    let host = Host::new();
    let mut conf = conf(&host, json!([[{"subnet": "10.1.2.0/24"}]]));
    let path = host.path("resolv.conf");
    conf["ipam"]["resolvConf"] = json!(path);
    let (code, message, _) = call(&host, "ADD", "c1", &conf).error();
    let want = format!(
        "ipam.resolvConf: open {}: no such file or directory",
        path.display()
    );
    assert_eq!((code, message), (5, want));
    fs::write(&path, "nameserver 10.96.0.10\nsearch svc.cluster.local\n").unwrap();
    let result = call(&host, "ADD", "c1", &conf).result();
    assert_eq!(
        result["dns"],
        json!({"nameservers": ["10.96.0.10"], "search": ["svc.cluster.local"]})
    );
}

#[test]
fn state_of_the_go_plugin_is_understood() {
    let host = Host::new();
    let dir = host.path("networks/net");
    fs::create_dir_all(&dir).unwrap();
    for (name, content) in [
        ("10.1.2.2", "go1\r\neth0"),
        ("10.1.2.3", "old1"),
        ("10.1.2.4", ""),
        ("10.1.2.5", "go1\r\nnet1"),
        ("last_reserved_ip.0", "10.1.2.1"),
        ("lock", ""),
    ] {
        fs::write(dir.join(name), content).unwrap();
    }
    let conf = conf(&host, json!([[{"subnet": "10.1.2.0/24"}]]));
    for id in ["go1", "old1"] {
        let (_, message, _) = call(&host, "ADD", id, &conf).error();
        assert!(message.ends_with(&format!(
            "has been allocated to {id}, duplicate allocation is not allowed"
        )));
    }
    // The empty file's writer was killed: its address is given out, and nobody else's.
    let result = call(&host, "ADD", "new", &conf).result();
    assert_eq!(address(&result, 0).to_string(), "10.1.2.4");
    for id in ["go1", "old1", "new"] {
        call(&host, "DEL", id, &conf).silent_success();
    }
    assert_eq!(
        host.files("networks/net"),
        ["10.1.2.5", "last_reserved_ip.0", "lock"]
    );
}

#[test]
fn del_cares_neither_for_ranges_nor_for_a_missing_directory() {
    let host = Host::new();
    let mut conf = conf(&host, json!([[{"subnet": "10.1.2.0/24"}]]));
    call(&host, "DEL", "c1", &conf).silent_success();
    assert!(host.files("networks").is_empty());
    call(&host, "ADD", "c1", &conf).result();
    conf["ipam"]["ranges"] = json!([]);
    call(&host, "DEL", "c1", &conf).silent_success();
    assert_eq!(host.files("networks/net"), ["last_reserved_ip.0", "lock"]);
}
