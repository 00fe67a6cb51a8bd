//! The kinds of object that are served. One line of [`RESOURCES`] makes one more.

use std::fmt;

/// One kind of object, as discovery shows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The version of the group.
    pub version: &'static str,
    /// The name in paths.
    pub plural: &'static str,
    /// The kind of one object; a list's kind is this and `List`.
    pub kind: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether it has a status subresource.
    pub status: bool,
    /// What a created object's status becomes, whatever the client sent.
    pub created: Created,
    /// Whether `metadata.generation` is kept (the real server does so for few of the old kinds).
    pub generation: bool,
    /// Whether deleting answers with the object (the real server does so for some of the old kinds).
    pub returns_deleted: bool,
    /// The fields that a field selector may name, beside `metadata.name` and `metadata.namespace`.
    pub fields: &'static [&'static str],
}

/// What becomes of the status in a create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// Kept as sent.
    AsSent,
    /// Dropped: the status is written through its subresource alone.
    WithoutStatus,
}

const CORE: Resource = Resource {
    group: "",
    version: "v1",
    plural: "",
    kind: "",
    namespaced: true,
    status: false,
    created: Created::AsSent,
    generation: false,
    returns_deleted: false,
    fields: &[],
};

/// Everything that is served.
pub const RESOURCES: &[Resource] = &[
    Resource {
        plural: "configmaps",
        kind: "ConfigMap",
        ..CORE
    },
    Resource {
        plural: "events",
        kind: "Event",
        fields: &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "reason",
            "type",
        ],
        ..CORE
    },
    Resource {
        plural: "namespaces",
        kind: "Namespace",
        namespaced: false,
        status: true,
        fields: &["status.phase"],
        ..CORE
    },
    Resource {
        plural: "nodes",
        kind: "Node",
        namespaced: false,
        status: true,
        fields: &["spec.unschedulable"],
        ..CORE
    },
    Resource {
        plural: "pods",
        kind: "Pod",
        status: true,
        created: Created::WithoutStatus,
        returns_deleted: true,
        fields: &["spec.nodeName", "status.phase", "status.podIP"],
        ..CORE
    },
    Resource {
        plural: "services",
        kind: "Service",
        status: true,
        created: Created::WithoutStatus,
        returns_deleted: true,
        fields: &["spec.clusterIP", "spec.type"],
        ..CORE
    },
    Resource {
        group: "discovery.k8s.io",
        plural: "endpointslices",
        kind: "EndpointSlice",
        generation: true,
        ..CORE
    },
    Resource {
        group: "events.k8s.io",
        plural: "events",
        kind: "Event",
        fields: &["reason", "type", "regarding.name", "regarding.kind"],
        ..CORE
    },
    Resource {
        group: "networking.k8s.io",
        plural: "servicecidrs",
        kind: "ServiceCIDR",
        namespaced: false,
        status: true,
        created: Created::WithoutStatus,
        ..CORE
    },
];

// === impl Resource ===

impl Resource {
    /// The resource that a path names.
    pub fn by_plural(group: &str, version: &str, plural: &str) -> Option<&'static Self> {
        RESOURCES.iter().find(|resource| {
            resource.group == group && resource.version == version && resource.plural == plural
        })
    }

    /// The resource that an object's `apiVersion` and `kind` name.
    pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static Self> {
        RESOURCES
            .iter()
            .find(|resource| resource.kind == kind && resource.api_version() == api_version)
    }

    /// `v1`, or `GROUP/VERSION`.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Where the resource stands in [`RESOURCES`].
    pub(super) fn index(&self) -> usize {
        RESOURCES
            .iter()
            .position(|resource| resource == self)
            .unwrap_or(RESOURCES.len())
    }

    /// The path of a collection, or of all namespaces' when `namespace` is empty.
    pub fn path(&self, namespace: &str) -> String {
        let root = match self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match namespace {
            "" => format!("{root}/{}", self.plural),
            namespace => format!("{root}/namespaces/{namespace}/{}", self.plural),
        }
    }
}

/// The name in the server's messages: `services`, `endpointslices.discovery.k8s.io`.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            "" => f.write_str(self.plural),
            group => write!(f, "{}.{group}", self.plural),
        }
    }
}
