//! The name of the host's end of a container's veth pair.

/// The name is told by network, container and interface, and no random number as in the reference plugin:
/// a DEL that comes when the namespace is gone, or when the state of the ADD is lost, still finds it.
pub fn name(network: &str, container_id: &str, if_name: &str) -> String {
    // None of the three can contain a zero byte, so no two attachments are one text.
    let hash = fnv1a(&[network, container_id, if_name].join("\0"));
    format!("veth{:08x}", (hash >> 32) as u32 ^ hash as u32)
}

/// FNV-1a, 64 bits (draft-eastlake-fnv). The standard library's hash may change from release to release,
/// and a DEL may come from a newer binary than the ADD.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn the_name_never_changes_from_release_to_release() {
        assert_eq!(name("cbr0", "0123456789ab", "eth0"), "veth5ff3c295");
    }

    #[test]
    fn every_part_counts() {
        let names = [
            name("a", "b", "eth0"),
            name("ab", "", "eth0"),
            name("a", "b", "eth1"),
            name("a", "c", "eth0"),
            name("b", "b", "eth0"),
        ];
        for (index, one) in names.iter().enumerate() {
            assert_eq!(one.len(), 12);
            assert!(!names[index + 1..].contains(one), "{names:?}");
        }
    }
}
