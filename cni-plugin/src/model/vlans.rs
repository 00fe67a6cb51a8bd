//! The VLANs of a container's port.

use kernel::route::PortVlans;
use serde::Deserialize;

use super::Error;

/// The highest identifier that a VLAN can have (IEEE 802.1Q; 4095 is reserved).
const MAX_ID: u16 = 4094;

/// Where no VLAN is named for frames without a tag, but a trunk.
const DEFAULT_ID: u16 = 1;

/// An element of `vlanTrunk`: a range, a single VLAN, or both.
#[derive(Clone, Debug, Deserialize)]
pub struct TrunkItem {
    #[serde(rename = "minID")]
    min: Option<i64>,
    #[serde(rename = "maxID")]
    max: Option<i64>,
    id: Option<i64>,
}

/// The VLANs that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vlans {
    /// The one that frames without a tag belong to; also the one that the gateway is in.
    pub access: Option<u16>,
    /// First and last identifiers of those whose frames carry a tag.
    trunk: Vec<(u16, u16)>,
    /// Whether the port stays a member of the one that the bridge gives every new port.
    pub preserve_default: bool,
}

// === impl Vlans ===

impl Vlans {
    /// The VLANs of the keys `vlan`, `vlanTrunk` and `preserveDefaultVlan`.
    pub fn new(access: i64, trunk: &[TrunkItem], preserve_default: bool) -> Result<Self, Error> {
        let access = id_of(access)
            .or((access == 0).then_some(0))
            .ok_or_else(|| {
                Error::config(format!(
                    "invalid VLAN ID {access} (must be between 0 and {MAX_ID})"
                ))
            })?;
        let mut ranges = Vec::new();
        for item in trunk {
            ranges.extend(item.range()?);
            ranges.extend(item.single()?);
        }
        Ok(Self {
            access: (access != 0).then_some(access),
            trunk: ranges,
            preserve_default,
        })
    }

    /// Whether none was asked for.
    pub fn is_empty(&self) -> bool {
        self.access.is_none() && self.trunk.is_empty()
    }

    /// Those of the gateway's port: it is no trunk.
    pub fn of_gateway(&self) -> Self {
        Self {
            trunk: Vec::new(),
            ..self.clone()
        }
    }

    /// What a port is to be a member of. The one for frames without a tag comes last, so that it keeps its
    /// flags where the trunk contains it, too.
    pub fn memberships(&self) -> Vec<PortVlans> {
        if self.is_empty() {
            return Vec::new();
        }
        let native = self.access.unwrap_or(DEFAULT_ID);
        let trunk = self.trunk.iter().map(|(first, last)| PortVlans {
            last: *last,
            ..PortVlans::tagged(*first)
        });
        let native = PortVlans {
            pvid: true,
            untagged: true,
            ..PortVlans::tagged(native)
        };
        trunk.chain([native]).collect()
    }
}

// === impl TrunkItem ===

impl TrunkItem {
    fn range(&self) -> Result<Option<(u16, u16)>, Error> {
        let refused = |text: &str| Err(Error::config(format!("vlanTrunk: {text}")));
        let (min, max) = match (self.min, self.max) {
            (None, None) => return Ok(None),
            (Some(min), Some(max)) => (min, max),
            (None, Some(_)) => {
                return refused(
                    "minID and maxID should be configured simultaneously, minID is missing",
                );
            }
            (Some(_), None) => {
                return refused(
                    "minID and maxID should be configured simultaneously, maxID is missing",
                );
            }
        };
        match (id_of(min), id_of(max)) {
            (None, _) => refused("incorrect trunk minID parameter"),
            (_, None) => refused("incorrect trunk maxID parameter"),
            (Some(min), Some(max)) if max < min => {
                refused("minID is greater than maxID in trunk parameter")
            }
            (Some(min), Some(max)) => Ok(Some((min, max))),
        }
    }

    fn single(&self) -> Result<Option<(u16, u16)>, Error> {
        let Some(asked) = self.id else {
            return Ok(None);
        };
        match id_of(asked) {
            Some(id) => Ok(Some((id, id))),
            None => Err(Error::config("vlanTrunk: incorrect trunk id parameter")),
        }
    }
}

fn id_of(number: i64) -> Option<u16> {
    let id = u16::try_from(number).ok();
    id.filter(|id| (1..=MAX_ID).contains(id))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn vlans(access: i64, trunk: Value) -> Result<Vec<String>, String> {
        let trunk: Vec<TrunkItem> = serde_json::from_value(trunk).unwrap();
        let vlans = Vlans::new(access, &trunk, false).map_err(|error| error.message)?;
        Ok(vlans
            .memberships()
            .iter()
            .map(ToString::to_string)
            .collect())
    }

    #[test]
    fn a_port_is_a_member_of_what_was_asked_for() {
        assert_eq!(vlans(0, json!([])), Ok(vec![]));
        assert_eq!(vlans(0, json!([{}])), Ok(vec![]));
        assert_eq!(
            vlans(7, json!([])),
            Ok(vec!["vid 7 pvid untagged".to_owned()])
        );
        assert_eq!(
            vlans(0, json!([{"minID": 10, "maxID": 20}, {"id": 4094}])).unwrap(),
            ["vid 10-20", "vid 4094", "vid 1 pvid untagged"]
        );
    }

    #[test]
    fn what_can_be_no_vlan_is_refused_in_the_references_words() {
        for (access, trunk, text) in [
            (
                4095,
                json!([]),
                "invalid VLAN ID 4095 (must be between 0 and 4094)",
            ),
            (
                -1,
                json!([]),
                "invalid VLAN ID -1 (must be between 0 and 4094)",
            ),
            (
                0,
                json!([{"minID": 0, "maxID": 2}]),
                "vlanTrunk: incorrect trunk minID parameter",
            ),
            (
                0,
                json!([{"minID": 1, "maxID": 4095}]),
                "vlanTrunk: incorrect trunk maxID parameter",
            ),
            (
                0,
                json!([{"minID": 3, "maxID": 2}]),
                "vlanTrunk: minID is greater than maxID in trunk parameter",
            ),
            (
                0,
                json!([{"maxID": 2}]),
                "vlanTrunk: minID and maxID should be configured simultaneously, minID is missing",
            ),
            (
                0,
                json!([{"minID": 2}]),
                "vlanTrunk: minID and maxID should be configured simultaneously, maxID is missing",
            ),
            (
                0,
                json!([{"id": 0}]),
                "vlanTrunk: incorrect trunk id parameter",
            ),
        ] {
            assert_eq!(vlans(access, trunk), Err(text.to_owned()));
        }
    }
}
