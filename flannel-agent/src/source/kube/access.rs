//! How to get at the API server, and which Node this is.

use std::{env, path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::Error;
use crate::{backoff::Backoff, report::Notices};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the API server is, as the flags say.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `--kube-api-url`.
    pub url: Option<String>,
    /// `--kubeconfig-file`.
    pub kubeconfig: Option<PathBuf>,
}

/// The API server can't be used at all.
#[derive(Debug, thiserror::Error)]
pub enum NoAccess {
    /// The file is no use.
    #[error("--kubeconfig-file {}: {cause}", .path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The URL is none.
    #[error("--kube-api-url: {0:?} is not a URL")]
    Url(String),
    /// This is not a pod with a service account.
    #[error(
        "the agent does not run in a pod with a service account, so --kubeconfig-file or --kube-api-url has \
         to say where the API server is: {0}"
    )]
    InCluster(String),
    /// The client can't be made.
    #[error("can't make a client of the API server: {0}")]
    Client(kube::Error),
    /// Nothing tells which Node this is.
    #[error(
        "env variables POD_NAME and POD_NAMESPACE must be set, or NODE_NAME: they tell which Node this is"
    )]
    NoNodeName,
    /// What tells it is no name of an object.
    #[error(
        "env variable {variable}: {value:?} is no name of an object in Kubernetes: lower case letters, digits, '-' and '.'"
    )]
    NotAName {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
}

// === impl Access ===

impl Access {
    /// A client of the server. Nothing is sent yet.
    pub async fn client(&self) -> Result<Client, NoAccess> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        Client::try_from(config).map_err(NoAccess::Client)
    }

    async fn config(&self) -> Result<Config, NoAccess> {
        let url = match &self.url {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| NoAccess::Url(text.clone()))?),
        };
        let Some(path) = &self.kubeconfig else {
            return match url {
                Some(url) => Ok(Config::new(url)),
                None => Config::incluster().map_err(|error| NoAccess::InCluster(error.to_string())),
            };
        };
        let invalid = |error: kube::config::KubeconfigError| NoAccess::Kubeconfig {
            path: path.clone(),
            cause: error.to_string(),
        };
        let file = Kubeconfig::read_from(path).map_err(invalid)?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(file, &options);
        let mut config = config.await.map_err(invalid)?;
        if let Some(url) = url {
            config.cluster_url = url;
        }
        Ok(config)
    }
}

/// The name of the Node that this is: `NODE_NAME`, or that of the pod which `POD_NAME` and `POD_NAMESPACE`
/// name. Asked for until the server answers.
pub async fn own_node_name(client: &Client) -> Result<String, NoAccess> {
    let variable = |name| object_name(name, env::var(name).ok());
    if let Some(name) = variable("NODE_NAME")? {
        return Ok(name);
    }
    let (Some(pod), Some(namespace)) = (variable("POD_NAME")?, variable("POD_NAMESPACE")?) else {
        return Err(NoAccess::NoNodeName);
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let mut backoff = Backoff::default();
    let mut notices = Notices::default();
    loop {
        let found = pods.get(&pod).await.map(|pod| pod.spec?.node_name);
        match found {
            Ok(Some(name)) if !name.is_empty() => return Ok(name),
            Ok(_) => notices.set([format!(
                "node name not present in pod spec '{namespace}/{pod}'; trying again"
            )]),
            Err(error) => {
                let error = Error::new(format!("get pod {namespace}/{pod}"), &error);
                notices.set([format!("{error}; trying again")]);
            }
        }
        backoff.wait().await;
    }
}

/// The name in a variable, which becomes a part of a URL: a DNS subdomain (RFC 1123), as the API server has them.
fn object_name(variable: &'static str, value: Option<String>) -> Result<Option<String>, NoAccess> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let ends = [label.bytes().next(), label.bytes().next_back()];
        ends.into_iter().all(|end| end.is_some_and(letter))
            && label.bytes().all(|byte| letter(byte) || byte == b'-')
    };
    if value.len() <= 253 && value.split('.').all(is_label) {
        Ok(Some(value))
    } else {
        Err(NoAccess::NotAName { variable, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_objects() {
        let read = |value: &str| object_name("NODE_NAME", Some(value.to_owned()));
        for name in ["node7", "ip-10-0-0-1.eu-west-1.compute.internal", "7"] {
            assert_eq!(read(name).ok().flatten().as_deref(), Some(name));
        }
        assert_eq!(read("").ok().flatten(), None);
        for text in [
            "..",
            "../pods/x",
            "a/b",
            "a?b=c",
            "Node7",
            "a..b",
            "-a",
            "a-",
            "a b",
            "a\n",
        ] {
            let error = read(text).err().map(|error| error.to_string());
            let named = format!("env variable NODE_NAME: {text:?} is no name");
            assert!(
                error.is_some_and(|error| error.starts_with(&named)),
                "{text:?}"
            );
        }
        assert!(read(&"a".repeat(254)).is_err());
    }
}
