//! What the real server fills in before it stores an object, as far as readers of Services rely on it.
//!
//! Addresses and ports are not allocated: a Service without `clusterIP` stays without.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::resource::Resource;

/// Fills in what is missing. Leaves alone what is not of the expected form.
pub fn fill_in(resource: &Resource, object: &mut Value) {
    match (resource.group, resource.kind) {
        ("", "Service") => fill_in_service(object),
        ("discovery.k8s.io", "EndpointSlice") => fill_in_ports(object.get_mut("ports"), true),
        ("", "Namespace") => fill_in_namespace(object),
        _ => {}
    }
}

fn fill_in_service(service: &mut Value) {
    fill_in_ports(service.pointer_mut("/spec/ports"), false);
    for port in array_mut(service.pointer_mut("/spec/ports")) {
        if let (Some(number), None) = (port.get("port").cloned(), port.get("targetPort")) {
            port["targetPort"] = number;
        }
    }
    let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    default(spec, "sessionAffinity", "None");
    default(spec, "type", "ClusterIP");
    let kind = text(spec, "type").to_owned();
    if kind != "ExternalName" {
        default(spec, "internalTrafficPolicy", "Cluster");
        fill_in_addresses(spec);
    }
    if kind == "NodePort" || kind == "LoadBalancer" {
        default(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
    if text(spec, "sessionAffinity") == "ClientIP" {
        default(
            spec,
            "sessionAffinityConfig",
            json!({"clientIP": {"timeoutSeconds": 10800}}),
        );
    }
    if let Some(service) = service.as_object_mut() {
        default(service, "status", json!({"loadBalancer": {}}));
    }
    for ingress in array_mut(service.pointer_mut("/status/loadBalancer/ingress")) {
        if let Some(ingress) = ingress.as_object_mut().filter(|map| map.contains_key("ip")) {
            default(ingress, "ipMode", "VIP");
        }
    }
}

/// `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` from `clusterIP`.
fn fill_in_addresses(spec: &mut Map<String, Value>) {
    let first = text(spec, "clusterIP").to_owned();
    if first.is_empty() {
        return;
    }
    default(spec, "clusterIPs", json!([first]));
    let families: Vec<_> = array_mut(spec.get_mut("clusterIPs"))
        .iter()
        .filter_map(|address| address.as_str()?.parse::<IpAddr>().ok())
        .map(|address| if address.is_ipv4() { "IPv4" } else { "IPv6" })
        .collect();
    if families.is_empty() {
        return;
    }
    let policy = match families.len() {
        1 => "SingleStack",
        _ => "RequireDualStack",
    };
    default(spec, "ipFamilies", families);
    default(spec, "ipFamilyPolicy", policy);
}

fn fill_in_ports(ports: Option<&mut Value>, named: bool) {
    for port in array_mut(ports) {
        if let Some(port) = port.as_object_mut() {
            default(port, "protocol", "TCP");
            if named {
                default(port, "name", "");
            }
        }
    }
}

fn fill_in_namespace(namespace: &mut Value) {
    if let Some(namespace) = namespace.as_object_mut() {
        default(namespace, "spec", json!({"finalizers": ["kubernetes"]}));
        default(namespace, "status", json!({"phase": "Active"}));
    }
}

fn default(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), value.into());
    }
}

fn text<'m>(map: &'m Map<String, Value>, key: &str) -> &'m str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn array_mut(value: Option<&mut Value>) -> &mut [Value] {
    match value {
        Some(Value::Array(items)) => items,
        _ => &mut [],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(group: &str, plural: &str, mut object: Value) -> Value {
        fill_in(
            Resource::by_plural(group, "v1", plural).unwrap(),
            &mut object,
        );
        object
    }

    #[test]
    fn a_service_gets_what_its_readers_expect() {
        let service = filled(
            "",
            "services",
            json!({"spec": {
                "clusterIP": "10.96.0.7",
                "type": "LoadBalancer",
                "sessionAffinity": "ClientIP",
                "ports": [{"port": 80}, {"port": 53, "protocol": "UDP", "targetPort": "dns"}],
            }}),
        );
        let spec = &service["spec"];
        assert_eq!(spec["clusterIPs"], json!(["10.96.0.7"]));
        assert_eq!(spec["ipFamilies"], json!(["IPv4"]));
        assert_eq!(spec["ipFamilyPolicy"], "SingleStack");
        assert_eq!(spec["internalTrafficPolicy"], "Cluster");
        assert_eq!(spec["externalTrafficPolicy"], "Cluster");
        assert_eq!(
            spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"],
            10800
        );
        assert_eq!(
            spec["ports"],
            json!([
                {"port": 80, "protocol": "TCP", "targetPort": 80},
                {"port": 53, "protocol": "UDP", "targetPort": "dns"},
            ])
        );
        assert_eq!(service["status"], json!({"loadBalancer": {}}));
    }

    #[test]
    fn a_slice_has_named_ports() {
        let slice = filled(
            "discovery.k8s.io",
            "endpointslices",
            json!({"ports": [{"port": 80}]}),
        );
        assert_eq!(
            slice["ports"],
            json!([{"port": 80, "protocol": "TCP", "name": ""}])
        );
    }

    #[test]
    fn rubbish_is_left_alone() {
        for rubbish in [
            json!({"spec": "x"}),
            json!({"spec": {"ports": 7}}),
            json!({"spec": null}),
        ] {
            let service = filled("", "services", rubbish.clone());
            assert_eq!(service["spec"]["ports"], rubbish["spec"]["ports"]);
        }
    }
}
