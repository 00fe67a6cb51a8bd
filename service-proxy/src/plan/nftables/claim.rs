//! What a Service makes of a frontend.

use super::{Balancer, pool::Pool, sessions::Numbers, sticky::Sticky};
use crate::{
    model::{ObjectName, TrafficPolicy},
    plan::{Backend, Balance, Entrance, Frontend},
};

/// What a Service makes of a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) balance: Balance,
    /// Where clients keep their endpoints. Boxed, as most don't.
    pub(super) numbers: Option<Box<Numbers>>,
    /// Who spreads connections.
    pub(super) balancer: Balancer,
}

/// Endpoints that connections are spread over by maps.
pub(super) struct Share<'a> {
    /// The maps.
    pub(super) pool: Pool,
    /// Whether only endpoints on this node count.
    pub(super) local: bool,
    pub(super) backends: &'a [Backend],
    /// The numbers of the endpoints, if clients keep theirs.
    pub(super) numbers: &'a [u32],
}

// === impl Claim ===

impl Claim {
    /// The Service that claims.
    pub(super) fn service(&self) -> &ObjectName {
        &self.balance.name.service
    }

    /// What of its endpoints maps spread connections over; nothing that is empty is among it.
    pub(super) fn shares(&self, frontend: &Frontend) -> impl Iterator<Item = Share<'_>> {
        let balance = &self.balance;
        let numbers = self.numbers.as_deref();
        let all = Share {
            pool: Pool::of(frontend, false),
            local: balance.scope == TrafficPolicy::Local,
            backends: &balance.backends,
            numbers: numbers.map_or(&[], |it| &it.backends),
        };
        let local = Share {
            pool: Pool::of(frontend, true),
            local: true,
            backends: &balance.local,
            numbers: numbers.map_or(&[], |it| &it.local),
        };
        let by_source = balance.entrance == Entrance::ExternalLocal;
        let (all_by_maps, local_by_maps) = match self.balancer {
            Balancer::Maps => (true, true),
            // A virtual server has those on this node, whom pods and the node itself don't want.
            Balancer::Ipvs => (by_source, false),
        };
        let shares = [(all, all_by_maps), (local, local_by_maps)].into_iter();
        let shares = shares.filter(|(share, by_maps)| *by_maps && !share.backends.is_empty());
        shares.map(|(share, _)| share)
    }

    /// The chain for some of its endpoints, if clients keep theirs.
    pub(super) fn sticky(&self, share: &Share<'_>) -> Option<Sticky> {
        let timeout = self.balance.affinity?;
        self.numbers.is_some().then_some(Sticky {
            pool: share.pool,
            local: share.local,
            count: share.backends.len(),
            timeout,
        })
    }
}
