//! All objects, read once.

use std::{collections::BTreeSet, io, path::Path, time::Duration};

use kernel::Family;

use crate::{
    daemon::SourceSettings,
    dataplane::{Mode, ipvs},
    model::Catalogue,
    options::{self, Options},
    plan::nftables::{NodeRules, Surroundings},
    source::{
        Kube,
        kube::{Access, Unusable},
        manifests::{Directory, Unreadable},
    },
};

/// How long the API server may take to tell everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// All objects, and how they are served.
#[derive(Debug)]
pub struct Objects {
    /// All objects.
    pub catalogue: Catalogue,
    /// The name of the node.
    pub node: String,
    /// What objects say of the node and of networks.
    pub around: Surroundings,
    /// What Services are turned into.
    pub mode: Mode,
    rules: [NodeRules; 2],
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options, or the configuration that they name, can't be used.
    #[error(transparent)]
    Options(#[from] options::Unusable),
    /// There is no way to the API server.
    #[error(transparent)]
    Access(#[from] Unusable),
    /// The API server does not tell everything.
    #[error("{0} did not tell everything within a minute; the lines above say why")]
    Slow(String),
    /// There is nothing to ask the API server with.
    #[error("start an asynchronous runtime: {0}")]
    Runtime(#[from] io::Error),
    /// The directory can't be read.
    #[error("--manifests: {0}")]
    Manifests(#[from] Unreadable),
    /// The kernel does not tell the host name.
    #[error("{0}; say --hostname-override NAME")]
    Node(#[from] kernel::Error),
}

// === impl Objects ===

impl Objects {
    /// Reads everything that the options name.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn read(options: &Options) -> Result<Self, Error> {
        let mut options = options.clone();
        let mut loaded = options.load()?;
        // As the daemon does it.
        let fall_back = loaded.configuration.mode == "ipvs" && options.strict != Some(true);
        if fall_back && ipvs::missing().is_some() {
            options.instead_of_ipvs = Some("iptables");
            loaded = options.load()?;
        }
        let (settings, _) = options.settings(&loaded.configuration)?;
        let node = settings.node()?;
        let catalogue = match options.source(&settings) {
            SourceSettings::Manifests(path) => from_manifests(&path, settings.external_ips)?,
            SourceSettings::Kube { kubeconfig, master } => {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?
                    .block_on(async {
                        let access = Access::new(kubeconfig, master).await?;
                        from_kube(access, &node, settings.external_ips).await
                    })?
            }
        };
        let around = Surroundings::of(&catalogue, &node);
        Ok(Self {
            catalogue,
            node,
            rules: Family::ALL.map(|family| settings.rules(family).settled(family, &around)),
            around,
            mode: settings.mode,
        })
    }

    /// What of a family's rules is the same for all Services.
    pub fn rules(&self, family: Family) -> &NodeRules {
        let [v4, v6] = &self.rules;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }
}

fn from_manifests(path: &Path, external_ips: bool) -> Result<Catalogue, Error> {
    let outcome = Directory::new(path).rescan(&BTreeSet::new())?;
    for warning in outcome.warnings {
        tracing::warn!("{warning}");
    }
    let mut catalogue = Catalogue::new(external_ips);
    for change in outcome.changes {
        catalogue.apply(change);
    }
    Ok(catalogue)
}

async fn from_kube(access: Access, node: &str, external_ips: bool) -> Result<Catalogue, Error> {
    let server = access.server().to_string();
    let mut kube = Kube::follow(access, node);
    let told = async {
        let mut catalogue = Catalogue::new(external_ips);
        while !kube.is_complete() {
            for news in kube.next().await {
                for change in news.into_changes(&catalogue) {
                    catalogue.apply(change);
                }
            }
        }
        catalogue
    };
    tokio::time::timeout(PATIENCE, told)
        .await
        .map_err(|_| Error::Slow(server))
}
