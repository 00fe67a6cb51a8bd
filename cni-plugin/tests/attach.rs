//! ADD and DEL of real containers through flannel, bridge and host-local.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use std::{fs, thread};

use kernel::{
    Family,
    route::{Address, AddressState, LinkKind, NewLinkKind},
    sysctl,
};
use lab::{Host, Netns, SUBNET_ENV, address, talk};
use serde_json::{Value, json};

#[test]
fn two_containers_talk_and_leave_nothing() {
    let host = Host::new();
    let conf = host.flannel_conf();
    let (one, two) = (Netns::new(), Netns::new());
    let first = host.add(&conf, "c1", &one);
    let second = host.add(&conf, "c2", &two);
    for family in [0, 1] {
        talk(&one, &two, address(&second, family));
        talk(&two, &one, address(&first, family));
        talk(&host.netns, &one, address(&first, family));
    }
    host.del(&conf, "c1", &one);
    host.del(&conf, "c2", &two);
    assert_eq!(host.netns.links(), ["cni0", "lo"]);
    assert_eq!(one.links(), ["lo"]);
    assert_eq!(
        host.files("networks/cbr0"),
        ["last_reserved_ip.0", "last_reserved_ip.1", "lock"]
    );
    assert!(host.files("flannel.d").is_empty());
    // Once more, as kubelet does.
    host.del(&conf, "c1", &one);
    host.del(&conf, "never-was", &two);
}

#[test]
fn the_result_says_what_was_made() {
    let host = Host::new();
    let container = Netns::new();
    let call = host.call("flannel", "ADD").netns(&container);
    let stdout = call.conf(&host.flannel_conf()).make().stdout;
    let names = host.netns.links();
    let [bridge, _, veth] = names.as_slice() else {
        panic!("{names:?}")
    };
    let mac = |netns: &Netns, name: &str| netns.link(name).unwrap().mac.unwrap().to_string();
    let want = format!(
        r#"{{
    "cniVersion": "1.1.0",
    "interfaces": [
        {{
            "mac": "0a:58:0a:01:11:01",
            "mtu": 1450,
            "name": "{bridge}"
        }},
        {{
            "mac": "{}",
            "mtu": 1450,
            "name": "{veth}"
        }},
        {{
            "mac": "{}",
            "mtu": 1450,
            "name": "eth0",
            "sandbox": "{}"
        }}
    ],
    "ips": [
        {{
            "address": "10.1.17.2/24",
            "gateway": "10.1.17.1",
            "interface": 2
        }},
        {{
            "address": "fd00:0:0:17::2/64",
            "gateway": "fd00:0:0:17::1",
            "interface": 2
        }}
    ],
    "routes": [
        {{
            "dst": "10.1.0.0/16"
        }},
        {{
            "dst": "fd00::/48"
        }}
    ]
}}"#,
        mac(&host.netns, veth),
        mac(&container, "eth0"),
        container.path().display()
    );
    assert_eq!(stdout, want);
    assert_eq!(mac(&host.netns, "cni0"), "0a:58:0a:01:11:01");
}

