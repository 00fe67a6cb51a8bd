//! Names of objects and of ports of Services.

use std::{fmt, sync::Arc};

use super::Protocol;

/// The name of a namespaced object. Whatever is kept by name has a copy of it, so copies share the text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name within the namespace.
    pub name: Arc<str>,
}

/// What names one port of one Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    /// The Service.
    pub service: ObjectName,
    /// The port's name; empty for the only port of a Service, if it has none.
    pub port: Arc<str>,
    /// The port's protocol.
    pub protocol: Protocol,
}

// === impl ObjectName ===

impl ObjectName {
    /// A name of two parts.
    pub fn new(namespace: impl AsRef<str>, name: impl AsRef<str>) -> Self {
        Self {
            namespace: namespace.as_ref().into(),
            name: name.as_ref().into(),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

// === impl ServicePortName ===

/// As kube-proxy prints it in comments: `namespace/name:port`, without the colon for a port without a name.
impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.port.is_empty() {
            write!(f, "{}", self.service)
        } else {
            write!(f, "{}:{}", self.service, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_kube_proxy_does() {
        for (port, text) in [("p80", "ns1/svc1:p80"), ("", "ns1/svc1")] {
            let name = ServicePortName {
                service: ObjectName::new("ns1", "svc1"),
                port: port.into(),
                protocol: Protocol::Tcp,
            };
            assert_eq!(name.to_string(), text);
        }
    }
}
