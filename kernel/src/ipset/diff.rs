//! What makes the sets that stand those that should.

use std::collections::BTreeMap;

use super::{Change, ObservedSet, Set};

/// The name of the set that is filled to take the place of one that has too little room. Not one that anybody else
/// would take, and within what the kernel allows.
pub(super) const SPARE: &str = "TWEED-SPARE";

/// The changes that give each of some sets its members. Sets that nobody wants are left alone: rules may look
/// them up. Where a set has too little room, or is another than it should be, it is made anew beside and swapped,
/// so that rules that look it up never find less than what was there or will be; the kernel refuses that where the
/// set is of another kind.
pub fn diff(have: &BTreeMap<String, ObservedSet>, want: &BTreeMap<String, Set>) -> Vec<Change> {
    // Whoever was to swap it did not live to do so.
    let left = have
        .contains_key(SPARE)
        .then(|| Change::Destroy(SPARE.to_owned()));
    let changes = want
        .iter()
        .flat_map(|(name, want)| changes(name, have.get(name), want));
    left.into_iter().chain(changes).collect()
}

fn changes(name: &str, have: Option<&ObservedSet>, want: &Set) -> Vec<Change> {
    match have {
        None => made(name, want),
        Some(ObservedSet::Known(have)) if have.definition.serves_as(&want.definition) => {
            let added = want.members.difference(&have.members);
            let gone = have.members.difference(&want.members);
            let delete = gone.map(|it| Change::Delete(name.to_owned(), *it));
            let add = added.map(|it| Change::Add(name.to_owned(), *it));
            // What goes makes room.
            delete.chain(add).collect()
        }
        Some(_) => {
            let mut changes = made(SPARE, want);
            changes.push(Change::Swap(SPARE.to_owned(), name.to_owned()));
            changes.push(Change::Destroy(SPARE.to_owned()));
            changes
        }
    }
}

fn made(name: &str, set: &Set) -> Vec<Change> {
    let create = Change::Create(name.to_owned(), set.definition);
    let members = set.members.iter();
    let add = members.map(|it| Change::Add(name.to_owned(), *it));
    std::iter::once(create).chain(add).collect()
}
