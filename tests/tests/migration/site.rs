//! Two machines with flannel, its CNI plugins and kube-proxy, or with what stands in for them.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use lab::{Host, Lab, Machine, Runtime, address, apiserver::ApiServer, demo, wait_until};
use serde_json::Value;

use crate::{peers, peers::Mode, services, talk};

const SYSTEMCTL: &str = include_str!("../../machine/systemctl");
/// As flannel's own manifest has it.
const CONFLIST: &str = r#"{"name": "cbr0", "cniVersion": "1.0.0", "plugins": [
    {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
    {"type": "portmap", "capabilities": {"portMappings": true}}]}"#;

/// The machines, and their pods.
pub struct Site {
    machines: Vec<Machine>,
    pods: BTreeMap<String, Pod>,
    server: ApiServer,
    /// In which modes kube-proxy runs, and ours.
    theirs: Mode,
    ours: Mode,
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
    /// Machines on which flanneld runs; the proxies are to run in these modes.
    pub fn with_peers(mut lab: Lab, theirs: Mode, ours: Mode) -> Self {
        lab.start_etcd().unwrap();
        lab.write_network_config(demo::NETWORK_CONFIG).unwrap();
        let plans: Vec<_> = lab.plan().nodes().collect();
        let machine = |node: &lab::NodePlan| {
            let host = lab.node(&node.name).unwrap();
            let machine = Machine::create(host, &node.directory.join("machine")).unwrap();
            furnish(&machine, &lab.plan().etcd_endpoint());
            link(&machine, &peers::older());
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
            server: services::server(&lab),
            theirs,
            ours,
            lab,
        }
    }

    /// Has the proxies know the Service of the pods `web1` and `web2`, and starts the one of before.
    pub fn start_kube_proxies(&self) {
        let web = ["web1", "web2"].map(|name| self.pod(name).address);
        services::apply(&self.server, web);
        for (number, machine) in (1..).zip(&self.machines) {
            let kubeconfig = machine.path("/etc/kube-proxy.kubeconfig");
            self.server.kubeconfig(&kubeconfig).unwrap();
            let options = services::options(number);
            for (path, text) in [
                // For the script that stands in.
                ("/etc/kube-proxy.pods", format!("{} {}\n", web[0], web[1])),
                (
                    "/etc/kube-proxy.env",
                    format!(
                        "OPTIONS=\"{options} --proxy-mode={}\"\n",
                        self.theirs.name()
                    ),
                ),
                (
                    "/etc/tweed/service-proxy.env",
                    format!("OPTIONS=\"{options} --proxy-mode={}\"\n", self.ours.name()),
                ),
            ] {
                machine.write(path, &text).unwrap();
            }
            machine.sh("systemctl enable --now kube-proxy").unwrap();
            wait_until("kube-proxy to be ready", || {
                Ok(self.has_kube_proxys(machine))
            })
            .unwrap_or_else(|error| panic!("{error}: {}", log(machine, "kube-proxy")));
        }
    }

    /// Whether kube-proxy serves the Service on a machine.
    fn has_kube_proxys(&self, machine: &Machine) -> bool {
        let rules = machine.sh(self.theirs.rules());
        rules.is_ok_and(|it| it.contains("10.97.97.97"))
    }

    /// Has other programs ready to be installed on a machine.
    pub fn lay_ready(&self, node: usize, programs: &[PathBuf]) {
        link(&self.machines[node], programs);
    }

    /// The numbers of the processes of ours, and what they are.
    pub fn running(&self, node: usize) -> String {
        let script = "for name in flannel-agent service-proxy; do
            echo $(cat /tmp/systemctl/$name.pid): $($name --version 2>&1)
        done";
        self.machines[node].sh(script).unwrap()
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
        // kube-proxy's iptables mode has set route_localnet, and the rule of that chain guards what it opens.
        let rules = sh("iptables-save | grep -v KUBE-FIREWALL; nft list tables");
        let (there, gone) = match self.ours {
            Mode::Iptables => ("-j KUBE-NET-", "tweed-proxy"),
            Mode::Nftables => ("table ip tweed-proxy", "KUBE-"),
        };
        for ours in [there, "table ip flannel-ipv4"] {
            assert!(rules.contains(ours), "{rules}");
        }
        for others in [gone, "FLANNEL-", "kube-proxy"] {
            assert!(!rules.contains(others), "{rules}");
        }
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
        for chain in ["-j FLANNEL-POSTRTG", "-j FLANNEL-FWD"] {
            assert!(rules.contains(chain), "{rules}");
        }
        assert!(self.has_kube_proxys(machine), "{rules}");
        // Of the tree that ours makes of KUBE-SERVICES.
        assert!(
            !rules.contains("KUBE-NET-") && !rules.contains("KUBE-PORT-"),
            "{rules}"
        );
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
        peers::real("bridge").is_some()
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

/// Installs flannel, its plugins and kube-proxy, and lays ours ready.
fn furnish(machine: &Machine, etcd: &str) {
    let unit = |name: &str, options: &str| {
        format!(
            "[Service]\nEnvironmentFile=/etc/{name}.env\nExecStart=/usr/local/bin/{name} {options}\n"
        )
    };
    let environment =
        format!("FLANNELD_ETCD_ENDPOINTS={etcd}\nFLANNELD_IP_MASQ=true\nFLANNELD_IFACE=eth0\n");
    for (path, text) in [
        ("/etc/systemd/system/flanneld.service", unit("flanneld", "")),
        (
            "/etc/systemd/system/kube-proxy.service",
            unit("kube-proxy", "$OPTIONS"),
        ),
        ("/etc/flanneld.env", environment),
        ("/etc/cni/net.d/10-flannel.conflist", CONFLIST.to_owned()),
        ("/run/systemd/system/here", String::new()),
    ] {
        machine.write(path, &text).unwrap();
    }
    install(machine, "/usr/local/bin/systemctl", SYSTEMCTL);
    for (path, stand_in) in peers::PROGRAMS {
        install(machine, path, stand_in);
        let name = Path::new(path).file_name().unwrap().to_str().unwrap();
        if let Some(real) = peers::real(name) {
            println!("the real {name} is used");
            fs::copy(real, machine.path(path)).unwrap();
        }
    }
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let home = machine.path("/root/tweed/bin");
    fs::create_dir_all(&home).unwrap();
    symlink(
        fs::canonicalize(deploy).unwrap(),
        home.with_file_name("deploy"),
    )
    .unwrap();
}

fn install(machine: &Machine, path: &str, script: &str) {
    machine.write(path, script).unwrap();
    fs::set_permissions(machine.path(path), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Links our programs to where the guides have them.
fn link(machine: &Machine, programs: &[PathBuf]) {
    for program in programs {
        let name = program.file_name().unwrap().to_str().unwrap();
        let path = format!("/root/tweed/bin/{name}");
        machine
            .sh(&format!("ln -sf {} {path}", program.display()))
            .unwrap();
    }
}
