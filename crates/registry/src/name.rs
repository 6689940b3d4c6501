use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, shown};

/// A crate's name as it is spelled: a letter, then letters, digits, `-` and `_`; at most 64 bytes of ASCII.
///
/// Two names that differ only in case or in `-` and `_` cannot both exist in crates.io; [`CrateName::canonical`]
/// is the form to compare them by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CrateName(String);

impl CrateName {
    /// The longest name that crates.io takes, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// As it is spelled.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// In lower case, as index paths have it; `-` and `_` stay.
    pub fn lowercase(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// In lower case and with `_` for `-`: equal for names that crates.io holds to be the same.
    pub fn canonical(&self) -> String {
        self.lowercase().replace('-', "_")
    }
}

impl FromStr for CrateName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let wrong = |why| Err(Error::Name { name: shown(name), why });
        let Some(first) = name.bytes().next() else {
            return wrong("it is empty");
        };
        if name.len() > Self::MAX_BYTES {
            return wrong("it is longer than 64 bytes");
        }
        if !first.is_ascii_alphabetic() {
            return wrong("it does not begin with a letter");
        }
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        {
            return wrong("only letters, digits, `-` and `_` are allowed");
        }
        Ok(Self(name.to_owned()))
    }
}

impl TryFrom<String> for CrateName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        name.parse()
    }
}

impl From<CrateName> for String {
    fn from(name: CrateName) -> Self {
        name.0
    }
}

impl fmt::Display for CrateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_what_crates_io_takes() {
        for name in [
            "a",
            "A",
            "serde",
            "Inflector",
            "serde_json",
            "tokio-util",
            "x1",
            &"a".repeat(64),
        ] {
            assert_eq!(name.parse::<CrateName>().unwrap().as_str(), name);
        }
        assert_eq!("Serde-JSON".parse::<CrateName>().unwrap().canonical(), "serde_json");
    }

    #[test]
    fn refuses_what_could_be_a_path_or_a_trick() {
        let long = "a".repeat(65);
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\\b",
            "a b",
            "a\0",
            "a\r\nb",
            "1a",
            "-a",
            "_a",
            "a.b",
            "a%2fb",
            "sérde",
            "ѕerde",
            "a\u{202e}b",
            "C:",
            &long,
        ] {
            assert!(name.parse::<CrateName>().is_err(), "{name:?} was taken");
        }
    }

    #[test]
    fn deserializing_checks_too() {
        assert!(serde_json::from_str::<CrateName>("\"../x\"").is_err());
        assert_eq!(
            serde_json::from_str::<CrateName>("\"serde\"").unwrap().as_str(),
            "serde"
        );
    }

    proptest! {
        #[test]
        fn any_string_is_refused_or_kept_as_it_is(input in any::<String>()) {
            if let Ok(name) = input.parse::<CrateName>() {
                prop_assert_eq!(name.as_str(), input.as_str());
                prop_assert!(input.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            }
        }

        #[test]
        fn any_well_formed_name_is_taken(input in "[A-Za-z][A-Za-z0-9_-]{0,63}") {
            prop_assert!(input.parse::<CrateName>().is_ok());
        }
    }
}
