//! Warnings that are said once.

use std::collections::BTreeSet;

/// The warnings that hold now. Each is logged when it comes up, not again while it lasts.
#[derive(Clone, Debug, Default)]
pub struct Notices {
    current: BTreeSet<String>,
}

// === impl Notices ===

impl Notices {
    /// Sets what holds now, and logs what did not before.
    pub fn set(&mut self, now: impl IntoIterator<Item = String>) {
        for notice in self.replace(now) {
            tracing::warn!("{notice}");
        }
    }

    /// What holds now.
    pub fn current(&self) -> Vec<String> {
        self.current.iter().cloned().collect()
    }

    /// Nothing holds any more. Answers whether something did.
    pub fn clear(&mut self) -> bool {
        !std::mem::take(&mut self.current).is_empty()
    }

    /// Answers with what is new.
    fn replace(&mut self, now: impl IntoIterator<Item = String>) -> Vec<String> {
        let before = std::mem::replace(&mut self.current, now.into_iter().collect());
        self.current.difference(&before).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_said_once_while_it_lasts() {
        let mut notices = Notices::default();
        let mut replace = |now: &[&str]| notices.replace(now.iter().map(|&text| text.to_owned()));
        assert_eq!(replace(&["a", "b"]), ["a", "b"]);
        assert_eq!(replace(&["b", "c"]), ["c"]);
        assert_eq!(replace(&["b", "a"]), ["a"]);
        assert!(notices.clear());
        assert!(!notices.clear());
    }
}
