//! Kubernetes objects, as the API has them, to the model.
//!
//! Objects that the proxy does not serve are `Ok(None)`: those with the label of another proxy (F1), slices
//! of headless Services (F2), Services without cluster IP (F3, F9), slices of host names (F4).

use std::{fmt::Display, net::IpAddr, sync::Arc, time::Duration};

use ipnetwork::IpNetwork;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{Node, Service, ServicePort, ServiceSpec},
        discovery::v1::{Endpoint, EndpointHints, EndpointPort, EndpointSlice},
        networking::v1::ServiceCIDR,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kernel::Family;

use crate::model::{self, ObjectName, Protocol, ServiceKind, TrafficPolicy, parse_address};

/// Label of Services that another proxy serves.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
/// Label of EndpointSlices of headless Services.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Annotation of an EndpointSlice with the time of what led to its latest change.
const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Label that names the Service of an EndpointSlice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// How long a client keeps its endpoint unless told otherwise, and the longest that Kubernetes allows (a day).
const AFFINITY_SECONDS: i32 = 10_800;
const LONGEST_AFFINITY: u64 = 86_400;

/// Label that names the zone of a Node.
const ZONE: &str = "topology.kubernetes.io/zone";
/// Taint of a Node that the cluster autoscaler is about to delete.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// What of an object the proxy can't understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    field: String,
    problem: String,
}

// === impl Invalid ===

impl Invalid {
    fn new(field: impl Into<String>, problem: impl Display) -> Self {
        Self {
            field: field.into(),
            problem: problem.to_string(),
        }
    }
}

/// The name of an object.
pub fn name(metadata: &ObjectMeta) -> Result<ObjectName, Invalid> {
    let part = |field, value: Option<&str>| match value {
        None | Some("") => Err(Invalid::new(field, "is missing")),
        Some(value) => match name_part(value) {
            Ok(value) => Ok(value.into()),
            Err(problem) => Err(Invalid::new(field, problem)),
        },
    };
    Ok(ObjectName {
        namespace: part("metadata.namespace", metadata.namespace.as_deref())?,
        name: part("metadata.name", metadata.name.as_deref())?,
    })
}

/// The name of an object without namespace.
pub fn cluster_name(metadata: &ObjectMeta) -> Result<ObjectName, Invalid> {
    let placed = ObjectMeta {
        namespace: Some("none".to_owned()),
        name: metadata.name.clone(),
        ..ObjectMeta::default()
    };
    name(&placed).map(|placed| ObjectName::new("", placed.name))
}

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

/// A Service, if the proxy serves it.
pub fn service(service: &Service) -> Result<Option<model::Service>, Invalid> {
    let name = name(&service.metadata)?;
    let Some(spec) = &service.spec else {
        return Ok(None);
    };
    let external_name = spec.type_.as_deref() == Some("ExternalName");
    if external_name || has_label(&service.metadata, OTHER_PROXY) {
        return Ok(None);
    }
    let cluster_ips = cluster_ips(spec)?;
    if cluster_ips.is_empty() {
        return Ok(None);
    }
    let ports = spec.ports.iter().flatten().enumerate();
    Ok(Some(model::Service {
        name,
        kind: kind(spec),
        cluster_ips,
        ports: ports
            .map(|(index, port)| service_port(index, port))
            .collect::<Result<_, _>>()?,
        external_ips: addresses("spec.externalIPs", spec.external_ips.iter().flatten())?,
        load_balancer_ips: load_balancer_ips(service)?,
        source_ranges: source_ranges(spec)?,
        internal: policy(
            "spec.internalTrafficPolicy",
            spec.internal_traffic_policy.as_deref(),
        )?,
        external: policy(
            "spec.externalTrafficPolicy",
            spec.external_traffic_policy.as_deref(),
        )?,
        affinity: affinity(spec)?,
        health_check_node_port: health_check_node_port(spec)?,
    }))
}

