//! Manifests of a Service and its endpoints, as a cluster's API server would show them.

use std::{
    fmt::Write,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// A Service of type ClusterIP with one port for TCP and UDP, and its endpoints.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name, in the namespace `default`.
    pub name: String,
    /// Its address.
    pub cluster_ip: IpAddr,
    /// Its port; its endpoints listen on the same.
    pub port: u16,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod's address.
    pub address: IpAddr,
    /// The node that the pod runs on.
    pub node: String,
}

// === impl Service ===

impl Service {
    /// Writes its manifest into `directory` in one step: a reader sees the old or the new one.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let path = self.path(directory);
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, self.to_yaml()?)
            .and_then(|()| fs::rename(&unfinished, &path))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Removes its manifest.
    pub fn remove(&self, directory: &Path) -> Result<()> {
        let path = self.path(directory);
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
    }

    fn path(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.yaml", self.name))
    }

    fn to_yaml(&self) -> Result<String> {
        let Self {
            name,
            cluster_ip,
            port,
            endpoints,
        } = self;
        let family = if cluster_ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let mut yaml = format!(
            "apiVersion: v1\n\
             kind: Service\n\
             metadata:\n  name: {name}\n  namespace: default\n\
             spec:\n  type: ClusterIP\n  clusterIP: \"{cluster_ip}\"\n  clusterIPs: [\"{cluster_ip}\"]\n  \
             ipFamilies: [{family}]\n  ports:\n  \
             - {{ name: tcp, protocol: TCP, port: {port}, targetPort: {port} }}\n  \
             - {{ name: udp, protocol: UDP, port: {port}, targetPort: {port} }}\n\
             ---\n\
             apiVersion: discovery.k8s.io/v1\n\
             kind: EndpointSlice\n\
             metadata:\n  name: {name}-1\n  namespace: default\n  \
             labels: {{ kubernetes.io/service-name: {name} }}\n\
             addressType: {family}\n\
             ports:\n\
             - {{ name: tcp, protocol: TCP, port: {port} }}\n\
             - {{ name: udp, protocol: UDP, port: {port} }}\n\
             endpoints:{}\n",
            if endpoints.is_empty() { " []" } else { "" }
        );
        for Endpoint { address, node } in endpoints {
            writeln!(
                yaml,
                "- {{ addresses: [\"{address}\"], nodeName: {node}, conditions: {{ ready: true }} }}"
            )?;
        }
        Ok(yaml)
    }
}
