//! Keys of the bridge plugin, by what they do to real containers.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use std::fs;

use kernel::sysctl;
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
