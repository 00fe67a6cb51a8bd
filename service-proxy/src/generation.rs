//! Changes of nftables' rules by us, told from those by others without reading anything: the kernel raises the
//! generation of all rules by one with each transaction, whoever makes it.

/// What the generation is if nobody else has changed anything since everything was compared; nothing where that
/// can't be said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Generation(Option<u32>);

// === impl Generation ===

impl Generation {
    /// To be called before everything is read. What others change between this and that is read, and is taken for
    /// a change once more.
    pub fn count_from(&mut self, now: kernel::Result<u32>) {
        // Without a generation, everything is read the next time too.
        self.0 = now.ok();
    }

    /// Takes note of transactions that were carried out; an unknown number of them is for [`Generation::forget`].
    pub fn passed(&mut self, transactions: u32) {
        self.0 = self.0.map(|before| (0..transactions).fold(before, next));
    }

    /// Everything is to be read the next time.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// Whether nobody else has changed anything. Not where that can't be said.
    pub fn is_still(self, now: kernel::Result<u32>) -> bool {
        now.is_ok_and(|now| self.0 == Some(now))
    }
}

/// The generation after another; 0 is none.
fn next(generation: u32, _: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_by_others_show() {
        let mut generation = Generation::default();
        assert!(!generation.is_still(Ok(7)));
        generation.count_from(Ok(u32::MAX - 1));
        generation.passed(3);
        assert!(generation.is_still(Ok(2)));
        assert!(!generation.is_still(Ok(3)));
        generation.forget();
        generation.passed(1);
        assert!(!generation.is_still(Ok(3)));
    }
}
