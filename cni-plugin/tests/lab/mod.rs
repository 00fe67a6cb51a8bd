//! A host and containers, each a network namespace of its own, with the real binary called as a runtime
//! calls it. Everything is removed when the test is over, whatever its outcome.

#![allow(dead_code, reason = "each suite uses its own part")]

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::{fd::AsRawFd, unix::fs::symlink},
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use kernel::{
    netns::{NAMED, Namespace},
    route::{Change, Handle, Link, NewLink, NewLinkKind, VethPeer},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What the agent of the test's node writes.
pub const SUBNET_ENV: &str = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_IPV6_NETWORK=fd00::/48\n\
    FLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_IPV6_SUBNET=fd00:0:0:17::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

/// A named network namespace, deleted with the value.
pub struct Netns {
    name: String,
    namespace: Namespace,
}

/// A node: a namespace, and a directory with the binary under its names and all of its state.
pub struct Host {
    pub netns: Netns,
    dir: TempDir,
}

/// What a call of the binary ended with.
#[derive(Debug)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

/// A call of the binary, to be changed by the test before it is made.
pub struct Call<'a> {
    host: &'a Host,
    plugin: &'static str,
    env: Vec<(&'static str, String)>,
    stdin: String,
}

// === impl Netns ===

impl Netns {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cni-test-{}-{number}", std::process::id());
        let namespace = Namespace::create_named(&name).unwrap();
        Self { name, namespace }
    }

    pub fn path(&self) -> PathBuf {
        PathBuf::from(NAMED).join(&self.name)
    }

    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(work).unwrap()
    }

    pub fn handle(&self) -> Handle {
        Handle::open_in(&self.namespace).unwrap()
    }

    pub fn link(&self, name: &str) -> Option<Link> {
        self.handle().link_by_name(&name.parse().unwrap()).unwrap()
    }

    /// The names of all interfaces, sorted.
    pub fn links(&self) -> Vec<String> {
        let links = self.handle().links().unwrap();
        let mut names: Vec<String> = links.iter().map(|link| link.name.to_string()).collect();
        names.sort();
        names
    }

    /// Makes an interface that is up.
    pub fn add_link(&self, name: &str, kind: NewLinkKind) {
        let link = NewLink {
            up: true,
            ..NewLink::new(name.parse().unwrap(), kind)
        };
        self.handle().apply(&[Change::AddLink(link)]).unwrap();
    }

    /// Makes a pair: this end is up, the other one is down in `other`.
    pub fn add_veth(&self, name: &str, other: &Self, peer: &str) {
        let descriptor = other.namespace.as_raw_fd();
        let peer = VethPeer::new(peer.parse().unwrap(), Some(descriptor));
        self.add_link(name, NewLinkKind::Veth(peer));
    }

    /// Takes the name away; the namespace lives on as long as this value.
    pub fn unlink(&self) {
        Namespace::delete_named(&self.name).unwrap();
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if self.path().exists() {
            Namespace::delete_named(&self.name).unwrap();
        }
    }
}

// === impl Host ===

impl Host {
    /// A host whose agent has written its file.
    pub fn new() -> Self {
        let host = Self {
            netns: Netns::new(),
            dir: tempfile::tempdir().unwrap(),
        };
        for name in [
            "bandwidth",
            "flannel",
            "bridge",
            "host-local",
            "loopback",
            "portmap",
            "tuning",
            "something-else",
        ] {
            symlink(env!("CARGO_BIN_EXE_cni-plugin"), host.path(name)).unwrap();
        }
        fs::write(host.path("subnet.env"), SUBNET_ENV).unwrap();
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The names of the files in a directory of the host, sorted; none if there is no directory.
    pub fn files(&self, dir: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(dir)) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The configuration of a flannel network, all of its state below the host's directory.
    pub fn flannel_conf(&self) -> Value {
        json!({
            "name": "cbr0",
            "cniVersion": "1.1.0",
            "type": "flannel",
            "subnetFile": self.path("subnet.env"),
            "dataDir": self.path("flannel.d"),
            "ipam": {"dataDir": self.path("networks")},
        })
    }

    pub fn call(&self, plugin: &'static str, verb: &str) -> Call<'_> {
        Call {
            host: self,
            plugin,
            env: vec![
                ("CNI_COMMAND", verb.into()),
                ("CNI_CONTAINERID", "c1".into()),
                ("CNI_IFNAME", "eth0".into()),
                ("CNI_PATH", self.dir.path().display().to_string()),
            ],
            stdin: String::new(),
        }
    }

    /// ADD of the container `id` by the flannel plugin; it has to succeed.
    pub fn add(&self, conf: &Value, id: &str, container: &Netns) -> Value {
        let call = self.call("flannel", "ADD").id(id).netns(container);
        call.conf(conf).make().result()
    }

    /// DEL of the container `id` by the flannel plugin; it has to succeed.
    pub fn del(&self, conf: &Value, id: &str, container: &Netns) {
        let call = self.call("flannel", "DEL").id(id).netns(container);
        call.conf(conf).make().silent_success();
    }
}

// === impl Call ===

impl Call<'_> {
    pub fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.retain(|(known, _)| *known != name);
        self.env.push((name, value.into()));
        self
    }

