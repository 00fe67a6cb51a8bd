//! The lab itself: made, found again, taken down.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::SocketAddr,
    os::fd::AsRawFd,
    os::unix::{fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use kernel::{
    netns,
    route::{Change, NewLink, NewLinkKind, NextHop, Protocol, Route, VethPeer},
};
use serde::{Deserialize, Serialize};

use crate::{
    Host, NodePlan, Plan, Pod, Programs, capabilities,
    container::{self, Runtime, write_conflist},
    etcd, wait_until,
};

/// The port that the servers in pods listen on.
pub const POD_PORT: u16 = 80;

const FABRIC: &str = "fabric";
const UNDERLAY: &str = "underlay";
const STATE: &str = "lab.json";

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    plan: Plan,
    programs: Programs,
    fabric: Host,
    nodes: BTreeMap<String, Host>,
    pods: BTreeMap<String, Pod>,
    children: BTreeMap<String, Child>,
    owned: bool,
}

/// What is kept on disk, for a later process to find the lab again.
#[derive(Serialize, Deserialize)]
struct State {
    plan: Plan,
    pods: BTreeMap<String, Pod>,
}

// === impl Lab ===

impl Lab {
    /// Makes the namespaces, the underlay and etcd; nothing runs on the nodes yet. What is left of
    /// a lab of the same name is taken down first.
    ///
    /// The lab is taken down when it is dropped, unless it is [kept](Self::keep).
    pub fn create(plan: Plan, programs: Programs) -> Result<Self> {
        Self::down(&plan.name)?;
        let directory = plan.directory();
        for directory in [&directory, &plan.manifests()] {
            fs::create_dir_all(directory)
                .with_context(|| format!("make {}", directory.display()))?;
        }
        let mut lab = Self {
            fabric: Host::create(&plan.namespace(FABRIC))?,
            plan,
            programs,
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            children: BTreeMap::new(),
            owned: true,
        };
        lab.connect()?;
        lab.save()?;
        Ok(lab)
    }

    /// Finds a lab that an earlier process made.
    pub fn open(name: &str, programs: Programs) -> Result<Self> {
        let path = Plan::new(name, 1)?.directory().join(STATE);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("no lab {name:?}: read {}", path.display()))?;
        let State { plan, pods } =
            serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
        let nodes = plan
            .nodes()
            .map(|node| Ok((node.name.clone(), Host::open(&plan.namespace(&node.name))?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            fabric: Host::open(&plan.namespace(FABRIC))?,
            plan,
            programs,
            nodes,
            pods,
            children: BTreeMap::new(),
            owned: false,
        })
    }

    /// Takes down whatever is left of a lab: its processes, namespaces and files. Answers whether there
    /// was anything.
    pub fn down(name: &str) -> Result<bool> {
        let plan = Plan::new(name, 1)?;
        let mut found = false;
        for namespace in namespaces(&plan.namespace_prefix())? {
            // A mount point without its mount is what a process killed in between leaves.
            Host::open(&namespace)?.destroy()?;
            found = true;
        }
        let directory = plan.directory();
        if directory.exists() {
            fs::remove_dir_all(&directory)
                .with_context(|| format!("remove {}", directory.display()))?;
            found = true;
        }
        Ok(found)
    }

    /// Leaves the lab running when this process ends.
    pub fn keep(mut self) {
        self.owned = false;
    }

    /// Its shape.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The host between the nodes, where etcd runs.
    pub fn fabric(&self) -> &Host {
        &self.fabric
    }

    /// A node's host.
    pub fn node(&self, name: &str) -> Result<&Host> {
        self.nodes
            .get(name)
            .with_context(|| format!("the lab has no node {name:?}"))
    }

    /// Its pods by name.
    pub fn pods(&self) -> &BTreeMap<String, Pod> {
        &self.pods
    }

