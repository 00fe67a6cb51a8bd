//! Masquerading by nftables: the rules that the reference leaves, and what they do to packets.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    time::Duration,
};

use lab::{Host, Netns};
use serde_json::{Value, json};

/// What the reference's bridge plugin (1.9) leaves of two interfaces of a container, as nft(8) lists it.
const TABLE: &str = r#"table inet cni_plugins_masquerade {
	comment "Masquerading for plugins from github.com/containernetworking/plugins"
	chain masq_checks {
		comment "Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet"
		ip saddr 10.1.17.2 ip daddr != 10.1.17.0/24 masquerade comment "75e0883ab0b31b1f-f4d01f2ef4b92245, net: masq, if: eth0, id: c1"
		ip6 saddr fd00:0:0:17::2 ip6 daddr != fd00:0:0:17::/64 masquerade comment "75e0883ab0b31b1f-f4d01f2ef4b92245, net: masq, if: eth0, id: c1"
		ip saddr 10.1.17.3 ip daddr != 10.1.17.0/24 masquerade comment "75e0883ab0b31b1f-ce22e8fef5c0a4f4, net: masq, if: eth1, id: c1"
		ip6 saddr fd00:0:0:17::3 ip6 daddr != fd00:0:0:17::/64 masquerade comment "75e0883ab0b31b1f-ce22e8fef5c0a4f4, net: masq, if: eth1, id: c1"
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip daddr 224.0.0.0/4 return
		ip6 daddr ff00::/8 return
		goto masq_checks
	}
}
"#;

fn nft(netns: &Netns, arguments: &str) -> String {
    let output = netns.run(|| {
        Command::new("nft")
            .args(arguments.split(' '))
            .output()
            .unwrap()
    });
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn conf(host: &Host) -> Value {
    json!({
        "name": "masq", "cniVersion": "1.1.0", "isGateway": true, "isDefaultGateway": true,
        "ipMasq": true, "ipMasqBackend": "nftables",
        "ipam": {"type": "host-local", "dataDir": host.path("networks"),
            "ranges": [[{"subnet": "10.1.17.0/24"}], [{"subnet": "fd00:0:0:17::/64"}]]},
    })
}

/// A call for an interface of container `c1`.
fn call(host: &Host, container: &Netns, verb: &str, if_name: &str, conf: &Value) -> lab::Outcome {
    let call = host.call("bridge", verb).netns(container);
    call.env("CNI_IFNAME", if_name).conf(conf).make()
}

fn masquerading(host: &Host) -> usize {
    let rules = nft(&host.netns, "list ruleset");
    rules.matches(" masquerade comment ").count()
}

#[test]
fn rules_are_those_of_the_reference_and_go_with_their_interface() {
    let host = Host::new();
    let container = Netns::new();
    let conf = conf(&host);
    call(&host, &container, "ADD", "eth0", &conf).result();
    call(&host, &container, "ADD", "eth1", &conf).result();
    assert_eq!(nft(&host.netns, "list ruleset"), TABLE);
    call(&host, &container, "DEL", "eth0", &conf).silent_success();
    assert_eq!(masquerading(&host), 2);
    container.unlink();
    call(&host, &container, "DEL", "eth1", &conf).silent_success();
    call(&host, &container, "DEL", "eth1", &conf).silent_success();
    assert_eq!(masquerading(&host), 0);
}

#[test]
fn check_names_the_rule_that_is_missing() {
    let host = Host::new();
    let container = Netns::new();
    let mut conf = conf(&host);
    conf["prevResult"] = call(&host, &container, "ADD", "eth0", &conf).result();
    call(&host, &container, "CHECK", "eth0", &conf).silent_success();
    nft(
        &host.netns,
        "flush chain inet cni_plugins_masquerade masq_checks",
    );
    let (code, message, _) = call(&host, &container, "CHECK", "eth0", &conf).error();
    assert_eq!(
        (code, &*message),
        (
            999,
            "masquerade rule of container c1 is missing: nft add rule inet cni_plugins_masquerade masq_checks ip saddr 10.1.17.2 ip daddr != 10.1.17.0/24 masquerade comment \"75e0883ab0b31b1f-f4d01f2ef4b92245, net: masq, if: eth0, id: c1\""
        )
    );
    nft(
        &host.netns,
        "flush chain inet cni_plugins_masquerade postrouting",
    );
    let (_, message, _) = call(&host, &container, "CHECK", "eth0", &conf).error();
    assert!(
        message.ends_with("postrouting ip daddr 224.0.0.0/4 return"),
        "{message}"
    );
}

#[test]
fn gc_removes_what_is_not_listed() {
    let host = Host::new();
    let container = Netns::new();
    let mut conf = conf(&host);
    call(&host, &container, "ADD", "eth0", &conf).result();
    call(&host, &container, "ADD", "eth1", &conf).result();
    conf["cni.dev/valid-attachments"] = json!([{"containerID": "c1", "ifname": "eth1"}]);
    call(&host, &container, "GC", "eth0", &conf).silent_success();
    let rules = nft(&host.netns, "list ruleset");
    assert!(
        rules.contains("if: eth1") && !rules.contains("if: eth0"),
        "{rules}"
    );
}

#[test]
fn where_there_is_no_iptables_nftables_is_taken() {
    let host = Host::new();
    let container = Netns::new();
    let mut conf = conf(&host);
    conf["ipMasqBackend"] = Value::Null;
    let add = host.call("bridge", "ADD").netns(&container).conf(&conf);
    add.env("PATH", "/nowhere").make().result();
    assert_eq!(masquerading(&host), 2);
}

#[test]
fn what_leaves_the_subnet_has_the_nodes_address() {
    let (host, container, outside) = (Host::new(), Netns::new(), Netns::new());
    let mut conf = conf(&host);
    conf["name"] = "outside".into();
    conf["bridge"] = "br1".into();
    conf["ipMasq"] = false.into();
    conf["ipam"]["ranges"] = json!([[{"subnet": "192.0.2.0/24"}]]);
    call(&host, &outside, "ADD", "eth0", &conf).result();
    for (backend, id) in [("nftables", "c1"), ("iptables", "c2")] {
        let mut conf = self::conf(&host);
        conf["ipMasqBackend"] = backend.into();
        let add = host.call("bridge", "ADD").id(id).netns(&container);
        let add = add.env("PATH", &std::env::var("PATH").unwrap()).conf(&conf);
        add.make().result();
        let seen = peer_seen_by(&outside, &container);
        assert_eq!(seen, Ipv4Addr::new(192, 0, 2, 1), "{backend}");
        let del = host.call("bridge", "DEL").id(id).netns(&container);
        let del = del.env("PATH", &std::env::var("PATH").unwrap()).conf(&conf);
        del.make().silent_success();
    }
}

/// The address that a connection from one namespace to the other's 192.0.2.2 comes from.
fn peer_seen_by(server: &Netns, client: &Netns) -> Ipv4Addr {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let listener = server.run(|| TcpListener::bind(any).unwrap());
    let port = listener.local_addr().unwrap().port();
    let to = SocketAddr::from(([192, 0, 2, 2], port));
    let patience = Duration::from_secs(10);
    let _client = client.run(|| TcpStream::connect_timeout(&to, patience).unwrap());
    match listener.accept().unwrap().1 {
        SocketAddr::V4(peer) => *peer.ip(),
        SocketAddr::V6(peer) => panic!("{peer}"),
    }
}
