//! What the tuning plugin's DEL restores, in the reference's format.

use kernel::Mac;
use serde::{Deserialize, Serialize};

/// The settings that an interface had before the ADD; `None` for those that it did not change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TuningBackup {
    /// Its Ethernet address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Whether it received frames for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promisc: Option<bool>,
    /// Its MTU in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether it received every multicast frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allmulti: Option<bool>,
    /// Length of its transmit queue in packets.
    #[serde(rename = "txQLen", default, skip_serializing_if = "Option::is_none")]
    pub tx_queue_len: Option<u32>,
    /// The network, which the reference neither writes nor minds: GC has to know it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network: String,
}

// === impl TuningBackup ===

impl TuningBackup {
    /// This one, but for what an ADD before this one had found: that is what was there first.
    pub fn after(self, first: Self) -> Self {
        Self {
            mac: first.mac.or(self.mac),
            promisc: first.promisc.or(self.promisc),
            mtu: first.mtu.or(self.mtu),
            allmulti: first.allmulti.or(self.allmulti),
            tx_queue_len: first.tx_queue_len.or(self.tx_queue_len),
            network: self.network,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn keys_are_those_of_the_reference() {
        let text = r#"{"mac":"02:00:00:00:00:01","promisc":false,"mtu":1500,"allmulti":true,"txQLen":1000}"#;
        let backup: TuningBackup = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&backup).unwrap(), text);
        let empty: TuningBackup = serde_json::from_str("{}").unwrap();
        assert_eq!(empty, TuningBackup::default());
    }

    #[test]
    fn what_was_there_first_is_kept() {
        let mtu = |mtu| TuningBackup {
            mtu,
            network: "n".into(),
            ..TuningBackup::default()
        };
        let second = TuningBackup {
            tx_queue_len: Some(7),
            ..mtu(Some(1400))
        };
        let kept = second.clone().after(mtu(Some(1500)));
        assert_eq!((kept.mtu, kept.tx_queue_len), (Some(1500), Some(7)));
        assert_eq!(second.clone().after(mtu(None)), second);
    }
}