#[test]
fn the_kernel_has_what_the_result_says() {
    let host = Host::new();
    let container = Netns::new();
    let mut conf = host.flannel_conf();
    conf["delegate"] = json!({"hairpinMode": true, "isDefaultGateway": true});
    conf["runtimeConfig"] = json!({"mac": "02:00:00:00:00:07"});
    let result = host.add(&conf, "c1", &container);
    let bridge = host.netns.link("cni0").unwrap();
    let port = result["interfaces"][1]["name"].as_str().unwrap();
    let port = host.netns.link(port).unwrap();
    assert_eq!(
        (port.master, port.hairpin),
        (Some(bridge.index), Some(true))
    );
    let eth0 = container.link("eth0").unwrap();
    assert_eq!((eth0.kind, eth0.mtu, eth0.up), (LinkKind::Veth, 1450, true));
    assert_eq!(eth0.mac.unwrap().to_string(), "02:00:00:00:00:07");
    let global = |netns: &Netns, index| -> Vec<String> {
        let addresses = netns.handle().addresses(Some(index)).unwrap();
        let global = addresses.iter().filter(|address| !address.link_local);
        global
            .map(|Address { address, .. }| address.to_string())
            .collect()
    };
    assert_eq!(
        global(&host.netns, bridge.index),
        ["10.1.17.1/24", "fd00:0:0:17::1/64"]
    );
    assert_eq!(
        global(&container, eth0.index),
        ["10.1.17.2/24", "fd00:0:0:17::2/64"]
    );
    for (family, want) in [
        (Family::V4, ["0.0.0.0/0", "10.1.0.0/16"]),
        (Family::V6, ["::/0", "fd00::/48"]),
    ] {
        let routes = container.handle().routes(family).unwrap();
        for destination in want {
            let found = routes
                .iter()
                .any(|it| it.destination.to_string() == destination);
            assert!(found, "{destination}: {routes:?}");
        }
    }
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        assert_eq!(host.netns.run(|| sysctl::get(key).unwrap()), "1", "{key}");
    }
}

#[test]
fn a_new_bridge_can_ask_for_its_containers_at_once() {
    let host = Host::new();
    let container = Netns::new();
    host.add(&host.flannel_conf(), "c1", &container);
    let bridge = host.netns.link("cni0").unwrap();
    let mut handle = host.netns.handle();
    let link_local = loop {
        let states = handle.address_states(Some(bridge.index)).unwrap();
        let is_it =
            |state: &AddressState| state.address.link_local && state.address.address.is_ipv6();
        if let Some(state) = states.into_iter().find(is_it) {
            break state;
        }
        thread::yield_now();
    };
    assert!(!link_local.tentative, "{link_local:?}");
}

#[test]
fn a_bridge_is_made_promiscuous_where_asked() {
    let host = Host::new();
    for (promiscuous, container) in [(false, Netns::new()), (true, Netns::new())] {
        let mut conf = host.flannel_conf();
        conf["delegate"] = json!({"promiscMode": promiscuous});
        host.add(&conf, &format!("c-{promiscuous}"), &container);
        let bridge = host.netns.link("cni0").unwrap();
        let details = host.netns.handle().link_details(bridge.index).unwrap();
        assert_eq!(details.unwrap().promiscuous, promiscuous);
    }
}

#[test]
fn files_are_those_of_the_reference_plugins() {
    let host = Host::new();
    let container = Netns::new();
    let conf = host.flannel_conf();
    host.add(&conf, "c1", &container);
    let read = |name: &str| fs::read_to_string(host.path(name)).unwrap();
    assert_eq!(read("networks/cbr0/10.1.17.2"), "c1\r\neth0");
    assert_eq!(read("networks/cbr0/fd00:0:0:17::2"), "c1\r\neth0");
    assert_eq!(read("networks/cbr0/last_reserved_ip.0"), "10.1.17.2");
    assert_eq!(read("networks/cbr0/last_reserved_ip.1"), "fd00:0:0:17::2");
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
    let scratch = format!(
        r#"{{"cniVersion":"1.1.0","ipMasq":false,"ipam":{{"dataDir":"{}","ranges":[[{{"subnet":"10.1.17.0/24"}}],[{{"subnet":"fd00:0:0:17::/64"}}]],"routes":[{{"dst":"10.1.0.0/16"}},{{"dst":"fd00::/48"}}],"type":"host-local"}},"isGateway":true,"mtu":1450,"name":"cbr0","type":"bridge"}}"#,
        host.path("networks").display()
    );
    assert_eq!(read("flannel.d/c1"), scratch);
    assert_eq!(host.files("flannel.d"), ["c1"]);
}