    pub fn id(self, id: &str) -> Self {
        self.env("CNI_CONTAINERID", id)
    }

    pub fn netns(self, netns: &Netns) -> Self {
        let path = netns.path().display().to_string();
        self.env("CNI_NETNS", &path)
    }

    pub fn conf(self, conf: &Value) -> Self {
        self.stdin(&conf.to_string())
    }

    pub fn stdin(mut self, stdin: &str) -> Self {
        self.stdin = stdin.into();
        self
    }

    pub fn make(self) -> Outcome {
        self.make_from(Stdio::piped())
    }

    /// With something else as stdin than the text, unless it is a pipe.
    pub fn make_from(self, stdin: impl Into<Stdio> + Send) -> Outcome {
        self.host.netns.run(|| {
            let mut child = Command::new(self.host.path(self.plugin))
                .env_clear()
                .envs(self.env.iter().map(|(name, value)| (name, value)))
                .stdin(stdin)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            if let Some(mut stdin) = child.stdin.take() {
                // A plugin that has seen enough does not read what it is given.
                drop(stdin.write_all(self.stdin.as_bytes()));
            }
            let output = child.wait_with_output().unwrap();
            Outcome {
                stdout: String::from_utf8(output.stdout).unwrap(),
                stderr: String::from_utf8(output.stderr).unwrap(),
                code: output.status.code(),
            }
        })
    }
}

// === impl Outcome ===

impl Outcome {
    /// The result of a successful call.
    pub fn result(&self) -> Value {
        assert_eq!((self.code, &*self.stderr), (Some(0), ""), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap()
    }

    pub fn silent_success(&self) {
        assert_eq!((self.code, &*self.stderr), (Some(0), ""), "{self:?}");
        assert_eq!(self.stdout, "");
    }

    /// Code, message and details of a failed call.
    pub fn error(&self) -> (u64, String, String) {
        assert_eq!((self.code, &*self.stderr), (Some(1), ""), "{self:?}");
        let error: Value = serde_json::from_str(&self.stdout).unwrap();
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        (
            error["code"].as_u64().unwrap(),
            text("msg"),
            text("details"),
        )
    }
}

/// The address of a family in a result, without its prefix length. `index`: 0 for IPv4, 1 for IPv6.
pub fn address(result: &Value, index: usize) -> IpAddr {
    let address = result["ips"][index]["address"].as_str().unwrap();
    address.split('/').next().unwrap().parse().unwrap()
}

/// Sends a word from one namespace to an address in another, by TCP.
pub fn talk(from: &Netns, to: &Netns, address: IpAddr) {
    let listener = to.run(|| TcpListener::bind(SocketAddr::new(address, 0)).unwrap());
    let server = listener.local_addr().unwrap();
    let mut client =
        from.run(|| TcpStream::connect_timeout(&server, Duration::from_secs(10)).unwrap());
    let (mut accepted, _) = listener.accept().unwrap();
    client.write_all(b"hello").unwrap();
    drop(client);
    let mut heard = String::new();
    accepted.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hello");
}
