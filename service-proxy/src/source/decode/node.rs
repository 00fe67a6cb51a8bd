//! Nodes, and ServiceCIDRs: what has no namespace.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use k8s_openapi::api::{core::v1::Node, networking::v1::ServiceCIDR};

use super::{Invalid, network};
use crate::model::{self, parse_address};

/// Label that names the zone of a Node.
const ZONE: &str = "topology.kubernetes.io/zone";
/// Taint of a Node that the cluster autoscaler is about to delete.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// A Node.
pub fn node(node: &Node) -> Result<model::Node, Invalid> {
    let labels = node.metadata.labels.as_ref();
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let excluded = taints
        .into_iter()
        .flatten()
        .any(|taint| taint.key == TO_BE_DELETED);
    Ok(model::Node {
        zone: labels.and_then(|labels| labels.get(ZONE)).cloned(),
        addresses: node_addresses(node),
        pod_networks: pod_networks(node)?,
        leaving: excluded || node.metadata.deletion_timestamp.is_some(),
    })
}

/// The networks of a ServiceCIDR.
pub fn service_cidr(cidr: &ServiceCIDR) -> Result<model::ServiceCidr, Invalid> {
    let networks = cidr.spec.as_ref().and_then(|spec| spec.cidrs.as_ref());
    let networks = networks.into_iter().flatten();
    Ok(model::ServiceCidr {
        networks: networks
            .map(|text| network("spec.cidrs", text))
            .collect::<Result<_, _>>()?,
    })
}

/// Addresses within the cluster first, then those outside. What is no address is of no account: it is what
/// the node's own kubelet has written.
fn node_addresses(node: &Node) -> Vec<IpAddr> {
    let status = node.status.as_ref();
    let listed = status.and_then(|status| status.addresses.as_ref());
    let of_kind = |kind: &'static str| {
        let listed = listed.into_iter().flatten();
        listed
            .filter(move |it| it.type_ == kind)
            .filter_map(|it| parse_address(&it.address))
    };
    of_kind("InternalIP").chain(of_kind("ExternalIP")).collect()
}

/// `podCIDRs`, or of an object from before dual stack `podCIDR`.
fn pod_networks(node: &Node) -> Result<Vec<IpNetwork>, Invalid> {
    let Some(spec) = &node.spec else {
        return Ok(Vec::new());
    };
    let listed = spec.pod_cidrs.iter().flatten();
    let mut networks = listed
        .map(|text| network("spec.podCIDRs", text))
        .collect::<Result<Vec<_>, _>>()?;
    let single = spec.pod_cidr.as_ref().filter(|text| !text.is_empty());
    if let Some(text) = single.filter(|_| networks.is_empty()) {
        networks.push(network("spec.podCIDR", text)?);
    }
    Ok(networks)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_that_is_to_go() {
        let taint = |key: &str| json!({"spec": {"taints": [{"key": key, "effect": "NoSchedule"}]}});
        for (object, leaving) in [
            (json!({}), false),
            (taint("node.kubernetes.io/not-ready"), false),
            (taint("ToBeDeletedByClusterAutoscaler"), true),
            (
                json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
                true,
            ),
        ] {
            let decoded = node(&serde_json::from_value(object.clone()).unwrap());
            assert_eq!(decoded.unwrap().leaving, leaving, "{object}");
        }
    }

    #[test]
    fn addresses_and_networks_of_a_node() {
        let address = |kind: &str, address: &str| json!({"type": kind, "address": address});
        let object = json!({
            "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"]},
            "status": {"addresses": [
                address("Hostname", "n1"),
                address("ExternalIP", "203.0.113.1"),
                address("InternalIP", "192.0.2.1"),
                address("InternalIP", "fd00::1"),
            ]},
        });
        let decoded = node(&serde_json::from_value(object).unwrap()).unwrap();
        let addresses: Vec<_> = decoded.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["192.0.2.1", "fd00::1", "203.0.113.1"]);
        let networks: Vec<_> = decoded
            .pod_networks
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(networks, ["10.244.1.0/24", "fd00:1::/64"]);

        let old = json!({"spec": {"podCIDR": "10.244.1.0/24"}});
        let decoded = node(&serde_json::from_value(old).unwrap()).unwrap();
        assert_eq!(decoded.pod_networks.len(), 1);
        let bad = json!({"spec": {"podCIDRs": ["10.244.1.0"]}});
        let error = node(&serde_json::from_value(bad).unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "spec.podCIDRs: \"10.244.1.0\" is no network such as 10.0.0.0/8"
        );
    }
}
