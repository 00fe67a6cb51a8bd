//! The server that a test runs against: the stand-in, or the real one where the environment names it.

use std::{env, path::Path};

use anyhow::Result;
use serde_json::Value;

use super::{ApiServer, RealServer, find};

/// A server of the Kubernetes API for a test that behaves alike with both.
#[derive(Debug)]
pub enum Server {
    /// The stand-in.
    StandIn(ApiServer),
    /// kube-apiserver.
    Real(Box<RealServer>),
}

// === impl Server ===

impl Server {
    /// Starts kube-apiserver when `KUBE_APISERVER` and `ETCD` name their binaries, else the stand-in.
    ///
    /// # Errors
    /// When the server can't be started.
    pub fn start() -> Result<Self> {
        match (env::var_os("KUBE_APISERVER"), env::var_os("ETCD")) {
            (Some(server), Some(etcd)) => {
                Ok(Self::Real(Box::new(RealServer::start(&server, &etcd)?)))
            }
            _ => Ok(Self::StandIn(ApiServer::start()?)),
        }
    }

    /// The stand-in, if it is that: faults can only be asked of it.
    pub fn stand_in(&self) -> Option<&ApiServer> {
        match self {
            Self::StandIn(server) => Some(server),
            Self::Real(_) => None,
        }
    }

    /// The server's URL.
    pub fn url(&self) -> String {
        match self {
            Self::StandIn(server) => server.url(),
            Self::Real(server) => server.url().to_owned(),
        }
    }

    /// Writes a kubeconfig file with which clients find the server.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn kubeconfig(&self, path: &Path) -> Result<()> {
        match self {
            Self::StandIn(server) => server.kubeconfig(path),
            Self::Real(server) => server.kubeconfig(path),
        }
    }

    /// Creates or replaces an object, its status included, and makes its namespace when that is missing.
    ///
    /// # Errors
    /// When its kind is not served, or the server refuses it.
    pub fn apply(&self, object: Value) -> Result<()> {
        match self {
            Self::StandIn(server) => server.apply(object).map(drop),
            Self::Real(server) => server.apply(object),
        }
    }

    /// Deletes an object; the namespace is empty for kinds without.
    ///
    /// # Errors
    /// When the kind is not served, or there is no such object.
    pub fn delete(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<()> {
        match self {
            Self::StandIn(server) => server.delete(api_version, kind, namespace, name),
            Self::Real(server) => server.delete(find(api_version, kind)?, namespace, name),
        }
    }
}
