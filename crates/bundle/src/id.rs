use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::shown;

/// The name of a bundle or of a site: 32 hexadecimal digits, made by chance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id([u8; 16]);

impl Id {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn random() -> Result<Self, Error> {
        random_bytes().map(Self)
    }

    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// Bytes that nobody can foresee.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::Key {
        why: "the system gives no random bytes".to_owned(),
    })?;
    Ok(bytes)
}

impl FromStr for Id {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Form {
            what: "id of 32 hexadecimal digits",
            text: shown(text),
        };
        if text.len() != 32 || !is_lower_hex(text) {
            return Err(wrong());
        }
        u128::from_str_radix(text, 16)
            .map(|value| Self(value.to_be_bytes()))
            .map_err(|_| wrong())
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({self})")
    }
}

impl TryFrom<String> for Id {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.to_string()
    }
}

/// The id of a git tree or commit: 40 hexadecimal digits (64 with SHA-256). This crate only carries it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreeHex(String);

impl TreeHex {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TreeHex {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if matches!(text.len(), 40 | 64) && is_lower_hex(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::Form {
            what: "git object id",
            text: shown(text),
        })
    }
}

impl fmt::Display for TreeHex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TreeHex {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<TreeHex> for String {
    fn from(tree: TreeHex) -> Self {
        tree.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_32_lower_case_digits_are_an_id() {
        let good = "00112233445566778899aabbccddeeff";
        assert_eq!(good.parse::<Id>().unwrap().to_string(), good);
        for bad in [
            "",
            "0",
            &good.to_uppercase(),
            &good[1..],
            &format!("{good}0"),
            &good.replace('f', "g"),
            "+0112233445566778899aabbccddeeff",
        ] {
            assert!(bad.parse::<Id>().is_err(), "{bad:?} was taken");
        }
        assert_ne!(Id::random().unwrap(), Id::random().unwrap());
    }

    #[test]
    fn a_tree_has_40_or_64_digits() {
        assert!("a".repeat(40).parse::<TreeHex>().is_ok() && "a".repeat(64).parse::<TreeHex>().is_ok());
        for bad in ["a".repeat(39), "A".repeat(40), "g".repeat(40), "é".repeat(20)] {
            assert!(bad.parse::<TreeHex>().is_err(), "{bad:?} was taken");
        }
    }
}
