//! Registers: 64 bytes that a rule computes in.

use crate::nft::wire::{Attributes, View};

/// `NFT_REG_VERDICT`: what it holds decides.
pub(super) const VERDICT: u32 = 0;
/// The words of 32 bits, and how many of them the numbers for registers of 128 bits stand for.
const WORDS: usize = 16;
const WORDS_OF_WIDE: u32 = 4;
/// `NFT_REG_1` to `NFT_REG_4`, 16 bytes each.
const WIDE: u32 = 1;
const LAST_WIDE: u32 = 4;
/// `NFT_REG32_00`, 4 bytes.
const NARROW: u32 = 8;

/// Where a value begins: one of sixteen words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(u8);

// === impl Register ===

impl Register {
    /// The first word.
    pub const FIRST: Self = Self(0);

    /// The register at `offset` bytes, a multiple of four, if a value of `len` bytes fits there.
    pub(in crate::nft) fn after(offset: usize, len: usize) -> Option<Self> {
        (offset + len <= WORDS * 4).then_some(Self((offset / 4) as u8))
    }

    /// `enum nft_registers`, in the way that the kernel and nft prefer: as a register of 128 bits where one
    /// begins.
    fn number(self) -> u32 {
        let word = u32::from(self.0);
        if word.is_multiple_of(WORDS_OF_WIDE) {
            WIDE + word / WORDS_OF_WIDE
        } else {
            NARROW + word
        }
    }

    /// The reverse of [`Self::number`].
    pub(super) fn from_number(number: u32) -> Option<Self> {
        let word = match number {
            WIDE..=LAST_WIDE => (number - WIDE) * WORDS_OF_WIDE,
            _ => number.checked_sub(NARROW)?,
        };
        u8::try_from(word)
            .ok()
            .filter(|word| usize::from(*word) < WORDS)
            .map(Self)
    }

    /// The register of a word, for samples.
    #[cfg(test)]
    pub(super) const fn nth(word: u8) -> Self {
        Self(word)
    }

    /// Writes the register as an attribute of a kind.
    pub(super) fn put(self, list: Attributes, kind: u16) -> Attributes {
        list.u32(kind, self.number())
    }

    /// Reads the register in the attribute of a kind.
    pub(super) fn find(view: View<'_>, kind: u16) -> Option<Self> {
        Self::from_number(view.u32(kind)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_number_stands_for_one_register() {
        for word in 0..WORDS {
            let register = Register::after(word * 4, 4).unwrap();
            assert_eq!(Register::from_number(register.number()), Some(register));
        }
        // The narrow number of a wide register's first word, which nft does not use.
        assert_eq!(Register::from_number(12), Register::after(16, 16));
        assert_eq!(Register::from_number(0), None);
        assert_eq!(Register::from_number(5), None);
        assert_eq!(Register::from_number(24), None);
    }

    #[test]
    fn what_ends_behind_the_last_register_does_not_fit() {
        assert!(Register::after(48, 16).is_some());
        assert!(Register::after(52, 16).is_none());
    }
}
