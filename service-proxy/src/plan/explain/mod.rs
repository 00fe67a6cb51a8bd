//! What becomes of a packet, and why: which Service port it meets, which endpoints may take it, why the others
//! may not, and whether it is masqueraded.

mod fate;
mod origin;

use std::net::{IpAddr, SocketAddr};

use kernel::Family;
use serde::Serialize;

pub use fate::{Fate, Out};
pub use origin::{Origin, Surroundings};

use self::fate::fates;
use super::{
    Address, Backend, Balance, Entrance, Frontend, Otherwise, frontends,
    ipvs::is_scoped,
    nftables::{NodePortAddresses, NodeRules, loopback},
};
use crate::model::{Catalogue, Here, Protocol, Service, TrafficPolicy};

/// The first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sends it.
    pub source: IpAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// By which protocol.
    pub protocol: Protocol,
}

/// What becomes of a packet, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Who sends it.
    pub origin: Origin,
    /// The Service port that it is for.
    pub matched: Option<Matched>,
    /// Every endpoint that is listed for the Service port.
    pub endpoints: Vec<Fate>,
    /// What becomes of it.
    pub outcome: Outcome,
    /// What the kernel looks up.
    #[serde(skip)]
    pub frontend: Option<Frontend>,
}

/// The Service port that a packet is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Matched {
    /// `namespace/name:port`.
    pub service_port: String,
    /// By which of its addresses.
    pub by: By,
    /// The policy for that address.
    pub policy: TrafficPolicy,
    /// Other Services that claim the same address and port, in vain.
    pub contenders: Vec<String>,
}

/// A kind of address of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum By {
    /// Its address in the cluster.
    ClusterIp,
    /// Its load balancer's address.
    LoadBalancerIp,
    /// Another address outside the cluster.
    ExternalIp,
    /// A port of every node.
    NodePort,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum Outcome {
    /// It goes to one of the endpoints that are not out, drawn at random.
    Forwarded {
        /// Why its source address becomes the node's; `None`: it stays.
        masqueraded: Option<Masqueraded>,
    },
    /// The sender is told that nobody is there.
    Refused {
        /// Why.
        because: Because,
    },
    /// It goes without a word.
    Dropped {
        /// Why.
        because: Because,
    },
    /// It is none of this program's business.
    Untouched,
}

/// Why no endpoint gets a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Because {
    /// The Service port has no endpoint anywhere.
    NoEndpoints,
    /// It has some, but none here, where the policy wants one.
    NoEndpointsHere,
    /// It is another port of a cluster IP.
    NoSuchPort,
    /// It is an address that cluster IPs are taken from, and no Service has it.
    NobodysClusterIp,
    /// The sender is in none of the load balancer's source ranges.
    SourceRanges,
}

/// Why the source address of a packet becomes the node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Masqueraded {
    /// Everything to cluster IPs is.
    All,
    /// It goes to a cluster IP and is not from a pod.
    NotFromPod,
    /// It comes in by an address of policy `Cluster`, and answers have to come back this way.
    FromOutside,
    /// It is from the node itself to an address of policy `Local`.
    FromNode,
}

/// Where a packet is seen, and by which rules.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// All objects.
    pub catalogue: &'a Catalogue,
    /// The node.
    pub here: Here<'a>,
    /// What of the rules is the same for all Services, of the packet's family.
    pub rules: &'a NodeRules,
    /// What the kernel says of the packet's addresses.
    pub surroundings: &'a Surroundings,
    /// Where dataplanes differ.
    pub manners: Manners,
}

/// Where dataplanes differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manners {
    /// NodePorts are served on loopback addresses by the kernel.
    pub serves_loopback: bool,
    /// NodePorts are not served where the interface would have to be known too.
    pub names_no_interface: bool,
    /// Other ports of cluster IPs, and cluster IPs of no Service, are left alone.
    pub indifferent: bool,
}

/// A frontend that a packet meets, and whose it is.
struct Claim<'a> {
    service: &'a Service,
    frontend: Frontend,
    balance: Balance,
}

// === impl View ===

impl<'a> View<'a> {
    /// What becomes of a packet, and why.
    pub fn explain(&self, packet: &Packet) -> Explanation {
        let origin = Origin::of(packet.source, self.rules, self.surroundings);
        let mut claims = self.claims(packet).into_iter();
        let Some(claim) = claims.next() else {
            return Explanation {
                origin,
                matched: None,
                endpoints: Vec::new(),
                outcome: self.unclaimed(packet),
                frontend: None,
            };
        };
        let contenders = claims.map(|claim| claim.balance.name.to_string()).collect();
        self.claimed(packet, origin, claim, contenders)
    }

