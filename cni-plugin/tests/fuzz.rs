//! Whatever is in the configuration, the environment and the files: a call ends with a result or with an
//! error object, never otherwise. `TWEED_FUZZ_SECONDS` has it go on for that long.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::{fd::AsRawFd, unix::fs::symlink},
    path::Path,
    time::{Duration, Instant},
};

use kernel::{
    netns::Namespace,
    route::{Change, NewLink, NewLinkKind, VethPeer},
};
use lab::Netns;
use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestError, TestRunner},
};
use serde_json::{Value, json};
use tempfile::TempDir;

const PLUGINS: [&str; 7] = [
    "flannel",
    "bridge",
    "host-local",
    "portmap",
    "bandwidth",
    "tuning",
    "loopback",
];
const VERBS: [&str; 7] = ["ADD", "ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"];
const VERSIONS: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];

/// The host's end of a pair for the chained plugins.
const HOST_VETH: &str = "veth0";

/// Words that mean something somewhere, and what is just outside of it.
const WORDS: [&str; 54] = [
    "",
    " ",
    "0",
    "1",
    "-1",
    "\0",
    "\r\n",
    "ü",
    "..",
    "../../x",
    "c1",
    "c1\r\neth0",
    "eth0",
    "cni0",
    "host-local",
    "bridge",
    "flannel",
    "1.1.0",
    "0.4.0",
    "9.9.9",
    "10.1.2.3",
    "10.1.2.3/24",
    "10.1.2.0/24",
    "10.1.2.0/33",
    "0.0.0.0/0",
    "0.0.0.0",
    "255.255.255.252/30",
    "255.255.255.255/32",
    "255.255.255.255",
    "::",
    "::/0",
    "fd00::/64",
    "fd00::1",
    "::ffff:10.1.2.3",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126",
    "02:00:00:00:00:01",
    "02:00:00",
    "IP=10.1.2.9",
    "MAC=02:00:00:00:00:09",
    "tcp",
    "sctp",
    "iptables",
    "nftables",
    "dport",
    "! -s",
    "net.ipv4.conf.IFNAME.arp_filter",
    "net/ipv6/conf/IFNAME/../../../../kernel/pid_max",
    "kernel.pid_max",
    "c1_eth0.json",
    r#"{"mac": "02:00:00:00:00:07", "promisc": true, "mtu": 1500}"#,
    "CNI-DN-x; flush ruleset",
    "a b\n-A POSTROUTING -j DROP",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// One change of a JSON value, at a place that is counted off.
#[derive(Clone, Debug)]
enum Mutation {
    Replace(usize, Value),
    Remove(usize),
    Repeat(usize),
}

/// A call, and what it meets.
#[derive(Clone, Debug)]
struct Case {
    plugin: &'static str,
    verb: &'static str,
    version: &'static str,
    mutations: Vec<Mutation>,
    /// Bytes of the configuration that are something else; not of an ADD, which would make directories.
    damage: Vec<(usize, u8)>,
    args: String,
    files: Vec<(String, Vec<u8>)>,
    links: Vec<(String, String)>,
    scratch: Vec<u8>,
    subnet_env: String,
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![4 => select(&WORDS[..]).prop_map(str::to_owned), 1 => ".{0,20}"]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => word().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => select(&[0, -1, 1, 68, 1500, 65_535, 65_536, 4_294_967_296, i64::MAX, i64::MIN][..]).prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => word().prop_map(|word| json!([[{"subnet": word}]])),
        1 => (word(), word()).prop_map(|(start, end)| {
            json!({"subnet": "10.1.2.0/24", "rangeStart": start, "rangeEnd": end})
        }),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..3)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => (any::<usize>(), value()).prop_map(|(place, value)| Mutation::Replace(place, value)),
        1 => any::<usize>().prop_map(Mutation::Remove),
        1 => any::<usize>().prop_map(Mutation::Repeat),
    ]
}

/// A line of `subnet.env`, right or nearly so.
fn line() -> impl Strategy<Value = String> {
    let keys = [
        "FLANNEL_NETWORK",
        "FLANNEL_SUBNET",
        "FLANNEL_IPV6_NETWORK",
        "FLANNEL_IPV6_SUBNET",
        "FLANNEL_MTU",
        "FLANNEL_IPMASQ",
        "OTHER",
    ];
    prop_oneof![
        4 => (select(keys.to_vec()), word()).prop_map(|(key, word)| format!("{key}={word}")),
        1 => word(),
    ]
}

