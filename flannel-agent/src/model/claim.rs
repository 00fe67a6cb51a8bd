//! A lease that a node wants to write.

use super::LeaseKey;

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The lease to write.
    pub key: LeaseKey,
    /// The condition under which to write it.
    pub guard: Guard,
}

/// What has to be still true when a claim is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The subnet is free.
    Free {
        /// The node's lease of before, which fits no more and goes in the same step: its key and the
        /// revision that it has to have still.
        outdated: Option<(LeaseKey, i64)>,
    },
    /// The node's own entry is as it was read.
    Unchanged {
        /// Its revision.
        mod_revision: i64,
        /// Whether it is a reservation, which must not get an end.
        reservation: bool,
    },
}
