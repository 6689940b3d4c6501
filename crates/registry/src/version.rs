use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, shown};

/// One version of a crate: semver, at most 150 bytes, kept as it is written.
///
/// Ordered by semver's precedence, then by the text, so that versions that differ only in build metadata
/// have an order too.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CrateVersion {
    text: String,
    parsed: semver::Version,
}

impl CrateVersion {
    /// The longest version that crates.io takes, in bytes.
    pub const MAX_BYTES: usize = 150;

    /// As it is written, build metadata included.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The parsed form.
    pub fn semver(&self) -> &semver::Version {
        &self.parsed
    }

    /// Whether it is a pre-release such as `1.0.0-rc.1`.
    pub fn is_prerelease(&self) -> bool {
        !self.parsed.pre.is_empty()
    }
}

impl FromStr for CrateVersion {
    type Err = Error;

    fn from_str(version: &str) -> Result<Self, Error> {
        let wrong = |why: String| Error::Version {
            version: shown(version),
            why,
        };
        if version.len() > Self::MAX_BYTES {
            return Err(wrong("it is longer than 150 bytes".to_owned()));
        }
        let parsed = semver::Version::parse(version).map_err(|cause| wrong(cause.to_string()))?;
        Ok(Self {
            text: version.to_owned(),
            parsed,
        })
    }
}

impl TryFrom<String> for CrateVersion {
    type Error = Error;

    fn try_from(version: String) -> Result<Self, Error> {
        version.parse()
    }
}

impl From<CrateVersion> for String {
    fn from(version: CrateVersion) -> Self {
        version.text
    }
}

impl Ord for CrateVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parsed
            .cmp_precedence(&other.parsed)
            .then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for CrateVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for CrateVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_semver_and_keeps_the_text() {
        for version in ["0.1.0", "1.0.0-rc.1", "1.0.0+x.1", "111.25.2+1.1.1t", "2.0.0-alpha+001"] {
            assert_eq!(version.parse::<CrateVersion>().unwrap().as_str(), version);
        }
    }

    #[test]
    fn refuses_what_is_not_semver() {
        let long = format!("1.0.0-{}", "a".repeat(150));
        for version in [
            "",
            "1",
            "1.0",
            "v1.0.0",
            "1.0.0 x",
            " 1.0.0",
            "1.0.0/..",
            "..",
            "01.0.0",
            "1.0.0\n",
            "1.0.0%2B1",
            &long,
        ] {
            assert!(version.parse::<CrateVersion>().is_err(), "{version:?} was taken");
        }
    }

    #[test]
    fn orders_by_semver() {
        let mut versions: Vec<CrateVersion> = ["1.10.0", "1.9.0", "1.10.0-rc.1", "1.10.0+b", "1.10.0+a"]
            .iter()
            .map(|v| v.parse().unwrap())
            .collect();
        versions.sort();
        let texts: Vec<_> = versions.iter().map(CrateVersion::as_str).collect();
        assert_eq!(texts, ["1.9.0", "1.10.0-rc.1", "1.10.0", "1.10.0+a", "1.10.0+b"]);
    }

    proptest! {
        #[test]
        fn any_string_is_refused_or_kept_as_it_is(input in "[0-9a-z.+ /%-]{0,20}") {
            if let Ok(version) = input.parse::<CrateVersion>() {
                prop_assert_eq!(version.as_str(), input.as_str());
                prop_assert!(!input.contains(['/', '%', ' ']));
            }
        }
    }
}
