//! A node with pods, a client and somebody outside, each a network namespace with a veth to the node.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use ipnetwork::IpNetwork;
use kernel::{
    Family,
    netns::Namespace,
    route::{Address, Change, Handle, IfIndex, Link, NewLink, NewLinkKind, VethPeer},
    sysctl,
};

use lab::{apiserver::ApiServer, default_route, up};

use crate::{
    foreign,
    manifest::Service,
    server::{self, Answer, Connection, Datagrams, Transport},
};

/// The pods that serve.
pub const PODS: [Place; 3] = [Place::Pod1, Place::Pod2, Place::Pod3];
const LEAVES: [Place; 5] = [
    Place::Pod1,
    Place::Pod2,
    Place::Pod3,
    Place::Client,
    Place::Outside,
];
const LOOPBACK: IfIndex = IfIndex(1);

/// The pod network.
pub const CLUSTER_CIDR: &str = "10.244.0.0/16,fd00:10:244::/48";

/// A network namespace of the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where the proxy runs.
    Node,
    /// An endpoint.
    Pod1,
    /// An endpoint.
    Pod2,
    /// An endpoint.
    Pod3,
    /// A pod that is no endpoint.
    Client,
    /// Not of the pod network.
    Outside,
}

/// All namespaces, and the directory of the manifests.
pub struct Network {
    /// Where the objects are for a proxy that does not read manifests.
    server: Option<ApiServer>,
    node: Named,
    leaves: Vec<Named>,
    directory: tempfile::TempDir,
}

/// A named namespace that goes when it is dropped.
struct Named {
    name: String,
    namespace: Namespace,
}

// === impl Place ===

impl Place {
    /// The name that servers answer with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Pod1 => "pod1",
            Self::Pod2 => "pod2",
            Self::Pod3 => "pod3",
            Self::Client => "client",
            Self::Outside => "outside",
        }
    }

    /// Its own address.
    pub fn address(self, family: Family) -> IpAddr {
        self.host(family, 2)
    }

    /// The node's address on the way to it.
    pub fn gateway(self, family: Family) -> IpAddr {
        self.host(family, 1)
    }

    fn host(self, family: Family, host: u8) -> IpAddr {
        let link = self as u8;
        match (self, family) {
            (Self::Outside, Family::V4) => Ipv4Addr::new(192, 0, 2, host).into(),
            (Self::Outside, Family::V6) => {
                Ipv6Addr::new(0xfd00, 0xc0, 0, 0, 0, 0, 0, host.into()).into()
            }
            (_, Family::V4) => Ipv4Addr::new(10, 244, link, host).into(),
            (_, Family::V6) => {
                Ipv6Addr::new(0xfd00, 0x10, 0x244, link.into(), 0, 0, 0, host.into()).into()
            }
        }
    }
}

// === impl Network ===

impl Network {
    /// Makes all of it, with servers in the pods.
    pub fn new() -> Self {
        // The servers of all tests, and what others connect to them with, are of one process.
        service_proxy::tuning::use_all_descriptors();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let named = |place: Place| {
            Named::create(format!(
                "sp{}-{number}-{}",
                std::process::id(),
                place.name()
            ))
        };
        let mut network = Self {
            server: None,
            node: named(Place::Node),
            leaves: LEAVES.map(named).into(),
            directory: tempfile::tempdir().unwrap(),
        };
        network.node.namespace.run(forward).unwrap();
        let mut node = Handle::open_in(&network.node.namespace).unwrap();
        node.apply(&[up(LOOPBACK)]).unwrap();
        for (place, leaf) in LEAVES.into_iter().zip(&network.leaves) {
            attach(&mut node, place, &leaf.namespace);
        }
        // So that the node itself has a way to the cluster IPs.
        let outside = node
            .link_by_name(&Place::Outside.name().parse().unwrap())
            .unwrap()
            .unwrap()
            .index;
        let defaults =
            Family::ALL.map(|family| default_route(outside, Place::Outside.address(family)));
        node.apply(&defaults).unwrap();
        for pod in PODS {
            server::serve(network.namespace(pod), pod.name());
        }
        network.server = foreign::program().map(|_| foreign::serve(&network));
        network
    }

    /// The API server, where the proxy needs one.
    pub fn server(&self) -> Option<&ApiServer> {
        self.server.as_ref()
    }

    /// The namespace of a place.
    pub fn namespace(&self, place: Place) -> &Namespace {
        let leaf = LEAVES.iter().position(|leaf| *leaf == place);
        leaf.map_or(&self.node.namespace, |index| &self.leaves[index].namespace)
    }

