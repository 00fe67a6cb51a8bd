//! All Services and EndpointSlices, and which slices belong to which Service.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use ipnetwork::IpNetwork;

use super::{Change, EndpointSlice, Node, ObjectKey, ObjectKind, ObjectName, Service, ServiceCidr};

/// All objects that the proxy serves.
#[derive(Debug, Default)]
pub struct Catalogue {
    services: BTreeMap<ObjectName, Arc<Service>>,
    slices: BTreeMap<ObjectName, Arc<EndpointSlice>>,
    /// By name. Nearly every Service has one or two, for which a set would take half a kilobyte.
    slices_of: BTreeMap<ObjectName, Vec<ObjectName>>,
    nodes: BTreeMap<ObjectName, Arc<Node>>,
    service_cidrs: BTreeMap<ObjectName, Arc<ServiceCidr>>,
    node_names: NodeNames,
    /// Whether Services are taken in without their externalIPs.
    ignores_external_ips: bool,
}

/// The names of the nodes that endpoints are on, each once: there are many more endpoints than nodes.
#[derive(Debug, Default)]
struct NodeNames {
    known: BTreeSet<Arc<str>>,
    /// How many there were when those that no endpoint has were last left out.
    in_use: usize,
}

/// What an object was and what it is.
struct Difference<T> {
    before: Option<Arc<T>>,
    after: Option<Arc<T>>,
}

// === impl Difference ===

impl<T> Difference<T> {
    /// Whether a part of the object is another.
    fn differs<'a, U: PartialEq>(&'a self, part: impl Fn(&'a T) -> U) -> bool {
        self.before.as_deref().map(&part) != self.after.as_deref().map(&part)
    }
}

// === impl NodeNames ===

impl NodeNames {
    /// Lets the endpoints of a slice share the names of their nodes with all others.
    fn share(&mut self, slice: &mut EndpointSlice) {
        for node in slice.endpoints.iter_mut().filter_map(|it| it.node.as_mut()) {
            match self.known.get(node) {
                Some(known) => *node = Arc::clone(known),
                None => drop(self.known.insert(Arc::clone(node))),
            }
        }
        if self.known.len() > 2 * self.in_use.max(32) {
            self.known.retain(|name| Arc::strong_count(name) > 1);
            self.in_use = self.known.len();
        }
    }
}

// === impl Catalogue ===

impl Catalogue {
    /// None yet, and Services with their externalIPs or without (KEP-5707).
    pub fn new(external_ips: bool) -> Self {
        Self {
            ignores_external_ips: !external_ips,
            ..Self::default()
        }
    }

    /// Takes in a change; answers with the Services that it is about: none if nothing is new.
    pub fn apply(&mut self, change: Change) -> BTreeSet<ObjectName> {
        match change {
            Change::Service(name, mut service) => {
                if let Some(service) = service.as_mut().filter(|_| self.ignores_external_ips) {
                    Arc::make_mut(service).external_ips.clear();
                }
                let differs = replace(&mut self.services, name.clone(), service).is_some();
                differs.then_some(name).into_iter().collect()
            }
            Change::EndpointSlice(name, slice) => self.apply_slice(name, slice),
            Change::Node(name, node) => {
                let difference = replace(&mut self.nodes, name, node);
                // Any Service can have hints for a node's zone, or let in who has its address; both hardly
                // ever change.
                match difference.filter(|it| it.differs(|node| (&node.zone, &node.addresses))) {
                    Some(_) => self.services.keys().cloned().collect(),
                    None => BTreeSet::new(),
                }
            }
            Change::ServiceCidr(name, cidr) => {
                replace(&mut self.service_cidrs, name, cidr);
                BTreeSet::new()
            }
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

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(&ObjectName::new("", name)).map(Arc::as_ref)
    }

    /// The zone of a node, if that is known.
    pub fn zone(&self, node: &str) -> Option<&str> {
        self.node(node)?.zone.as_deref()
    }

    /// The networks that cluster IPs are taken from.
    pub fn service_networks(&self) -> impl Iterator<Item = IpNetwork> {
        let cidrs = self.service_cidrs.values();
        cidrs.flat_map(|cidr| &cidr.networks).copied()
    }

    /// What names the objects of a kind.
    pub fn keys(&self, kind: ObjectKind) -> Box<dyn Iterator<Item = ObjectKey> + '_> {
        let key = move |name: &ObjectName| ObjectKey::new(kind, name.clone());
        match kind {
            ObjectKind::Service => Box::new(self.services.keys().map(key)),
            ObjectKind::EndpointSlice => Box::new(self.slices.keys().map(key)),
            ObjectKind::Node => Box::new(self.nodes.keys().map(key)),
            ObjectKind::ServiceCidr => Box::new(self.service_cidrs.keys().map(key)),
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
        mut slice: Option<Arc<EndpointSlice>>,
    ) -> BTreeSet<ObjectName> {
        // Nobody else has it yet; if somebody has, it stays as it is.
        if let Some(slice) = slice.as_mut().and_then(Arc::get_mut) {
            self.node_names.share(slice);
        }
        let Some(Difference { before, after }) = replace(&mut self.slices, name.clone(), slice)
        else {
            return BTreeSet::new();
        };
        if let Some(before) = &before {
            self.unlink(&before.service, &name);
        }
        if let Some(after) = &after {
            let slices = self.slices_of.entry(after.service.clone()).or_default();
            if let Err(at) = slices.binary_search(&name) {
                slices.reserve_exact(1);
                slices.insert(at, name);
            }
        }
        [before, after]
            .into_iter()
            .flatten()
            .map(|slice| slice.service.clone())
            .collect()
    }

    fn unlink(&mut self, service: &ObjectName, slice: &ObjectName) {
        if let Entry::Occupied(mut slices) = self.slices_of.entry(service.clone()) {
            slices.get_mut().retain(|name| name != slice);
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
    use crate::model::Endpoint;

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
            triggered: None,
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
    fn the_name_of_a_node_is_kept_once_and_not_for_ever() {
        let mut catalogue = Catalogue::default();
        let on = |slice: u32, node: u32| {
            let endpoint = Endpoint {
                address: [10, 0, 0, 1].into(),
                ready: true,
                serving: true,
                terminating: false,
                node: Some(format!("n{node}").into()),
                hints: None,
            };
            let slice = EndpointSlice {
                triggered: None,
                name: name(&format!("web-{slice}")),
                service: name("web"),
                family: Family::V4,
                ports: Vec::new(),
                endpoints: vec![endpoint; 2],
            };
            Change::EndpointSlice(slice.name.clone(), Some(Arc::new(slice)))
        };
        for change in [on(1, 0), on(2, 0)] {
            catalogue.apply(change);
        }
        let web = name("web");
        let endpoints = catalogue.slices_of(&web).flat_map(|slice| &slice.endpoints);
        let nodes: Vec<_> = endpoints.filter_map(|it| it.node.as_ref()).collect();
        assert_eq!(nodes.len(), 4);
        assert!(nodes.iter().all(|node| Arc::ptr_eq(node, nodes[0])));
        for node in 1..1000 {
            catalogue.apply(on(1, node));
        }
        assert!(catalogue.node_names.known.len() < 100);
        assert!(catalogue.node_names.known.contains("n999"));
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
