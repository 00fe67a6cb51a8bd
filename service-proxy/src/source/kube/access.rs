//! The way to the API server.

use std::path::PathBuf;

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use outage::with_causes;

/// How long a connection may take to be made: a server that does not answer is one that is away.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(10);

/// Where the API server is and how to talk with it.
#[derive(Clone)]
pub struct Access {
    kubeconfig: Option<PathBuf>,
    master: Option<String>,
    client: Client,
    server: String,
}

/// What was given does not lead to an API server.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The file is none that can be used.
    #[error("--kubeconfig {}: {cause}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The URL is none.
    #[error("--master: {url:?} is no URL such as https://10.0.0.1:6443: {cause}")]
    Master {
        /// What was given.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Nothing was given, and this is no pod.
    #[error(
        "neither --kubeconfig nor --master nor --manifests says where Services come from, and this is no pod \
         with a service account: {0}"
    )]
    NotInCluster(String),
    /// No client can be made of it.
    #[error("make a client for the API server at {server}: {cause}")]
    Client {
        /// The server.
        server: String,
        /// What is wrong.
        cause: String,
    },
}

// === impl Access ===

impl Access {
    /// Access as a kubeconfig file says, as the pod's service account if there is none; a URL takes the place
    /// of theirs. To be called in a runtime. Nothing is connected yet.
    ///
    /// # Errors
    /// If what is given is unusable.
    pub async fn new(
        kubeconfig: Option<PathBuf>,
        master: Option<String>,
    ) -> Result<Self, Unusable> {
        let config = config(kubeconfig.as_deref(), master.as_deref()).await?;
        let server = config.cluster_url.to_string();
        let server = server.trim_end_matches('/').to_owned();
        let client = Client::try_from(config).map_err(|error| Unusable::Client {
            server: server.clone(),
            cause: with_causes(&error),
        })?;
        Ok(Self {
            kubeconfig,
            master,
            client,
            server,
        })
    }

    /// The same, with what the files say now: certificates and tokens are renewed on disk.
    ///
    /// # Errors
    /// If they are unusable by now.
    pub async fn renewed(&self) -> Result<Self, Unusable> {
        Self::new(self.kubeconfig.clone(), self.master.clone()).await
    }

    /// The URL of the server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

async fn config(
    kubeconfig: Option<&std::path::Path>,
    master: Option<&str>,
) -> Result<Config, Unusable> {
    let url = master.map(parse_url).transpose()?;
    let mut config = match (kubeconfig, url) {
        (Some(path), url) => {
            let mut config = read_kubeconfig(path).await?;
            config.cluster_url = url.unwrap_or(config.cluster_url);
            config
        }
        (None, Some(url)) => Config::new(url),
        (None, None) => {
            Config::incluster_env().map_err(|error| Unusable::NotInCluster(with_causes(&error)))?
        }
    };
    config.connect_timeout = Some(CONNECT);
    // Attempts are spaced by our own backoff, which tells of them.
    config.default_retry = false;
    Ok(config)
}

async fn read_kubeconfig(path: &std::path::Path) -> Result<Config, Unusable> {
    let unusable = |cause| Unusable::Kubeconfig {
        path: path.to_owned(),
        cause,
    };
    let file = Kubeconfig::read_from(path).map_err(|error| unusable(with_causes(&error)))?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(|error| unusable(with_causes(&error)))
}

/// A URL, of plain HTTP where it names no scheme, as client-go takes it.
fn parse_url<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Unusable> {
    let url = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    url.parse().map_err(|error: T::Err| Unusable::Master {
        url: text.to_owned(),
        cause: error.to_string(),
    })
}
