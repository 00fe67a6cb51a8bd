//! Keys of the bridge plugin, by what they do to real containers.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use std::fs;

use kernel::{
    Family,
    iptables::{Iptables, Table},
    sysctl,
};
use lab::{Host, Netns, SUBNET_ENV, address, talk};
use serde_json::{Value, json};

/// The global addresses of an interface.
fn addresses(netns: &Netns, name: &str) -> Vec<String> {
    let index = netns.link(name).unwrap().index;
    let addresses = netns.handle().addresses(Some(index)).unwrap();
    let global = addresses.iter().filter(|it| !it.link_local);
    global.map(|it| it.address.to_string()).collect()
}

/// From now on the node has another subnet of the same network.
fn move_node(host: &Host) {
    let moved = SUBNET_ENV.replace("10.1.17", "10.1.18");
    let moved = moved.replace("fd00:0:0:17:", "fd00:0:0:18:");
    fs::write(host.path("subnet.env"), moved).unwrap();
}

#[test]
fn a_bridge_without_containers_follows_the_node_to_its_new_subnet() {
    let host = Host::new();
    let (one, two) = (Netns::new(), Netns::new());
    let conf = host.flannel_conf();
    host.add(&conf, "c1", &one);
    move_node(&host);
    let add = host.call("flannel", "ADD").id("c2").netns(&two).conf(&conf);
    let (code, message, details) = add.make().error();
    assert_eq!(
        (code, &*message),
        (
            999,
            r#"failed to set bridge addr: "cni0" already has an IP address different from 10.1.18.1/24"#
        )
    );
    assert!(details.contains("delete it"), "{details}");
    host.del(&conf, "c1", &one);
    let result = host.add(&conf, "c2", &two);
    let now = addresses(&host.netns, "cni0");
    assert!(now.contains(&"10.1.18.1/24".to_owned()), "{now:?}");
    assert!(!now.contains(&"10.1.17.1/24".to_owned()), "{now:?}");
    talk(&host.netns, &two, address(&result, 0));
}

#[test]
fn an_address_that_is_nobodys_subnet_stays() {
    let host = Host::new();
    let mut conf = json!({"name": "n", "cniVersion": "1.1.0", "isGateway": true, "ipam": {
        "type": "host-local", "dataDir": host.path("networks"), "subnet": "10.1.17.0/24"}});
    let container = Netns::new();
    let call = |verb: &str, conf: &Value| {
        let call = host.call("bridge", verb).netns(&container);
        call.conf(conf).make()
    };
    call("ADD", &conf).result();
    call("DEL", &conf).silent_success();
    conf["ipam"]["subnet"] = "10.1.18.0/24".into();
    assert_eq!(call("ADD", &conf).error().0, 999);
    assert_eq!(addresses(&host.netns, "cni0"), ["10.1.17.1/24"]);
    conf["forceAddress"] = true.into();
    call("ADD", &conf).result();
    assert_eq!(addresses(&host.netns, "cni0"), ["10.1.18.1/24"]);
}

#[test]
fn isolated_containers_reach_the_host_and_not_each_other() {
    let host = Host::new();
    let mut conf = host.flannel_conf();
    conf["delegate"] = json!({"portIsolation": true});
    let containers = [Netns::new(), Netns::new()];
    for (id, container) in ["c1", "c2"].into_iter().zip(&containers) {
        let result = host.add(&conf, id, container);
        let port = result["interfaces"][1]["name"].as_str().unwrap();
        let index = host.netns.link(port).unwrap().index;
        let details = host.netns.handle().link_details(index).unwrap().unwrap();
        assert!(details.port.unwrap().isolated);
        talk(&host.netns, container, address(&result, 0));
    }
}

