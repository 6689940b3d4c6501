//! What could not be chosen, and why.

use std::fmt;

/// Something that was wanted and is not in the selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The crate, and which version of it was wanted.
    pub wanted: String,
    /// Who wanted it; `None` if it was named itself.
    pub by: Option<String>,
    /// What is the matter.
    pub trouble: Trouble,
}

/// What is the matter with a crate that was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The index has no such crate.
    NoSuchCrate,
    /// No version fits.
    NoneFits {
        /// The newest that there is.
        newest: Option<String>,
    },
    /// What fits was yanked.
    OnlyYanked,
    /// It comes from another registry.
    OtherRegistry {
        /// Its index.
        index: String,
    },
    /// The requirement or the name makes no sense.
    Unreadable {
        /// What is wrong.
        why: String,
    },
    /// The index could not be asked.
    NotAsked {
        /// What happened.
        why: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.wanted)?;
        if let Some(by) = &self.by {
            write!(f, " (wanted by {by})")?;
        }
        match &self.trouble {
            Trouble::NoSuchCrate => f.write_str(": the index has no such crate"),
            Trouble::NoneFits { newest: None } => f.write_str(": the index lists no version that can be read"),
            Trouble::NoneFits { newest: Some(newest) } => write!(f, ": no version fits, the newest is {newest}"),
            Trouble::OnlyYanked => f.write_str(": every version that fits was yanked; an exact version can be named"),
            Trouble::OtherRegistry { index } => write!(f, ": it comes from another registry, {index}"),
            Trouble::Unreadable { why } | Trouble::NotAsked { why } => write!(f, ": {why}"),
        }
    }
}
