//! A node, a client's pod and two pods that answer, each a network namespace.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use ipnetwork::IpNetwork;
use kernel::{
    route::{Change, NewLink, NewLinkKind, VethPeer},
    sysctl,
};
use lab::{Host, default_route};

use crate::objects::TARGET;

/// How long a client waits for a connection.
const PATIENCE: Duration = Duration::from_millis(50);

/// All of it.
pub struct Site {
    /// Where the proxy and the API server run.
    pub node: Host,
    /// Who asks.
    pub client: Host,
    pods: [Host; 2],
}

/// A pod that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pod {
    /// The one that Services have at first.
    First = 1,
    /// The other one.
    Second = 2,
}

// === impl Pod ===

impl Pod {
    /// Its address.
    pub fn address(self) -> IpAddr {
        Ipv4Addr::new(10, 244, self as u8, 2).into()
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

// === impl Site ===

impl Site {
    /// Makes all of it.
    pub fn create(number: usize) -> Result<Self> {
        let host = |name| {
            Host::create(&format!(
                "tweed-bench-{}-{number}-{name}",
                std::process::id()
            ))
        };
        let site = Self {
            node: host("node")?,
            client: host("client")?,
            pods: [host("first")?, host("second")?],
        };
        site.node.within(|| {
            sysctl::set("net/ipv4/ip_forward", "1")?;
            sysctl::set("net/ipv4/icmp_ratemask", "0")
        })??;
        let [first, second] = &site.pods;
        for (host, link) in [(first, 1), (second, 2), (&site.client, 3)] {
            attach(&site.node, host, link)?;
        }
        for (host, pod) in [(first, Pod::First), (second, Pod::Second)] {
            serve(host, pod)?;
        }
        Ok(site)
    }

    /// The node's own address.
    pub fn address() -> IpAddr {
        Ipv4Addr::new(10, 244, 3, 1).into()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for host in [&self.node, &self.client].into_iter().chain(&self.pods) {
            if let Err(error) = host.destroy() {
                eprintln!("remove {}: {error:#}", host.name());
            }
        }
    }
}

/// Who answers at an address, from the calling thread's namespace.
pub fn ask(to: SocketAddr) -> Result<Pod> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE * 10))?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    match answer {
        [1] => Ok(Pod::First),
        [2] => Ok(Pod::Second),
        other => anyhow::bail!("unexpected answer {other:?} from {to}"),
    }
}

/// Connects a namespace to the node.
fn attach(node: &Host, host: &Host, link: u8) -> Result<()> {
    let name = format!("veth{link}");
    let peer = VethPeer {
        name: "eth0".parse()?,
        namespace: Some(host.namespace().as_raw_fd()),
        mac: None,
        mtu: None,
    };
    node.route()?.apply(&[Change::AddLink(NewLink {
        name: name.parse()?,
        kind: NewLinkKind::Veth(peer),
        mac: None,
        mtu: None,
        up: true,
        master: None,
    })])?;
    let address = |last| IpNetwork::new(Ipv4Addr::new(10, 244, link, last).into(), 24);
    node.configure(&name, address(1)?)?;
    let interface = host.configure("eth0", address(2)?)?;
    let gateway = address(1)?.ip();
    host.route()?.apply(&[default_route(interface, gateway)])?;
    Ok(())
}

/// Answers every connection with the pod's number, until the program ends.
fn serve(host: &Host, pod: Pod) -> Result<()> {
    let listener = host.within(|| TcpListener::bind(("0.0.0.0", TARGET)))?;
    let listener = listener.with_context(|| format!("listen in {}", host.name()))?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that is gone has its answer or needs none.
            stream
                .and_then(|mut stream| stream.write_all(&[pod as u8]))
                .ok();
        }
    });
    Ok(())
}
