//! Objects of the kinds that the proxy follows, as text, to changes of the model. All sources read them here.

use std::{fmt::Display, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use serde::de::{DeserializeOwned, Deserializer};

use super::decode::{self, Invalid};
use crate::model::{Change, ObjectName};

/// A Kubernetes object; the error names the field.
///
/// # Errors
/// What is wrong with it, for people.
pub fn typed<'de, T: DeserializeOwned>(
    value: impl Deserializer<'de, Error: Display>,
) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| error.to_string())
}

/// What a Service is now.
///
/// # Errors
/// What is wrong with it, for people.
pub fn service(service: &Service) -> Result<Change, String> {
    named(
        "Service",
        service.metadata.name.as_deref(),
        decode::name(&service.metadata),
        |name| {
            let served = decode::service(service)?.map(Arc::new);
            Ok(Change::Service(name, served))
        },
    )
}

/// What an EndpointSlice is now.
///
/// # Errors
/// What is wrong with it, for people.
pub fn endpoint_slice(slice: &EndpointSlice) -> Result<Change, String> {
    named(
        "EndpointSlice",
        slice.metadata.name.as_deref(),
        decode::name(&slice.metadata),
        |name| {
            let served = decode::endpoint_slice(slice)?.map(Arc::new);
            Ok(Change::EndpointSlice(name, served))
        },
    )
}

/// What a Node is now.
///
/// # Errors
/// What is wrong with it, for people.
pub fn node(node: &Node) -> Result<Change, String> {
    named(
        "Node",
        node.metadata.name.as_deref(),
        decode::cluster_name(&node.metadata),
        |name| Ok(Change::Node(name, Some(Arc::new(decode::node(node))))),
    )
}

/// Lets the error of an object say which object it is about.
fn named(
    kind: &str,
    text: Option<&str>,
    name: Result<ObjectName, Invalid>,
    read: impl FnOnce(ObjectName) -> Result<Change, Invalid>,
) -> Result<Change, String> {
    let text = text.unwrap_or("without name");
    name.and_then(read)
        .map_err(|invalid| format!("{kind} {text}: {invalid}"))
}