#[test]
fn a_freed_address_is_not_the_next_one() {
    let host = Host::new();
    let container = Netns::new();
    let conf = host.flannel_conf();
    for want in ["10.1.17.2", "10.1.17.3", "10.1.17.4"] {
        let result = host.add(&conf, "c1", &container);
        assert_eq!(address(&result, 0).to_string(), want);
        host.del(&conf, "c1", &container);
    }
}

#[test]
fn del_needs_neither_namespace_nor_scratch_file() {
    let host = Host::new();
    let conf = host.flannel_conf();
    let gone = Netns::new();
    let result = host.add(&conf, "c1", &gone);
    let port = result["interfaces"][1]["name"].as_str().unwrap();
    gone.unlink();
    fs::remove_dir_all(host.path("flannel.d")).unwrap();
    assert!(host.netns.link(port).is_some());
    host.del(&conf, "c1", &gone);
    assert_eq!(host.netns.links(), ["cni0", "lo"]);
    assert_eq!(host.files("networks/cbr0").len(), 3);

    // The path of a namespace whose mount is gone is a plain file; CNI_NETNS may also be missing.
    let container = Netns::new();
    for (id, netns) in [
        ("c2", host.path("subnet.env").display().to_string()),
        ("c3", String::new()),
    ] {
        host.add(&conf, id, &container);
        let del = host.call("flannel", "DEL").id(id).env("CNI_NETNS", &netns);
        del.conf(&conf).make().silent_success();
        assert_eq!(host.netns.links(), ["cni0", "lo"]);
    }
    assert_eq!(host.files("networks/cbr0").len(), 3);
}

#[test]
fn del_removes_what_the_add_was_told_to_make() {
    let host = Host::new();
    let container = Netns::new();
    let conf = host.flannel_conf();
    host.add(&conf, "c1", &container);
    // By now the node has another subnet, and the network keeps its addresses elsewhere.
    fs::write(
        host.path("subnet.env"),
        SUBNET_ENV.replace("10.1.17", "10.1.18"),
    )
    .unwrap();
    let mut changed = conf.clone();
    changed["ipam"]["dataDir"] = json!(host.path("elsewhere"));
    host.del(&changed, "c1", &container);
    assert_eq!(host.netns.links(), ["cni0", "lo"]);
    assert_eq!(host.files("networks/cbr0").len(), 3);
}

/// What is there of a container that could not be added: nothing.
fn assert_nothing_of(host: &Host, id: &str) {
    for dir in ["networks/cbr0", "networks/other"] {
        for file in host.files(dir) {
            let content = fs::read_to_string(host.path(dir).join(&file)).unwrap();
            assert!(!content.starts_with(id), "{dir}/{file}");
        }
    }
    assert!(!host.files("flannel.d").contains(&id.to_owned()));
}

#[test]
fn a_failed_add_leaves_nothing() {
    let host = Host::new();
    let container = Netns::new();
    let mut conf = host.flannel_conf();
    // Fails when the pair is made and the container has its addresses.
    conf["ipam"]["routes"] = json!([{"dst": "10.9.0.0/16", "gw": "192.0.2.1"}]);
    let call = host.call("flannel", "ADD").netns(&container).conf(&conf);
    let (code, message, _) = call.make().error();
    assert_eq!(code, 999);
    assert!(
        message.starts_with("ip route replace 10.9.0.0/16 via 192.0.2.1"),
        "{message}"
    );
    assert_eq!(host.netns.links(), ["cni0", "lo"]);
    assert_eq!(container.links(), ["lo"]);
    assert_nothing_of(&host, "c1");
}

