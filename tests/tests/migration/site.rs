//! Two machines with flannel, its CNI plugins and kube-proxy, or with what stands in for them.

use std::{
    collections::BTreeMap,
    env, fs,
    net::IpAddr,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use lab::{Host, Lab, Machine, Programs, Runtime, address, demo, wait_until};
use serde_json::Value;

use crate::talk;

const SYSTEMCTL: &str = include_str!("../../machine/systemctl");
const FLANNELD: &str = include_str!("flanneld.sh");
const KUBE_PROXY: &str = include_str!("kube-proxy.sh");
const CNI: &str = include_str!("cni.sh");
/// As flannel's own manifest has it.
const CONFLIST: &str = r#"{"name": "cbr0", "cniVersion": "1.0.0", "plugins": [
    {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
    {"type": "portmap", "capabilities": {"portMappings": true}}]}"#;
const MANIFEST: &str = include_str!("web.yaml");

/// The machines, and their pods.
pub struct Site {
    machines: Vec<Machine>,
    pods: BTreeMap<String, Pod>,
    /// Last, as it takes the hosts of all others with it.
    pub lab: Lab,
}

pub struct Pod {
    node: usize,
    pub host: Host,
    pub address: IpAddr,
    result: Value,
}

// === impl Site ===

impl Site {
    /// Machines on which flanneld runs.
    pub fn with_peers(mut lab: Lab) -> Self {
        lab.start_etcd().unwrap();
        lab.write_network_config(demo::NETWORK_CONFIG).unwrap();
        let plans: Vec<_> = lab.plan().nodes().collect();
        let machine = |node: &lab::NodePlan| {
            let host = lab.node(&node.name).unwrap();
            let machine = Machine::create(host, &node.directory.join("machine")).unwrap();
            furnish(&machine, &lab.plan().etcd_endpoint());
            machine.sh("systemctl enable --now flanneld").unwrap();
            machine
        };
        let machines: Vec<_> = plans.iter().map(machine).collect();
        for machine in &machines {
            wait_until("flanneld to know the other node", || {
                let routes = machine.sh("ip route show dev flannel.1; ls /run/flannel/subnet.env");
                Ok(routes.is_ok_and(|it| it.contains("via 10.244.")))
            })
            .unwrap_or_else(|error| panic!("{error}: {}", log(machine, "flanneld")));
        }
        Self {
            machines,
            pods: BTreeMap::new(),
            lab,
        }
    }

    /// Has the proxies know the Service of the pods `web1` and `web2`, and starts the one of before.
    pub fn start_kube_proxies(&self) {
        let [web1, web2] = ["web1", "web2"].map(|name| self.pod(name).address.to_string());
        let manifest = MANIFEST.replace("WEB1", &web1).replace("WEB2", &web2);
        for (number, machine) in (1..).zip(&self.machines) {
            let options = format!(
                "OPTIONS=--manifests=/etc/tweed/manifests --cluster-cidr=10.244.0.0/16 --hostname-override=node{number}\n"
            );
            for (path, text) in [
                ("/etc/tweed/manifests/web.yaml", manifest.clone()),
                ("/etc/tweed/service-proxy.env", options),
                ("/etc/kube-proxy.env", format!("PODS={web1} {web2}\n")),
            ] {
                machine.write(path, &text).unwrap();
            }
            machine.sh("systemctl enable --now kube-proxy").unwrap();
            wait_until("kube-proxy to be ready", || {
                Ok(machine.sh("ls /run/kube-proxy.ready").is_ok())
            })
            .unwrap_or_else(|error| panic!("{error}: {}", log(machine, "kube-proxy")));
        }
    }

