//! The agent as a whole: from its options to the loops that never end.

mod drift;
mod keeper;
mod packet_filter;
mod reconciler;
mod site;

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use kernel::{Family, route::Handle};
use tokio::sync::watch;

pub use drift::{CannotWatch, Drift};
pub use keeper::Keeper;
pub use packet_filter::PacketFilter;
pub use reconciler::Reconciler;
pub use site::{Site, Unusable};

use crate::{
    model::{InvalidNetConf, NetConf},
    options::{InvalidMargin, Options},
    plan::{self, Claimant, InterfaceSearch, NoInterface, Reach},
    report::{self, CannotListen, Health, Notices},
    source::{
        self,
        etcd::{self, InvalidCredentials, Registry},
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
    /// There is no interface for tunnelled packets.
    #[error(transparent)]
    Interface(#[from] NoInterface),
    /// The configuration and the interface do not go together.
    #[error(transparent)]
    Site(#[from] Unusable),
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

/// Runs until it is dropped or can't go on.
pub async fn run(options: &Options) -> Result<Infallible, Error> {
    let renew_after = options.renew_after()?;
    let mut kernel = Handle::open()?;
    let host = source::read_host(&mut kernel)?;
    let search = interface_search(&mut kernel, options)?;
    // Known early, before etcd is waited for.
    plan::check_interface(&host, &search)?;
    let health = Health::default();
    let serving = serve(options, health.clone()).await?;
    let mut endpoints = options.etcd_endpoints.clone();
    let access = options.credentials().read(&mut endpoints)?;
    let registry = Registry::connect(&endpoints, &access, &options.etcd_prefix)
        .await
        .map_err(Error::Endpoints)?;
    let work = work(options, renew_after, kernel, search, &registry, health);
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

/// Everything but health.
async fn work(
    options: &Options,
    renew_after: Duration,
    mut kernel: Handle,
    search: InterfaceSearch,
    registry: &Registry,
    health: Health,
) -> Result<Infallible, Error> {
    let conf = wait_for_conf(registry).await?;
    let families: Vec<_> = conf.pools.iter().map(|(family, _)| family).collect();
    let host = source::read_host(&mut kernel)?;
    let underlay = plan::choose_interface(&host, &search, &families)?;
    let node = source::node_id(underlay.public.get(Family::V4));
    let external = kernel.link_by_name(&underlay.name)?;
    let owner = source::owner(external.and_then(|link| link.mac));
    // Before anything is read that it tells changes of.
    let drift = Drift::open()?;
    let site = Site::new(&mut kernel, search, &conf, underlay, node.clone())?;
    site.log();
    let networks = conf
        .pools
        .iter()
        .map(|(family, pool)| (family, pool.network()));
    let mut packet_filter = PacketFilter::new(
        conf.packet_filter,
        options.rules(),
        networks.collect(),
        options.resync(),
    )?;
    let (own_sender, own) = watch::channel(site.own());
    let mut keeper = Keeper {
        registry: registry.clone(),
        claimant: Claimant {
            pools: conf.pools,
            node,
            own: site.own(),
            owner,
        },
        renew_after,
    };
    let mut reconciler = Reconciler::new(
        kernel,
        site,
        own_sender,
        options,
        registry.leases_prefix(),
        health,
    );
    let (snapshot_sender, snapshots) = watch::channel(None);
    let (held_sender, held) = watch::channel(None);
    let previous = report::previous_subnets(&options.subnet_file);
    tokio::select! {
        never = etcd::follow(registry, &snapshot_sender) => match never {},
        never = keeper.run(previous, own, snapshots.clone(), &held_sender) => match never {},
        never = packet_filter.run(held.clone()) => match never {},
        never = reconciler.run(drift, held, snapshots) => match never {},
    }
}

/// What ends only with an error; nothing is served, and there is no end, where the port is 0.
async fn serve(
    options: &Options,
    health: Health,
) -> Result<impl Future<Output = io::Error>, CannotListen> {
    let listener = match options.healthz_port {
        0 => None,
        port => Some(Health::listen(SocketAddr::new(options.healthz_ip, port)).await?),
    };
    Ok(async move {
        let Some(listener) = listener else {
            return std::future::pending().await;
        };
        match health.serve(listener).await {
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
                let text = String::from_utf8_lossy(&text);
                let words: Vec<_> = text.split_whitespace().collect();
                tracing::info!("network configuration {key}: {}", words.join(" "));
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
