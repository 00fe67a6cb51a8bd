//! The host's end of a container's veth pair: its name, and the alias that says whose it is.

use kernel::IfName;

use crate::model::{Attachment, is_valid_name};

/// What an alias of ours begins with.
const ALIAS_PREFIX: &str = "tweed:";
/// `IFALIASZ` without the closing zero.
const ALIAS_MAX: usize = 255;

/// Whose pair it is. None of the three can contain a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The network's name.
    pub network: String,
    /// The container's id.
    pub container_id: String,
    /// The interface's name in the container.
    pub if_name: String,
}

// === impl Identity ===

impl Identity {
    /// The identity of an attachment to a network.
    pub fn of(attachment: &Attachment, network: &str) -> Self {
        Self {
            network: network.to_owned(),
            container_id: attachment.container_id.clone(),
            if_name: attachment.if_name.to_string(),
        }
    }

    /// The name of the host's end.
    pub fn name(&self) -> String {
        name(&self.network, &self.container_id, &self.if_name)
    }

    /// The alias of the host's end, by which GC finds it; `None` if the kernel has no room for it.
    pub fn alias(&self) -> Option<String> {
        let Self {
            network,
            container_id,
            if_name,
        } = self;
        let alias = format!("{ALIAS_PREFIX}{network}/{container_id}/{if_name}");
        (alias.len() <= ALIAS_MAX).then_some(alias)
    }

    /// Reads an alias; `None` if it is not one of ours.
    pub fn parse(alias: &str) -> Option<Self> {
        let mut parts = alias.strip_prefix(ALIAS_PREFIX)?.split('/');
        let [network, container_id, if_name] = [parts.next()?, parts.next()?, parts.next()?];
        let valid = is_valid_name(network)
            && is_valid_name(container_id)
            && if_name.parse::<IfName>().is_ok();
        (valid && parts.next().is_none()).then(|| Self {
            network: network.to_owned(),
            container_id: container_id.to_owned(),
            if_name: if_name.to_owned(),
        })
    }
}

/// The name is told by network, container and interface, and no random number as in the reference plugin:
/// a DEL that comes when the namespace is gone, or when the state of the ADD is lost, still finds it.
fn name(network: &str, container_id: &str, if_name: &str) -> String {
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
    fn an_alias_is_read_back_and_others_are_not_ours() {
        let identity = Identity {
            network: "cbr0".into(),
            container_id: "c1".into(),
            if_name: "eth0".into(),
        };
        let alias = identity.alias().unwrap();
        assert_eq!(alias, "tweed:cbr0/c1/eth0");
        assert_eq!(Identity::parse(&alias), Some(identity.clone()));
        for other in [
            "",
            "cbr0/c1/eth0",
            "tweed:cbr0/c1",
            "tweed:cbr0/c1/eth0/x",
            "tweed:../c1/eth0",
            "tweed:cbr0/c\"1/eth0",
            "tweed:cbr0/c1/..",
            "tweed:cbr0/c1/a b",
            "tweed:cbr0//eth0",
        ] {
            assert_eq!(Identity::parse(other), None, "{other}");
        }
        let container_id = "c".repeat(250);
        let long = Identity {
            container_id,
            ..identity
        };
        assert_eq!(long.alias(), None);
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
