//! CHECK names what is not as the ADD made it: everything is broken for real.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use std::fs;

use kernel::{
    Family,
    route::{Change, IfIndex, LinkSettings},
};
use lab::{Host, Netns};
use serde_json::{Value, json};

/// One attached container.
struct Scene {
    host: Host,
    container: Netns,
    conf: Value,
}

// === impl Scene ===

impl Scene {
    fn new(version: &str) -> Self {
        let (host, container) = (Host::new(), Netns::new());
        let mut conf = host.flannel_conf();
        conf["cniVersion"] = version.into();
        conf["delegate"] =
            json!({"hairpinMode": true, "portIsolation": true, "isDefaultGateway": true});
        conf["runtimeConfig"] = json!({"mac": "02:00:00:00:00:07"});
        conf["prevResult"] = host.add(&conf, "c1", &container);
        Self {
            host,
            container,
            conf,
        }
    }

    fn check(&self) -> lab::Outcome {
        let call = self.host.call("flannel", "CHECK").netns(&self.container);
        call.conf(&self.conf).make()
    }

    fn port(&self) -> IfIndex {
        let name = self.conf["prevResult"]["interfaces"][1]["name"].as_str();
        self.host.netns.link(name.unwrap()).unwrap().index
    }

    fn set(netns: &Netns, index: IfIndex, settings: LinkSettings) {
        let mut handle = netns.handle();
        handle.apply(&[Change::SetLink(index, settings)]).unwrap();
    }

    fn set_port(&self, settings: LinkSettings) {
        Self::set(&self.host.netns, self.port(), settings);
    }

    fn set_inside(&self, settings: LinkSettings) {
        let eth0 = self.container.link("eth0").unwrap().index;
        Self::set(&self.container, eth0, settings);
    }

    fn set_bridge(&self, settings: LinkSettings) {
        let bridge = self.host.netns.link("cni0").unwrap().index;
        Self::set(&self.host.netns, bridge, settings);
    }

    fn delete_address(netns: &Netns, address: &str) {
        let mut handle = netns.handle();
        let mut addresses = handle.addresses(None).unwrap();
        addresses.retain(|it| it.address.to_string() == address);
        let change = Change::DeleteAddress(addresses.pop().unwrap());
        handle.apply(&[change]).unwrap();
    }

    fn delete_route(&self, family: Family, destination: &str) {
        let mut handle = self.container.handle();
        let mut routes = handle.routes(family).unwrap();
        routes.retain(|it| it.destination.to_string() == destination);
        let change = Change::DeleteRoute(routes.pop().unwrap());
        handle.apply(&[change]).unwrap();
    }

    fn delete_link(netns: &Netns, name: &str) {
        let index = netns.link(name).unwrap().index;
        netns.handle().apply(&[Change::DeleteLink(index)]).unwrap();
    }
}

fn down() -> LinkSettings {
    LinkSettings {
        up: Some(false),
        ..Default::default()
    }
}

fn mtu() -> LinkSettings {
    LinkSettings {
        mtu: Some(1400),
        ..Default::default()
    }
}

#[test]
fn what_was_made_passes_in_every_version_and_by_every_plugin() {
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let scene = Scene::new(version);
        scene.check().silent_success();
        let call = scene.host.call("host-local", "CHECK");
        let conf = scene.conf.clone();
        call.netns(&scene.container)
            .conf(&conf)
            .make()
            .silent_success();
        // The scratch file is no need.
        fs::remove_dir_all(scene.host.path("flannel.d")).unwrap();
        scene.check().silent_success();
    }
}

#[test]
fn each_break_is_named() {
    type Break = fn(&Scene);
    let breaks: [(&str, Break); 18] = [
        ("eth0: address 10.1.17.2/24 is missing", |scene| {
            Scene::delete_address(&scene.container, "10.1.17.2/24");
        }),
        ("eth0: address fd00:0:0:17::2/64 is missing", |scene| {
            Scene::delete_address(&scene.container, "fd00:0:0:17::2/64");
        }),
        ("eth0: route to 0.0.0.0/0 is missing", |scene| {
            scene.delete_route(Family::V4, "0.0.0.0/0");
        }),
        ("eth0: route to fd00::/48 is missing", |scene| {
            scene.delete_route(Family::V6, "fd00::/48");
        }),
        (
            "bridge cni0: gateway address 10.1.17.1/24 is missing",
            |scene| {
                Scene::delete_address(&scene.host.netns, "10.1.17.1/24");
            },
        ),
        (
            "bridge cni0: gateway address fd00:0:0:17::1/64 is missing",
            |scene| Scene::delete_address(&scene.host.netns, "fd00:0:0:17::1/64"),
        ),
        ("is not connected to bridge cni0", |scene| {
            scene.set_port(LinkSettings {
                master: Some(IfIndex(0)),
                ..Default::default()
            });
        }),
        ("hairpin mode is off", |scene| {
            scene.set_port(LinkSettings {
                hairpin: Some(false),
                ..Default::default()
            });
        }),
        ("port isolation is off", |scene| {
            scene.set_port(LinkSettings {
                isolated: Some(false),
                ..Default::default()
            });
        }),
        ("host interface veth", |scene| scene.set_port(mtu())),
        ("container interface eth0: MTU is 1400, not 1450", |scene| {
            scene.set_inside(mtu());
        }),
        ("container interface eth0: link is down", |scene| {
            scene.set_inside(down());
        }),
        (": link is down", |scene| scene.set_port(down())),
        ("bridge cni0: link is down", |scene| {
            scene.set_bridge(down())
        }),
        ("eth0: its MAC address is not 02:00:00:00:00:07", |scene| {
            scene.set_inside(LinkSettings {
                mac: "02:00:00:00:00:08".parse().ok(),
                ..Default::default()
            });
        }),
        ("bridge cni0: is missing", |scene| {
            Scene::delete_link(&scene.host.netns, "cni0");
        }),
        ("host interface veth", |scene| {
            Scene::delete_link(&scene.container, "eth0");
        }),
        ("networks/cbr0/10.1.17.2 is missing", |scene| {
            fs::remove_file(scene.host.path("networks/cbr0/10.1.17.2")).unwrap();
        }),
    ];
    for (text, destroy) in breaks {
        let scene = Scene::new("1.1.0");
        destroy(&scene);
        let (code, message, _) = scene.check().error();
        assert!(message.contains(text), "{text}: {message}");
        assert_eq!(code, 999);
    }
}

