//! The tuning plugin behind flannel's.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use std::fs;

use kernel::{
    route::{Change, Link, LinkDetails, LinkSettings},
    sysctl,
};
use lab::{Host, Netns};
use serde_json::{Value, json};

const MAC: &str = "02:00:00:00:00:aa";
const SYSCTL: &str = "net/ipv4/conf/eth0/arp_announce";

/// A host with one container, and what flannel's ADD answered.
fn attached() -> (Host, Netns, Value) {
    let host = Host::new();
    let container = Netns::new();
    let previous = host.add(&host.flannel_conf(), "c1", &container);
    (host, container, previous)
}

fn conf(host: &Host, previous: &Value) -> Value {
    json!({
        "name": "cbr0",
        "cniVersion": "1.1.0",
        "type": "tuning",
        "dataDir": host.path("tuning.d"),
        "prevResult": previous,
    })
}

/// With every key set.
fn all_keys(host: &Host, previous: &Value) -> Value {
    let mut conf = conf(host, previous);
    conf["sysctl"] = json!({
        "net.ipv4.conf.IFNAME.arp_announce": "2",
        "net.ipv4.ip_local_port_range": "2000 3000",
    });
    conf["mac"] = json!(MAC);
    conf["mtu"] = json!(1300);
    conf["promisc"] = json!(true);
    conf["allmulti"] = json!(true);
    conf["txQLen"] = json!(77);
    conf
}

fn state(container: &Netns) -> (Link, LinkDetails) {
    let link = container.link("eth0").unwrap();
    let details = container.handle().link_details(link.index).unwrap();
    (link, details.unwrap())
}

fn set(container: &Netns, settings: LinkSettings) {
    let link = container.link("eth0").unwrap();
    let change = Change::SetLink(link.index, settings);
    container.handle().apply(&[change]).unwrap();
}

#[test]
fn settings_are_made_checked_and_restored() {
    let (host, container, previous) = attached();
    let before = state(&container);
    let conf = all_keys(&host, &previous);
    let call = |verb| host.call("tuning", verb).netns(&container).conf(&conf);
    let result = call("ADD").make().result();
    let mut want = previous.clone();
    want["interfaces"][2]["mac"] = json!(MAC);
    want["interfaces"][2]["mtu"] = json!(1300);
    assert_eq!(result, want);
    let (link, details) = state(&container);
    assert_eq!(
        (link.mac.unwrap().to_string(), link.mtu),
        (MAC.into(), 1300)
    );
    assert!(details.promiscuous && details.all_multicast);
    assert_eq!(details.tx_queue_len, 77);
    assert_eq!(container.run(|| sysctl::get(SYSCTL).unwrap()), "2");
    let first = before.0.mac.unwrap();
    assert_eq!(
        fs::read_to_string(host.path("tuning.d/c1_eth0.json")).unwrap(),
        format!(
            "{{\n \"mac\": \"{first}\",\n \"promisc\": false,\n \"mtu\": 1450,\n \"allmulti\": false,\n \"txQLen\": {},\n \"network\": \"cbr0\"\n}}",
            before.1.tx_queue_len
        )
    );
    call("CHECK").make().silent_success();
    // Once more, without a DEL between: what was there first is what is restored.
    call("ADD").make().result();
    call("DEL").make().silent_success();
    assert_eq!(state(&container), before);
    assert!(host.files("tuning.d").is_empty());
    call("DEL").make().silent_success();
}

#[test]
fn check_names_what_differs() {
    let (host, container, previous) = attached();
    let conf = all_keys(&host, &previous);
    let call = |verb| host.call("tuning", verb).netns(&container).conf(&conf);
    call("ADD").make().result();
    let message = || call("CHECK").make().error().1;
    // From the last one that is looked at to the first.
    let none = LinkSettings::default;
    let changes = [
        (
            LinkSettings {
                tx_queue_len: Some(5),
                ..none()
            },
            "Error: Tuning configured Transmit Queue Length of eth0 is 77, current value is 5",
        ),
        (
            LinkSettings {
                all_multicast: Some(false),
                ..none()
            },
            "Error: Tuning configured all-multicast mode of eth0 is true, current value is false",
        ),
        (
            LinkSettings {
                mtu: Some(1400),
                ..none()
            },
            "Error: Tuning configured MTU of eth0 is 1300, current value is 1400",
        ),
        (
            LinkSettings {
                promiscuous: Some(false),
                ..none()
            },
            "Error: Tuning link eth0 configured promisc is true, current value is 0",
        ),
        (
            LinkSettings {
                mac: Some("02:00:00:00:00:bb".parse().unwrap()),
                ..none()
            },
            "Error: Tuning configured Ethernet of eth0 is 02:00:00:00:00:aa, current value is 02:00:00:00:00:bb",
        ),
    ];
    for (settings, want) in changes {
        set(&container, settings);
        assert_eq!(message(), want);
    }
    container.run(|| sysctl::set(SYSCTL, "1").unwrap());
    assert_eq!(
        message(),
        format!("Error: Tuning configured value of /proc/sys/{SYSCTL} is 2, current value is 1")
    );
}