#[test]
fn a_failed_add_leaves_what_was_there_before() {
    let host = Host::new();
    let container = Netns::new();
    let conf = host.flannel_conf();
    host.add(&conf, "c1", &container);
    let state = || {
        let files = ["networks/cbr0", "flannel.d"].map(|dir| host.files(dir));
        (host.netns.links(), files)
    };
    let before = state();
    let add = |conf: &Value, id: &str| {
        let call = host.call("flannel", "ADD").id(id).netns(&container);
        call.conf(conf).make().error()
    };
    let (code, message, _) = add(&conf, "c1");
    assert_eq!(
        (code, &*message),
        (
            999,
            "failed to allocate for range 0: 10.1.17.2 has been allocated to c1, duplicate allocation is not allowed"
        )
    );
    // Another network, the same interface name.
    let mut other = conf.clone();
    other["name"] = "other".into();
    let (_, message, _) = add(&other, "c2");
    assert!(
        message.starts_with("container veth name (\"eth0\") peer provided (\"veth"),
        "{message}"
    );
    assert_nothing_of(&host, "c2");
    assert_eq!(state(), before);
    assert!(container.link("eth0").is_some());
}

#[test]
fn a_path_to_no_namespace_is_refused() {
    let host = Host::new();
    let file = host.path("subnet.env").display().to_string();
    for (path, text) in [
        ("/nowhere", "failed to open netns \"/nowhere\""),
        (&file, "failed to connect \"veth"),
    ] {
        let call = host.call("flannel", "ADD").env("CNI_NETNS", path);
        let (_, message, _) = call.conf(&host.flannel_conf()).make().error();
        assert!(
            message.starts_with(text) && message.contains(path),
            "{message}"
        );
        assert_nothing_of(&host, "c1");
    }
}

#[test]
fn two_networks_of_one_container_do_not_share_state() {
    let host = Host::new();
    let container = Netns::new();
    let first = host.flannel_conf();
    let mut second = first.clone();
    second["name"] = "second".into();
    second["ipam"]["dataDir"] = json!(host.path("elsewhere"));
    second["delegate"] = json!({"bridge": "cni1"});
    let add = |conf: &Value, if_name: &str| {
        let call = host.call("flannel", "ADD").netns(&container);
        call.env("CNI_IFNAME", if_name).conf(conf).make().result();
    };
    let del = |conf: &Value, if_name: &str| {
        let call = host.call("flannel", "DEL").netns(&container);
        call.env("CNI_IFNAME", if_name)
            .conf(conf)
            .make()
            .silent_success();
    };
    add(&first, "eth0");
    fs::write(
        host.path("subnet.env"),
        SUBNET_ENV.replace(".17.", ".18.").replace(":17:", ":18:"),
    )
    .unwrap();
    add(&second, "net1");
    del(&first, "eth0");
    assert_eq!(container.links(), ["lo", "net1"]);
    assert_eq!(
        (
            host.files("networks/cbr0").len(),
            host.files("elsewhere/second").len()
        ),
        (3, 5)
    );
    del(&second, "net1");
    assert_eq!(host.netns.links(), ["cni0", "cni1", "lo"]);
    assert_eq!(host.files("elsewhere/second").len(), 3);
    assert!(host.files("flannel.d").is_empty());
}

#[test]
fn a_bridge_that_is_none_or_anothers_is_refused() {
    let host = Host::new();
    let (one, two) = (Netns::new(), Netns::new());
    let mut conf = host.flannel_conf();
    let result = host.add(&conf, "c1", &one);
    fs::write(
        host.path("subnet.env"),
        SUBNET_ENV.replace("10.1.17", "10.1.18"),
    )
    .unwrap();
    let add = |conf: &Value| {
        let call = host.call("flannel", "ADD").id("c2").netns(&two);
        call.conf(conf).make().error().1
    };
    assert_eq!(
        add(&conf),
        r#"failed to set bridge addr: "cni0" already has an IP address different from 10.1.18.1/24"#
    );
    let port = &result["interfaces"][1]["name"];
    conf["delegate"] = json!({"bridge": port});
    assert_eq!(
        add(&conf),
        format!("{port} already exists but is not a bridge")
    );
    assert_nothing_of(&host, "c2");
    assert_eq!(two.links(), ["lo"]);
}