/// An EndpointSlice, if the proxy serves it.
pub fn endpoint_slice(slice: &EndpointSlice) -> Result<Option<model::EndpointSlice>, Invalid> {
    let name = name(&slice.metadata)?;
    let family = match slice.address_type.as_str() {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        "FQDN" => return Ok(None),
        other => {
            return Err(Invalid::new(
                "addressType",
                format!("{other:?} is none of IPv4, IPv6, FQDN"),
            ));
        }
    };
    if has_label(&slice.metadata, HEADLESS) {
        return Ok(None);
    }
    let label = slice
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(SERVICE_NAME));
    let service = label
        .filter(|service| !service.is_empty())
        .ok_or_else(|| Invalid::new(format!("metadata.labels[{SERVICE_NAME}]"), "is missing"))?;
    let ports = slice.ports.iter().flatten().enumerate();
    let ports = ports
        .map(|(index, port)| slice_port(index, port))
        .collect::<Result<Vec<_>, _>>()?;
    let listed = slice.endpoints.iter().enumerate();
    let mut endpoints = Vec::with_capacity(slice.endpoints.len());
    for (index, item) in listed {
        endpoints.push(endpoint(index, item, family)?);
    }
    Ok(Some(model::EndpointSlice {
        service: ObjectName::new(&name.namespace, service),
        name,
        family,
        ports: ports.into_iter().flatten().collect(),
        endpoints,
        triggered: triggered(&slice.metadata),
    }))
}

/// When what led to the latest change of a slice happened. For measuring only: what can't be read is not there.
fn triggered(metadata: &ObjectMeta) -> Option<Timestamp> {
    let annotations = metadata.annotations.as_ref()?;
    annotations.get(TRIGGERED)?.parse().ok()
}

/// Letters of DNS names only, so that the name can stand in a comment or a log line as it is.
fn name_part(text: &str) -> Result<&str, String> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if text.len() > 253 || !text.bytes().all(allowed) {
        return Err(format!(
            "{text:?} is no DNS name of lower case letters, digits, '-' and '.'"
        ));
    }
    Ok(text)
}

fn has_label(metadata: &ObjectMeta, label: &str) -> bool {
    metadata
        .labels
        .as_ref()
        .is_some_and(|labels| labels.contains_key(label))
}

fn kind(spec: &ServiceSpec) -> ServiceKind {
    match spec.type_.as_deref() {
        Some("NodePort") => ServiceKind::NodePort,
        Some("LoadBalancer") => ServiceKind::LoadBalancer,
        _ => ServiceKind::ClusterIp,
    }
}

/// The cluster IPs, the first of each family: `clusterIPs`, or of an object from before dual stack
/// `clusterIP` (F4).
fn cluster_ips(spec: &ServiceSpec) -> Result<Vec<IpAddr>, Invalid> {
    let listed = spec
        .cluster_ips
        .iter()
        .flatten()
        .map(|ip| ("spec.clusterIPs", ip));
    let single = spec.cluster_ip.iter().map(|ip| ("spec.clusterIP", ip));
    let mut found: Vec<IpAddr> = Vec::new();
    for (field, text) in listed.chain(single) {
        if text.is_empty() || text == "None" {
            continue;
        }
        let address = address(field, text)?;
        if !found
            .iter()
            .any(|known| Family::of(known) == Family::of(&address))
        {
            found.push(address);
        }
    }
    Ok(found)
}

fn addresses<'a>(
    field: &str,
    texts: impl Iterator<Item = &'a String>,
) -> Result<Vec<IpAddr>, Invalid> {
    texts.map(|text| address(field, text)).collect()
}

/// The load balancer's addresses that packets still have when they come to a node (F18).
fn load_balancer_ips(service: &Service) -> Result<Vec<IpAddr>, Invalid> {
    let status = service.status.as_ref();
    let ingress = status
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_ref());
    let served = ingress
        .into_iter()
        .flatten()
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    let texts = served.filter_map(|ingress| ingress.ip.as_ref());
    addresses(
        "status.loadBalancer.ingress.ip",
        texts.filter(|text| !text.is_empty()),
    )
}

fn source_ranges(spec: &ServiceSpec) -> Result<Vec<IpNetwork>, Invalid> {
    let field = "spec.loadBalancerSourceRanges";
    let ranges = spec.load_balancer_source_ranges.iter().flatten();
    ranges.map(|text| network(field, text)).collect()
}

fn network(field: &str, text: &str) -> Result<IpNetwork, Invalid> {
    let network = text.trim().parse::<IpNetwork>().ok();
    let network = network.filter(|_| text.contains('/'));
    network.ok_or_else(|| Invalid::new(field, format!("{text:?} is no network such as 10.0.0.0/8")))
}

