//! All Services and EndpointSlices, and which slices belong to which Service.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
    sync::Arc,
};

use super::{EndpointSlice, Node, ObjectName, Service};

/// What became of an object: what it is now, `None` if it is gone or nothing that the proxy serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Of a Service.
    Service(ObjectName, Option<Arc<Service>>),
    /// Of an EndpointSlice.
    EndpointSlice(ObjectName, Option<Arc<EndpointSlice>>),
    /// Of a Node, whose name has no namespace.
    Node(ObjectName, Option<Arc<Node>>),
}

/// What names an object: its kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    /// A Service.
    Service(ObjectName),
    /// An EndpointSlice.
    EndpointSlice(ObjectName),
    /// A Node, whose name has no namespace.
    Node(ObjectName),
}

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// Services.
    Service,
    /// EndpointSlices.
    EndpointSlice,
    /// Nodes.
    Node,
}

/// All objects that the proxy serves.
#[derive(Debug, Default)]
pub struct Catalogue {
    services: BTreeMap<ObjectName, Arc<Service>>,
    slices: BTreeMap<ObjectName, Arc<EndpointSlice>>,
    slices_of: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
    nodes: BTreeMap<ObjectName, Arc<Node>>,
}

/// What an object was and what it is.
struct Difference<T> {
    before: Option<Arc<T>>,
    after: Option<Arc<T>>,
}

// === impl Change ===

impl Change {
    /// The object that it is about.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Service(name, _) => ObjectKey::Service(name.clone()),
            Self::EndpointSlice(name, _) => ObjectKey::EndpointSlice(name.clone()),
            Self::Node(name, _) => ObjectKey::Node(name.clone()),
        }
    }
}

// === impl ObjectKey ===

impl ObjectKey {
    /// An object by kind and name.
    pub fn new(kind: ObjectKind, name: ObjectName) -> Self {
        match kind {
            ObjectKind::Service => Self::Service(name),
            ObjectKind::EndpointSlice => Self::EndpointSlice(name),
            ObjectKind::Node => Self::Node(name),
        }
    }

    /// The name.
    pub fn name(&self) -> &ObjectName {
        let (Self::Service(name) | Self::EndpointSlice(name) | Self::Node(name)) = self;
        name
    }

    /// The change that takes the object away.
    pub fn gone(self) -> Change {
        match self {
            Self::Service(name) => Change::Service(name, None),
            Self::EndpointSlice(name) => Change::EndpointSlice(name, None),
            Self::Node(name) => Change::Node(name, None),
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
        })
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "Service {name}"),
            Self::EndpointSlice(name) => write!(f, "EndpointSlice {name}"),
            Self::Node(name) => write!(f, "Node {}", name.name),
        }
    }
}

// === impl Catalogue ===

impl Catalogue {
    /// Takes in a change; answers with the Services that it is about: none if nothing is new.
    pub fn apply(&mut self, change: Change) -> BTreeSet<ObjectName> {
        match change {
            Change::Service(name, service) => {
                let differs = replace(&mut self.services, name.clone(), service).is_some();
                differs.then_some(name).into_iter().collect()
            }
            Change::EndpointSlice(name, slice) => self.apply_slice(name, slice),
            // Any Service can have hints for a node's zone; zones hardly ever change.
            Change::Node(name, node) => match replace(&mut self.nodes, name, node) {
                Some(_) => self.services.keys().cloned().collect(),
                None => BTreeSet::new(),
            },
        }
    }

    /// A Service by name.
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name).map(Arc::as_ref)
    }

    /// Every Service, by name.
    pub fn all(&self) -> impl Iterator<Item = &Service> {
        self.services.values().map(Arc::as_ref)
    }

    /// The slices of a Service, by name.
    pub fn slices_of(&self, service: &ObjectName) -> impl Iterator<Item = &EndpointSlice> + Clone {
        let names = self.slices_of.get(service).into_iter().flatten();
        names
            .filter_map(|name| self.slices.get(name))
            .map(Arc::as_ref)
    }

    /// The zone of a node, if that is known.
    pub fn zone(&self, node: &str) -> Option<&str> {
        self.node(node)?.zone.as_deref()
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(&ObjectName::new("", name)).map(Arc::as_ref)
    }

    /// What names the objects of a kind.
    pub fn keys(&self, kind: ObjectKind) -> Box<dyn Iterator<Item = ObjectKey> + '_> {
        let key = move |name: &ObjectName| ObjectKey::new(kind, name.clone());
        match kind {
            ObjectKind::Service => Box::new(self.services.keys().map(key)),
            ObjectKind::EndpointSlice => Box::new(self.slices.keys().map(key)),
            ObjectKind::Node => Box::new(self.nodes.keys().map(key)),
        }
    }

    /// How many Services there are.
    pub fn services(&self) -> usize {
        self.services.len()
    }

    /// How many EndpointSlices there are.
    pub fn slices(&self) -> usize {
        self.slices.len()
    }

    fn apply_slice(
        &mut self,
        name: ObjectName,
        slice: Option<Arc<EndpointSlice>>,
    ) -> BTreeSet<ObjectName> {
        let Some(Difference { before, after }) = replace(&mut self.slices, name.clone(), slice)
        else {
            return BTreeSet::new();
        };
        if let Some(before) = &before {
            self.unlink(&before.service, &name);
        }
        if let Some(after) = &after {
            self.slices_of
                .entry(after.service.clone())
                .or_default()
                .insert(name);
        }
        [before, after]
            .into_iter()
            .flatten()
            .map(|slice| slice.service.clone())
            .collect()
    }

    fn unlink(&mut self, service: &ObjectName, slice: &ObjectName) {
        if let Entry::Occupied(mut slices) = self.slices_of.entry(service.clone()) {
            slices.get_mut().remove(slice);
            if slices.get().is_empty() {
                slices.remove();
            }
        }
    }
}