#[test]
fn duplicate_address_detection_is_the_kernels_where_asked() {
    for (enabled, accept) in [(false, "0"), (true, "1")] {
        let host = Host::new();
        let container = Netns::new();
        let mut conf = host.flannel_conf();
        conf["delegate"] = json!({"enabledad": enabled});
        host.add(&conf, "c1", &container);
        let setting = |key: &str| {
            let key = format!("net/ipv6/conf/eth0/{key}");
            container.run(|| sysctl::get(&key).unwrap())
        };
        assert_eq!(setting("accept_dad"), accept);
        assert_eq!(setting("enhanced_dad"), "1");
        let states = container.handle().address_states(None).unwrap();
        let global = |it: &&kernel::route::AddressState| {
            it.address.address.is_ipv6() && it.address.address.ip().to_string().starts_with("fd00")
        };
        let state = states.iter().find(global).unwrap();
        assert_eq!(state.address.no_dad, !enabled);
    }
}

#[test]
fn an_interface_can_be_left_to_somebody_else() {
    let host = Host::new();
    let container = Netns::new();
    let mut conf = json!({"name": "n", "cniVersion": "1.1.0", "disableContainerInterface": true});
    let call = |verb: &str, conf: &Value| {
        let call = host.call("bridge", verb).netns(&container);
        call.conf(conf).make()
    };
    conf["prevResult"] = call("ADD", &conf).result();
    assert!(!container.link("eth0").unwrap().up);
    call("CHECK", &conf).silent_success();
    call("DEL", &conf).silent_success();
    assert_eq!(host.netns.links(), ["cni0", "lo"]);
    conf["ipam"] = json!({"type": "host-local", "subnet": "10.1.17.0/24"});
    assert_eq!(
        call("ADD", &conf).error(),
        (
            7,
            "cannot use IPAM when DisableContainerInterface flag is set".into(),
            String::new()
        )
    );
}

/// The table `nat` of a family.
fn nat(host: &Host, family: Family) -> Table {
    host.netns
        .run(|| Iptables::of_node(family).unwrap().save("nat").unwrap())
}

/// The rules that packets of containers go by.
fn entries(host: &Host, family: Family) -> Vec<String> {
    let table = nat(host, family);
    let chain = table.chain("POSTROUTING");
    chain.map_or(Vec::new(), |chain| chain.rules.clone())
}

fn is_clean(host: &Host) -> bool {
    Family::ALL.iter().all(|family| {
        let table = nat(host, *family);
        let ours = |it: &kernel::iptables::Chain| it.name.starts_with("CNI-");
        !table.chains.iter().any(ours) && entries(host, *family).is_empty()
    })
}

#[test]
fn containers_are_masqueraded_and_leave_no_rules() {
    let host = Host::new();
    let path = std::env::var("PATH").unwrap();
    let mut conf = host.flannel_conf();
    conf["delegate"] = json!({"ipMasq": true});
    let (one, two) = (Netns::new(), Netns::new());
    let call = |verb: &str, id: &str, netns: &Netns, conf: &Value| {
        let call = host.call("flannel", verb).id(id).netns(netns);
        call.env("PATH", &path).conf(conf).make()
    };
    conf["prevResult"] = call("ADD", "c1", &one, &conf).result();
    assert_eq!(
        entries(&host, Family::V4),
        [
            r#"-s 10.1.17.2/32 -m comment --comment "name: \"cbr0\" id: \"c1\"" -j CNI-68f1f1eeb62cad3d0bdd579c"#
        ]
    );
    assert_eq!(entries(&host, Family::V6).len(), 1);
    call("CHECK", "c1", &one, &conf).silent_success();
    let flush = |text: &str| {
        let (host, text) = (&host, text.to_owned());
        host.netns.run(move || {
            Iptables::of_node(Family::V4)
                .unwrap()
                .restore(&text)
                .unwrap()
        });
    };
    flush(&format!(
        "*nat\n-D POSTROUTING {}\nCOMMIT\n",
        entries(&host, Family::V4)[0]
    ));
    assert_eq!(
        call("CHECK", "c1", &one, &conf).error().1,
        "masquerade rule of address 10.1.17.2 is missing from iptables table nat"
    );
    call("ADD", "c2", &two, &conf).result();
    let second = entries(&host, Family::V4);
    call("DEL", "c1", &one, &conf).silent_success();
    assert_eq!(entries(&host, Family::V4), second);
    call(
        "DEL",
        "c2",
        &two,
        &json!({"name": "cbr0", "cniVersion": "1.1.0",
        "dataDir": host.path("flannel.d")}),
    )
    .silent_success();
    assert!(is_clean(&host));
}

