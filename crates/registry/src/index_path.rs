use std::fmt;
use std::str::FromStr;

use crate::CrateName;
use crate::error::{Error, shown};

/// Where a crate's file stands in an index: `1/a`, `2/ab`, `3/a/abc`, `ab/cd/abcdef`; always in lower case.
///
/// The layout is cargo's: the book's chapter on registry indexes, "Index files".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexPath(String);

impl IndexPath {
    /// The path of `name`'s file.
    pub fn of(name: &CrateName) -> Self {
        let name = name.lowercase();
        Self(format!("{}{name}", prefix(&name)))
    }

    /// With `/` between the parts.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The crate's name in lower case: the last part.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The crate's name, as far as the path tells: in lower case.
    pub fn crate_name(&self) -> CrateName {
        self.file_name()
            .parse()
            .expect("an index path is made from a crate name")
    }
}

/// The folders before a name, each with a `/` behind it.
pub(crate) fn prefix(name: &str) -> String {
    match name.len() {
        0 => String::new(),
        1 => "1/".to_owned(),
        2 => "2/".to_owned(),
        3 => format!("3/{}/", &name[..1]),
        _ => format!("{}/{}/", &name[..2], &name[2..4]),
    }
}

impl FromStr for IndexPath {
    type Err = Error;

    /// Takes only the one path that belongs to the name at its end: `/ab/cd/serde` is refused.
    fn from_str(path: &str) -> Result<Self, Error> {
        let wrong = || Error::IndexPath { path: shown(path) };
        let name: CrateName = path
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .parse()
            .map_err(|_| wrong())?;
        let own = Self::of(&name);
        if own.0 == path { Ok(own) } else { Err(wrong()) }
    }
}

impl fmt::Display for IndexPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn follows_the_book() {
        for (name, path) in [
            ("a", "1/a"),
            ("Ab", "2/ab"),
            ("abc", "3/a/abc"),
            ("serde", "se/rd/serde"),
            ("Inflector", "in/fl/inflector"),
            ("a-_b", "a-/_b/a-_b"),
        ] {
            let name: CrateName = name.parse().unwrap();
            assert_eq!(IndexPath::of(&name).as_str(), path);
            assert_eq!(
                path.parse::<IndexPath>().unwrap().crate_name().as_str(),
                name.lowercase()
            );
        }
    }

    #[test]
    fn refuses_wrong_places() {
        for path in [
            "",
            "/",
            "serde",
            "/se/rd/serde",
            "ab/cd/serde",
            "1/serde",
            "Se/rD/serde",
            "SE/RD/SERDE",
            "se/rd/Serde",
            "se/rd/../serde",
            "se//rd/serde",
            "se/rd/serde/",
            "config.json",
            "3/b/abc",
            "..",
            "2/..",
        ] {
            assert!(path.parse::<IndexPath>().is_err(), "{path:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn every_name_has_one_path(name in "[A-Za-z][A-Za-z0-9_-]{0,63}") {
            let name: CrateName = name.parse().unwrap();
            let path = IndexPath::of(&name);
            prop_assert_eq!(path.as_str().parse::<IndexPath>().unwrap(), path.clone());
            prop_assert_eq!(path.file_name(), name.lowercase());
        }

        #[test]
        fn no_other_string_is_a_path(input in "[a-z0-9/._-]{0,16}") {
            if let Ok(path) = input.parse::<IndexPath>() {
                prop_assert_eq!(path.as_str(), input);
            }
        }
    }
}
