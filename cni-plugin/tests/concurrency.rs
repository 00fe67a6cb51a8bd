//! Many calls at a time, and calls that are killed: no address is given out twice, nothing is left.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::RandomState},
    fs,
    hash::BuildHasher,
    io::Write,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use kernel::{Family, iptables::Iptables};
use lab::{Host, Netns, address};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};

const CONTAINERS: usize = 300;
/// How long a call of a debug build takes at the most on a busy machine.
const LONGEST: Duration = Duration::from_millis(60);

/// A host whose subnet has room for all.
fn host() -> Host {
    let host = Host::new();
    let env = lab::SUBNET_ENV.replace("10.1.17.1/24", "10.1.16.1/22");
    fs::write(host.path("subnet.env"), env).unwrap();
    host
}

fn containers(count: usize) -> Vec<(String, Netns)> {
    (0..count)
        .map(|number| (format!("c{number}"), Netns::new()))
        .collect()
}

/// Calls `work` for each container, all at once.
fn all_at_once<T: Send>(
    containers: &[(String, Netns)],
    work: impl Fn(&str, &Netns) -> T + Sync,
) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = containers
            .iter()
            .map(|(id, netns)| scope.spawn(move || work(id, netns)))
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join().unwrap());
        joined.collect()
    })
}

/// Starts a call, and kills it at some moment. Answers whether it was faster.
fn call_and_kill(host: &Host, verb: &str, conf: &Value, id: &str, netns: &Netns) -> bool {
    let random = RandomState::new().hash_one(id);
    let delay = LONGEST.mul_f64((random % 1000) as f64 / 1000.0);
    host.netns.run(|| {
        let mut child = Command::new(host.path("flannel"))
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", id)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_NETNS", netns.path())
            .env("CNI_PATH", host.path(""))
            .env("PATH", std::env::var("PATH").unwrap())
            // Commands that it runs are killed with it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(conf.to_string().as_bytes()).unwrap();
        drop(stdin);
        thread::sleep(delay);
        killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
        child.wait().unwrap().success()
    })
}

/// Nothing but what belongs to the network itself.
fn assert_clean(host: &Host, containers: &[(String, Netns)]) {
    assert_eq!(host.netns.links(), ["cni0", "lo"]);
    let files = host.files("networks/cbr0");
    assert_eq!(files, ["last_reserved_ip.0", "last_reserved_ip.1", "lock"]);
    assert!(host.files("flannel.d").is_empty());
    for family in Family::ALL {
        let save = || Iptables::of_node(family).unwrap().save("nat").unwrap();
        let nat = host.netns.run(save);
        let ours: Vec<_> = nat
            .chains
            .iter()
            .filter(|chain| chain.name.starts_with("CNI-") || !chain.rules.is_empty())
            .collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
    for (id, netns) in containers {
        assert_eq!(netns.links(), ["lo"], "{id}");
    }
}

#[test]
fn three_hundred_at_once_get_an_address_each_and_leave_nothing() {
    let host = host();
    let conf = host.flannel_conf();
    let containers = containers(CONTAINERS);
    let results = all_at_once(&containers, |id, netns| host.add(&conf, id, netns));
    for family in [0, 1] {
        let addresses = results.iter().map(|result| address(result, family));
        assert_eq!(addresses.collect::<BTreeSet<_>>().len(), CONTAINERS);
    }
    assert_eq!(host.netns.links().len(), CONTAINERS + 2);
    let results: BTreeMap<String, Value> = containers
        .iter()
        .map(|(id, _)| id.clone())
        .zip(results)
        .collect();
    all_at_once(&containers, |id, netns| {
        let mut conf = conf.clone();
        conf["prevResult"] = results[id].clone();
        let call = host.call("flannel", "CHECK").id(id).netns(netns);
        call.conf(&conf).make().silent_success();
    });
    all_at_once(&containers, |id, netns| host.del(&conf, id, netns));
    assert_clean(&host, &containers);
}

#[test]
fn what_killed_calls_leave_gc_finds() {
    let host = host();
    let conf = host.flannel_conf();
    let containers = containers(100);
    // The network is there: the bridge, the directories.
    host.add(&conf, "first", &containers[0].1);
    host.del(&conf, "first", &containers[0].1);
    let mut masqueraded = conf.clone();
    masqueraded["delegate"] = json!({"ipMasq": true});
    all_at_once(&containers, |id, netns| {
        call_and_kill(&host, "ADD", &masqueraded, id, netns)
    });
    // Half of them once more: what is there is refused, what is half there must not be in the way of a DEL.
    let (again, _) = containers.split_at(50);
    all_at_once(again, |id, netns| {
        call_and_kill(&host, "DEL", &masqueraded, id, netns);
        call_and_kill(&host, "ADD", &masqueraded, id, netns)
    });
    let mut collect = masqueraded;
    collect["cni.dev/valid-attachments"] = json!([]);
    let call = host.call("flannel", "GC").conf(&collect);
    let call = call.env("PATH", &std::env::var("PATH").unwrap());
    call.make().silent_success();
    assert_clean(&host, &containers);
    // All addresses can be had again.
    let results = all_at_once(&containers, |id, netns| host.add(&conf, id, netns));
    let addresses = results.iter().map(|result| address(result, 0));
    assert_eq!(addresses.collect::<BTreeSet<_>>().len(), containers.len());
    all_at_once(&containers, |id, netns| host.del(&conf, id, netns));
    assert_clean(&host, &containers);
}