fn subnet_env() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(lab::SUBNET_ENV.to_owned()),
        prop::collection::vec(line(), 0..8).prop_map(|lines| lines.join("\n")),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => word().prop_map(String::into_bytes),
        1 => value().prop_map(|value| value.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let call = (
        select(&PLUGINS[..]),
        select(&VERBS[..]),
        prop_oneof![select(&VERSIONS[..]), Just("1.1.0")],
        prop::collection::vec(mutation(), 0..5),
        prop::collection::vec((any::<usize>(), any::<u8>()), 0..3),
        prop_oneof![3 => Just(String::new()), 1 => word(), 1 => word().prop_map(|it| format!("IP={it}"))],
    );
    let disk = (
        prop::collection::vec((word(), bytes()), 0..6),
        prop::collection::vec((word(), word()), 0..3),
        bytes(),
        subnet_env(),
    );
    (call, disk).prop_map(
        |(
            (plugin, verb, version, mutations, damage, args),
            (files, links, scratch, subnet_env),
        )| Case {
            plugin,
            verb,
            version,
            mutations,
            damage,
            args,
            files,
            links,
            scratch,
            subnet_env,
        },
    )
}

// === impl Case ===

impl Case {
    fn conf(&self, dir: &Path, netns: &Path) -> Value {
        let mut conf = json!({
            "name": "net",
            "cniVersion": self.version,
            "type": self.plugin,
            "bridge": "cni0",
            "isGateway": true,
            "isDefaultGateway": true,
            "hairpinMode": true,
            "mtu": 1450,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.1.2.0/24", "gateway": "10.1.2.1"}], [{"subnet": "fd00::/64"}]],
                "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}],
            },
            "delegate": {"isDefaultGateway": true},
            "dns": {"nameservers": ["10.96.0.10"], "search": ["a.b"]},
            "args": {"cni": {"ips": ["10.1.2.7"], "mac": "02:00:00:00:00:07"}},
            "runtimeConfig": {"ips": ["10.1.3.7/24"], "ipRanges": [[{"subnet": "10.1.3.0/24"}]], "mac": "02:00:00:00:00:07",
                "bandwidth": {"ingressRate": 1_000_000, "ingressBurst": 80_000},
                "portMappings": [
                    {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.1"},
                    {"hostPort": 8080, "containerPort": 80, "protocol": "udp"},
                ]},
            "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}],
            "backend": "nftables",
            "snat": true,
            "masqAll": false,
            "markMasqBit": 13,
            "externalSetMarkChain": null,
            "conditionsV4": ["ip", "saddr", "10.0.0.0/8"],
            "conditionsV6": [],
            "ingressRate": 1_000_000,
            "ingressBurst": 80_000,
            "egressRate": 1_000_000,
            "egressBurst": 80_000,
            "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"},
            "mac": "02:00:00:00:00:08",
            "promisc": true,
            "allmulti": true,
            "txQLen": 100,
            "prevResult": {
                "cniVersion": self.version,
                "interfaces": [
                    {"name": "eth0", "mac": "02:00:00:00:00:07", "sandbox": netns},
                    {"name": HOST_VETH, "sandbox": ""},
                ],
                "ips": [
                    {"version": "4", "address": "10.1.2.7/24", "gateway": "10.1.2.1", "interface": 0},
                    {"version": "6", "address": "fd00::7/64", "interface": 0},
                ],
                "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}],
                "dns": {},
            },
        });
        for mutation in &self.mutations {
            mutation.apply(&mut conf);
        }
        if !conf.is_object() {
            return conf;
        }
        // Nothing is to be made outside of the directory.
        let flannel = self.plugin == "flannel";
        conf["dataDir"] = json!(dir.join("flannel"));
        conf["subnetFile"] = json!(dir.join("subnet.env"));
        if conf["ipam"].is_object() {
            conf["ipam"]["dataDir"] = json!(dir.join("networks"));
        } else if flannel || self.plugin == "host-local" {
            conf["ipam"] = json!({"dataDir": dir.join("networks")});
        }
        conf
    }

    fn prepare(&self, dir: &Path) {
        let network = dir.join("networks/net");
        let index = dir.join("networks/.tweed/net");
        for made in [&network, &index, &dir.join("flannel")] {
            fs::create_dir_all(made).unwrap();
        }
        for (name, content) in &self.files {
            if is_file_name(name) {
                fs::write(network.join(name), content).unwrap();
            }
        }
        for (name, target) in &self.links {
            if is_file_name(name) && !target.is_empty() && !target.contains('\0') {
                // Two of one name are one.
                drop(symlink(target, index.join(format!("{name}@eth0"))));
            }
        }
        fs::write(dir.join("flannel/c1"), &self.scratch).unwrap();
        fs::write(dir.join("subnet.env"), &self.subnet_env).unwrap();
    }

    fn stdin(&self, dir: &Path, netns: &Path) -> Vec<u8> {
        let mut stdin = self.conf(dir, netns).to_string().into_bytes();
        if self.verb != "ADD" {
            for (place, byte) in &self.damage {
                let place = place % stdin.len();
                stdin[place] = *byte;
            }
        }
        stdin
    }

    /// The plugins that make a container's interface are kept from making one: the next call would meet it.
    fn netns<'a>(&self, container: &'a Path) -> &'a Path {
        match self.plugin {
            "flannel" | "bridge" => Path::new("/nowhere"),
            _ => container,
        }
    }

    fn variable(&self, name: &str, netns: &Path) -> Option<OsString> {
        let value = match name {
            "CNI_COMMAND" => self.verb,
            "CNI_CONTAINERID" => "c1",
            "CNI_IFNAME" => "eth0",
            "CNI_NETNS" => return Some(netns.into()),
            "CNI_PATH" => "/nowhere/bin",
            "CNI_ARGS" => &self.args,
            _ => return None,
        };
        Some(value.into())
    }

    fn run(&self, container: &Path) {
        let netns = self.netns(container);
        let dir = TempDir::new().unwrap();
        self.prepare(dir.path());
        let stdin = self.stdin(dir.path(), netns);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        // Exit codes can't be compared.
        let code = cni_plugin::run(
            OsStr::new(self.plugin),
            &[],
            |name| self.variable(name, netns),
            &mut stdin.as_slice(),
            &mut stdout,
            &mut stderr,
        );
        let failed = format!("{code:?}") != format!("{:?}", std::process::ExitCode::SUCCESS);
        assert_eq!(String::from_utf8(stderr).unwrap(), "");
        if failed || matches!(self.verb, "ADD" | "VERSION") {
            let answer: Value = serde_json::from_slice(&stdout).unwrap();
            assert_eq!(failed, answer["code"].is_u64(), "{answer}");
            assert_eq!(failed, answer["msg"].is_string(), "{answer}");
        } else {
            assert!(stdout.is_empty());
        }
    }
}

