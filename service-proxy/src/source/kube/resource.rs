//! What is asked of the API server.

use std::fmt;

use kube::core::{
    Request,
    params::{ListParams, WatchParams},
};
use serde::de::DeserializeOwned;

use super::event::Object;
use crate::{
    model::{Change, ObjectKind, ObjectName},
    source::object,
};

/// A collection that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Services.
    Services,
    /// EndpointSlices.
    EndpointSlices,
    /// This Node.
    Node,
    /// ServiceCIDRs; servers before Kubernetes 1.33 have none.
    ServiceCidrs,
}

/// What of a collection is asked for.
#[derive(Clone, Debug)]
pub struct Selection {
    request: Request,
    labels: Option<&'static str>,
    fields: Option<String>,
}

/// How many objects of a list are asked for at once, where the list is not streamed. A slice can have a
/// thousand endpoints, a third of a megabyte.
const PAGE: u32 = 100;

// === impl Resource ===

impl Resource {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Services,
        Self::EndpointSlices,
        Self::Node,
        Self::ServiceCidrs,
    ];

    /// The kind of its objects.
    pub fn kind(self) -> ObjectKind {
        match self {
            Self::Services => ObjectKind::Service,
            Self::EndpointSlices => ObjectKind::EndpointSlice,
            Self::Node => ObjectKind::Node,
            Self::ServiceCidrs => ObjectKind::ServiceCidr,
        }
    }

    /// Whether nothing can be done without it (F7).
    pub fn is_needed(self) -> bool {
        matches!(self, Self::Services | Self::EndpointSlices)
    }

    /// What of it a node's proxy asks for (F1, F2).
    pub fn selection(self, node: &str) -> Selection {
        let (path, labels, fields) = match self {
            Self::Services => (
                "/api/v1/services",
                Some("!service.kubernetes.io/service-proxy-name"),
                Some("spec.clusterIP!=None".to_owned()),
            ),
            Self::EndpointSlices => (
                "/apis/discovery.k8s.io/v1/endpointslices",
                Some("!service.kubernetes.io/headless"),
                None,
            ),
            Self::Node => ("/api/v1/nodes", None, Some(format!("metadata.name={node}"))),
            Self::ServiceCidrs => ("/apis/networking.k8s.io/v1/servicecidrs", None, None),
        };
        Selection {
            request: Request::new(path),
            labels,
            fields,
        }
    }

    /// What became of an object that was added or modified.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn read(self, object: &Object<'_>) -> Result<Change, String> {
        match self {
            Self::Services => object::service(&self.typed(object)?),
            Self::EndpointSlices => object::endpoint_slice(&self.typed(object)?),
            Self::Node => object::node(&self.typed(object)?),
            Self::ServiceCidrs => object::service_cidr(&self.typed(object)?),
        }
    }

    fn typed<T: DeserializeOwned>(self, object: &Object<'_>) -> Result<T, String> {
        let text = object.text.get();
        // To keep track of the field takes as long again: it is sought once there is something wrong with one.
        serde_json::from_str(text)
            .or_else(|_| object::typed(&mut serde_json::Deserializer::from_str(text)))
            .map_err(|wrong| format!("{} {}: {wrong}", self.kind(), object.name))
    }

    /// The name of an object in the model.
    pub fn name(self, namespace: &str, name: &str) -> ObjectName {
        match self {
            Self::Services | Self::EndpointSlices => ObjectName::new(namespace, name),
            Self::Node | Self::ServiceCidrs => ObjectName::new("", name),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices.discovery.k8s.io",
            Self::Node => "nodes",
            Self::ServiceCidrs => "servicecidrs.networking.k8s.io",
        })
    }
}

// === impl Selection ===

impl Selection {
    /// The request for a page of a list.
    ///
    /// # Errors
    /// If it can't be written, which no server is to blame for.
    pub fn list(&self, from: Option<String>) -> kube::Result<http::Request<Vec<u8>>> {
        let mut parameters = ListParams::default().limit(PAGE);
        parameters.label_selector = self.labels.map(Into::into);
        parameters.field_selector.clone_from(&self.fields);
        parameters.continue_token = from;
        let request = self.request.list(&parameters);
        request.map_err(kube::Error::BuildRequest)
    }

    /// The request for a watch from a resourceVersion on, for so many seconds; from none on it begins with
    /// everything that there is.
    ///
    /// # Errors
    /// If it can't be written, which no server is to blame for.
    pub fn watch(&self, from: Option<&str>, seconds: u32) -> kube::Result<http::Request<Vec<u8>>> {
        let parameters = WatchParams {
            label_selector: self.labels.map(Into::into),
            field_selector: self.fields.clone(),
            timeout: Some(seconds),
            bookmarks: true,
            send_initial_events: from.is_none(),
        };
        let request = self.request.watch(&parameters, from.unwrap_or_default());
        request.map_err(kube::Error::BuildRequest)
    }
}