/// How long a client keeps its endpoint (F22).
fn affinity(spec: &ServiceSpec) -> Result<Option<Duration>, Invalid> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => return Ok(None),
        Some("ClientIP") => {}
        Some(other) => {
            let problem = format!("{other:?} is none of None, ClientIP");
            return Err(Invalid::new("spec.sessionAffinity", problem));
        }
    }
    let config = spec.session_affinity_config.as_ref();
    let client = config.and_then(|config| config.client_ip.as_ref());
    let seconds = client.and_then(|client| client.timeout_seconds);
    let seconds = seconds.unwrap_or(AFFINITY_SECONDS);
    match u64::try_from(seconds) {
        Ok(valid @ 1..=LONGEST_AFFINITY) => Ok(Some(Duration::from_secs(valid))),
        _ => Err(Invalid::new(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            format!("{seconds} is not from 1 to {LONGEST_AFFINITY}"),
        )),
    }
}

/// Only of load balancers whose traffic goes to endpoints on the node; of others it is what was left over.
fn health_check_node_port(spec: &ServiceSpec) -> Result<Option<u16>, Invalid> {
    let needed = spec.type_.as_deref() == Some("LoadBalancer")
        && spec.external_traffic_policy.as_deref() == Some("Local");
    match spec.health_check_node_port {
        Some(number @ (..=-1 | 1..)) if needed => {
            port("spec.healthCheckNodePort", number).map(Some)
        }
        _ => Ok(None),
    }
}

fn policy(field: &str, text: Option<&str>) -> Result<TrafficPolicy, Invalid> {
    match text {
        None | Some("" | "Cluster") => Ok(TrafficPolicy::Cluster),
        Some("Local") => Ok(TrafficPolicy::Local),
        Some(other) => Err(Invalid::new(
            field,
            format!("{other:?} is none of Cluster, Local"),
        )),
    }
}

fn service_port(index: usize, item: &ServicePort) -> Result<model::ServicePort, Invalid> {
    let field = |name: &str| format!("spec.ports[{index}].{name}");
    Ok(model::ServicePort {
        name: port_name(&field("name"), item.name.as_deref().unwrap_or_default())?,
        protocol: protocol(&field("protocol"), item.protocol.as_deref())?,
        port: port(&field("port"), item.port)?,
        node_port: match item.node_port {
            None | Some(0) => None,
            Some(number) => Some(port(&field("nodePort"), number)?),
        },
    })
}

/// A port of a slice; one without name or number is ignored (F5).
fn slice_port(index: usize, item: &EndpointPort) -> Result<Option<model::SlicePort>, Invalid> {
    let field = |name: &str| format!("ports[{index}].{name}");
    let (Some(name), Some(number @ ..=-1 | number @ 1..)) = (&item.name, item.port) else {
        return Ok(None);
    };
    Ok(Some(model::SlicePort {
        name: port_name(&field("name"), name)?,
        protocol: protocol(&field("protocol"), item.protocol.as_deref())?,
        port: port(&field("port"), number)?,
    }))
}

/// An endpoint; a missing condition means that it is ready, serving and not terminating (F5).
fn endpoint(index: usize, item: &Endpoint, family: Family) -> Result<model::Endpoint, Invalid> {
    let field = format!("endpoints[{index}].addresses[0]");
    let text = item
        .addresses
        .first()
        .ok_or_else(|| Invalid::new(&field, "is missing"))?;
    let address = address(&field, text)?;
    if Family::of(&address) != family {
        return Err(Invalid::new(
            field,
            format!("{text:?} is no {family} address"),
        ));
    }
    let conditions = item.conditions.clone().unwrap_or_default();
    Ok(model::Endpoint {
        address,
        ready: conditions.ready.unwrap_or(true),
        serving: conditions.serving.unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        node: item.node_name.as_deref().map(Into::into),
        hints: item.hints.as_ref().map(hints),
    })
}

fn hints(hints: &EndpointHints) -> Box<model::Hints> {
    let zones = hints.for_zones.iter().flatten();
    let nodes = hints.for_nodes.iter().flatten();
    Box::new(model::Hints {
        zones: zones.map(|zone| zone.name.clone()).collect(),
        nodes: nodes.map(|node| node.name.clone()).collect(),
    })
}

fn address(field: &str, text: &str) -> Result<IpAddr, Invalid> {
    parse_address(text).ok_or_else(|| Invalid::new(field, format!("{text:?} is no IP address")))
}

/// A port name is an IANA service name: at most 15 lower case letters, digits and '-'.
fn port_name(field: &str, text: &str) -> Result<Arc<str>, Invalid> {
    name_part(text)
        .map(Into::into)
        .map_err(|problem| Invalid::new(field, problem))
}