#[test]
fn del_leaves_interfaces_of_others_alone() {
    let host = Host::new();
    let container = Netns::new();
    let bridge = json!({"name": "x", "cniVersion": "1.0.0", "bridge": "eth0"});
    // A bridge named eth0 in the container: not ours, though a DEL names it.
    container.add_link("eth0", NewLinkKind::Bridge);
    let del = host.call("bridge", "DEL").netns(&container);
    del.conf(&bridge).make().silent_success();
    assert!(container.link("eth0").is_some());
}

#[test]
fn a_network_without_addresses_connects_all_the_same() {
    let host = Host::new();
    let container = Netns::new();
    let mut conf = json!({"name": "l2", "cniVersion": "0.3.1", "bridge": "br-l2"});
    let add = host.call("bridge", "ADD").netns(&container).conf(&conf);
    let result = add.make().result();
    assert_eq!(result["interfaces"][2]["name"], "eth0");
    assert!(container.link("eth0").unwrap().up);
    let mac = host.netns.link("br-l2").unwrap().mac.unwrap().to_string();
    assert_eq!(result["interfaces"][0]["mac"], mac);
    let del = host.call("bridge", "DEL").netns(&container).conf(&conf);
    del.make().silent_success();

    // Before 0.3.0 a result has an address.
    conf["cniVersion"] = "0.2.0".into();
    let add = host.call("bridge", "ADD").netns(&container).conf(&conf);
    assert_eq!(
        add.make().error().1,
        "cannot convert: no valid IP addresses"
    );
    assert_eq!(
        (host.netns.links(), container.links().len()),
        (vec!["br-l2".into(), "lo".into()], 1)
    );
}

#[test]
fn neighbours_learn_of_a_new_container_on_an_old_address() {
    let host = Host::new();
    let (neighbour, old, new) = (Netns::new(), Netns::new(), Netns::new());
    let mut conf = host.flannel_conf();
    host.add(&conf, "n", &neighbour);
    conf["runtimeConfig"] = json!({"ips": ["10.1.17.60", "fd00:0:0:17::60"]});
    let result = host.add(&conf, "c1", &old);
    let addresses = [address(&result, 0), address(&result, 1)];
    for address in addresses {
        talk(&neighbour, &old, address);
    }
    host.del(&conf, "c1", &old);
    host.add(&conf, "c2", &new);
    let mac = new.link("eth0").unwrap().mac;
    let index = neighbour.link("eth0").unwrap().index;
    for address in addresses {
        let known = neighbour
            .handle()
            .neighbours(Family::of(&address), index)
            .unwrap();
        let entry = known.iter().find(|it| it.address == address);
        assert_eq!(entry.unwrap().mac, mac, "{address}");
    }
}

#[test]
fn fifty_at_once_on_a_host_that_has_no_bridge_yet() {
    let host = Host::new();
    let conf = host.flannel_conf();
    let containers: Vec<Netns> = (0..50).map(|_| Netns::new()).collect();
    let mut addresses: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = containers
            .iter()
            .enumerate()
            .map(|(index, container)| {
                let (host, conf) = (&host, &conf);
                scope.spawn(move || {
                    let result = host.add(conf, &format!("c{index}"), container);
                    address(&result, 0).to_string()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 50);
    // The bridge, the loopback device, and one port each.
    assert_eq!(host.netns.links().len(), 52);
    thread::scope(|scope| {
        for (index, container) in containers.iter().enumerate() {
            let (host, conf) = (&host, &conf);
            scope.spawn(move || host.del(conf, &format!("c{index}"), container));
        }
    });
    assert_eq!(host.netns.links(), ["cni0", "lo"]);
    assert_eq!(
        host.files("networks/cbr0"),
        ["last_reserved_ip.0", "last_reserved_ip.1", "lock"]
    );
    assert!(host.files("flannel.d").is_empty());
}
