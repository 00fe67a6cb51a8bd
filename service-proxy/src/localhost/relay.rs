//! Connections to a NodePort on a loopback address, passed on.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use kernel::{Family, route};
use socket2::SockRef;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};

use crate::{model::ObjectName, plan::nftables::NodePortAddresses};

/// How long an endpoint may take to answer.
const CONNECT: Duration = Duration::from_secs(30);
/// How long to wait when no connection can be taken, as all descriptors are in use.
const EXHAUSTED: Duration = Duration::from_millis(200);

/// Where NodePorts of a family are served beside the loopback address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// On which of the node's addresses.
    pub addresses: NodePortAddresses,
    /// The one that is best, as nobody takes it for a pod's.
    pub primary: Option<IpAddr>,
}

/// Where connections are passed on to.
#[derive(Debug)]
pub struct Destination {
    /// The Service, for people.
    pub service: ObjectName,
    /// The family that it is served in.
    pub family: Family,
    /// Its NodePort.
    pub node_port: u16,
    /// Where it is served too.
    pub elsewhere: Elsewhere,
    /// What leads to it where the node has no such address.
    pub cluster_ip: SocketAddr,
}

// === impl Destination ===

impl Destination {
    /// Where a connection goes to. The NodePort on an address of the node itself is what a connection from the
    /// node is to see, whatever the Service's policies; the cluster IP would look at `internalTrafficPolicy`.
    pub fn socket(&self) -> kernel::Result<SocketAddr> {
        let addresses = route::Handle::open()?.addresses(None)?;
        let usable = addresses
            .iter()
            .filter(|address| !address.link_local)
            .map(|address| address.address.ip())
            .filter(|address| self.is_served(address));
        let node = usable.min_by_key(|address| Some(*address) != self.elsewhere.primary);
        Ok(node.map_or(self.cluster_ip, |address| {
            SocketAddr::new(address, self.node_port)
        }))
    }

    fn is_served(&self, address: &IpAddr) -> bool {
        Family::of(address) == self.family
            && !address.is_loopback()
            && match &self.elsewhere.addresses {
                NodePortAddresses::All | NodePortAddresses::Primary => true,
                NodePortAddresses::In(networks) => {
                    networks.iter().any(|network| network.contains(*address))
                }
            }
    }
}

/// Takes connections for ever.
pub async fn accept(listener: TcpListener, destination: watch::Receiver<Arc<Destination>>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let destination = Arc::clone(&destination.borrow());
                tokio::spawn(relay(client, destination));
            }
            Err(error) => {
                tracing::debug!("take a connection to a NodePort on a loopback address: {error}");
                sleep(EXHAUSTED).await;
            }
        }
    }
}

/// Passes a connection on until both sides have ended it. What can't be passed on is reset, so that the client
/// sees that nobody has answered.
async fn relay(mut client: TcpStream, destination: Arc<Destination>) {
    let Destination {
        service, node_port, ..
    } = &*destination;
    if let Err(error) = pass_on(&mut client, &destination).await {
        tracing::debug!("Service {service}: pass on a connection to nodePort {node_port}: {error}");
        if let Err(error) = SockRef::from(&client).set_linger(Some(Duration::ZERO)) {
            tracing::debug!("reset a connection: {error}");
        }
    }
}

async fn pass_on(client: &mut TcpStream, destination: &Destination) -> io::Result<()> {
    let to = destination.socket().map_err(io::Error::other)?;
    let mut server = timeout(CONNECT, TcpStream::connect(to)).await??;
    for stream in [&*client, &server] {
        stream.set_nodelay(true)?;
    }
    copy_bidirectional(client, &mut server).await?;
    Ok(())
}
