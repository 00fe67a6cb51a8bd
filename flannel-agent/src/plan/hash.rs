//! Choices that are the same each time: a hash that no release of Rust changes.

use kernel::{Family, Mac, Vni};

/// FNV-1a of the parts, mixed by the last step of MurmurHash3 so that similar texts differ in all bits.
pub(super) fn hash(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The Ethernet address of a node's tunnel endpoint. It does not change over restarts and reboots, so
/// that peers need not learn a new one.
pub fn vtep_mac(node: &str, family: Family, vni: Vni) -> Mac {
    let hash = hash(&["vtep", node, &family.to_string(), &vni.to_string()]);
    let [_, _, bytes @ ..] = hash.to_be_bytes();
    Mac::local(bytes)
}

/// What stands in etcd for an installed system: its identity itself is not for others to see
/// (machine-id(5)).
pub fn machine_hash(identity: &str, name: &str) -> String {
    format!("{:016x}", hash(&["machine", identity, name]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stay_over_releases() {
        let mac =
            |node, family, vni: u32| vtep_mac(node, family, vni.try_into().unwrap()).to_string();
        assert_eq!(mac("m/192.168.64.3", Family::V4, 1), "6e:ea:b4:b8:26:3a");
        assert_eq!(mac("m/192.168.64.3", Family::V6, 1), "66:e0:d5:61:e0:e6");
        assert_eq!(mac("m/192.168.64.4", Family::V4, 1), "9e:3e:22:26:ba:93");
        assert_eq!(mac("m/192.168.64.3", Family::V4, 2), "32:5a:6b:8b:0c:ed");
    }

    #[test]
    fn parts_are_kept_apart() {
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
    }
}
