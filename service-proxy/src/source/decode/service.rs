//! Services. Those without a cluster IP, or with the label of another proxy, are none of ours (F1, F3, F9).

use std::{net::IpAddr, time::Duration};

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use kernel::Family;

use super::{Invalid, address, has_label, name, network, port, port_name, protocol};
use crate::model::{self, ServiceKind, TrafficPolicy};

/// Label of Services that another proxy serves.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
/// How long a client keeps its endpoint unless told otherwise, and the longest that Kubernetes allows (a day).
const AFFINITY_SECONDS: i32 = 10_800;
const LONGEST_AFFINITY: u64 = 86_400;

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use crate::model::Protocol;

    use super::*;

    fn decode_service(spec: Value, labels: Value) -> Result<Option<model::Service>, String> {
        let metadata = json!({"namespace": "ns1", "name": "svc1", "labels": labels});
        let object = json!({"metadata": metadata, "spec": spec});
        service(&serde_json::from_value(object).unwrap()).map_err(|error| error.to_string())
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
}
