//! Names made of a hash, as the reference plugins make them: either plugin finds what the other made.

use sha2::{Digest, Sha512};

/// A name of `len` characters: the prefix, then as much of the hexadecimal SHA-512 of `text` as fits.
pub fn hashed(len: usize, prefix: &str, text: &str) -> String {
    let hash = Sha512::digest(text);
    let digits = hash.iter().map(|byte| format!("{byte:02x}"));
    let mut name = prefix.to_owned();
    name.extend(digits);
    name.truncate(len);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_reference() {
        // From the tests of the reference's `utils` package.
        assert_eq!(
            hashed(28, "CNI-", "test1234"),
            "CNI-2bbe0c48b91a7d1b8a6753a8"
        );
        assert_eq!(
            hashed(28, "CNI-PREFIX-", "test1234"),
            "CNI-PREFIX-2bbe0c48b91a7d1b8"
        );
    }
}