#[test]
fn a_route_of_another_mtu_is_told_and_two_of_one_destination_are_two() {
    let mut scene = Scene::new("1.1.0");
    scene.conf["ipam"]["routes"] = json!([
        {"dst": "10.7.0.0/16", "mtu": 1300, "advmss": 1000},
        {"dst": "fd07::/48", "mtu": 1400},
        {"dst": "10.8.0.0/16", "gw": "10.1.17.8"},
        {"dst": "10.8.0.0/16", "gw": "10.1.17.9"},
        {"dst": "10.8.0.0/16", "gw": "10.1.17.9"},
        {"dst": "fd08::/48", "gw": "fd00:0:0:17::8"},
        {"dst": "fd08::/48", "gw": "fd00:0:0:17::9"},
    ]);
    scene.host.del(&scene.conf, "c1", &scene.container);
    scene.conf["prevResult"] = scene.host.add(&scene.conf, "c1", &scene.container);
    scene.check().silent_success();
    for (arguments, told) in [
        (
            "route change 10.7.0.0/16 via 10.1.17.1 dev eth0 mtu 1300 advmss 900",
            "route to 10.7.0.0/16 has advmss 900, not 1000",
        ),
        (
            "route change 10.7.0.0/16 via 10.1.17.1 dev eth0",
            "route to 10.7.0.0/16 has mtu 0, not 1300",
        ),
        (
            "route delete 10.8.0.0/16 via 10.1.17.9",
            "route to 10.7.0.0/16 has mtu 0, not 1300",
        ),
        (
            "route change 10.7.0.0/16 via 10.1.17.1 dev eth0 mtu 1300 advmss 1000",
            "route to 10.8.0.0/16 is missing",
        ),
        ("route append 10.8.0.0/16 via 10.1.17.9", ""),
        (
            "-6 route delete fd08::/48 via fd00:0:0:17::8",
            "route to fd08::/48 is missing",
        ),
    ] {
        let words = arguments.split(' ');
        let run = || std::process::Command::new("ip").args(words).status();
        assert!(
            scene.container.run(|| run().unwrap()).success(),
            "{arguments}"
        );
        let outcome = scene.check();
        match told {
            "" => outcome.silent_success(),
            told => assert!(
                outcome.error().1.ends_with(told),
                "{arguments}: {outcome:?}"
            ),
        }
    }
}

#[test]
fn reservations_have_to_be_the_containers_own() {
    let scene = Scene::new("1.1.0");
    let file = scene.host.path("networks/cbr0/fd00:0:0:17::2");
    for (content, state) in [
        ("c2\r\neth0", "is reserved for another container"),
        ("", "is empty"),
    ] {
        fs::write(&file, content).unwrap();
        let message = scene.check().error().1;
        let text = format!(
            "host-local: address fd00:0:0:17::2 of container c1 eth0: file {} {state}",
            file.display()
        );
        assert_eq!(message, text);
    }
    fs::remove_dir_all(scene.host.path("networks")).unwrap();
    assert_eq!(
        scene.check().error().1,
        "host-local: Failed to find address added by container c1"
    );
}

#[test]
fn a_result_of_another_container_is_told() {
    let mut scene = Scene::new("1.1.0");
    let netns = scene.container.path();
    scene.conf["prevResult"]["interfaces"][2]["sandbox"] = "/elsewhere".into();
    assert_eq!(
        scene.check().error().1,
        format!(
            "prevResult: sandbox of interface eth0 is /elsewhere, and CNI_NETNS is {}",
            netns.display()
        )
    );
    scene.conf["prevResult"]["interfaces"] = json!([]);
    let (code, message, _) = scene.check().error();
    assert_eq!(
        (code, &*message),
        (7, "prevResult: no interface eth0 of a container")
    );
}

#[test]
fn another_pair_in_the_place_of_ours_is_told() {
    let scene = Scene::new("1.1.0");
    let other = Netns::new();
    let second = scene.host.add(&scene.conf, "c2", &other);
    let mut conf = scene.conf.clone();
    conf["prevResult"]["interfaces"][1] = second["interfaces"][1].clone();
    let call = scene.host.call("flannel", "CHECK").netns(&scene.container);
    let message = call.conf(&conf).make().error().1;
    assert!(message.contains("its other end is not veth"), "{message}");
}
