//! What is left of changes where others change virtual servers too.

use nix::errno::Errno;

use super::Change;
use crate::{Error, Result, netlink};

/// What is left of changes that somebody else was faster with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remainder {
    /// What does now what some of them were to do.
    pub instead: Vec<Change>,
    /// With how many somebody else was faster.
    pub overtaken: usize,
}

// === impl Remainder ===

impl Remainder {
    /// Takes in what became of changes; fails with the first refusal that is none of others' haste.
    pub(super) fn of(
        changes: &[Change],
        outcomes: impl IntoIterator<Item = netlink::Result<()>>,
    ) -> Result<Self> {
        let mut remainder = Self::default();
        for (change, outcome) in changes.iter().zip(outcomes) {
            let Err(error) = outcome else { continue };
            let instead = error.errno().and_then(|errno| instead(change, errno));
            let instead = instead.ok_or_else(|| Error::new(change.to_string(), error))?;
            remainder.overtaken += 1;
            remainder.instead.extend(instead);
        }
        Ok(remainder)
    }
}

/// What does the same where somebody else was faster, which may be nothing; `None`: that is not why it was
/// refused. The kernel says `ESRCH` of virtual servers that are not there, and `ENOENT` of real ones.
fn instead(change: &Change, errno: Errno) -> Option<Option<Change>> {
    match (change, errno) {
        (Change::AddVirtual(server), Errno::EEXIST) => {
            Some(Some(Change::SetVirtual(server.clone())))
        }
        (Change::AddReal(address, real), Errno::EEXIST) => {
            Some(Some(Change::SetReal(*address, *real)))
        }
        (Change::SetReal(address, real), Errno::ENOENT) => {
            // One without weight was only to keep its connections.
            Some((real.weight > 0).then_some(Change::AddReal(*address, *real)))
        }
        (Change::DeleteVirtual(_), Errno::ESRCH)
        | (Change::DeleteReal(..), Errno::ENOENT | Errno::ESRCH) => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ipvs::{Flags, Protocol, RealServer, VirtualAddress, VirtualServer};

    #[test]
    fn by_what_the_kernel_says() {
        let address = VirtualAddress {
            protocol: Protocol::Tcp,
            socket: "10.96.0.1:80".parse().unwrap(),
        };
        let server = VirtualServer {
            address,
            scheduler: "rr".into(),
            flags: Flags::default(),
            timeout: 0,
            client_prefix: 32,
        };
        let real = |weight| RealServer::translated("10.244.0.1:80".parse().unwrap(), weight);
        let add = Change::AddVirtual(server.clone());
        let set = Change::SetVirtual(server);
        let add_real = |weight| Change::AddReal(address, real(weight));
        let set_real = |weight| Change::SetReal(address, real(weight));
        let delete_real = Change::DeleteReal(address, real(1).socket);
        let delete = Change::DeleteVirtual(address);
        for (change, errno, expected) in [
            (add.clone(), Errno::EEXIST, Some(Some(set.clone()))),
            (add, Errno::ENOENT, None),
            (set, Errno::ESRCH, None),
            (add_real(1), Errno::EEXIST, Some(Some(set_real(1)))),
            (add_real(1), Errno::ESRCH, None),
            (set_real(1), Errno::ENOENT, Some(Some(add_real(1)))),
            (set_real(0), Errno::ENOENT, Some(None)),
            (set_real(1), Errno::ESRCH, None),
            (delete_real.clone(), Errno::ENOENT, Some(None)),
            (delete_real.clone(), Errno::ESRCH, Some(None)),
            (delete_real, Errno::EPERM, None),
            (delete.clone(), Errno::ESRCH, Some(None)),
            (delete, Errno::EBUSY, None),
        ] {
            assert_eq!(instead(&change, errno), expected, "{change}: {errno}");
        }
    }
}
