use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, shown};

/// The SHA-256 of a crate file, which is also the name it is stored by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum([u8; 32]);

impl Checksum {
    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// From the 32 bytes of a finished hash.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As 64 lower-case hexadecimal digits.
    pub fn to_hex(self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.0
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
            .collect()
    }
}

impl FromStr for Checksum {
    type Err = Error;

    fn from_str(hex: &str) -> Result<Self, Error> {
        let wrong = || Error::Checksum { checksum: shown(hex) };
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(wrong()),
        };
        if hex.len() != 64 {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Checksum {
    type Error = Error;

    fn try_from(hex: String) -> Result<Self, Error> {
        hex.parse()
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.to_hex()
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checksum({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn knows_the_empty_file() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Checksum::of(b"").to_hex(), empty);
        assert_eq!(empty.parse::<Checksum>().unwrap(), Checksum::of(b""));
    }

    #[test]
    fn refuses_other_forms() {
        let good = Checksum::of(b"x").to_hex();
        for bad in [
            good[1..].to_owned(),
            format!("{good}0"),
            good.to_uppercase(),
            good.replace('0', "g"),
            String::new(),
            "é".repeat(32),
        ] {
            assert!(bad.parse::<Checksum>().is_err(), "{bad:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn hex_and_back(bytes in any::<[u8; 32]>()) {
            let checksum = Checksum::from_bytes(bytes);
            prop_assert_eq!(checksum.to_hex().parse::<Checksum>().unwrap(), checksum);
        }
    }
}