    /// What becomes of a packet that is for a Service port, in vain for others.
    fn claimed(
        &self,
        packet: &Packet,
        origin: Origin,
        claim: Claim<'_>,
        contenders: Vec<String>,
    ) -> Explanation {
        let Claim {
            service,
            frontend,
            balance,
        } = claim;
        let by = By::of(service, &frontend);
        let policy = match by {
            By::ClusterIp => service.internal,
            _ => service.external,
        };
        let wants_local =
            policy == TrafficPolicy::Local && (by == By::ClusterIp || origin == Origin::Elsewhere);
        let taken = match balance.entrance {
            Entrance::ExternalLocal if wants_local => &balance.local,
            _ => &balance.backends,
        };
        let slices = self.catalogue.slices_of(&service.name);
        Explanation {
            origin,
            endpoints: fates(
                service,
                slices,
                &balance.name,
                self.here,
                wants_local,
                taken,
            ),
            outcome: self.outcome(packet, origin, &balance, taken),
            matched: Some(Matched {
                service_port: balance.name.to_string(),
                by,
                policy,
                contenders,
            }),
            frontend: Some(frontend),
        }
    }

    /// What becomes of a packet that only some endpoints may take.
    fn outcome(
        &self,
        packet: &Packet,
        origin: Origin,
        balance: &Balance,
        taken: &[Backend],
    ) -> Outcome {
        let admitted = balance
            .sources
            .as_ref()
            .is_none_or(|ranges| ranges.iter().any(|range| range.contains(packet.source)));
        match (admitted, taken.is_empty()) {
            (false, _) => Outcome::Dropped {
                because: Because::SourceRanges,
            },
            (true, true) => lacking(balance.otherwise),
            (true, false) => Outcome::Forwarded {
                masqueraded: self.masqueraded(balance.entrance, origin),
            },
        }
    }

    /// Who claims what the packet is for, by name: the first has it. A Service's own addresses go before
    /// NodePorts.
    fn claims(&self, packet: &Packet) -> Vec<Claim<'a>> {
        let address = packet.destination.ip();
        let own = self.claims_of(packet, Address::Own(address));
        if own.is_empty() && self.serves_node_ports(address) {
            return self.claims_of(packet, Address::Node);
        }
        own
    }

    fn claims_of(&self, packet: &Packet, address: Address) -> Vec<Claim<'a>> {
        let family = Family::of(&packet.destination.ip());
        let frontend = Frontend {
            address,
            protocol: packet.protocol,
            port: packet.destination.port(),
        };
        let claim = |service: &'a Service| {
            let slices = self.catalogue.slices_of(&service.name);
            let mut all = frontends(service, slices, family, self.here);
            let balance = all.remove(&frontend)?;
            Some(Claim {
                service,
                frontend,
                balance,
            })
        };
        self.catalogue.all().filter_map(claim).collect()
    }

    fn serves_node_ports(&self, address: IpAddr) -> bool {
        let served = match &self.rules.node_ports {
            NodePortAddresses::All | NodePortAddresses::Primary => {
                self.manners.serves_loopback || !loopback(Family::of(&address)).contains(address)
            }
            NodePortAddresses::In(networks) => {
                networks.iter().any(|network| network.contains(address))
            }
        };
        let unserved = self.manners.names_no_interface && is_scoped(address);
        served && !unserved && self.surroundings.destination_on_node
    }

    fn unclaimed(&self, packet: &Packet) -> Outcome {
        let address = packet.destination.ip();
        if self.manners.indifferent {
            return Outcome::Untouched;
        }
        let mut services = self.catalogue.all();
        if services.any(|service| service.cluster_ips.contains(&address)) {
            Outcome::Refused {
                because: Because::NoSuchPort,
            }
        } else if self
            .rules
            .service_networks()
            .iter()
            .any(|network| network.contains(address))
        {
            Outcome::Dropped {
                because: Because::NobodysClusterIp,
            }
        } else {
            Outcome::Untouched
        }
    }

    fn masqueraded(&self, entrance: Entrance, origin: Origin) -> Option<Masqueraded> {
        match (entrance, origin) {
            (Entrance::Internal, _) if self.rules.masquerade_all => Some(Masqueraded::All),
            (Entrance::Internal, Origin::Pod) => None,
            (Entrance::Internal, _) => self.rules.pods.as_ref().map(|_| Masqueraded::NotFromPod),
            (Entrance::External, _) => Some(Masqueraded::FromOutside),
            (Entrance::ExternalLocal, Origin::Node) => Some(Masqueraded::FromNode),
            (Entrance::ExternalLocal, _) => None,
        }
    }
}

// === impl By ===

impl By {
    fn of(service: &Service, frontend: &Frontend) -> Self {
        match frontend.address {
            Address::Node => Self::NodePort,
            Address::Own(address) if service.cluster_ips.contains(&address) => Self::ClusterIp,
            Address::Own(address) if service.load_balancer_ips.contains(&address) => {
                Self::LoadBalancerIp
            }
            Address::Own(_) => Self::ExternalIp,
        }
    }
}

const fn lacking(otherwise: Otherwise) -> Outcome {
    match otherwise {
        Otherwise::Refuse => Outcome::Refused {
            because: Because::NoEndpoints,
        },
        Otherwise::Drop => Outcome::Dropped {
            because: Because::NoEndpointsHere,
        },
    }
}

#[cfg(test)]
mod tests;
