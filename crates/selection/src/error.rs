/// What somebody wrote cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a lockfile that is known.
    #[error("it is not a Cargo.lock that can be read: {why}")]
    Lockfile {
        /// What the parser says.
        why: String,
    },
    /// A line of a list.
    #[error("line {number}: {cause}")]
    Line {
        /// From 1.
        number: usize,
        /// What is wrong with it.
        cause: Box<Error>,
    },
    /// Not the name of a crate.
    #[error(transparent)]
    Name(registry::Error),
    /// Not a version and not a requirement.
    #[error("`{text}` is neither a version nor a requirement such as ^1.2: {why}")]
    Requirement {
        /// As it was written.
        text: String,
        /// What the parser says.
        why: String,
    },
    /// Not one of the forms of a list.
    #[error("`{text}` should be NAME, NAME@REQUIREMENT, NAME VERSION or NAME = \"REQUIREMENT\"")]
    Form {
        /// As it was written, in part.
        text: String,
    },
    /// Not a target that rustc has.
    #[error("`{triple}` is no target of rustc, such as x86_64-unknown-linux-gnu")]
    Target {
        /// As it was written.
        triple: String,
    },
}

/// At most 80 characters of what somebody wrote, none of which drives a terminal.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}
