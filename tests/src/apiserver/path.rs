//! What a path names.

use super::{failure::Failure, object::Key, resource::Resource};

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// Objects of one kind.
    Collection {
        /// Of which kind.
        resource: &'static Resource,
        /// In which namespace; `None` for all, and for kinds without namespaces.
        namespace: Option<String>,
    },
    /// One object.
    Object {
        /// Of which kind.
        resource: &'static Resource,
        /// Which.
        key: Key,
        /// Whether the path ends in `/status`.
        status: bool,
    },
}

// === impl Target ===

impl Target {
    /// Parses `/api/v1/...` and `/apis/GROUP/VERSION/...`.
    ///
    /// # Errors
    /// 404 when the path names nothing that is served.
    pub fn parse(path: &str) -> Result<Self, Failure> {
        let words: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match words.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(Failure::unknown_path()),
        };
        let find = |plural: &str| {
            Resource::by_plural(group, version, plural).ok_or_else(Failure::unknown_path)
        };
        match rest {
            // `namespaces` itself is a kind: NAME and `status` below it are no kinds.
            ["namespaces", name] => Self::object(find("namespaces")?, "", name, false),
            ["namespaces", name, "status"] => Self::object(find("namespaces")?, "", name, true),
            ["namespaces", namespace, plural, rest @ ..] => {
                let resource = find(plural)?;
                if !resource.namespaced {
                    return Err(Failure::unknown_path());
                }
                Self::below(resource, Some(namespace), rest)
            }
            [plural, rest @ ..] => Self::below(find(plural)?, None, rest),
            [] => Err(Failure::unknown_path()),
        }
    }

    /// The kind that the request is about.
    pub fn resource(&self) -> &'static Resource {
        match self {
            Self::Collection { resource, .. } | Self::Object { resource, .. } => resource,
        }
    }

    fn below(
        resource: &'static Resource,
        namespace: Option<&str>,
        rest: &[&str],
    ) -> Result<Self, Failure> {
        match rest {
            [] => Ok(Self::Collection {
                resource,
                namespace: namespace.map(str::to_owned),
            }),
            // An object in a namespace is not reached without it.
            _ if resource.namespaced && namespace.is_none() => Err(Failure::unknown_path()),
            [name] => Self::object(resource, namespace.unwrap_or_default(), name, false),
            [name, "status"] => Self::object(resource, namespace.unwrap_or_default(), name, true),
            _ => Err(Failure::unknown_path()),
        }
    }

    fn object(
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        status: bool,
    ) -> Result<Self, Failure> {
        if status && !resource.status {
            return Err(Failure::unknown_path());
        }
        Ok(Self::Object {
            resource,
            key: Key::new(namespace, name),
            status,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collection(group: &str, plural: &str, namespace: Option<&str>) -> Option<Target> {
        Some(Target::Collection {
            resource: Resource::by_plural(group, "v1", plural).unwrap(),
            namespace: namespace.map(str::to_owned),
        })
    }

    fn object(group: &str, plural: &str, key: (&str, &str), status: bool) -> Option<Target> {
        Some(Target::Object {
            resource: Resource::by_plural(group, "v1", plural).unwrap(),
            key: Key::new(key.0, key.1),
            status,
        })
    }

    #[test]
    fn paths() {
        let slices = "discovery.k8s.io";
        for (path, expected) in [
            ("/api/v1/nodes", collection("", "nodes", None)),
            ("/api/v1/nodes/a", object("", "nodes", ("", "a"), false)),
            (
                "/api/v1/nodes/a/status",
                object("", "nodes", ("", "a"), true),
            ),
            ("/api/v1/services", collection("", "services", None)),
            ("/api/v1/services/a", None),
            (
                "/api/v1/namespaces/x/services",
                collection("", "services", Some("x")),
            ),
            (
                "/api/v1/namespaces/x/services/a",
                object("", "services", ("x", "a"), false),
            ),
            (
                "/api/v1/namespaces/x/services/a/status",
                object("", "services", ("x", "a"), true),
            ),
            ("/api/v1/namespaces/x/services/a/scale", None),
            ("/api/v1/namespaces/x/configmaps/a/status", None),
            ("/api/v1/namespaces/x/nodes", None),
            ("/api/v1/namespaces", collection("", "namespaces", None)),
            (
                "/api/v1/namespaces/x",
                object("", "namespaces", ("", "x"), false),
            ),
            (
                "/api/v1/namespaces/x/status",
                object("", "namespaces", ("", "x"), true),
            ),
            (
                "/apis/discovery.k8s.io/v1/endpointslices",
                collection(slices, "endpointslices", None),
            ),
            ("/apis/discovery.k8s.io/v1beta1/endpointslices", None),
            ("/api/v1/endpointslices", None),
            ("/metrics", None),
        ] {
            assert_eq!(Target::parse(path).ok(), expected, "{path}");
        }
    }
}