    /// The directory of the manifests.
    pub fn manifests(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// Writes the manifest of a Service, by way of another file.
    pub fn write(&self, service: &Service) {
        self.write_text(&service.name, &service.manifest());
    }

    /// The same with any manifest.
    pub fn write_text(&self, name: &str, manifest: &str) {
        let path = self.directory.path().join(format!("{name}.yaml"));
        let temporary = path.with_extension("tmp");
        fs::write(&temporary, manifest).unwrap();
        fs::rename(&temporary, &path).unwrap();
        if let Some(server) = &self.server {
            foreign::apply(server, manifest);
        }
    }

    /// Removes a manifest, and so its objects.
    pub fn remove(&self, name: &str) {
        let path = self.directory.path().join(format!("{name}.yaml"));
        if let Some(server) = &self.server {
            foreign::delete(server, &fs::read_to_string(&path).unwrap());
        }
        fs::remove_file(&path).unwrap();
    }

    /// Asks once.
    pub fn ask(&self, from: Place, transport: Transport, to: SocketAddr) -> io::Result<Answer> {
        self.namespace(from)
            .run(|| server::ask(transport, to))
            .unwrap()
    }

    /// Asks so many times.
    pub fn ask_many(
        &self,
        from: Place,
        transport: Transport,
        to: SocketAddr,
        times: usize,
    ) -> Vec<Answer> {
        let ask = || {
            (0..times)
                .map(|_| server::ask(transport, to))
                .collect::<io::Result<_>>()
        };
        let answers: io::Result<Vec<_>> = self.namespace(from).run(ask).unwrap();
        answers.unwrap_or_else(|error| panic!("{from:?} {transport:?} {to}: {error}"))
    }

    /// Opens a connection and keeps it.
    pub fn connect(&self, from: Place, to: SocketAddr) -> Connection {
        self.namespace(from)
            .run(|| Connection::open(to))
            .unwrap()
            .unwrap()
    }

    /// Takes a port to send datagrams from.
    pub fn datagrams(&self, from: Place, to: SocketAddr) -> Datagrams {
        self.namespace(from)
            .run(|| Datagrams::open(to))
            .unwrap()
            .unwrap()
    }

    /// An interface of the node by its name.
    pub fn interface(&self, name: &str) -> Option<Link> {
        let mut node = Handle::open_in(&self.node.namespace).unwrap();
        node.link_by_name(&name.parse().unwrap()).unwrap()
    }

    /// Runs nft on the node and answers with what it prints.
    pub fn nft(&self, commands: &str) -> String {
        self.run("nft", [commands])
    }

    /// Runs a program on the node, which must not fail, and answers with what it prints.
    pub fn run<'a>(&self, program: &str, arguments: impl IntoIterator<Item = &'a str>) -> String {
        let mut command = Command::new(program);
        command.args(arguments);
        let output = self.node.namespace.run(|| command.output());
        let output = output.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

// === impl Named ===

impl Named {
    fn create(name: String) -> Self {
        let namespace = Namespace::create_named(&name).unwrap();
        Self { name, namespace }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Err(error) = Namespace::delete_named(&self.name) {
            eprintln!("{error}");
        }
    }
}

fn forward() {
    for (key, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        // Refusals are ICMP errors, of which the kernel sends few a second to anybody.
        ("net/ipv4/icmp_ratemask", "0"),
        ("net/ipv6/icmp/ratelimit", "0"),
    ] {
        sysctl::set(key, value).unwrap();
    }
}

/// Connects a namespace to the node; everything leads there.
fn attach(node: &mut Handle, place: Place, namespace: &Namespace) {
    let name = place.name().parse().unwrap();
    let peer = VethPeer {
        name: "eth0".parse().unwrap(),
        namespace: Some(namespace.as_raw_fd()),
        mac: None,
        mtu: None,
    };
    let link = NewLink {
        name,
        kind: NewLinkKind::Veth(peer),
        mac: None,
        mtu: None,
        up: true,
        master: None,
    };
    let name = link.name.clone();
    node.apply(&[Change::AddLink(link)]).unwrap();
    let index = node.link_by_name(&name).unwrap().unwrap().index;
    node.apply(&Family::ALL.map(|family| address(index, place.gateway(family))))
        .unwrap();

    let mut leaf = Handle::open_in(namespace).unwrap();
    let index = leaf
        .link_by_name(&"eth0".parse().unwrap())
        .unwrap()
        .unwrap()
        .index;
    leaf.apply(&[up(LOOPBACK), up(index)]).unwrap();
    leaf.apply(&Family::ALL.map(|family| address(index, place.address(family))))
        .unwrap();
    leaf.apply(&Family::ALL.map(|family| default_route(index, place.gateway(family))))
        .unwrap();
}

fn address(interface: IfIndex, address: IpAddr) -> Change {
    let prefix = if address.is_ipv4() { 24 } else { 64 };
    let address = IpNetwork::new(address, prefix).unwrap();
    Change::ReplaceAddress(Address::global(interface, address))
}
