//! A cluster of which some objects are damaged, and what is understood of it.

use kernel::Family;
use serde_json::{Value, json};
use service_proxy::{
    configuration::{Configuration, print},
    model::{Catalogue, Change, Here, Protocol},
    plan::{
        Address, Frontend, frontends,
        iptables::{self, Dispatch, ServicePort},
        nftables::{self, NodeRules, Surroundings},
    },
    source::object,
};

use super::mutation::Mutation;

const NODE: &str = "n1";

/// What is understood.
pub struct Cluster(Catalogue);

// === impl Cluster ===

impl Cluster {
    /// With objects that some changes were made of, and with others that are sound.
    pub fn damaged(mutations: &[Mutation]) -> Self {
        let mut objects = json!([
            service("damaged", 9),
            slice("damaged", 9, "IPv4"),
            node(),
            networks()
        ]);
        for mutation in mutations {
            mutation.apply(&mut objects);
        }
        let mut catalogue = Catalogue::default();
        let damaged = objects.as_array().into_iter().flatten();
        for change in damaged.filter_map(|it| read(it).ok()) {
            // A damaged object may have got the name of the sound one, which is told behind it.
            catalogue.apply(change);
        }
        for object in [
            service("a-sound", 1),
            slice("a-sound", 1, "IPv4"),
            slice("a-sound", 1, "IPv6"),
        ] {
            catalogue.apply(read(&object).unwrap());
        }
        Self(catalogue)
    }

    fn here<'a>(&'a self, around: &'a Surroundings) -> Here<'a> {
        Here {
            node: NODE,
            zone: self.0.zone(NODE),
            addresses: &around.addresses,
        }
    }

    /// What should stand in nftables.
    pub fn plan(&self, family: Family) -> nftables::Plan {
        let around = Surroundings::of(&self.0, NODE);
        let services = self.0.all().map(|service| {
            let slices = self.0.slices_of(&service.name);
            let frontends = frontends(service, slices, family, self.here(&around));
            (service.name.clone(), frontends)
        });
        let mut plan = nftables::Plan::new(family, NodeRules::default());
        plan.settle(&around);
        plan.update(services.collect());
        plan
    }

    /// What should stand in iptables, as it is restored.
    pub fn chains(&self, family: Family) -> String {
        let around = Surroundings::of(&self.0, NODE);
        let ports = self.0.all().map(|service| {
            let slices = self.0.slices_of(&service.name);
            let ports = ServicePort::all(service, slices, family, self.here(&around));
            (service.name.clone(), ports)
        });
        let mut plan = iptables::Plan::new(iptables::Settings {
            family,
            node: NodeRules::default().settled(family, &around),
            dispatch: Dispatch::Tree,
            localhost_node_ports: false,
            drop_invalid: true,
            accounting: false,
            beside_ipvs: false,
        });
        plan.update(ports.collect());
        iptables::difference(&plan.ruleset(), &iptables::Observed::default()).to_string()
    }
}

/// The cluster IP and port of the sound Service.
pub fn sound(family: Family) -> Frontend {
    let address = match family {
        Family::V4 => "10.96.0.1",
        Family::V6 => "fd00:96::1",
    };
    Frontend {
        address: Address::Own(address.parse().unwrap()),
        protocol: Protocol::Tcp,
        port: 80,
    }
}

/// A whole configuration, by its keys.
pub fn configuration() -> Value {
    serde_saphyr::from_str(&print(&Configuration::usual()).unwrap()).unwrap()
}

fn read(object: &Value) -> Result<Change, String> {
    match object["kind"].as_str().unwrap_or_default() {
        "Service" => object::service(&object::typed(object)?),
        "EndpointSlice" => object::endpoint_slice(&object::typed(object)?),
        "Node" => object::node(&object::typed(object)?),
        "ServiceCIDR" => object::service_cidr(&object::typed(object)?),
        other => Err(format!("kind {other:?}")),
    }
}

fn service(name: &str, number: u8) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "shop", "name": name},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": format!("10.96.0.{number}"),
            "clusterIPs": [format!("10.96.0.{number}"), format!("fd00:96::{number}")],
            "ipFamilies": ["IPv4", "IPv6"],
            "externalIPs": [format!("192.0.2.{number}")],
            "ports": [
                {"name": "http", "port": 80, "nodePort": 30_000 + u16::from(number), "protocol": "TCP", "targetPort": 80},
                {"name": "dns", "port": 53, "protocol": "UDP"},
            ],
            "externalTrafficPolicy": "Local",
            "internalTrafficPolicy": "Cluster",
            "healthCheckNodePort": 31_000 + u16::from(number),
            "loadBalancerSourceRanges": ["198.51.100.0/24", "2001:db8::/32"],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10_800}},
            "trafficDistribution": "PreferClose",
        },
        "status": {"loadBalancer": {"ingress": [{"ip": format!("203.0.113.{number}"), "ipMode": "VIP"}]}},
    })
}

fn slice(service: &str, number: u8, family: &str) -> Value {
    let address = |last: u8| match family {
        "IPv4" => format!("10.244.{number}.{last}"),
        _ => format!("fd00:244:{number}::{last}"),
    };
    let endpoint = |last| {
        json!({
            "addresses": [address(last)],
            "nodeName": NODE,
            "zone": "a",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": NODE}]},
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "shop",
            "name": format!("{service}-{family}").to_lowercase(),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}],
        "endpoints": [endpoint(1), endpoint(2)],
    })
}

fn node() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "labels": {"topology.kubernetes.io/zone": "a"}},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:244:1::/64"]},
        "status": {"addresses": [
            {"type": "InternalIP", "address": "192.0.2.200"},
            {"type": "InternalIP", "address": "2001:db8::200"},
        ]},
    })
}

fn networks() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": ["10.96.0.0/16", "fd00:96::/112"]},
    })
}