/// TCP where none is named, as the API server fills in.
fn protocol(field: &str, text: Option<&str>) -> Result<Protocol, Invalid> {
    text.map_or(Ok(Protocol::Tcp), |text| {
        text.parse().map_err(|error| Invalid::new(field, error))
    })
}

fn port(field: &str, number: i32) -> Result<u16, Invalid> {
    match u16::try_from(number) {
        Ok(port @ 1..) => Ok(port),
        _ => Err(Invalid::new(
            field,
            format!("{number} is no port from 1 to 65535"),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn decode_service(spec: Value, labels: Value) -> Result<Option<model::Service>, String> {
        let metadata = json!({"namespace": "ns1", "name": "svc1", "labels": labels});
        let object = json!({"metadata": metadata, "spec": spec});
        service(&serde_json::from_value(object).unwrap()).map_err(|error| error.to_string())
    }

    fn decode_slice(mut slice: Value) -> Result<Option<model::EndpointSlice>, String> {
        slice["metadata"] = json!({
            "namespace": "ns1", "name": "svc1-abc", "labels": slice["labels"].take(),
        });
        endpoint_slice(&serde_json::from_value(slice).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn cluster_ips_by_family() {
        for (spec, expected) in [
            (json!({"clusterIP": "10.96.0.1"}), vec!["10.96.0.1"]),
            (json!({"clusterIP": "172.30.0.041"}), vec!["172.30.0.41"]),
            (
                json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"]}),
                vec!["10.96.0.1", "fd00::1"],
            ),
            (json!({"clusterIPs": ["fd00::1"]}), vec!["fd00::1"]),
            (json!({"clusterIP": "None", "clusterIPs": ["None"]}), vec![]),
            (json!({"clusterIP": ""}), vec![]),
            (json!({"ports": []}), vec![]),
            (
                json!({"clusterIP": "10.96.0.1", "type": "ExternalName"}),
                vec![],
            ),
        ] {
            let found = decode_service(spec.clone(), json!({}))
                .unwrap()
                .map(|service| service.cluster_ips);
            let found: Vec<_> = found.iter().flatten().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{spec}");
        }
    }

    #[test]
    fn when_a_slice_was_triggered() {
        for (annotation, expected) in [
            (
                json!("2026-01-01T00:00:00.5Z"),
                Some("2026-01-01T00:00:00.5Z"),
            ),
            (json!("yesterday"), None),
        ] {
            let object = json!({
                "metadata": {
                    "namespace": "ns1",
                    "name": "svc1-abc",
                    "labels": {SERVICE_NAME: "svc1"},
                    "annotations": {TRIGGERED: annotation},
                },
                "addressType": "IPv4",
                "endpoints": [],
            });
            let found = endpoint_slice(&serde_json::from_value(object).unwrap())
                .unwrap()
                .unwrap()
                .triggered;
            assert_eq!(found, expected.map(|text| text.parse().unwrap()));
        }
    }

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

    #[test]
    fn services_of_another_proxy_are_not_ours() {
        let labels = json!({"service.kubernetes.io/service-proxy-name": "other"});
        assert_eq!(
            decode_service(json!({"clusterIP": "10.96.0.1"}), labels),
            Ok(None)
        );
    }

    #[test]
    fn ports_of_a_service() {
        let spec = json!({"clusterIP": "10.96.0.1", "ports": [
            {"port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}, {"port": 65535, "protocol": "SCTP"},
        ]});
        let ports: Vec<_> = decode_service(spec, json!({})).unwrap().unwrap().ports;
        let ports: Vec<_> = ports
            .iter()
            .map(|p| (&*p.name, p.protocol, p.port))
            .collect();
        assert_eq!(
            ports,
            [
                ("", Protocol::Tcp, 80),
                ("dns", Protocol::Udp, 53),
                ("", Protocol::Sctp, 65535)
            ]
        );
    }

    #[test]
    fn addresses_and_policies_of_a_service() {
        let object = json!({
            "metadata": {"namespace": "ns1", "name": "svc1"},
            "spec": {
                "clusterIP": "10.96.0.1",
                "ports": [{"port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 0}],
                "externalIPs": ["192.0.2.001", "fd00::9"],
                "loadBalancerSourceRanges": [" 10.0.0.0/8", "0.0.0.0/0 "],
                "internalTrafficPolicy": "Local",
                "externalTrafficPolicy": "Local",
                "sessionAffinity": "ClientIP",
                "healthCheckNodePort": 31000,
            },
            "status": {"loadBalancer": {"ingress": [
                {"ip": "203.0.113.1"},
                {"ip": "203.0.113.2", "ipMode": "VIP"},
                {"ip": "203.0.113.3", "ipMode": "Proxy"},
                {"hostname": "example.org"},
            ]}},
        });
        let found = service(&serde_json::from_value(object).unwrap())
            .unwrap()
            .unwrap();
        let texts = |addresses: &[IpAddr]| -> Vec<String> {
            addresses.iter().map(ToString::to_string).collect()
        };
        assert_eq!(texts(&found.external_ips), ["192.0.2.1", "fd00::9"]);
        assert_eq!(
            texts(&found.load_balancer_ips),
            ["203.0.113.1", "203.0.113.2"]
        );
        let ranges: Vec<_> = found
            .source_ranges
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(ranges, ["10.0.0.0/8", "0.0.0.0/0"]);
        assert_eq!(
            (found.internal, found.external),
            (TrafficPolicy::Local, TrafficPolicy::Local)
        );
        let node_ports: Vec<_> = found.ports.iter().map(|port| port.node_port).collect();
        assert_eq!(node_ports, [Some(30080), None]);
        assert_eq!(found.health_check_node_port, None);
        assert_eq!(found.affinity, Some(Duration::from_secs(10_800)));
    }

    #[test]
    fn session_affinity_has_a_time() {
        let timed = |seconds: i32| {
            let config = json!({"clientIP": {"timeoutSeconds": seconds}});
            json!({"clusterIP": "10.96.0.1", "sessionAffinity": "ClientIP", "sessionAffinityConfig": config})
        };
        for (spec, expected) in [
            (
                json!({"clusterIP": "10.96.0.1", "sessionAffinity": "None"}),
                Ok(None),
            ),
            (
                json!({"clusterIP": "10.96.0.1", "sessionAffinity": "ClientIP"}),
                Ok(Some(10_800)),
            ),
            (timed(60), Ok(Some(60))),
            (timed(86_400), Ok(Some(86_400))),
            (
                timed(0),
                Err("spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not from 1 to 86400"),
            ),
            (
                json!({"clusterIP": "10.96.0.1", "sessionAffinity": "Cookie"}),
                Err("spec.sessionAffinity: \"Cookie\" is none of None, ClientIP"),
            ),
        ] {
            let found = decode_service(spec, json!({})).map(|it| it.unwrap().affinity);
            let found = found.map(|time| time.map(|time| time.as_secs()));
            assert_eq!(found, expected.map_err(ToOwned::to_owned));
        }
    }

    #[test]
    fn health_is_checked_of_load_balancers_that_ask_for_it() {
        for (spec, expected) in [
            (
                json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}),
                Ok(Some(31_000)),
            ),
            (
                json!({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"}),
                Ok(None),
            ),
            (
                json!({"type": "NodePort", "externalTrafficPolicy": "Local"}),
                Ok(None),
            ),
            (json!({"externalTrafficPolicy": "Local"}), Ok(None)),
            (
                json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 0}),
                Ok(None),
            ),
            (
                json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 70000}),
                Err("spec.healthCheckNodePort: 70000 is no port from 1 to 65535".to_owned()),
            ),
        ] {
            let mut whole = json!({"clusterIP": "10.96.0.1", "healthCheckNodePort": 31000});
            let fields = spec.as_object().unwrap().clone();
            whole.as_object_mut().unwrap().extend(fields);
            let found = decode_service(whole, json!({}));
            let found = found.map(|service| service.unwrap().health_check_node_port);
            assert_eq!(found, expected, "{spec}");
        }
    }

    #[test]
    fn a_bad_service_names_the_field() {
        for (spec, error) in [
            (
                json!({"clusterIP": "10.96.0"}),
                "spec.clusterIP: \"10.96.0\" is no IP address",
            ),
            (
                json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}, {"port": 65536}]}),
                "spec.ports[1].port: 65536 is no port from 1 to 65535",
            ),
            (
                json!({"clusterIP": "10.96.0.1", "ports": [{"port": 0}]}),
                "spec.ports[0].port: 0 is no port from 1 to 65535",
            ),
            (
                json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80, "nodePort": 70000}]}),
                "spec.ports[0].nodePort: 70000 is no port from 1 to 65535",
            ),
            (
                json!({"clusterIP": "10.96.0.1", "externalIPs": ["x"]}),
                "spec.externalIPs: \"x\" is no IP address",
            ),
            (
                json!({"clusterIP": "10.96.0.1", "loadBalancerSourceRanges": ["10.0.0.1"]}),
                "spec.loadBalancerSourceRanges: \"10.0.0.1\" is no network such as 10.0.0.0/8",
            ),
            (
                json!({"clusterIP": "10.96.0.1", "externalTrafficPolicy": "Near"}),
                "spec.externalTrafficPolicy: \"Near\" is none of Cluster, Local",
            ),
            (
                json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80, "protocol": "ICMP"}]}),
                "spec.ports[0].protocol: protocol \"ICMP\" is none of TCP, UDP, SCTP",
            ),
            (
                json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80, "name": "a\"b"}]}),
                "spec.ports[0].name: \"a\\\"b\" is no DNS name of lower case letters, digits, '-' and '.'",
            ),
        ] {
            assert_eq!(decode_service(spec, json!({})), Err(error.into()));
        }
        let nameless = serde_json::from_value(json!({"metadata": {"namespace": "ns1"}})).unwrap();
        assert_eq!(
            service(&nameless).unwrap_err().to_string(),
            "metadata.name: is missing"
        );
    }

    #[test]
    fn conditions_that_are_missing_mean_alive() {
        let decoded = decode_slice(json!({
            "labels": {"kubernetes.io/service-name": "svc1"},
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["1.2.3.004", "9.9.9.9"]},
                {"addresses": ["1.2.3.5"], "nodeName": "n1", "conditions": {}},
                {"addresses": ["1.2.3.6"], "conditions": {"ready": false, "terminating": true}},
                {"addresses": ["1.2.3.7"], "conditions": {"ready": false, "serving": false}},
            ],
        }))
        .unwrap()
        .unwrap();
        assert_eq!(decoded.service, ObjectName::new("ns1", "svc1"));
        let found: Vec<_> = decoded
            .endpoints
            .iter()
            .map(|e| {
                (
                    e.address.to_string(),
                    e.ready,
                    e.serving,
                    e.terminating,
                    e.node.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("1.2.3.4".into(), true, true, false, None),
                ("1.2.3.5".into(), true, true, false, Some("n1")),
                ("1.2.3.6".into(), false, true, true, None),
                ("1.2.3.7".into(), false, false, false, None),
            ]
        );
    }

    #[test]
    fn slice_ports_without_name_or_number_are_ignored() {
        let decoded = decode_slice(json!({
            "labels": {"kubernetes.io/service-name": "svc1"},
            "addressType": "IPv6",
            "endpoints": [],
            "ports": [{"port": 80}, {"name": "a"}, {"name": "b", "port": 0}, {"name": "", "port": 80, "protocol": "UDP"}],
        }));
        let ports = decoded.unwrap().unwrap().ports;
        let ports: Vec<_> = ports
            .iter()
            .map(|p| (&*p.name, p.protocol, p.port))
            .collect();
        assert_eq!(ports, [("", Protocol::Udp, 80)]);
    }

    #[test]
    fn slices_that_are_not_served_or_wrong() {
        let ours = json!({"kubernetes.io/service-name": "svc1"});
        let headless =
            json!({"kubernetes.io/service-name": "svc1", "service.kubernetes.io/headless": ""});
        for (labels, address_type, address, expected) in [
            (&headless, "IPv4", "10.0.0.1", Ok(None)),
            (&ours, "FQDN", "example.org", Ok(None)),
            (
                &ours,
                "IPX",
                "10.0.0.1",
                Err("addressType: \"IPX\" is none of IPv4, IPv6, FQDN"),
            ),
            (
                &ours,
                "IPv6",
                "10.0.0.1",
                Err("endpoints[0].addresses[0]: \"10.0.0.1\" is no IPv6 address"),
            ),
            (
                &ours,
                "IPv4",
                "pod",
                Err("endpoints[0].addresses[0]: \"pod\" is no IP address"),
            ),
            (
                &json!({}),
                "IPv4",
                "10.0.0.1",
                Err("metadata.labels[kubernetes.io/service-name]: is missing"),
            ),
        ] {
            let slice = json!({
                "labels": labels, "addressType": address_type, "endpoints": [{"addresses": [address]}],
            });
            assert_eq!(decode_slice(slice), expected.map_err(String::from));
        }
    }
}
