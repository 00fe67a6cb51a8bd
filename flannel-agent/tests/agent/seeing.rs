//! What the agent tells of itself.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::PermissionsExt,
    process::Stdio,
};

use kernel::{
    Family,
    route::{Change, LinkSettings},
};

use crate::{
    backends::near,
    lab::{Lab, Node, agent_command, eventually, index},
    nodes::wait_for_peers,
    program::http,
};

const CONF: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;

/// The value of a metric, with its labels as they are printed.
fn metric(node: &Node, name: &str) -> f64 {
    let text = http(node, "/metrics");
    let prefix = format!("flannel_agent_{name} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
    value
        .unwrap_or_else(|| panic!("no {name} in {text}"))
        .parse()
        .unwrap()
}

#[test]
fn metrics_count_leases_repairs_and_failures() {
    let mut lab = Lab::new("metrics", CONF);
    let [mut one, mut two] = [lab.node(1), lab.node(2)];
    one.start_ready(&["--healthz-port=8471", "--ip-masq"]);
    two.start_ready(&[]);
    wait_for_peers(&[&one, &two], Family::V4, "flannel.1");
    lab.etcd.put("subnets/10.5.99.0-24", "rubbish");
    eventually("leases are counted", || {
        let count = |name| metric(&one, name) as u32;
        (
            count("leases_known"),
            count("leases_invalid"),
            count("peers_programmed{family=\"ipv4\"}"),
        ) == (2, 1, 1)
    });
    assert_eq!(metric(&one, "lease_writes_total"), 1.0);
    assert!(metric(&one, "lease_age_seconds") > 0.0);
    assert_eq!(metric(&one, "source_lag_seconds"), 0.0);
    assert!(metric(&one, "event_to_kernel_seconds_count") >= 1.0);

    let repaired = |kind: &str| metric(&one, &format!("drift_repaired_total{{kind=\"{kind}\"}}"));
    assert_eq!(repaired("route"), 0.0);
    one.ip("ip", &["route", "flush", "dev", "flannel.1"]);
    eventually("the repair is counted", || repaired("route") >= 1.0);
    assert_eq!(repaired("link"), 0.0);
    one.ip("ip", &["link", "delete", "flannel.1"]);
    eventually("the repair is counted", || repaired("link") >= 1.0);
    one.ip("nft", &["delete", "table", "ip", "flannel-ipv4"]);
    eventually("the repair is counted", || repaired("rules") >= 1.0);

    lab.etcd.stop();
    eventually("failures are counted", || {
        metric(&one, "source_errors_total") >= 1.0 && metric(&one, "source_lag_seconds") > 0.0
    });
    lab.etcd.run();
    eventually("it is followed again", || {
        metric(&one, "source_lag_seconds") == 0.0
    });
}

/// A command that looks at the node's agent: its exit code and what it prints.
pub fn look(node: &Node, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = agent_command();
    command
        .args(arguments)
        .arg("--subnet-file")
        .arg(node.subnet_file())
        .stdout(Stdio::piped());
    let output = node.host.namespace.run(|| command.output().unwrap());
    let output = output.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn status_tells_every_peer_and_what_is_missing_for_it() {
    let lab = Lab::new("status", CONF);
    let [mut one, mut two] = [lab.node(1), lab.node(2)];
    let (code, text) = look(&one, &["status"]);
    assert!(
        code == Some(1) && text.contains("the agent does not answer at"),
        "{text}"
    );
    one.start_ready(&[]);
    two.start_ready(&[]);
    wait_for_peers(&[&one, &two], Family::V4, "flannel.1");
    let socket = one.subnet_file().with_file_name("flannel-agent.sock");
    let mode = fs::metadata(socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let (name, value) = lab.etcd.lease_of("192.168.64.2").unwrap();
    let mac = value.split("VtepMAC\":\"").nth(1).unwrap()[..17].to_owned();
    let subnet = name.replace('-', "/");
    let (code, text) = look(&one, &["status"]);
    assert_eq!(code, Some(0), "{text}");
    let row = text.lines().last().unwrap();
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!(cells[..5], [&*name, &*subnet, "192.168.64.2", &*mac, "ok"]);

    // Another program's route is not touched, so this node is not reached.
    one.ip("ip", &["link", "add", "other", "up", "type", "bridge"]);
    one.ip("ip", &["route", "replace", &subnet, "dev", "other"]);
    let missing = |text: &str| {
        let status: serde_json::Value = serde_json::from_str(text).unwrap();
        status["peers"][0]["missing"].as_array().unwrap().len()
    };
    let (code, text) = look(&one, &["status", "--json"]);
    assert_eq!((code, missing(&text)), (Some(1), 1), "{text}");
    let (_, text) = look(&one, &["status"]);
    let expected = format!("missing for {name}: route {subnet}");
    assert!(text.contains(&expected), "{text}");
    one.ip("ip", &["route", "delete", &subnet, "dev", "other"]);
    eventually("it is put right", || {
        look(&one, &["status", "--json"]).0 == Some(0)
    });
}

#[test]
fn nobody_has_to_read_what_is_told() {
    let lab = Lab::new("unread", CONF);
    let mut node = lab.node(1);
    node.start_ready_unheard();
    // The repair would be logged.
    node.ip("ip", &["link", "delete", "flannel.1"]);
    eventually("the device is repaired", || {
        node.try_ip("ip", &["link", "show", "flannel.1"])
            .contains("flannel.1:")
    });
    assert!(node.is_running());

    let subnet_file = node.subnet_file();
    let status = |arguments: &[&str]| {
        let mut command = agent_command();
        command
            .args(arguments)
            .arg("--subnet-file")
            .arg(&subnet_file);
        command
    };
    for (mut command, expected) in [
        (status(&["status"]), 0),
        (status(&["status", "--json"]), 0),
        (status(&["status", "--help"]), 0),
        (status(&["--version"]), 0),
        (status(&["--help"]), 0),
        (status(&["--no-such-flag"]), 2),
    ] {
        let (_, stdout) = std::io::pipe().unwrap();
        let (_, stderr) = std::io::pipe().unwrap();
        command.stdout(stdout).stderr(stderr);
        let ended = node.host.namespace.run(|| command.status().unwrap());
        assert_eq!(ended.unwrap().code(), Some(expected), "{command:?}");
    }
}

#[test]
fn check_tells_who_answers_and_what_size_passes() {
    let lab = Lab::new("check", CONF);
    let [mut one, mut two] = [lab.node(1), lab.node(2)];
    one.start_ready(&[]);
    two.start_ready(&[]);
    wait_for_peers(&[&one, &two], Family::V4, "flannel.1");
    let result = |expected: (i32, u64, serde_json::Value)| {
        let (code, text) = look(&one, &["check", "--json", "--count=2"]);
        let check: serde_json::Value = serde_json::from_str(&text).unwrap();
        let peer = &check["peers"][0];
        let lost = peer["lost"].as_u64().unwrap();
        assert_eq!(
            (code.unwrap(), lost, peer["mtu"].clone()),
            expected,
            "{text}"
        );
    };
    result((0, 0, 1450.into()));
    let (code, text) = look(&one, &["check"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.starts_with("NODE ") && text.contains(" 0/5 "),
        "{text}"
    );

    // The network between the nodes passes less than their interfaces. What a veth device takes in may be
    // longer by a VLAN tag, so 1304 bytes pass, 50 of them VXLAN's.
    lab.hub.kernel().apply(&[mtu(&lab, "veth2", 1300)]).unwrap();
    result((1, 0, 1254.into()));
    two.ip("ip", &["link", "set", "eth0", "down"]);
    result((1, 2, serde_json::Value::Null));
}

#[test]
fn check_asks_bridges_where_there_are_no_devices() {
    let conf = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#;
    let lab = Lab::new("checkgw", conf);
    let (one, two) = (near(&lab, 1), near(&lab, 2));
    let mut three = lab.node(3);
    three.start_ready(&[]);
    let bridge = match two.address {
        IpAddr::V4(pod) => Ipv4Addr::from(u32::from(pod) & !255 | 1),
        IpAddr::V6(_) => unreachable!("the network is of IPv4"),
    };
    eventually("both are asked, one where it has no bridge yet", || {
        let (code, text) = look(&one.node, &["check", "--count=1"]);
        let asked = |address: &str| text.contains(&format!("  {address}  "));
        code == Some(0) && asked(&bridge.to_string()) && asked("192.168.64.3")
    });
    two.node.ip("ip", &["link", "set", "eth0", "down"]);
    let (code, text) = look(&one.node, &["check", "--count=1"]);
    assert_eq!(code, Some(1), "{text}");
}

fn mtu(lab: &Lab, name: &str, bytes: u32) -> Change {
    let settings = LinkSettings {
        mtu: Some(bytes),
        ..LinkSettings::default()
    };
    Change::SetLink(index(&mut lab.hub.kernel(), name), settings)
}
