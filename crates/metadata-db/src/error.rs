//! What can go wrong with the databases.

use std::path::PathBuf;

/// What can go wrong with one of the two databases.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is damaged, or holds a value that we never write. `mirror.db` is replaced at the next
    /// [`MetadataDb::open`](crate::MetadataDb::open); `decisions.db` never is.
    #[error("{path} is damaged: {why}")]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What SQLite or the reading of a value said.
        why: String,
    },
    /// A newer mirror wrote this file; it was left as it is.
    #[error("{path} has layout {found}, and this mirror knows layouts up to {known}: use a newer mirror")]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Its `user_version`.
        found: i64,
        /// The highest one we know.
        known: i64,
    },
    /// The SQLite library is older than 3.51.3 and can damage a WAL database.
    #[error("SQLite {version} can damage databases in WAL mode; 3.51.3 or newer is needed")]
    OldSqlite {
        /// Its own version text.
        version: &'static str,
    },
    /// SQLite refused: the disk is full, the file is locked or cannot be opened.
    #[error("could not {doing} in {path}")]
    Sqlite {
        /// The database file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A file beside the database could not be read or moved.
    #[error("could not {doing} {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done to it.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Whether the error speaks of damage in the file and not of the disk, a lock or a limit.
///
/// All our SQL is fixed text, so a plain `SQLITE_ERROR` means that the tables are not the ones we made; and it leaves no
/// way to break a constraint in tables that are whole, the hidden ones of the search index included. And all our values are
/// small, so one that is too large for memory is a length that was overwritten.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{
        FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, QueryReturnedNoRows, Utf8Error,
    };
    use rusqlite::ffi;
    match error {
        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..) => true,
        // where a row may be missing we ask for an optional one; this one is named by another table
        QueryReturnedNoRows => true,
        other => other.sqlite_error().is_some_and(|cause| {
            [
                ffi::SQLITE_CORRUPT,
                ffi::SQLITE_NOTADB,
                ffi::SQLITE_ERROR,
                ffi::SQLITE_CONSTRAINT,
                ffi::SQLITE_NOMEM,
                ffi::SQLITE_TOOBIG,
            ]
            .contains(&(cause.extended_code & 0xff))
        }),
    }
}
