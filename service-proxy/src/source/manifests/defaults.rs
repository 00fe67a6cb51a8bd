//! What the API server fills in when an object is written to it, and a file therefore lacks.

use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

/// Fills in what a Service lacks.
pub fn service(service: &mut Service) {
    metadata(&mut service.metadata);
}

/// Fills in what an EndpointSlice lacks: a port without name is the Service's port without name
/// (`SetDefaults_EndpointPort`).
pub fn endpoint_slice(slice: &mut EndpointSlice) {
    metadata(&mut slice.metadata);
    for port in slice.ports.iter_mut().flatten() {
        port.name.get_or_insert_default();
    }
}

fn metadata(metadata: &mut ObjectMeta) {
    metadata
        .namespace
        .get_or_insert_with(|| "default".to_owned());
}
