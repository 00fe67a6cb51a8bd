//! Where Services and EndpointSlices come from.
//!
//! A source answers with [`News`]; nothing is programmed before everything that there is has been told once
//! (F7).

pub mod decode;
pub mod kube;
pub mod manifests;
pub mod object;

use std::collections::BTreeSet;

use crate::model::{Catalogue, Change, ObjectKind, ObjectName};

pub use kube::Kube;
pub use manifests::Manifests;

/// Something that a source has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// What became of an object.
    Change(Change),
    /// All objects of a kind have been told; those that are not named here are gone.
    Listed(ObjectKind, BTreeSet<ObjectName>),
}

/// Where objects come from.
#[derive(Debug)]
pub enum Source {
    /// Files in a directory.
    Manifests(Manifests),
    /// The API server.
    Kube(Kube),
}

// === impl News ===

impl News {
    /// What it changes of what is known.
    pub fn into_changes(self, known: &Catalogue) -> Vec<Change> {
        match self {
            Self::Change(change) => vec![change],
            Self::Listed(kind, names) => known
                .keys(kind)
                .filter(|key| !names.contains(key.name()))
                .map(|key| key.gone())
                .collect(),
        }
    }
}

// === impl Source ===

impl Source {
    /// Waits for the next news. Nothing is lost if the wait is given up.
    pub async fn next(&mut self) -> Vec<News> {
        match self {
            Self::Manifests(manifests) => manifests
                .next()
                .await
                .into_iter()
                .map(News::Change)
                .collect(),
            Self::Kube(kube) => kube.next().await,
        }
    }

    /// Whether everything that there is has been told once.
    pub fn is_complete(&self) -> bool {
        match self {
            Self::Manifests(_) => true,
            Self::Kube(kube) => kube.is_complete(),
        }
    }
}
