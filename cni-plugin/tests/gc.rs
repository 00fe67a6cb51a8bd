//! GC removes what containers left that are not in use any more, and nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use std::fs;

use kernel::route::{Change, LinkSettings};
use lab::{Host, Netns};
use serde_json::{Value, json};

const LIST: &str = "cni.dev/valid-attachments";

fn gc(host: &Host, plugin: &'static str, conf: &Value, valid: &Value) {
    let mut conf = conf.clone();
    conf[LIST] = valid.clone();
    let call = host.call(plugin, "GC").conf(&conf);
    call.make().silent_success();
}

fn port(result: &Value) -> &str {
    result["interfaces"][1]["name"].as_str().unwrap()
}

#[test]
fn what_is_listed_stays_and_the_rest_goes() {
    let host = Host::new();
    let conf = host.flannel_conf();
    let (one, two) = (Netns::new(), Netns::new());
    let first = host.add(&conf, "c1", &one);
    host.add(&conf, "c2", &two);
    // Another network on the same bridge, of which this list says nothing.
    let mut other = conf.clone();
    other["name"] = "other".into();
    other["dataDir"] = json!(host.path("other.d"));
    let third = Netns::new();
    other["runtimeConfig"] = json!({"ips": ["10.1.17.50", "fd00:0:0:17::50"]});
    let third_result = host.add(&other, "c3", &third);

    gc(&host, "flannel", &conf, &json!(null));
    assert_eq!(host.netns.links().len(), 5);

    gc(
        &host,
        "flannel",
        &conf,
        &json!([{"containerID": "c1", "ifname": "eth0"}]),
    );
    let mut links = vec!["cni0", "lo", port(&first), port(&third_result)];
    links.sort_unstable();
    assert_eq!(host.netns.links(), links);
    assert_eq!(two.links(), ["lo"]);
    assert_eq!(
        host.files("networks/cbr0"),
        [
            "10.1.17.2",
            "fd00:0:0:17::2",
            "last_reserved_ip.0",
            "last_reserved_ip.1",
            "lock"
        ]
    );
    assert_eq!(host.files("flannel.d"), ["c1"]);
    assert_eq!(host.files("networks/other").len(), 5);
    assert_eq!(host.files("other.d"), ["c3"]);
    let mut check = conf.clone();
    check["prevResult"] = first.clone();
    let call = host.call("flannel", "CHECK").netns(&one);
    call.conf(&check).make().silent_success();

    // An interface that is not listed, of a container of which another one is.
    gc(
        &host,
        "flannel",
        &conf,
        &json!([{"containerID": "c1", "ifname": "net1"}]),
    );
    assert_eq!(host.netns.links().len(), 3);
    assert_eq!(host.files("networks/cbr0").len(), 3);
    gc(&host, "flannel", &conf, &json!([]));
    assert!(host.files("flannel.d").is_empty());
}

#[test]
fn a_pair_is_found_though_every_file_is_lost() {
    let host = Host::new();
    let conf = host.flannel_conf();
    let container = Netns::new();
    host.add(&conf, "c1", &container);
    fs::remove_dir_all(host.path("flannel.d")).unwrap();
    fs::remove_dir_all(host.path("networks")).unwrap();
    gc(&host, "flannel", &conf, &json!([]));
    assert_eq!(host.netns.links(), ["cni0", "lo"]);
}

#[test]
fn a_pair_without_alias_is_found_by_the_reservation() {
    let host = Host::new();
    let conf = host.flannel_conf();
    let container = Netns::new();
    let result = host.add(&conf, "c1", &container);
    alias(&host, port(&result), "");
    gc(&host, "flannel", &conf, &json!([]));
    assert_eq!(host.netns.links(), ["cni0", "lo"]);
    assert_eq!(host.files("networks/cbr0").len(), 3);
}

#[test]
fn a_pair_of_the_same_name_that_is_anothers_is_left_alone() {
    let host = Host::new();
    let conf = host.flannel_conf();
    let container = Netns::new();
    let result = host.add(&conf, "c1", &container);
    alias(&host, port(&result), "tweed:cbr0/c9/eth0");
    let del = host.call("flannel", "DEL").conf(&conf);
    del.make().silent_success();
    assert!(host.netns.link(port(&result)).is_some());
    gc(
        &host,
        "flannel",
        &conf,
        &json!([{"containerID": "c9", "ifname": "eth0"}]),
    );
    assert!(host.netns.link(port(&result)).is_some());
}

#[test]
fn files_that_can_not_be_read_are_kept_and_empty_reservations_are_not() {
    let host = Host::new();
    let conf = host.flannel_conf();
    host.add(&conf, "c1", &Netns::new());
    fs::write(host.path("flannel.d/c2"), "{damaged").unwrap();
    fs::write(host.path("flannel.d/c3"), r#"{"name":"other"}"#).unwrap();
    // What killed ADDs leave ends with a mark of the network: its name's SHA-512 begins so.
    fs::write(host.path("flannel.d/.c4.eth0.cb6e746fae1a4d6c"), "").unwrap();
    fs::write(host.path("flannel.d/.c4.eth0.0123456789abcdef"), "").unwrap();
    fs::write(host.path("networks/cbr0/10.1.17.9"), "").unwrap();
    fs::write(host.path("networks/cbr0/notes"), "c1").unwrap();
    gc(&host, "flannel", &conf, &json!([]));
    assert_eq!(
        host.files("flannel.d"),
        [".c4.eth0.0123456789abcdef", "c2", "c3"]
    );
    assert_eq!(
        host.files("networks/cbr0"),
        ["last_reserved_ip.0", "last_reserved_ip.1", "lock", "notes"]
    );
}

#[test]
fn a_list_that_can_not_be_read_removes_nothing() {
    let host = Host::new();
    let mut conf = host.flannel_conf();
    let container = Netns::new();
    host.add(&conf, "c1", &container);
    conf[LIST] = json!([{"containerID": "c1"}]);
    let (code, message, _) = host.call("flannel", "GC").conf(&conf).make().error();
    assert_eq!(code, 6);
    assert!(message.starts_with(LIST), "{message}");
    assert_eq!(host.netns.links().len(), 3);
}

fn alias(host: &Host, name: &str, alias: &str) {
    let index = host.netns.link(name).unwrap().index;
    let settings = LinkSettings {
        alias: Some(alias.into()),
        ..Default::default()
    };
    let change = Change::SetLink(index, settings);
    host.netns.handle().apply(&[change]).unwrap();
}
