//! Limits on what containers receive and send, as the kernel has them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use kernel::{
    netns::Namespace,
    route::Change,
    tc::{self, Qdisc},
};
use lab::{Host, Netns, address, talk};
use serde_json::{Value, json};

fn conf(previous: &Value, bandwidth: &Value) -> Value {
    json!({
        "name": "cbr0", "cniVersion": "1.1.0", "type": "bandwidth", "prevResult": previous,
        "runtimeConfig": {"bandwidth": bandwidth},
    })
}

fn limits() -> Value {
    json!({"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 16_000_000, "egressBurst": 800_000})
}

fn devices(host: &Host) -> Vec<String> {
    let mut links = host.netns.links();
    links.retain(|name| name.starts_with("bwp"));
    links
}

#[test]
fn both_directions_are_limited_until_del() {
    let host = Host::new();
    let container = Netns::new();
    let previous = host.add(&host.flannel_conf(), "c1", &container);
    let conf = conf(&previous, &limits());
    let call = |verb| host.call("bandwidth", verb).netns(&container).conf(&conf);
    let (_, message, _) = call("CHECK").make().error();
    assert_eq!(message, "Failed to find qdisc");
    let result = call("ADD").make().result();
    call("ADD").make().result();
    call("CHECK").make().silent_success();
    let names = devices(&host);
    assert_eq!(result["interfaces"][3]["name"], json!(names[0]));
    assert_eq!(names.len(), 1);
    let namespace = Namespace::open(host.netns.path()).unwrap();
    let mut control = tc::Handle::open_in(&namespace).unwrap();
    let port = previous["interfaces"][1]["name"].as_str().unwrap();
    let port = host.netns.link(port).unwrap();
    let mut rate = |name: &str| {
        let link = host.netns.link(name).unwrap();
        match control.root(link.index).unwrap() {
            Some(Qdisc::Tbf(bucket)) => bucket.rate,
            other => panic!("{name}: {other:?}"),
        }
    };
    assert_eq!(
        (rate(port.name.as_str()), rate(&names[0])),
        (1_000_000, 2_000_000)
    );
    talk(&host.netns, &container, address(&previous, 0));
    control
        .apply(&[tc::Change::DeleteIngress(port.index)])
        .unwrap();
    let (_, message, _) = call("CHECK").make().error();
    assert_eq!(
        message,
        format!(
            "what {} receives is not redirected to {}",
            port.name, names[0]
        )
    );
    call("DEL").make().silent_success();
    assert!(devices(&host).is_empty());
    call("DEL").make().silent_success();
}

#[test]
fn gc_removes_devices_without_a_pair() {
    let host = Host::new();
    let (one, two) = (Netns::new(), Netns::new());
    let mut ports = Vec::new();
    for (id, netns) in [("c1", &one), ("c2", &two)] {
        let previous = host.add(&host.flannel_conf(), id, netns);
        ports.push(
            previous["interfaces"][1]["name"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
        let call = host.call("bandwidth", "ADD").id(id).netns(netns);
        call.conf(&conf(&previous, &limits())).make().result();
    }
    let port = host.netns.link(&ports[0]).unwrap().index;
    host.netns
        .handle()
        .apply(&[Change::DeleteLink(port)])
        .unwrap();
    let mut conf = conf(&Value::Null, &Value::Null);
    conf["cni.dev/valid-attachments"] = json!([]);
    host.call("bandwidth", "GC")
        .conf(&conf)
        .make()
        .silent_success();
    // The other one's pair is there: another network's, for all that is known.
    assert_eq!(devices(&host).len(), 1);
}

#[test]
fn what_is_not_limited_or_not_chained() {
    let host = Host::new();
    let container = Netns::new();
    let previous = host.add(&host.flannel_conf(), "c1", &container);
    let call = |conf: &Value| {
        let call = host.call("bandwidth", "ADD").netns(&container);
        call.conf(conf).make()
    };
    assert_eq!(call(&conf(&previous, &Value::Null)).result(), previous);
    assert!(devices(&host).is_empty());
    let (_, message, _) = call(&conf(&Value::Null, &limits())).error();
    assert_eq!(message, "must be called as chained plugin");
    let (_, message, _) = call(&conf(&previous, &json!({"egressRate": 8}))).error();
    assert_eq!(message, "if rate is set, burst must also be set");
}
