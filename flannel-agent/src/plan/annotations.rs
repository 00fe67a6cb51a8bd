//! What a node writes into its annotations in Kubernetes (spec 1.10).

use std::collections::BTreeMap;

use kernel::Family;
use serde_json::Value;

use crate::model::{Attributes, Node, annotation};

/// What has to be changed for a Node to say `own`; `None` removes an annotation. Nothing where it does.
pub fn annotation_changes(node: &Node, own: &Attributes) -> BTreeMap<&'static str, Option<String>> {
    let mut changes = wanted(node, own);
    changes.retain(|name, text| node.annotations.get(*name) != text.as_ref());
    changes
}

fn wanted(node: &Node, own: &Attributes) -> BTreeMap<&'static str, Option<String>> {
    let mut all = BTreeMap::from([
        (annotation::MANAGED, Some("true".to_owned())),
        (
            annotation::BACKEND_TYPE,
            Some(own.backend.name().to_owned()),
        ),
    ]);
    // Its own text, read by the crate that wrote it.
    let value: Value = serde_json::from_str(&own.to_json()).unwrap_or_default();
    for (family, key) in [(Family::V4, "BackendData"), (Family::V6, "BackendV6Data")] {
        let public = own.public.get(family).map(|address| {
            let overwrite = node.annotation(annotation::public_ip_overwrite(family));
            overwrite.map_or_else(|| address.to_string(), str::to_owned)
        });
        // Where there is nothing to say flannel writes null.
        let data = public.as_ref().map(|_| {
            let data = value.get(key).unwrap_or(&Value::Null);
            data.to_string()
        });
        all.insert(annotation::public_ip(family), public);
        all.insert(annotation::backend_data(family), data);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Lease;

    const V4: &str = r#"{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}"#;
    const DUAL: &str = r#"{"PublicIP":"10.1.1.2","PublicIPv6":"fd01::2","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"aa:00:00:00:00:01"},"BackendV6Data":{"VNI":1,"VtepMAC":"ba:00:00:00:00:02"}}"#;
    const HOST_GW: &str = r#"{"PublicIP":"1.2.3.4","PublicIPv6":null,"BackendType":"host-gw"}"#;

    fn own(value: &str) -> Attributes {
        let lease = Lease::parse("10.5.1.0-24", value.as_bytes());
        lease.unwrap().attributes
    }

    fn annotated(node: &mut Node, value: &str) {
        for (name, text) in annotation_changes(node, &own(value)) {
            match text {
                Some(text) => node.annotations.insert(name.into(), text),
                None => node.annotations.remove(name),
            };
        }
    }

    #[test]
    fn texts_are_flannels() {
        let mut node = Node::default();
        annotated(&mut node, DUAL);
        let written: Vec<_> = node
            .annotations
            .iter()
            .map(|(name, text)| format!("{name}={text}"))
            .collect();
        assert_eq!(
            written,
            [
                r#"backend-data={"VNI":1,"VtepMAC":"aa:00:00:00:00:01"}"#,
                "backend-type=vxlan",
                r#"backend-v6-data={"VNI":1,"VtepMAC":"ba:00:00:00:00:02"}"#,
                "kube-subnet-manager=true",
                "public-ip=10.1.1.2",
                "public-ipv6=fd01::2",
            ]
        );
        let mut node = Node::default();
        annotated(&mut node, HOST_GW);
        assert_eq!(node.annotations["backend-data"], "null");
        assert!(!node.annotations.contains_key("backend-v6-data"));
    }

    #[test]
    fn what_is_written_is_read_and_not_written_again() {
        for value in [V4, DUAL, HOST_GW] {
            let mut node = Node {
                pod_cidrs: vec!["10.5.1.0/24".into()],
                ..Node::default()
            };
            annotated(&mut node, value);
            assert_eq!(annotation_changes(&node, &own(value)), BTreeMap::new());
            assert_eq!(node.lease().unwrap().unwrap().attributes, own(value));
        }
    }

    #[test]
    fn an_operators_address_goes_before_the_nodes() {
        let mut node = Node::default();
        let overwrite = ("public-ip-overwrite".to_owned(), "203.0.113.9".to_owned());
        node.annotations.extend([overwrite]);
        annotated(&mut node, V4);
        assert_eq!(node.annotations["public-ip"], "203.0.113.9");
    }

    #[test]
    fn a_family_that_is_switched_off_goes() {
        let mut node = Node::default();
        annotated(&mut node, DUAL);
        annotated(&mut node, V4);
        assert!(!node.annotations.contains_key("public-ipv6"));
        assert!(!node.annotations.contains_key("backend-v6-data"));
    }
}
