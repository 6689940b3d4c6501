//! `NAME` and `NAME@REQ`.

use std::fmt;
use std::str::FromStr;

use registry::{CrateName, CrateVersion};
use semver::VersionReq;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::shown;

/// Which version of a crate somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Requirement {
    /// The newest; a pre-release only if there is nothing else.
    Newest,
    /// The same, if the index has such a crate; else nothing is lacking. Written `?`: the name may be a slip of the pen.
    NewestIfAny,
    /// This one, even if it was yanked.
    Exactly(CrateVersion),
    /// The newest that fits.
    Fitting(VersionReq),
}

impl Requirement {
    /// As in `cargo install NAME@REQ`: a whole version means itself, `?` the newest if there is such a crate, anything else is a
    /// requirement.
    ///
    /// # Errors
    /// [`Error::Requirement`] if it is neither.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        match text.parse() {
            _ if text == "?" => Ok(Self::NewestIfAny),
            Ok(version) => Ok(Self::Exactly(version)),
            Err(_) => Self::fitting(text),
        }
    }

    /// As in a Cargo.toml, where `1.2.3` means `^1.2.3`.
    ///
    /// # Errors
    /// [`Error::Requirement`] if it is none.
    pub fn fitting(text: &str) -> Result<Self, Error> {
        let req = VersionReq::parse(text).map_err(|cause| Error::Requirement {
            text: shown(text),
            why: cause.to_string(),
        })?;
        Ok(Self::Fitting(req))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("(newest)"),
            Self::NewestIfAny => f.write_str("?"),
            Self::Exactly(version) => version.fmt(f),
            Self::Fitting(req) => req.fmt(f),
        }
    }
}

/// A crate, and which version of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CrateSpec {
    /// The crate.
    pub name: CrateName,
    /// Which version.
    pub requirement: Requirement,
}

impl FromStr for CrateSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, requirement) = match text.split_once('@') {
            None => (text, Requirement::Newest),
            Some((name, req)) => (name, Requirement::parse(req)?),
        };
        Ok(Self {
            name: name.trim().parse().map_err(Error::Name)?,
            requirement,
        })
    }
}

impl TryFrom<String> for CrateSpec {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<CrateSpec> for String {
    fn from(spec: CrateSpec) -> Self {
        spec.to_string()
    }
}

impl fmt::Display for CrateSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.requirement {
            Requirement::Newest => self.name.fmt(f),
            requirement => write!(f, "{}@{requirement}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_whole_version_means_itself_and_everything_else_what_fits() {
        let requirement = |text: &str| text.parse::<CrateSpec>().unwrap().requirement;
        assert_eq!(requirement("serde"), Requirement::Newest);
        assert_eq!(
            requirement("serde@1.0.2+x"),
            Requirement::Exactly("1.0.2+x".parse().unwrap())
        );
        for req in ["1", "^1.2", "~0.3", "=1.2.3", ">=1, <2", "*", "1.0.0-rc.*"] {
            let found = format!("serde@{req}").parse::<CrateSpec>();
            match VersionReq::parse(req) {
                Ok(expected) => assert_eq!(found.unwrap().requirement, Requirement::Fitting(expected)),
                Err(_) => assert!(matches!(found, Err(Error::Requirement { .. }))),
            }
        }
        for bad in ["", "@1", "serde@", "serde@one", "../x", "a b", "serde@1@2"] {
            assert!(bad.parse::<CrateSpec>().is_err(), "{bad:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(name in "[a-zA-Z][a-z0-9_-]{0,8}", req in "[\\^~=<>*]{0,2}[0-9]{1,2}(\\.[0-9]{1,2}){0,2}") {
            if let Ok(spec) = format!("{name}@{req}").parse::<CrateSpec>() {
                prop_assert_eq!(&spec.to_string().parse::<CrateSpec>().unwrap(), &spec);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = text.parse::<CrateSpec>();
        }
    }
}
