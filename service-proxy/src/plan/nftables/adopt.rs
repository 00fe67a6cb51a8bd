//! Taking over what stands in the kernel and is not to change with a restart.

use std::collections::BTreeMap;

use kernel::nft::{Element, Key, ObservedSet, ObservedTable};

use super::{Claim, Delta, Plan, elements, pool::Pool, shared, slots};
use crate::plan::Frontend;

// === impl Plan ===

impl Plan {
    /// Takes over the slots and numbers that endpoints have in the kernel, so that a restart moves none.
    pub fn adopt(&mut self, observed: &ObservedTable) {
        self.adopt_sessions(observed);
        for pool in Pool::ALL {
            if let Some(ObservedSet::Known(set)) = observed.sets.get(pool.endpoints()) {
                self.adopt_pool(pool, &set.elements);
            }
        }
    }

    /// Numbers of all that have sessions change at once; what they are shared by changes with them.
    fn adopt_sessions(&mut self, observed: &ObservedTable) {
        let holders = self.claims.iter().filter_map(|(frontend, claims)| {
            let claim = claims.first()?;
            claim.numbers.as_ref()?;
            Some((frontend, &claim.balance))
        });
        self.sessions.adopt(observed, holders);
        let mut needs = shared::Changes::default();
        for (frontend, claims) in &mut self.claims {
            for (place, claim) in claims.iter_mut().enumerate() {
                if claim.numbers.is_none() {
                    continue;
                }
                let before = claim.clone();
                self.sessions.order(&mut claim.balance);
                claim.numbers = self.sessions.numbers(&claim.balance).map(Box::new);
                if place == 0 {
                    needs.remove(frontend, &before);
                    needs.add(frontend, claim);
                }
            }
        }
        self.shared
            .apply(needs, &mut Delta::new(self.family(), self.table_name()));
    }

    fn adopt_pool(&mut self, pool: Pool, elements: &BTreeMap<Key, Element>) {
        let mut slots: BTreeMap<Frontend, Vec<(usize, slots::Socket)>> = BTreeMap::new();
        for (key, element) in elements {
            if let Some((frontend, slot, socket)) = elements::slot_of(key, element) {
                slots.entry(frontend).or_default().push((slot, socket));
            }
        }
        for (frontend, slots) in slots {
            let claims = self.claims.get_mut(&frontend).into_iter().flatten();
            for Claim {
                balance, numbers, ..
            } in claims
            {
                if numbers.is_some() {
                    continue;
                }
                let backends = if Pool::of(&frontend, true) == pool {
                    &mut balance.local
                } else {
                    &mut balance.backends
                };
                slots::settle(slots.iter().copied(), backends);
            }
        }
    }
}
