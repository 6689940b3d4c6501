#![doc = include_str!("../README.md")]

mod closure;
mod error;
mod features;
mod index_dependencies;
mod list;
mod lockfile;
mod problem;
mod requirement;
mod target;
mod versions;

use registry::{Checksum, CrateName, CrateVersion};
use serde::{Deserialize, Serialize};

pub use closure::{Closure, Dependencies};
pub use error::Error;
pub use list::parse_list;
pub use lockfile::{Elsewhere, Lockfile};
pub use problem::{Problem, Trouble};
pub use requirement::{CrateSpec, Requirement};
pub use target::Target;

/// One crate file that somebody means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Selected {
    /// The crate, as a lockfile or the index spells it.
    pub name: CrateName,
    /// The version.
    pub version: CrateVersion,
    /// What it must hash to, by the lockfile or the index; a lockfile may not say.
    pub checksum: Option<Checksum>,
}

impl std::fmt::Display for Selected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}
