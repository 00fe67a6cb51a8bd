//! `macspoofchk` of the bridge plugin: the rules that the reference leaves, and what they do to packets.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use std::{net::SocketAddr, net::TcpListener, net::TcpStream, process::Command, time::Duration};

use kernel::route::{Change, LinkSettings};
use lab::{Host, Netns, address, talk};
use serde_json::{Value, json};

const MAC: &str = "02:00:00:00:00:07";

fn nft(netns: &Netns, arguments: &str) -> String {
    let run = || Command::new("nft").args(arguments.split(' ')).output();
    let output = netns.run(|| run().unwrap());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn conf(host: &Host) -> Value {
    json!({
        "name": "spoof", "cniVersion": "1.1.0", "isGateway": true, "macspoofchk": true,
        "runtimeConfig": {"mac": MAC},
        "ipam": {"type": "host-local", "dataDir": host.path("networks"), "subnet": "10.1.17.0/24"},
    })
}

fn call(host: &Host, container: &Netns, verb: &str, conf: &Value) -> lab::Outcome {
    let call = host.call("bridge", verb).netns(container);
    call.conf(conf).make()
}

/// What the reference's bridge plugin (1.9) leaves, as nft(8) lists it.
fn table(port: &str) -> String {
    format!(
        r#"table bridge nat {{
	chain PREROUTING {{
		type filter hook prerouting priority dstnat; policy accept;
		iifname "{port}" jump cni-br-iface-c1-eth0 comment "macspoofchk-c1-eth0"
	}}

	chain cni-br-iface-c1-eth0 {{
		jump cni-br-iface-c1-eth0-mac comment "macspoofchk-c1-eth0"
	}}

	chain cni-br-iface-c1-eth0-mac {{
		ether saddr {MAC} return comment "macspoofchk-c1-eth0"
		drop comment "macspoofchk-c1-eth0"
	}}
}}
"#
    )
}

fn set_mac(container: &Netns, mac: &str) {
    let settings = LinkSettings {
        mac: Some(mac.parse().unwrap()),
        ..Default::default()
    };
    let index = container.link("eth0").unwrap().index;
    let change = Change::SetLink(index, settings);
    container.handle().apply(&[change]).unwrap();
}

fn reaches(host: &Host, container: &Netns, server: &Value) -> bool {
    let listener = host.netns.run(|| TcpListener::bind("0.0.0.0:0").unwrap());
    let gateway = server["ips"][0]["gateway"].as_str().unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = SocketAddr::new(gateway.parse().unwrap(), port);
    let patience = Duration::from_millis(300);
    container.run(|| TcpStream::connect_timeout(&to, patience).is_ok())
}

#[test]
fn only_the_containers_own_address_passes() {
    let (host, container) = (Host::new(), Netns::new());
    let mut conf = conf(&host);
    let result = call(&host, &container, "ADD", &conf).result();
    let port = result["interfaces"][1]["name"].as_str().unwrap();
    assert_eq!(nft(&host.netns, "list ruleset"), table(port));
    talk(&host.netns, &container, address(&result, 0));
    conf["prevResult"] = result.clone();
    call(&host, &container, "CHECK", &conf).silent_success();

    set_mac(&container, "02:00:00:00:00:08");
    assert!(!reaches(&host, &container, &result));
    set_mac(&container, MAC);
    talk(&host.netns, &container, address(&result, 0));
}

#[test]
fn check_names_the_rule_that_is_missing() {
    let (host, container) = (Host::new(), Netns::new());
    let mut conf = conf(&host);
    conf["prevResult"] = call(&host, &container, "ADD", &conf).result();
    nft(
        &host.netns,
        "flush chain bridge nat cni-br-iface-c1-eth0-mac",
    );
    let (code, message, _) = call(&host, &container, "CHECK", &conf).error();
    assert_eq!(
        (code, message),
        (
            999,
            format!(
                "macspoofchk rule of container c1 is missing: nft add rule bridge nat cni-br-iface-c1-eth0-mac ether saddr {MAC} return comment \"macspoofchk-c1-eth0\""
            )
        )
    );
}

#[test]
fn del_and_gc_leave_no_rules_of_it_whatever_was_lost() {
    for verb in ["DEL", "GC"] {
        let (host, container, other) = (Host::new(), Netns::new(), Netns::new());
        let mut conf = conf(&host);
        call(&host, &container, "ADD", &conf).result();
        conf["runtimeConfig"] = Value::Null;
        let second = host.call("bridge", "ADD").id("c2").netns(&other);
        second.conf(&conf).make().result();
        container.unlink();
        std::fs::remove_dir_all(host.path("networks")).unwrap();
        conf["cni.dev/valid-attachments"] = json!([{"containerID": "c2", "ifname": "eth0"}]);
        call(&host, &container, verb, &conf).silent_success();
        let rules = nft(&host.netns, "list ruleset");
        assert!(!rules.contains("c1-eth0"), "{verb}: {rules}");
        assert_eq!(rules.matches("comment \"macspoofchk-c2-eth0\"").count(), 4);
    }
}

#[test]
fn a_failed_add_leaves_no_rules() {
    let (host, container) = (Host::new(), Netns::new());
    let mut conf = conf(&host);
    conf["ipMasq"] = true.into();
    conf["ipMasqBackend"] = "iptables".into();
    let add = host.call("bridge", "ADD").netns(&container).conf(&conf);
    let (_, message, _) = add.env("PATH", "/nowhere").make().error();
    assert!(message.starts_with("ipMasq: "), "{message}");
    let rules = nft(&host.netns, "list ruleset");
    assert!(!rules.contains("macspoofchk"), "{rules}");
}
