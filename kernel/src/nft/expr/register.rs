//! Registers: 64 bytes that a rule computes in.

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
    pub(super) fn number(self) -> u32 {
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
}