    /// Runs commands of the guide on a machine, in the directory where the programs are.
    pub fn run(&self, node: usize, commands: &str) {
        let machine = &self.machines[node];
        println!("node{}:\n{commands}", node + 1);
        let commands = format!("cd /root/tweed; {commands}");
        let mut command = machine.command("timeout");
        let output = command
            .args(["60", "sh", "-euc", &commands])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{commands}: {output:?}\n{}{}",
            log(machine, "flannel-agent"),
            log(machine, "service-proxy")
        );
    }

    /// That a node has what ours do, and nothing of the others.
    pub fn assert_ours(&self, node: usize) {
        let machine = &self.machines[node];
        let sh = |script: &str| machine.sh(script).unwrap();
        let rules = sh("iptables-save; nft list tables");
        for table in ["table ip tweed-proxy", "table ip flannel-ipv4"] {
            assert!(rules.contains(table), "{rules}");
        }
        assert!(
            !rules.contains("KUBE-") && !rules.contains("FLANNEL-"),
            "{rules}"
        );
        assert!(sh("ip route show dev flannel.1").contains("proto 84"));
        let said = log(machine, "flannel-agent");
        assert!(said.contains("-24 is renewed"), "{said}");
        assert!(sh("systemctl is-active flannel-agent service-proxy").is_empty());
    }

    /// That a node has what the others do, and nothing of ours.
    pub fn assert_theirs(&self, node: usize) {
        let machine = &self.machines[node];
        let sh = |script: &str| machine.sh(script).unwrap();
        let rules = sh("iptables-save");
        for chain in ["-j KUBE-SVC-", "-j FLANNEL-POSTRTG", "-j FLANNEL-FWD"] {
            assert!(rules.contains(chain), "{rules}");
        }
        let tables = sh("nft list tables");
        assert!(
            !tables.contains("tweed") && !tables.contains("flannel-ipv"),
            "{tables}"
        );
        wait_until("routes to be flanneld's", || {
            let routes = machine.sh("ip route show dev flannel.1")?;
            Ok(routes.contains("onlink") && !routes.contains("proto 84"))
        })
        .unwrap();
        assert!(sh("cat /etc/cni/net.d/10-flannel.conflist").contains(CONFLIST));
        assert!(
            sh("ls /usr/local/bin")
                .lines()
                .all(|it| it != "flannel-agent")
        );
        sh("systemctl is-active flanneld kube-proxy");
    }

    pub fn pod(&self, name: &str) -> &Pod {
        &self.pods[name]
    }

    /// Makes a pod by whatever plugins are installed.
    pub fn add_pod(&mut self, name: &str, node: usize) {
        let host = Host::create(&self.lab.plan().namespace(name)).unwrap();
        let result = self.runtime(node).add(name, &namespace(&host)).unwrap();
        let pod = Pod {
            node,
            host,
            address: address(&result).unwrap(),
            result,
        };
        self.pods.insert(name.to_owned(), pod);
    }

    /// Takes a pod away, and sees that nothing of it is left.
    pub fn delete_pod(&mut self, name: &str) {
        let pod = self.pods.remove(name).unwrap();
        let namespace = namespace(&pod.host);
        self.runtime(pod.node)
            .delete(name, &namespace, &pod.result)
            .unwrap();
        let files =
            self.machines[pod.node].sh("ls /var/lib/cni/networks/cbr0 /var/lib/cni/flannel");
        let files = files.unwrap();
        let left = [name, &pod.address.to_string()];
        assert!(files.lines().all(|file| !left.contains(&file)), "{files}");
        pod.host.destroy().unwrap();
    }

    /// Whether the other side's plugins are the real ones, which can take pods away too.
    pub fn has_real_plugins(&self) -> bool {
        peer("bridge").is_some()
    }

    /// Has a pod answer.
    pub fn serve(&self, pod: &str) {
        talk::serve(&self.pod(pod).host);
    }

    /// Has somebody outside of the cluster answer.
    pub fn serve_outside(&self) {
        talk::serve(self.lab.fabric());
    }

    /// Keys and values of the leases.
    pub fn leases(&self) -> String {
        self.lab
            .etcdctl(&["get", "--prefix", "/coreos.com/network/subnets"])
            .unwrap()
    }

    fn runtime(&self, node: usize) -> Runtime<'_> {
        let name = format!("node{}", node + 1);
        Runtime {
            host: self.lab.node(&name).unwrap(),
            machine: Some(&self.machines[node]),
            plugins: "/opt/cni/bin".into(),
            conflist: "/etc/cni/net.d/10-flannel.conflist".into(),
        }
    }
}

fn namespace(host: &Host) -> PathBuf {
    Path::new(kernel::netns::NAMED).join(host.name())
}

fn log(machine: &Machine, unit: &str) -> String {
    let path = machine.path(&format!("/tmp/systemctl/{unit}.log"));
    format!("{unit}:\n{}", fs::read_to_string(path).unwrap_or_default())
}

/// The real program, if it is given.
fn peer(name: &str) -> Option<PathBuf> {
    let peers = env::var_os("TWEED_PEERS").map(PathBuf::from);
    peers.map(|it| it.join(name)).filter(|it| it.is_file())
}

/// Installs flannel, its plugins and kube-proxy, and lays ours ready.
fn furnish(machine: &Machine, etcd: &str) {
    let unit = |name: &str| {
        format!("[Service]\nEnvironmentFile=/etc/{name}.env\nExecStart=/usr/local/bin/{name}\n")
    };
    let environment =
        format!("FLANNELD_ETCD_ENDPOINTS={etcd}\nFLANNELD_IP_MASQ=true\nFLANNELD_IFACE=eth0\n");
    for (path, text) in [
        ("/etc/systemd/system/flanneld.service", unit("flanneld")),
        ("/etc/systemd/system/kube-proxy.service", unit("kube-proxy")),
        ("/etc/flanneld.env", environment),
        ("/etc/cni/net.d/10-flannel.conflist", CONFLIST.to_owned()),
        ("/run/systemd/system/here", String::new()),
    ] {
        machine.write(path, &text).unwrap();
    }
    for (directory, name, stand_in) in [
        ("/usr/local/bin", "flanneld", FLANNELD),
        ("/usr/local/bin", "kube-proxy", KUBE_PROXY),
        ("/usr/local/bin", "systemctl", SYSTEMCTL),
        ("/opt/cni/bin", "flannel", CNI),
        ("/opt/cni/bin", "portmap", CNI),
        ("/opt/cni/bin", "bridge", CNI),
        ("/opt/cni/bin", "host-local", CNI),
    ] {
        let path = format!("{directory}/{name}");
        machine.write(&path, stand_in).unwrap();
        if let Some(real) = peer(name) {
            println!("the real {name} is used");
            fs::copy(real, machine.path(&path)).unwrap();
        }
        fs::set_permissions(machine.path(&path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let programs = Programs::find().unwrap();
    let home = machine.path("/root/tweed/bin");
    fs::create_dir_all(&home).unwrap();
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    symlink(
        fs::canonicalize(deploy).unwrap(),
        machine.path("/root/tweed/deploy"),
    )
    .unwrap();
    for program in [
        programs.cni_plugin(),
        programs.flannel_agent(),
        programs.service_proxy(),
    ] {
        symlink(&program, home.join(program.file_name().unwrap())).unwrap();
    }
}
