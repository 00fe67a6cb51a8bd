//! What the program says before it does anything.

use nix::sys::signal::Signal;

use crate::lab::{Lab, TestNamespace, agent_command, eventually};

fn run(test: &str, arguments: &[&str]) -> (Option<i32>, String) {
    run_in(&TestNamespace::new(test, "host"), arguments)
}

/// Runs an agent until it ends, and answers how it did and what it said.
pub fn run_in(host: &TestNamespace, arguments: &[&str]) -> (Option<i32>, String) {
    let output = host
        .namespace
        .run(|| agent_command().args(arguments).output().unwrap())
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn the_version_is_printed() {
    let (code, text) = run("version", &["-version"]);
    assert_eq!(
        (code, text.as_str()),
        (
            Some(0),
            &*format!("tweed flannel-agent {}\n", release::text())
        )
    );
}

#[test]
fn bad_options_end_the_start() {
    for (test, arguments, code, error) in [
        (
            "margin",
            &["-subnet-lease-renew-margin=1440"][..],
            1,
            "Invalid subnet-lease-renew-margin option, out of acceptable range",
        ),
        (
            "flag",
            &["-kube-subnet-manager=true"],
            2,
            "--kube-subnet-manager",
        ),
        (
            "netconf",
            &[
                "--kube-subnet-mgr",
                "--iface=lo",
                "--net-config-path=/nowhere",
            ],
            1,
            "failed to read net conf /nowhere (--net-config-path): No such file",
        ),
        (
            "iface",
            &["--iface=nic7"],
            1,
            "no interface has the name or address nic7; the node has lo",
        ),
        (
            "reach",
            &["--iface-can-reach=192.0.2.1"],
            1,
            "--iface-can-reach: no route of the node leads to 192.0.2.1",
        ),
        (
            "route",
            &[],
            1,
            "there is no default route to choose the interface by",
        ),
        (
            "health",
            &["--iface=lo", "--healthz-ip=192.0.2.1", "--healthz-port=80"],
            1,
            "can't serve /healthz at 192.0.2.1:80",
        ),
    ] {
        let (status, text) = run(test, arguments);
        assert_eq!(status, Some(code), "{text}");
        assert!(text.contains(error), "{text}");
    }
}

#[test]
fn a_bad_network_configuration_ends_the_start_by_its_key() {
    let lab = Lab::new("badconf", r#"{"Network":"10.5.0.0/16","SubnetLen":31}"#);
    let node = lab.node(1);
    let (code, text) = run_in(&node.host, &["--etcd-endpoints=192.168.64.254:2379"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("/coreos.com/network/config in etcd: SubnetLen must be less than /31"),
        "{text}"
    );
}

#[test]
fn the_interface_can_be_chosen_by_what_it_reaches() {
    let lab = Lab::new(
        "canreach",
        r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#,
    );
    let mut node = lab.node(1);
    node.ip("ip", &["route", "delete", "default"]);
    node.start_ready(&["--iface-can-reach=192.168.64.254"]);
    assert!(node.log().contains("interface eth0, address 192.168.64.1"));
}

#[test]
fn a_missing_network_configuration_is_waited_for() {
    let lab = Lab::new("noconf", "{}");
    lab.etcd.delete("config");
    let mut node = lab.node(1);
    node.start(&[]);
    eventually("the agent says what it waits for", || {
        node.count_in_log("waiting for it, write one by: etcdctl put /coreos.com/network/config")
            == 1
    });
    lab.etcd.put(
        "config",
        r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#,
    );
    node.wait_until_ready();
    assert_eq!(node.count_in_log("waiting for it"), 1);
}

#[test]
fn a_signal_ends_the_agent_also_while_it_waits_for_etcd() {
    let mut lab = Lab::new("signal", "{}");
    lab.etcd.stop();
    let mut node = lab.node(1);
    node.start(&[]);
    eventually("the agent says what it waits for", || {
        node.count_in_log("see --etcd-endpoints") == 1
    });
    assert_eq!(node.stop(Signal::SIGTERM).code(), Some(0));
}
