//! Kubernetes objects, as the API has them, to the model.
//!
//! Objects that the proxy does not serve are `Ok(None)`.

mod endpoint_slice;
mod node;
mod service;

use std::{fmt::Display, net::IpAddr, sync::Arc};

use ipnetwork::IpNetwork;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::model::{ObjectName, Protocol, parse_address};

pub use endpoint_slice::endpoint_slice;
pub use node::{node, service_cidr};
pub use service::service;

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

fn network(field: &str, text: &str) -> Result<IpNetwork, Invalid> {
    let network = text.trim().parse::<IpNetwork>().ok();
    let network = network.filter(|_| text.contains('/'));
    network.ok_or_else(|| Invalid::new(field, format!("{text:?} is no network such as 10.0.0.0/8")))
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
