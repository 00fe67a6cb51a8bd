//! The three forms of PATCH that clients of old kinds use. Server-side apply is not offered.

use serde_json::Value;

use super::{failure::Failure, resource::Resource, strategic};

/// A parsed patch.
#[derive(Debug)]
pub enum Patch {
    /// RFC 6902.
    Json(json_patch::Patch),
    /// RFC 7396.
    Merge(Value),
    /// Kubernetes' own: lists are merged by key.
    Strategic(Value),
}

/// The media types of patches, as the real server names them.
pub const OFFERED: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

// === impl Patch ===

impl Patch {
    /// Parses the body of a PATCH.
    ///
    /// # Errors
    /// 415 for another media type, 400 for a body that is no such patch.
    pub fn parse(media_type: &str, body: &[u8]) -> Result<Self, Failure> {
        let bad = |error| Failure::bad_request(format!("error decoding patch: {error}"));
        let patch = match media_type {
            "application/json-patch+json" => {
                return serde_json::from_slice(body).map(Self::Json).map_err(bad);
            }
            "application/merge-patch+json" => Self::Merge,
            "application/strategic-merge-patch+json" => Self::Strategic,
            _ => return Err(Failure::unsupported_media_type(OFFERED)),
        };
        let value: Value = serde_json::from_slice(body).map_err(bad)?;
        if !value.is_object() {
            return Err(Failure::bad_request("error decoding patch: not an object"));
        }
        Ok(patch(value))
    }

    /// Changes an object.
    ///
    /// # Errors
    /// 422 when an operation of a JSON patch fails, 400 when a strategic merge lacks a merge key.
    pub fn apply(&self, resource: &Resource, object: &mut Value) -> Result<(), Failure> {
        match self {
            Self::Json(patch) => {
                json_patch::patch(object, patch).map_err(Failure::patch_refused)?;
            }
            Self::Merge(patch) => json_patch::merge(object, patch),
            Self::Strategic(patch) => strategic::merge(resource, object, patch)?,
        }
        Ok(())
    }
}
