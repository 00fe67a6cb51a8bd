//! Sets in memory: for tests of what is to be sent.

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::{Change, Kind, Member, NAME_MAX, ObservedSet, Set};
use crate::{Error, Result, netlink};

/// Sets in memory. Takes changes as the kernel does, and refuses what it refuses.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    sets: BTreeMap<String, Set>,
    applied: Vec<Change>,
}

/// Why a change is refused.
type Refused<T = ()> = Result<T, Errno>;

// === impl Fake ===

impl Fake {
    /// Without sets.
    pub fn new() -> Self {
        Self::default()
    }

    /// All sets.
    pub fn sets(&self) -> BTreeMap<String, ObservedSet> {
        let sets = self.sets.iter();
        sets.map(|(name, set)| (name.clone(), ObservedSet::Known(set.clone())))
            .collect()
    }

    /// Carries out changes in their order; fails with the first refusal, when all have been tried.
    ///
    /// # Errors
    /// As [`Handle::apply`](super::Handle::apply).
    pub fn apply(&mut self, changes: &[Change]) -> Result<()> {
        let mut first = Ok(());
        for change in changes {
            match self.carry_out(change) {
                Ok(()) => self.applied.push(change.clone()),
                Err(errno) => {
                    let message = None;
                    let refused = netlink::Error::Refused { errno, message };
                    first = first.and(Err(Error::new(change.to_string(), refused)));
                }
            }
        }
        first
    }

    /// The changes that were carried out since this was called last.
    pub fn take_applied(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.applied)
    }

    fn carry_out(&mut self, change: &Change) -> Refused {
        match change {
            Change::Create(name, definition) => {
                if name.len() > NAME_MAX {
                    return Err(Errno::ERANGE);
                }
                if self.sets.contains_key(name) {
                    return Err(Errno::EEXIST);
                }
                self.sets.insert(name.clone(), Set::new(*definition));
            }
            Change::Destroy(name) => {
                self.sets.remove(name).ok_or(Errno::ENOENT)?;
            }
            Change::Swap(one, other) => {
                let (first, second) = (self.set(one)?.clone(), self.set(other)?.clone());
                let (a, b) = (first.definition, second.definition);
                if a.kind != b.kind || a.kind != Kind::Port && a.family != b.family {
                    return Err(Errno::EINVAL);
                }
                self.sets.insert(one.clone(), second);
                self.sets.insert(other.clone(), first);
            }
            Change::Flush(name) => self.set(name)?.members.clear(),
            Change::Add(name, member) => {
                let set = self.set(name)?;
                check(set, member)?;
                let bounded = set.definition.kind != Kind::Port;
                let full = bounded && set.members.len() >= set.definition.max as usize;
                if full && !set.members.contains(member) {
                    return Err(Errno::ENOSPC);
                }
                set.members.insert(*member);
            }
            Change::Delete(name, member) => {
                let set = self.set(name)?;
                check(set, member)?;
                set.members.remove(member);
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str) -> Refused<&mut Set> {
        self.sets.get_mut(name).ok_or(Errno::ENOENT)
    }
}

fn check(set: &Set, member: &Member) -> Refused {
    let family = member.family();
    let whole = matches!(member, Member::IpPortNet(_, _, network) if network.prefix() == 0);
    let fits = member.kind() == set.definition.kind
        && family.is_none_or(|family| family == set.definition.family)
        && !whole;
    if fits { Ok(()) } else { Err(Errno::EINVAL) }
}