// === impl Mutation ===

impl Mutation {
    fn apply(&self, root: &mut Value) {
        let (Self::Replace(place, _) | Self::Remove(place) | Self::Repeat(place)) = self;
        let places = pointers(root);
        let pointer = &places[place % places.len()];
        match self {
            Self::Replace(_, value) => {
                if let Some(found) = root.pointer_mut(pointer) {
                    *found = value.clone();
                }
            }
            Self::Repeat(_) => {
                if let Some(Value::Array(array)) = root.pointer_mut(pointer) {
                    array.extend(array.clone());
                }
            }
            Self::Remove(_) => {
                let Some((parent, key)) = pointer.rsplit_once('/') else {
                    return;
                };
                if let Some(Value::Object(parent)) = root.pointer_mut(parent) {
                    parent.remove(key);
                }
            }
        }
    }
}

/// The ways to all values below a value, and to itself.
fn pointers(value: &Value) -> Vec<String> {
    fn walk(value: &Value, here: &str, found: &mut Vec<String>) {
        found.push(here.to_owned());
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let key = key.replace('~', "~0").replace('/', "~1");
                    walk(value, &format!("{here}/{key}"), found);
                }
            }
            Value::Array(array) => {
                for (index, value) in array.iter().enumerate() {
                    walk(value, &format!("{here}/{index}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(value, "", &mut found);
    found
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && !name.contains(['/', '\0'])
        && name.len() < 200
}

/// A pair for the chained plugins.
fn attach(host: &Netns, container: &Netns) {
    let namespace = Namespace::open(container.path()).unwrap();
    let pair = NewLink {
        name: HOST_VETH.parse().unwrap(),
        kind: NewLinkKind::Veth(VethPeer {
            name: "eth0".parse().unwrap(),
            namespace: Some(namespace.as_raw_fd()),
            mac: None,
            mtu: None,
        }),
        mac: None,
        mtu: None,
        up: true,
        master: None,
    };
    host.handle().apply(&[Change::AddLink(pair)]).unwrap();
}

#[test]
fn every_call_ends_with_a_result_or_an_error() {
    let seconds = env::var("TWEED_FUZZ_SECONDS").map_or(0, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    // What is made all the same is made in there.
    let netns = Netns::new();
    let container = Netns::new();
    attach(&netns, &container);
    netns.run(|| {
        let mut cases = 0;
        loop {
            let mut runner = TestRunner::new(Config {
                failure_persistence: None,
                ..Config::default()
            });
            match runner.run(&case(), |case| {
                case.run(&container.path());
                Ok(())
            }) {
                Ok(()) => {}
                Err(TestError::Fail(reason, case)) => panic!("{reason}: {case:#?}"),
                Err(TestError::Abort(reason)) => panic!("{reason}"),
            }
            cases += runner.config().cases;
            if Instant::now() >= end {
                println!("{cases} calls");
                return;
            }
        }
    });
}
