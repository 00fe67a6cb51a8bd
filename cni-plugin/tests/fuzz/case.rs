//! A call, and what it meets.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::symlink,
    path::Path,
};

use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    mutation::{Mutation, mutation},
    words::{bytes, subnet_env, word},
};

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
pub const HOST_VETH: &str = "veth0";

/// A call, and what it meets.
#[derive(Clone, Debug)]
pub struct Case {
    plugin: &'static str,
    verb: &'static str,
    version: &'static str,
    mutations: Vec<Mutation>,
    /// Bytes of the configuration that are something else; not of an ADD, which would make directories.
    damage: Vec<(usize, u8)>,
    container_id: String,
    if_name: String,
    args: String,
    files: Vec<(String, Vec<u8>)>,
    links: Vec<(String, String)>,
    scratch: Vec<u8>,
    subnet_env: String,
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
            "delegate": {"isDefaultGateway": true, "type": "bridge"},
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
            "CNI_CONTAINERID" => &self.container_id,
            "CNI_IFNAME" => &self.if_name,
            "CNI_NETNS" => return Some(netns.into()),
            "CNI_PATH" => "/nowhere/bin",
            "CNI_ARGS" => &self.args,
            _ => return None,
        };
        Some(value.into())
    }

    pub fn run(&self, container: &Path) {
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

pub fn case() -> impl Strategy<Value = Case> {
    let call = (
        select(&PLUGINS[..]),
        select(&VERBS[..]),
        prop_oneof![select(&VERSIONS[..]), Just("1.1.0")],
        prop::collection::vec(mutation(), 0..5),
        prop::collection::vec((any::<usize>(), any::<u8>()), 0..3),
        usually("c1"),
        usually("eth0"),
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
            (plugin, verb, version, mutations, damage, container_id, if_name, args),
            (files, links, scratch, subnet_env),
        )| Case {
            plugin,
            verb,
            version,
            mutations,
            damage,
            container_id,
            if_name,
            args,
            files,
            links,
            scratch,
            subnet_env,
        },
    )
}

/// A variable of the environment, which has no NUL in it.
fn usually(text: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![8 => Just(text.to_owned()), 1 => word().prop_map(|word| word.replace('\0', "x"))]
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && !name.contains(['/', '\0'])
        && name.len() < 200
}