#[test]
fn what_can_not_be_set_is_refused_and_undone() {
    let (host, container, previous) = attached();
    let before = state(&container);
    let add = |key: &str, value: Value| {
        let mut conf = conf(&host, &previous);
        conf["mac"] = json!(MAC);
        conf[key] = value;
        let call = host.call("tuning", "ADD").netns(&container).conf(&conf);
        call.make().error().1
    };
    let message = add("mtu", json!(1_000_000));
    assert!(message.starts_with("tune eth0: "), "{message}");
    assert_eq!(
        add("sysctl", json!({"kernel.hostname": "x"})),
        "invalid net sysctl key: \"kernel/hostname\""
    );
    assert_eq!(
        add(
            "sysctl",
            json!({"net.ipv4.ip_forward": "1", "net/ipv4/ip_forward": "0"})
        ),
        "sysctl: \"net/ipv4/ip_forward\" names /proc/sys/net/ipv4/ip_forward, which another key names as well: give it one value"
    );
    let message = add("sysctl", json!({"net.ipv4.no_such": "1"}));
    assert!(message.starts_with("sysctl net/ipv4/no_such"), "{message}");
    let message = add("mac", json!("x"));
    assert!(message.starts_with("invalid args x for MAC addr: "));
    assert_eq!(
        add("prevResult", Value::Null),
        "Required prevResult missing"
    );
    assert_eq!(state(&container), before);
    assert!(host.files("tuning.d").is_empty());
}

#[test]
fn backups_of_containers_that_are_gone_go_with_del_or_gc() {
    let (host, container, previous) = attached();
    let mut conf = conf(&host, &previous);
    conf["mtu"] = json!(1300);
    for id in ["c1", "c2"] {
        let call = host.call("tuning", "ADD").id(id).netns(&container);
        call.conf(&conf).make().result();
    }
    container.unlink();
    let call = host.call("tuning", "DEL").netns(&container).conf(&conf);
    call.make().silent_success();
    assert_eq!(host.files("tuning.d"), ["c2_eth0.json"]);
    // The reference's, which says of no network.
    fs::write(host.path("tuning.d/c3_eth0.json"), "{\n \"mtu\": 1500\n}").unwrap();
    let gc = |name: &str, valid: Value| {
        let mut conf = conf.clone();
        conf["name"] = json!(name);
        conf["cni.dev/valid-attachments"] = valid;
        let call = host.call("tuning", "GC").conf(&conf);
        call.make().silent_success();
        host.files("tuning.d").len()
    };
    assert_eq!(
        gc("cbr0", json!([{"containerID": "c2", "ifname": "eth0"}])),
        2
    );
    assert_eq!(gc("other", json!([])), 2);
    assert_eq!(gc("cbr0", json!([])), 1);
}

#[test]
fn a_backup_of_the_reference_is_restored() {
    let (host, container, previous) = attached();
    let mtu = state(&container).0.mtu;
    set(
        &container,
        LinkSettings {
            mtu: Some(1300),
            ..LinkSettings::default()
        },
    );
    fs::create_dir(host.path("tuning.d")).unwrap();
    let backup = format!("{{\n \"mtu\": {mtu}\n}}");
    fs::write(host.path("tuning.d/c1_eth0.json"), backup).unwrap();
    let conf = conf(&host, &previous);
    let call = host.call("tuning", "DEL").netns(&container).conf(&conf);
    call.make().silent_success();
    assert_eq!(state(&container).0.mtu, mtu);
    assert!(host.files("tuning.d").is_empty());
}
