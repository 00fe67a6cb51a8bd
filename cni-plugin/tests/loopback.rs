//! The loopback plugin.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use lab::{Host, Netns};
use serde_json::json;

#[test]
fn lo_is_up_until_del() {
    let host = Host::new();
    let container = Netns::new();
    let conf = json!({"name": "lo", "cniVersion": "1.0.0", "type": "loopback"});
    let call = |verb| host.call("loopback", verb).netns(&container).conf(&conf);
    let (_, message, _) = call("CHECK").make().error();
    assert_eq!(message, "loopback interface is down");
    let result = call("ADD").make().result();
    let sandbox = container.path();
    assert_eq!(
        result,
        json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": sandbox}],
            "ips": [{"address": "127.0.0.1/8", "interface": 0}, {"address": "::1/128", "interface": 0}],
        })
    );
    call("CHECK").make().silent_success();
    assert!(container.link("lo").unwrap().up);
    call("DEL").make().silent_success();
    assert!(!container.link("lo").unwrap().up);
    container.unlink();
    call("DEL").make().silent_success();
    host.call("loopback", "DEL")
        .conf(&conf)
        .make()
        .silent_success();
}

#[test]
fn a_previous_result_is_passed_on() {
    let host = Host::new();
    let container = Netns::new();
    let previous = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1450, "sandbox": "/n"}],
        "ips": [{"address": "10.1.2.3/24", "interface": 0}],
    });
    let conf = json!({"name": "lo", "cniVersion": "1.1.0", "prevResult": previous});
    let call = host.call("loopback", "ADD").netns(&container).conf(&conf);
    assert_eq!(call.make().result(), previous);
    assert!(container.link("lo").unwrap().up);
}
