/// What is wrong with something that came from outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A crate name that no registry can have.
    #[error("`{name}` is not a crate name: {why}")]
    Name {
        /// What was given, shortened and with control characters escaped.
        name: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// A version that is not semver, or too long.
    #[error("`{version}` is not a version: {why}")]
    Version {
        /// What was given, shortened and with control characters escaped.
        version: String,
        /// The rule it breaks.
        why: String,
    },
    /// A checksum that is not 64 lower-case hexadecimal digits.
    #[error("`{checksum}` is not a SHA-256 checksum in 64 lower-case hexadecimal digits")]
    Checksum {
        /// What was given, shortened and with control characters escaped.
        checksum: String,
    },
    /// A path that no index file has.
    #[error("`{path}` is not the path of an index file")]
    IndexPath {
        /// What was given, shortened and with control characters escaped.
        path: String,
    },
    /// An index file that is larger than any real one.
    #[error("the index file has {size_bytes} bytes, more than {limit_bytes}")]
    FileTooLarge {
        /// Its size.
        size_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// An index line that cannot be trusted, which refuses the whole file.
    #[error("line {number} of the index file is unusable: {why}")]
    Line {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
    /// An index file without a single line.
    #[error("the index file is empty")]
    EmptyFile,
    /// A `config.json` that cannot be used.
    #[error("config.json is unusable: {why}")]
    ConfigJson {
        /// What is wrong with it.
        why: String,
    },
}

/// At most 80 characters of `input`, control characters escaped, fit for a log line.
pub(crate) fn shown(input: &str) -> String {
    let mut out: String = input.chars().take(80).flat_map(char::escape_debug).collect();
    if input.chars().nth(80).is_some() {
        out.push('…');
    }
    out
}