/// Puts or removes a value; answers with what was and what is, unless they are equal.
fn replace<T: PartialEq>(
    map: &mut BTreeMap<ObjectName, Arc<T>>,
    name: ObjectName,
    after: Option<Arc<T>>,
) -> Option<Difference<T>> {
    let before = match &after {
        Some(value) => map.insert(name, Arc::clone(value)),
        None => map.remove(&name),
    };
    (before != after).then_some(Difference { before, after })
}

#[cfg(test)]
mod tests {
    use kernel::Family;

    use super::*;

    fn name(name: &str) -> ObjectName {
        ObjectName::new("default", name)
    }

    fn service(service: &str) -> Change {
        let service = Service {
            name: name(service),
            ..Service::default()
        };
        Change::Service(service.name.clone(), Some(Arc::new(service)))
    }

    fn slice(slice: &str, service: &str) -> Change {
        let slice = EndpointSlice {
            name: name(slice),
            service: name(service),
            family: Family::V4,
            ports: Vec::new(),
            endpoints: Vec::new(),
        };
        Change::EndpointSlice(slice.name.clone(), Some(Arc::new(slice)))
    }

    #[test]
    fn says_which_services_a_change_is_about() {
        let mut catalogue = Catalogue::default();
        for (change, about) in [
            (service("web"), &["web"][..]),
            (service("web"), &[]),
            (slice("web-1", "web"), &["web"]),
            (slice("web-1", "web"), &[]),
            (slice("web-1", "other"), &["other", "web"]),
            (Change::EndpointSlice(name("web-1"), None), &["other"]),
            (Change::EndpointSlice(name("web-1"), None), &[]),
            (Change::Service(name("web"), None), &["web"]),
            (Change::Service(name("web"), None), &[]),
        ] {
            let expected: BTreeSet<_> = about.iter().map(|service| name(service)).collect();
            assert_eq!(catalogue.apply(change.clone()), expected, "{change:?}");
        }
        assert_eq!((catalogue.services(), catalogue.slices()), (0, 0));
        assert!(catalogue.slices_of.is_empty());
    }

    #[test]
    fn the_zone_of_a_node_is_about_all_services() {
        let mut catalogue = Catalogue::default();
        let node = |zone: Option<&str>| {
            let zone = zone.map(Into::into);
            Change::Node(
                ObjectName::new("", "n1"),
                Some(Arc::new(Node {
                    zone,
                    ..Node::default()
                })),
            )
        };
        catalogue.apply(service("web"));
        assert_eq!(catalogue.apply(node(Some("a"))).len(), 1);
        assert_eq!(catalogue.apply(node(Some("a"))).len(), 0);
        assert_eq!(
            (catalogue.zone("n1"), catalogue.zone("n2")),
            (Some("a"), None)
        );
        assert_eq!(
            catalogue
                .apply(ObjectKey::Node(ObjectName::new("", "n1")).gone())
                .len(),
            1
        );
        assert_eq!(catalogue.zone("n1"), None);
    }

    #[test]
    fn knows_the_slices_of_a_service_whichever_came_first() {
        let mut catalogue = Catalogue::default();
        for change in [
            slice("web-2", "web"),
            service("web"),
            slice("web-1", "web"),
            slice("x", "y"),
        ] {
            catalogue.apply(change);
        }
        let slices: Vec<_> = catalogue
            .slices_of(&name("web"))
            .map(|slice| &slice.name)
            .collect();
        assert_eq!(slices, [&name("web-1"), &name("web-2")]);
    }
}
