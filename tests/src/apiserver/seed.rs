//! What a new cluster has before anyone writes to it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::write::namespace_object;

/// The Service network of the stand-in, and of the real server when the lab starts it.
pub const SERVICE_NETWORKS: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];

/// The first address of the first of [`SERVICE_NETWORKS`]: the Service `kubernetes`.
const KUBERNETES: &str = "10.96.0.1";

/// The objects that the real server makes by itself.
pub fn objects(address: SocketAddr) -> Vec<Value> {
    let namespaces = ["default", "kube-system", "kube-public", "kube-node-lease"];
    let mut objects: Vec<_> = namespaces.into_iter().map(namespace_object).collect();
    objects.push(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": SERVICE_NETWORKS},
    }));
    objects.push(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": KUBERNETES,
            "ports": [{"name": "https", "port": 443, "targetPort": address.port()}],
        },
    }));
    objects
}
