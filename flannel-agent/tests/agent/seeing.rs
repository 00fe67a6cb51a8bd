//! What the agent tells of itself.

use kernel::Family;

use crate::{
    lab::{Lab, Node, eventually},
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