    /// A pod.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        self.pods
            .get(name)
            .with_context(|| format!("the lab has no pod {name:?}"))
    }

    /// A pod's host.
    pub fn pod_host(&self, name: &str) -> Result<Host> {
        Host::open(&self.pod(name)?.namespace)
    }

    /// Runs `etcdctl` against the lab's etcd.
    pub fn etcdctl(&self, arguments: &[&str]) -> Result<String> {
        etcd::etcdctl(&self.fabric, &self.plan, arguments)
    }

    /// Starts etcd and waits until it answers.
    pub fn start_etcd(&mut self) -> Result<()> {
        self.start("etcd", FABRIC, etcd::server(&self.plan))?;
        wait_until("etcd to answer", || {
            Ok(self.etcdctl(&["get", "health"]).is_ok())
        })
    }

    /// Writes flannel's network configuration to etcd.
    pub fn write_network_config(&self, json: &str) -> Result<()> {
        self.etcdctl(&["put", "/coreos.com/network/config", json])
            .map(drop)
    }

    /// Starts flannel-agent on a node, with the rights that the manifests give it.
    pub fn start_agent(&mut self, node: &str) -> Result<()> {
        let plan = self.node_plan(node)?;
        let mut command =
            capabilities::limited(&self.programs.flannel_agent(), capabilities::AGENT)?;
        command
            .args(["--etcd-endpoints", &self.plan.etcd_endpoint()])
            .args(["--etcd-prefix", "/coreos.com/network"])
            .args(["--iface", "eth0", "--subnet-file"])
            .arg(plan.directory.join("subnet.env"))
            .args(["--healthz-ip", "127.0.0.1", "--healthz-port", "10254"]);
        self.start(&agent_of(node), node, command)
    }

    /// Starts service-proxy on a node, with the rights that the manifests give it.
    pub fn start_proxy(&mut self, node: &str) -> Result<()> {
        self.start_proxy_with(node, &[])
    }

    /// The same with options that overrule the lab's.
    pub fn start_proxy_with(&mut self, node: &str, options: &[&str]) -> Result<()> {
        let mut command =
            capabilities::limited(&self.programs.service_proxy(), capabilities::PROXY)?;
        command
            .arg("--manifests")
            .arg(self.plan.manifests())
            .args(["--hostname-override", node, "--proxy-mode", "nftables"])
            .args(["--cluster-cidr", &self.plan.pod_network.to_string()])
            .args(options);
        self.start(&proxy_of(node), node, command)
    }

    /// Ends flannel-agent on a node with SIGKILL.
    pub fn kill_agent(&mut self, node: &str) -> Result<()> {
        self.kill(&agent_of(node))
    }

    /// Ends service-proxy on a node with SIGKILL.
    pub fn kill_proxy(&mut self, node: &str) -> Result<()> {
        self.kill(&proxy_of(node))
    }

    /// What flannel-agent on a node has logged.
    pub fn agent_log(&self, node: &str) -> Result<String> {
        self.log(&agent_of(node))
    }

    /// What service-proxy on a node has logged.
    pub fn proxy_log(&self, node: &str) -> Result<String> {
        self.log(&proxy_of(node))
    }

    /// Waits until flannel-agent on every node has a lease and a way to every other node.
    pub fn wait_for_overlay(&self) -> Result<()> {
        for node in self.plan.nodes() {
            let subnet_file = node.directory.join("subnet.env");
            wait_until(&format!("{} to be written", subnet_file.display()), || {
                Ok(subnet_file.exists())
            })?;
            let mut handle = self.node(&node.name)?.route()?;
            let device = "flannel.1".parse()?;
            wait_until(&format!("{} to know every other node", node.name), || {
                let Some(link) = handle.link_by_name(&device)? else {
                    return Ok(false);
                };
                Ok(handle.fdb(link.index)?.len() + 1 == usize::from(self.plan.nodes))
            })?;
        }
        Ok(())
    }

    /// Makes a pod as a container runtime does and starts a server in it.
    pub fn add_pod(&mut self, name: &str, node: &str) -> Result<()> {
        let host = Host::create(&self.plan.namespace(name))?;
        let container_id = format!("{}{name}", self.plan.name);
        let result = self
            .runtime(node)?
            .add(&container_id, &netns_path(host.name()))?;
        let pod = Pod {
            name: name.to_owned(),
            node: node.to_owned(),
            namespace: host.name().to_owned(),
            container_id,
            address: container::address(&result)?,
            result,
        };
        let server = SocketAddr::new(pod.address, POD_PORT);
        self.pods.insert(name.to_owned(), pod);
        self.save()?;
        let mut command = Command::new(self.programs.lab());
        command.args(["serve", "--name", name, "--port", &POD_PORT.to_string()]);
        self.start(name, name, command)?;
        wait_until(&format!("the server in {name}"), || {
            host.within(|| std::net::TcpStream::connect(server).is_ok())
        })
    }

    /// Ends a pod as a container runtime does.
    pub fn delete_pod(&mut self, name: &str) -> Result<()> {
        let pod = self.pod(name)?.clone();
        let host = Host::open(&pod.namespace)?;
        self.runtime(&pod.node)?.delete(
            &pod.container_id,
            &netns_path(host.name()),
            &pod.result,
        )?;
        host.destroy()?;
        self.pods.remove(name);
        self.save()
    }

    /// A node's container runtime.
    pub fn runtime(&self, node: &str) -> Result<Runtime<'_>> {
        let directory = self.node_plan(node)?.directory;
        Ok(Runtime {
            host: self.node(node)?,
            machine: None,
            plugins: directory.join("cni/bin"),
            conflist: directory.join("cni/10-flannel.conflist"),
        })
    }

    /// The plan of a node.
    pub fn node_plan(&self, name: &str) -> Result<NodePlan> {
        self.plan
            .nodes()
            .find(|node| node.name == name)
            .with_context(|| format!("the lab has no node {name:?}"))
    }

    fn connect(&mut self) -> Result<()> {
        let mut fabric = self.fabric.route()?;
        fabric.apply(&[add_link(UNDERLAY, NewLinkKind::Bridge, None)?])?;
        let address = self.plan.on_underlay(self.plan.fabric_address())?;
        let underlay = self.fabric.configure(UNDERLAY, address)?;
        for node in self.plan.nodes() {
            let host = Host::create(&self.plan.namespace(&node.name))?;
            let peer = VethPeer {
                name: "eth0".parse()?,
                namespace: Some(host.namespace().as_raw_fd()),
                mac: None,
                mtu: None,
            };
            fabric.apply(&[add_link(
                &node.name,
                NewLinkKind::Veth(peer),
                Some(underlay),
            )?])?;
            let uplink = host.configure("eth0", self.plan.on_underlay(node.address)?)?;
            let default = Route {
                destination: "0.0.0.0/0".parse()?,
                next_hop: NextHop::Gateway {
                    gateway: self.plan.fabric_address().into(),
                    interface: uplink,
                    onlink: false,
                },
                protocol: Protocol::STATIC,
                table: Route::MAIN,
                metric: 0,
                source: None,
            };
            host.route()?.apply(&[Change::ReplaceRoute(default)])?;
            self.nodes.insert(node.name.clone(), host);
            self.install_cni(&node)?;
        }
        Ok(())
    }

    fn install_cni(&self, node: &NodePlan) -> Result<()> {
        let plugins = node.directory.join("cni/bin");
        fs::create_dir_all(&plugins).with_context(|| format!("make {}", plugins.display()))?;
        for name in ["flannel", "portmap"] {
            symlink(self.programs.cni_plugin(), plugins.join(name))?;
        }
        write_conflist(node, &node.directory.join("cni/10-flannel.conflist"))
    }

    /// Starts a program on a host, in a process group of its own: an interrupt at the terminal is for
    /// the lab, which then ends its programs itself.
    fn start(&mut self, name: &str, host: &str, mut command: Command) -> Result<()> {
        let path = self.log_path(name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let host = Host::open(&self.plan.namespace(host))?;
        let child = host.spawn(&mut command)?;
        self.children.insert(name.to_owned(), child);
        Ok(())
    }

    fn kill(&mut self, name: &str) -> Result<()> {
        let mut child = self
            .children
            .remove(name)
            .with_context(|| format!("{name} was not started by this process"))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn log(&self, name: &str) -> Result<String> {
        let path = self.log_path(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.plan.directory().join(format!("{name}.log"))
    }

    fn save(&self) -> Result<()> {
        let path = self.plan.directory().join(STATE);
        let state = State {
            plan: self.plan.clone(),
            pods: self.pods.clone(),
        };
        fs::write(&path, serde_json::to_string_pretty(&state)?)
            .with_context(|| format!("write {}", path.display()))
    }

    fn take_down(&mut self) -> Result<()> {
        for name in self.children.keys().cloned().collect::<Vec<_>>() {
            self.kill(&name)?;
        }
        Self::down(&self.plan.name).map(drop)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        if let Err(error) = self.take_down() {
            eprintln!("take down lab {}: {error:#}", self.plan.name);
        }
    }
}

fn agent_of(node: &str) -> String {
    format!("flannel-agent-{node}")
}

fn proxy_of(node: &str) -> String {
    format!("service-proxy-{node}")
}

fn netns_path(name: &str) -> PathBuf {
    Path::new(netns::NAMED).join(name)
}

fn add_link(
    name: &str,
    kind: NewLinkKind,
    master: Option<kernel::route::IfIndex>,
) -> Result<Change> {
    Ok(Change::AddLink(NewLink {
        name: name.parse()?,
        kind,
        mac: None,
        mtu: None,
        up: true,
        master,
    }))
}

/// The named namespaces whose names begin with a prefix.
fn namespaces(prefix: &str) -> Result<Vec<String>> {
    let directory = Path::new(netns::NAMED);
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
        if let Ok(name) = entry?.file_name().into_string()
            && name.starts_with(prefix)
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
