//! What the kernel's own numbers mean, in the words of ipset(8).

use nix::errno::Errno;

use super::Change;
use crate::netlink;

/// Numbers from here on are of the type of the set, not of all sets (`IPSET_ERR_TYPE_SPECIFIC`).
const TYPE_SPECIFIC: i32 = 4352;
const FULL: i32 = TYPE_SPECIFIC;

/// The refusal of a change in words that help.
pub(super) fn explained(change: &Change, error: netlink::Error) -> netlink::Error {
    let (errno, words) = match error {
        netlink::Error::Subsystem(code) => of_code(code),
        netlink::Error::Refused {
            errno: Errno::ENOENT,
            message: None,
        } => (Errno::ENOENT, "The set with the given name does not exist"),
        netlink::Error::Refused {
            errno: Errno::EEXIST,
            message: None,
        } if matches!(change, Change::Create(..)) => (
            Errno::EEXIST,
            "Set cannot be created: set with the same name already exists",
        ),
        other => return other,
    };
    netlink::Error::Refused {
        errno,
        message: Some(words.to_owned()),
    }
}

/// `enum ipset_errno` of `linux/netfilter/ipset/ip_set.h`, as far as what is sent here can meet them.
fn of_code(code: i32) -> (Errno, &'static str) {
    match code {
        4097 => (Errno::EPROTO, "Kernel error received: ipset protocol error"),
        4098 => (
            Errno::EOPNOTSUPP,
            "Kernel error received: set type not supported (the module ip_set_hash_* or ip_set_bitmap_* is missing)",
        ),
        4099 => (
            Errno::ENOSPC,
            "Kernel error received: maximal number of sets reached, cannot create more",
        ),
        4100 | 4108 => (
            Errno::EBUSY,
            "Set cannot be destroyed: it is in use by a kernel component (a rule looks it up: iptables-save shows which)",
        ),
        4102 => (
            Errno::EINVAL,
            "The sets cannot be swapped: their type does not match",
        ),
        4103 => (
            Errno::EEXIST,
            "Element cannot be added to or deleted from the set: it is or is not in it",
        ),
        4104 => (
            Errno::EINVAL,
            "The value of the CIDR parameter of the IP address is invalid",
        ),
        4106 => (
            Errno::EINVAL,
            "Protocol family not supported by the set type",
        ),
        4109 | 4110 => (
            Errno::EINVAL,
            "The address is of another family than the set",
        ),
        FULL => (Errno::ENOSPC, "Hash is full, cannot add more elements"),
        _ => (
            Errno::EINVAL,
            "Kernel error received: refused by the type of the set",
        ),
    }
}
