//! The agent as a whole: from its options to the loops that never end.

mod advertisements;
mod changes;
mod configuration;
mod drift;
mod keeper;
mod packet_filter;
mod reconciler;
mod registrar;
mod site;
mod wireguard;

use std::{convert::Infallible, io, net::SocketAddr, path::PathBuf, time::Duration};

use kernel::{Mac, route::Handle};
use tokio::sync::{mpsc, watch};

pub use drift::{CannotWatch, Drift};
pub use keeper::Keeper;
pub use packet_filter::{PacketFilter, RulesError, remove_rules};
pub use reconciler::{LeasePlace, Reconciler};
pub use registrar::{Channels, Registrar};
pub use site::{Identity, Site, Unusable};
pub use wireguard::Wireguard;

use crate::{
    backoff::Backoff,
    model::{
        self, Attributes, Backend, ByFamily, Held, InvalidNetConf, NetConf, Node, Owner, Snapshot,
        Underlay, WireguardConf,
    },
    options::{InvalidMargin, Options},
    plan::{self, Claimant, InterfaceSearch, NoInterface, Reach},
    report::{self, CannotListen, Health, Metrics, Notices, StatusRequest},
    source::{
        self, InvalidFile, NoBridgeNetfilter,
        etcd::{self, InvalidCredentials, Registry},
        kube::{self, NoAccess, Nodes},
    },
};

/// How often a missing network configuration is looked for, as flannel does.
const CONFIG_INTERVAL: Duration = Duration::from_secs(1);

/// A configuration to begin with.
const EXAMPLE: &str = r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#;

