//! The way into the kernel.

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use super::{
    Change, Definition, Named, ObservedSet, Set,
    diff::SPARE,
    message::{self, Listed},
    refusal::explained,
};
use crate::{
    Error, Result,
    netlink::{self, Reply, Request, Socket},
};

/// Reads and changes the sets of one network namespace.
#[derive(Debug)]
pub struct Handle {
    socket: Socket,
}

// === impl Handle ===

netlink::opens!(Handle, Netfilter);

impl Handle {
    /// The names of all sets; none where the kernel has no sets at all.
    pub fn names(&mut self) -> Result<BTreeSet<Named>> {
        let replies = match self.socket.dump(&message::list_headers()) {
            // It knows no such messages.
            Err(error) if error.errno() == Some(Errno::EINVAL) => return Ok(BTreeSet::new()),
            read => read.map_err(|error| Error::new("ipset list -terse", error))?,
        };
        let listed = replies
            .iter()
            .filter_map(|it| message::parse_header(&it.body));
        Ok(listed.map(|it| it.named).collect())
    }

    /// A set with its members; `None` if there is none of the name.
    pub fn read(&mut self, name: &str) -> Result<Option<ObservedSet>> {
        let replies = match self.socket.dump(&message::list(name)) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(None),
            read => read.map_err(|error| Error::new(format!("ipset list {name}"), error))?,
        };
        let mut listed = replies
            .iter()
            .filter_map(|it| message::parse_header(&it.body));
        Ok(listed.next().map(|set| observed(&set, &replies)))
    }

    /// Those of some sets that there are, with their members, as [`diff`](super::diff()) wants them.
    pub fn read_all<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<BTreeMap<String, ObservedSet>> {
        let mut sets = BTreeMap::new();
        for name in names.chain([SPARE]) {
            sets.extend(self.read(name)?.map(|set| (name.to_owned(), set)));
        }
        Ok(sets)
    }

    /// Carries out changes in their order; fails with the first refusal, when all have been tried.
    pub fn apply(&mut self, changes: &[Change]) -> Result<()> {
        let requests: Vec<_> = changes.iter().map(message::change).collect();
        let outcomes = self.socket.batch(&requests).map_err(|error| {
            let attempted = format!("make {} changes of sets", changes.len());
            Error::new(attempted, error)
        })?;
        for (change, outcome) in changes.iter().zip(outcomes) {
            outcome.map_err(|error| Error::new(change.to_string(), explained(change, error)))?;
        }
        Ok(())
    }

    /// Shows that the kernel has sets of a definition: makes one of a name that nobody uses, and removes it.
    ///
    /// # Errors
    /// If it has none.
    pub fn try_out(&mut self, definition: Definition) -> Result<()> {
        match self.apply(&[Change::Create(SPARE.to_owned(), definition)]) {
            // Somebody did not live to remove it.
            Err(error) if !error.is_exists() => Err(error),
            _ => self.apply(&[Change::Destroy(SPARE.to_owned())]),
        }
    }

    /// How many changes were sent so far.
    pub fn sent(&self) -> u64 {
        self.socket.sent()
    }

    /// The number by which rules know a set; `None` if there is none of the name. It stays the same when the set is
    /// swapped with another. Kernels before 4.20 don't tell.
    pub fn number(&mut self, name: &str) -> Result<Option<u16>> {
        let found = self.find(&message::number_of(name), || format!("ipset list {name}"))?;
        Ok(found.and_then(|reply| message::parse_number(&reply.body)))
    }

    /// The name of the set with a number, if there is one.
    pub fn name(&mut self, number: u16) -> Result<Option<String>> {
        let attempted = || format!("find the name of the set number {number}");
        let found = self.find(&message::name_of(number), attempted)?;
        Ok(found.and_then(|reply| message::parse_name(&reply.body)))
    }

    fn find(
        &mut self,
        request: &Request,
        attempted: impl FnOnce() -> String,
    ) -> Result<Option<Reply>> {
        match self.socket.get(request) {
            Ok(replies) => Ok(replies.into_iter().next()),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
            Err(error) => Err(Error::new(attempted(), error)),
        }
    }
}

fn observed(listed: &Listed, replies: &[Reply]) -> ObservedSet {
    let known = |definition: Definition| -> Option<Set> {
        let kind = definition.kind;
        let members = replies
            .iter()
            .flat_map(|it| message::parse_members(&it.body, kind));
        Some(Set {
            definition,
            members: members.collect::<Option<_>>()?,
        })
    };
    let set = listed.definition.and_then(known);
    set.map_or(ObservedSet::Other, ObservedSet::Known)
}