#[test]
fn rules_are_found_though_every_file_is_lost() {
    let host = Host::new();
    let path = std::env::var("PATH").unwrap();
    let mut conf = host.flannel_conf();
    conf["delegate"] = json!({"ipMasq": true});
    for verb in ["DEL", "GC"] {
        let container = Netns::new();
        let call = |verb: &str, conf: &Value| {
            let call = host.call("flannel", verb).netns(&container);
            call.env("PATH", &path).conf(conf).make()
        };
        call("ADD", &conf).result();
        assert!(!is_clean(&host));
        fs::remove_dir_all(host.path("flannel.d")).unwrap();
        fs::remove_dir_all(host.path("networks")).unwrap();
        container.unlink();
        // By now nobody says that it was masqueraded.
        let mut later = host.flannel_conf();
        later["cni.dev/valid-attachments"] = json!([]);
        call(verb, &later).silent_success();
        assert!(is_clean(&host), "{verb}");
        assert_eq!(host.netns.links(), ["cni0", "lo"]);
    }
}

#[test]
fn without_iptables_an_add_that_has_to_masquerade_says_so_and_leaves_nothing() {
    let host = Host::new();
    let container = Netns::new();
    let mut conf = host.flannel_conf();
    conf["delegate"] = json!({"ipMasq": true, "ipMasqBackend": "iptables"});
    let call = host.call("flannel", "ADD").netns(&container).conf(&conf);
    let (code, message, details) = call.env("PATH", "/nowhere").make().error();
    assert_eq!(code, 999);
    assert!(message.starts_with("ipMasq: "), "{message}");
    assert!(details.starts_with("install iptables"), "{details}");
    assert_eq!(host.netns.links(), ["cni0", "lo"]);
    assert_eq!(host.files("networks/cbr0").len(), 3);
}

#[test]
fn routes_have_all_that_is_asked_for_them() {
    let (host, container) = (Host::new(), Netns::new());
    let mut conf = host.flannel_conf();
    conf["ipam"]["routes"] = json!([
        {"dst": "10.7.0.0/16", "mtu": 1300, "advmss": 1000, "priority": 7, "scope": 0},
        {"dst": "10.8.0.0/16", "table": 100},
        {"dst": "10.9.0.0/16", "table": 0},
        {"dst": "fd07::/48", "mtu": 1290, "priority": 9},
    ]);
    conf["prevResult"] = host.add(&conf, "c1", &container);
    let show = |arguments: &str| {
        let run = || {
            std::process::Command::new("ip")
                .args(arguments.split(' '))
                .output()
        };
        String::from_utf8(container.run(|| run().unwrap()).stdout).unwrap()
    };
    for (arguments, want) in [
        (
            "route show 10.7.0.0/16",
            "10.7.0.0/16 via 10.1.17.1 dev eth0 metric 7 mtu 1300 advmss 1000",
        ),
        ("route show table 100", "10.8.0.0/16 via 10.1.17.1 dev eth0"),
        (
            "route show 10.9.0.0/16",
            "10.9.0.0/16 via 10.1.17.1 dev eth0",
        ),
        (
            "-6 route show fd07::/48",
            "fd07::/48 via fd00:0:0:17::1 dev eth0 metric 9 mtu 1290",
        ),
    ] {
        assert!(show(arguments).starts_with(want), "{}", show(arguments));
    }
    let check = host.call("flannel", "CHECK").netns(&container).conf(&conf);
    check.make().silent_success();
}
