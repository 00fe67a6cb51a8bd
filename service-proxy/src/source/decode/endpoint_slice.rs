//! EndpointSlices. Those of headless Services (F2) and of host names (F4) are none of ours.

use jiff::Timestamp;
use k8s_openapi::{
    api::discovery::v1::{Endpoint, EndpointHints, EndpointPort, EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kernel::Family;

use super::{Invalid, address, has_label, name, port, port_name, protocol};
use crate::model::{self, ObjectName};

/// Label of EndpointSlices of headless Services.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Annotation of an EndpointSlice with the time of what led to its latest change.
const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Label that names the Service of an EndpointSlice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use crate::model::Protocol;

    use super::*;

    fn decode_slice(mut slice: Value) -> Result<Option<model::EndpointSlice>, String> {
        slice["metadata"] = json!({
            "namespace": "ns1", "name": "svc1-abc", "labels": slice["labels"].take(),
        });
        endpoint_slice(&serde_json::from_value(slice).unwrap()).map_err(|error| error.to_string())
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
