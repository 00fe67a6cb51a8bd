//! All objects, read once.

use std::collections::BTreeSet;

use kernel::Family;

use crate::{
    model::Catalogue,
    options::Options,
    plan::nftables::NodeRules,
    source::manifests::{Directory, Unreadable},
};

/// All objects, and how they are served.
#[derive(Debug)]
pub struct Objects {
    /// All objects.
    pub catalogue: Catalogue,
    /// The name of the node.
    pub node: String,
    rules: [NodeRules; 2],
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody said where they are.
    #[error("--manifests DIR is needed")]
    NoSource,
    /// The directory can't be read.
    #[error("--manifests: {0}")]
    Manifests(#[from] Unreadable),
    /// The kernel does not tell the host name.
    #[error("{0}; say --hostname-override NAME")]
    Node(#[from] kernel::Error),
}

// === impl Objects ===

impl Objects {
    /// Reads everything that the options name.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn read(options: &Options) -> Result<Self, Error> {
        let path = options.manifests.as_ref().ok_or(Error::NoSource)?;
        let outcome = Directory::new(path).rescan(&BTreeSet::new())?;
        for warning in outcome.warnings {
            tracing::warn!("{warning}");
        }
        let mut catalogue = Catalogue::default();
        for change in outcome.changes {
            catalogue.apply(change);
        }
        Ok(Self {
            catalogue,
            node: options.node()?,
            rules: Family::ALL.map(|family| options.rules(family)),
        })
    }

    /// What of a family's rules is the same for all Services.
    pub fn rules(&self, family: Family) -> &NodeRules {
        let [v4, v6] = &self.rules;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }
}