/// Why the agent can't go on. What may pass (etcd away, no subnet free, the kernel refusing a change)
/// is not here: the agent tries again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag is out of range.
    #[error(transparent)]
    Margin(#[from] InvalidMargin),
    /// The endpoints can't be used.
    #[error("--etcd-endpoints: {0}")]
    Endpoints(etcd::Error),
    /// The credentials can't be used.
    #[error(transparent)]
    Credentials(#[from] InvalidCredentials),
    /// The network configuration is no use.
    #[error("{key} in etcd: {cause}")]
    NetConf {
        /// Its key.
        key: String,
        /// What is wrong with it.
        cause: InvalidNetConf,
    },
    /// The file with the network configuration is no use.
    #[error(transparent)]
    NetConfFile(#[from] InvalidFile),
    /// Kubernetes can't be asked.
    #[error(transparent)]
    Kubernetes(#[from] NoAccess),
    /// There is no interface for tunnelled packets.
    #[error(transparent)]
    Interface(#[from] NoInterface),
    /// The configuration and the interface do not go together.
    #[error(transparent)]
    Site(#[from] Unusable),
    /// iptables would not see what goes through bridges.
    #[error(transparent)]
    Bridges(#[from] NoBridgeNetfilter),
    /// The kernel does not tell what happens in it.
    #[error(transparent)]
    Drift(#[from] CannotWatch),
    /// The kernel does not tell what the agent has to know at start.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The address for `/healthz` can't be used.
    #[error(transparent)]
    Health(#[from] CannotListen),
    /// `/healthz` can't be served any more.
    #[error("stopped to serve /healthz: {0}")]
    Serve(io::Error),
}

/// What is there at the start, whichever the source is.
struct Start<'a> {
    options: &'a Options,
    kernel: Handle,
    search: InterfaceSearch,
    health: Health,
    metrics: Metrics,
}

/// All that keeps the kernel as it should be, whoever gives out the subnets.
struct Dataplane {
    drift: Drift,
    packet_filter: PacketFilter,
    conf: watch::Receiver<NetConf>,
    reconciler: Reconciler,
    /// What the node says in its lease.
    own: watch::Receiver<Attributes>,
    node: String,
    owner: Owner,
    subnet_file: PathBuf,
    asker: mpsc::Sender<StatusRequest>,
}

/// Runs until it is dropped or can't go on.
pub async fn run(options: &Options) -> Result<Infallible, Error> {
    let renew_after = options.renew_after()?;
    let mut kernel = Handle::open()?;
    let host = source::read_host(&mut kernel)?;
    let search = interface_search(&mut kernel, options)?;
    // Known early, before etcd is waited for.
    plan::check_interface(&host, &search)?;
    let health = Health::default();
    let metrics = Metrics::default();
    let serving = serve(options, health.clone(), metrics.clone()).await?;
    let start = Start {
        options,
        kernel,
        search,
        health,
        metrics,
    };
    let work = async {
        if options.kube_subnet_mgr {
            with_kubernetes(start).await
        } else {
            with_etcd(start, renew_after).await
        }
    };
    tokio::select! {
        failed = serving => Err(Error::Serve(failed)),
        failed = work => failed,
    }
}

/// How the options want the external interface to be found.
fn interface_search(
    kernel: &mut Handle,
    options: &Options,
) -> Result<InterfaceSearch, kernel::Error> {
    let reach = match options.iface_can_reach {
        None => None,
        Some(address) => Some(Reach {
            address,
            by: source::interface_towards(kernel, address)?,
        }),
    };
    Ok(InterfaceSearch {
        wanted: options.iface.clone(),
        patterns: options.iface_regex.clone(),
        reach,
        public: options.public(),
    })
}

/// Leases subnets from etcd.
async fn with_etcd(start: Start<'_>, renew_after: Duration) -> Result<Infallible, Error> {
    let options = start.options;
    let mut endpoints = options.etcd_endpoints.clone();
    let access = options.credentials().read(&mut endpoints)?;
    let registry = Registry::connect(&endpoints, &access, &options.etcd_prefix)
        .await
        .map_err(Error::Endpoints)?
        .counted_by(start.metrics.clone());
    let conf = wait_for_conf(&registry).await?;
    let leases = LeasePlace {
        prefix: registry.leases_prefix(),
        store: "etcd",
    };
    let pools = conf.pools;
    let running = watch::Sender::new(conf);
    let mut dataplane = Dataplane::new(start, running.subscribe(), ByFamily::default(), leases)?;
    let mut keeper = Keeper {
        registry: registry.clone(),
        claimant: Claimant {
            pools,
            node: dataplane.node.clone(),
            own: dataplane.own.borrow().clone(),
            owner: dataplane.owner.clone(),
        },
        conf: running.subscribe(),
        renew_after,
    };
    let own = dataplane.own.clone();
    let (snapshot_sender, snapshots) = watch::channel(None);
    let (held_sender, held) = watch::channel(None);
    let (text_sender, texts) = watch::channel(None);
    let previous = report::previous_subnets(&options.subnet_file);
    let key = registry.config_key();
    tokio::select! {
        never = etcd::follow_config(&registry, &text_sender) => match never {},
        never = configuration::follow(&key, texts, held.clone(), &running) => match never {},
        never = etcd::follow(&registry, &snapshot_sender) => match never {},
        never = keeper.run(previous, own, snapshots.clone(), &held_sender) => match never {},
        never = dataplane.run(held, snapshots) => match never {},
    }
}

/// Has the subnets that Kubernetes gives to nodes.
async fn with_kubernetes(mut start: Start<'_>) -> Result<Infallible, Error> {
    let options = start.options;
    let conf = source::read_net_conf(&options.net_config_path)?;
    let client = options.kube_access().client().await?;
    let own_name = kube::own_node_name(&client).await?;
    let nodes = Nodes::new(
        client,
        options.kube_annotation_prefix.clone(),
        own_name,
        start.metrics.clone(),
    );
    let node = wait_for_node(&nodes).await;
    for (family, address) in node.given_public().iter() {
        start.search.public.insert(family, *address);
    }
    let leases = LeasePlace {
        prefix: "node ".to_owned(),
        store: "Kubernetes",
    };
    let mut registrar = Registrar {
        nodes: nodes.clone(),
        networks: conf.networks(),
        sets_condition: options.set_node_network_unavailable,
        health: start.health.clone(),
    };
    // The file is read but once: Kubernetes starts new pods for a new one.
    let running = watch::Sender::new(conf);
    let mut dataplane = Dataplane::new(start, running.subscribe(), node.macs(), leases)?;
    let followed = kube::Followed {
        own: watch::Sender::new(Some(node)),
        others: watch::Sender::new(None),
    };
    let (held_sender, held) = watch::channel(None);
    let channels = Channels {
        node: followed.own.subscribe(),
        own: dataplane.own.clone(),
        held: &held_sender,
    };
    tokio::select! {
        never = kube::follow(&nodes, &followed) => match never {},
        never = registrar.run(channels) => match never {},
        never = dataplane.run(held, followed.others.subscribe()) => match never {},
    }
}

// === impl Dataplane ===

impl Dataplane {
    /// All of it, for a network configuration. `macs` are those that peers know the node by.
    fn new(
        start: Start<'_>,
        conf_receiver: watch::Receiver<NetConf>,
        macs: ByFamily<Mac>,
        leases: LeasePlace,
    ) -> Result<Self, Error> {
        let Start {
            options,
            mut kernel,
            search,
            health,
            metrics,
        } = start;
        let conf = conf_receiver.borrow().clone();
        if conf.packet_filter == model::PacketFilter::Iptables {
            source::check_bridge_netfilter()?;
        }
        let (underlay, node, owner) = whereabouts(&mut kernel, &search, &conf)?;
        // Before anything is read that it tells changes of.
        let drift = Drift::open()?;
        let identity = Identity {
            node: node.clone(),
            macs,
        };
        let site = Site::new(&mut kernel, search, &conf, underlay, identity)?;
        site.log();
        let packet_filter = PacketFilter::new(
            conf.packet_filter,
            options.rules(),
            conf.networks(),
            advertisements::not_to_set(&site)?,
            options.resync(),
            metrics.clone(),
        )?;
        let (own_sender, own) = watch::channel(site.own());
        let (asker, questions) = mpsc::channel(1);
        Ok(Self {
            drift,
            packet_filter,
            reconciler: Reconciler::new(
                kernel,
                site,
                own_sender,
                conf_receiver.clone(),
                options,
                leases,
                report::Told {
                    health,
                    metrics,
                    questions,
                },
            ),
            conf: conf_receiver,
            own,
            node,
            owner,
            subnet_file: options.subnet_file.clone(),
            asker,
        })
    }

    /// Keeps the kernel as it should be, for ever.
    async fn run(
        &mut self,
        held: watch::Receiver<Option<Held>>,
        snapshots: watch::Receiver<Option<Snapshot>>,
    ) -> Infallible {
        tokio::select! {
            never = report::serve_status(&self.subnet_file, self.asker.clone()) => never,
            never = self.packet_filter.run(held.clone(), self.conf.clone()) => never,
            never = self.reconciler.run(&mut self.drift, held, snapshots) => never,
        }
    }
}

/// The interface that leads to other nodes, the name by which the node tells itself from others, and what it is known
/// by as the owner of a lease.
fn whereabouts(
    kernel: &mut Handle,
    search: &InterfaceSearch,
    conf: &NetConf,
) -> Result<(Underlay, String, Owner), Error> {
    let families: Vec<_> = conf.pools.iter().map(|(family, _)| family).collect();
    let host = source::read_host(kernel)?;
    let underlay = plan::choose_interface(&host, search, &families)?;
    let public = |family| underlay.public.get(family);
    let node = source::node_id(families.iter().copied().find_map(public));
    let external = kernel.link_by_name(&underlay.name)?;
    let owner = source::owner(external.and_then(|link| link.mac));
    Ok((underlay, node, owner))
}

/// What ends only with an error; nothing is served, and there is no end, where the port is 0.
async fn serve(
    options: &Options,
    health: Health,
    metrics: Metrics,
) -> Result<impl Future<Output = io::Error>, CannotListen> {
    let listener = match options.healthz_port {
        0 => None,
        port => Some(Health::listen(SocketAddr::new(options.healthz_ip, port)).await?),
    };
    Ok(async move {
        let Some(listener) = listener else {
            return std::future::pending().await;
        };
        match health.serve(listener, metrics).await {
            Ok(()) => io::Error::other("the server ended"),
            Err(error) => error,
        }
    })
}

/// The network configuration, as soon as there is one.
async fn wait_for_conf(registry: &Registry) -> Result<NetConf, Error> {
    let key = registry.config_key();
    let mut notices = Notices::default();
    loop {
        match registry.config().await {
            Ok(Some(text)) => {
                let conf = NetConf::parse(&text).map_err(|cause| Error::NetConf {
                    key: key.clone(),
                    cause,
                })?;
                tracing::info!("network configuration {key}: {}", to_show(&text, &conf));
                return Ok(conf);
            }
            Ok(None) => notices.set([format!(
                "there is no network configuration in etcd yet; waiting for it, write one by: \
                 etcdctl put {key} '{EXAMPLE}'"
            )]),
            Err(error) => notices.set([format!("{error}; trying again, see --etcd-endpoints")]),
        }
        tokio::time::sleep(CONFIG_INTERVAL).await;
    }
}

/// The own Node, as soon as the API server tells.
async fn wait_for_node(nodes: &Nodes) -> Node {
    let mut backoff = Backoff::default();
    let mut notices = Notices::default();
    loop {
        match nodes.own().await {
            Ok(Some(node)) => return node,
            Ok(None) => notices.set([format!(
                "there is no node {} in Kubernetes yet; waiting for it (NODE_NAME has to be its name)",
                nodes.own_name
            )]),
            Err(error) => notices.set([format!("{error}; trying again")]),
        }
        backoff.wait().await;
    }
}

/// A configuration on one line, without the key that is nobody's business.
fn to_show(text: &[u8], conf: &NetConf) -> String {
    let text = String::from_utf8_lossy(text);
    let words: Vec<_> = text.split_whitespace().collect();
    let line = words.join(" ");
    match &conf.backend {
        Backend::Wireguard(WireguardConf { psk: Some(psk), .. }) => {
            let key = psk.reveal();
            // JSON can have a slash either way.
            line.replace(&key, "(hidden)")
                .replace(&key.replace('/', "\\/"), "(hidden)")
        }
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_common_key_is_not_shown() {
        let psk = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        let text = format!(
            "{{\"Network\": \"10.5.0.0/16\",\n\"Backend\": {{\"Type\": \"wireguard\", \"PSK\": \"{psk}\"}}}}"
        );
        let conf = NetConf::parse(text.as_bytes()).unwrap();
        let shown = to_show(text.as_bytes(), &conf);
        assert!(shown.ends_with(r#""PSK": "(hidden)"}}"#), "{shown}");
    }
}
