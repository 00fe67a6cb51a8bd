//! What of the table a packet to one frontend meets.

use kernel::nft::{Command, Element, Key, ObservedSet, ObservedTable, Transaction};

use super::{Plan, elements::Elements, layout};
use crate::plan::Frontend;

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Involved {
    /// The set or map.
    pub set: &'static str,
    /// The key.
    pub key: Key,
    /// What it leads to.
    pub element: Element,
    /// The command that would add it, in nft's language.
    pub command: String,
}

// === impl Involved ===

impl Involved {
    /// Whether it stands in a table as it should.
    pub fn stands(&self, table: &ObservedTable) -> bool {
        match table.sets.get(self.set) {
            Some(ObservedSet::Known(set)) => set.elements.get(&self.key) == Some(&self.element),
            _ => false,
        }
    }
}

// === impl Plan ===

impl Plan {
    /// The elements that a frontend is made of.
    pub fn involved(&self, frontend: &Frontend) -> Vec<Involved> {
        let Some(claim) = self.claim(frontend) else {
            return Vec::new();
        };
        let mut elements = Elements::default();
        elements.add_frontend(frontend, claim);
        let mut involved = Vec::new();
        for set in layout::sets() {
            for (key, element) in elements.take(set) {
                let command = self.command(set, &key, &element);
                involved.push(Involved {
                    set,
                    key,
                    element,
                    command,
                });
            }
        }
        involved
    }

    fn command(&self, set: &str, key: &Key, element: &Element) -> String {
        let elements = vec![(key.clone(), element.clone())];
        let transaction = Transaction {
            family: self.family().into(),
            table: self.table_name().to_owned(),
            commands: vec![Command::AddElements(set.to_owned(), elements)],
        };
        transaction.to_string().trim_end().to_owned()
    }
}
