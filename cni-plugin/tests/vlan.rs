//! VLANs of the bridge plugin. A kernel without bridge VLAN filtering has to be named by the ADD, which
//! leaves nothing; Debian's has it (tests/debian-kernel/run.sh).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use kernel::route::{Change, Handle, LinkSettings, NewLinkKind};
use lab::{Host, Netns, address, talk};
use serde_json::{Value, json};

/// Whether this kernel's bridges know of VLANs; says so if not.
fn knows_vlans() -> bool {
    let node = Netns::new();
    node.add_link("br0", NewLinkKind::Bridge);
    let filtering = LinkSettings {
        vlan_filtering: Some(true),
        ..LinkSettings::default()
    };
    let index = node.link("br0").unwrap().index;
    let set = node.handle().apply(&[Change::SetLink(index, filtering)]);
    if let Err(error) = &set {
        println!("not tested any further, this kernel can't: {error}");
    }
    set.is_ok()
}

fn conf(host: &Host, more: &Value) -> Value {
    let mut conf = json!({"name": "n", "cniVersion": "1.1.0", "isGateway": true, "ipam": {
        "type": "host-local", "dataDir": host.path("networks"),
        "ranges": [[{"subnet": "10.1.17.0/24"}], [{"subnet": "fd00:17::/64"}]]}});
    for (key, value) in more.as_object().unwrap() {
        conf[key] = value.clone();
    }
    conf
}

/// The VLANs of an interface of the host, as `bridge vlan` prints them.
fn vlans(handle: &mut Handle, name: &str) -> Vec<String> {
    let link = handle.link_by_name(&name.parse().unwrap()).unwrap();
    let index = link.unwrap().index;
    let all = handle.port_vlans().unwrap().into_iter();
    all.filter(|(it, _)| *it == index)
        .map(|(_, vlans)| vlans.to_string())
        .collect()
}

fn add(host: &Host, id: &str, netns: &Netns, conf: &Value) -> Value {
    let call = host.call("bridge", "ADD").id(id).netns(netns);
    call.conf(conf).make().result()
}

#[test]
fn a_kernel_that_knows_no_vlans_is_named_and_nothing_is_left() {
    if knows_vlans() {
        return;
    }
    let (host, container) = (Host::new(), Netns::new());
    let call = host.call("bridge", "ADD").netns(&container);
    let error = call
        .conf(&conf(&host, &json!({"vlan": 100})))
        .make()
        .error();
    assert!(
        error
            .1
            .contains("vlan_filtering 1: Operation not supported"),
        "{error:?}"
    );
    assert_eq!(host.netns.links(), ["cni0", "lo"]);
    assert_eq!(container.links(), ["lo"]);
    assert_eq!(host.files("networks/n").len(), 3);
}

#[test]
fn containers_of_a_vlan_meet_each_other_and_its_gateway() {
    if !knows_vlans() {
        return;
    }
    let (host, one, two) = (Host::new(), Netns::new(), Netns::new());
    let conf = conf(&host, &json!({"vlan": 100}));
    let result = add(&host, "c1", &one, &conf);
    let names: Vec<_> = result["interfaces"].as_array().unwrap().iter().collect();
    assert_eq!((names.len(), &names[3]["name"]), (4, &json!("cni0.100")));
    let port = names[1]["name"].as_str().unwrap();
    let mut handle = host.netns.handle();
    assert_eq!(vlans(&mut handle, port), ["vid 100 pvid untagged"]);
    let second = add(&host, "c2", &two, &conf);
    assert_eq!(second["interfaces"][3], result["interfaces"][3]);
    for family in [0, 1] {
        talk(&one, &two, address(&second, family));
        talk(&host.netns, &two, address(&second, family));
    }

    let mut later = conf.clone();
    later["prevResult"] = result.clone();
    let check = || {
        let call = host.call("bridge", "CHECK").netns(&one);
        call.conf(&later).make()
    };
    check().silent_success();
    let index = host.netns.link(port).unwrap().index;
    let observed = handle.port_vlans().unwrap();
    let gone: Vec<_> = observed
        .into_iter()
        .filter(|(it, _)| *it == index)
        .map(|(it, vlans)| {
            kernel::route::PortVlanChange::Delete(kernel::route::VlanMember::Port(it), vlans)
        })
        .collect();
    handle.apply_port_vlans(&gone).unwrap();
    let message = check().error().1;
    assert!(message.ends_with("VLAN 100 is missing"), "{message}");
    let call = host.call("bridge", "DEL").netns(&one);
    call.conf(&later).make().silent_success();
    assert!(host.netns.link(port).is_none());
}

#[test]
fn a_trunk_carries_its_vlans_and_the_default_stays_where_asked() {
    if !knows_vlans() {
        return;
    }
    for (more, expected) in [
        (
            json!({"vlanTrunk": [{"minID": 10, "maxID": 12}, {"id": 20}]}),
            vec!["vid 1 pvid untagged", "vid 10-12", "vid 20"],
        ),
        (
            json!({"vlan": 7, "vlanTrunk": [{"id": 7}, {"id": 20}]}),
            vec!["vid 7 pvid untagged", "vid 20"],
        ),
        (
            json!({"vlan": 7, "preserveDefaultVlan": true}),
            vec!["vid 1 untagged", "vid 7 pvid untagged"],
        ),
    ] {
        let (host, container) = (Host::new(), Netns::new());
        let result = add(&host, "c1", &container, &conf(&host, &more));
        let port = result["interfaces"][1]["name"].as_str().unwrap();
        assert_eq!(vlans(&mut host.netns.handle(), port), expected, "{more}");
    }
}
