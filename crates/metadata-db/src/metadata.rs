//! `mirror.db`: opening it, and beginning anew when it is damaged.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::database::{Database, Durability};
use crate::error::Error;
use crate::migrate;
use crate::renewable::Renewable;

/// `mirror.db`: everything that can be derived again from the kept files and the index, and statistics.
///
/// All methods block; call them where blocking is allowed.
#[derive(Debug)]
pub struct MetadataDb {
    file: Renewable,
}

/// A database and what was found when it was opened.
#[derive(Debug)]
pub struct Opened<T> {
    /// The database, ready for use.
    pub db: T,
    /// What was on the disk before.
    pub state: OpenState,
}

/// What was on the disk when a database was opened. After anything but `Existing` the caller fills it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenState {
    /// Nothing, or an empty file.
    Fresh,
    /// A sound database.
    Existing,
    /// A damaged database, which was moved aside with its WAL.
    Replaced {
        /// Where the damaged file is now.
        moved_to: PathBuf,
        /// What was wrong with it.
        why: String,
    },
}

impl MetadataDb {
    /// Opens or makes the database at `path`. One that shows damage at once is moved to `<path>.corrupt-<unix seconds>` and a
    /// new one begun; one written by a newer mirror is [`Error::Newer`] and left as it is. [`check`](Self::check) looks further.
    pub fn open(path: &Path) -> Result<Opened<Self>, Error> {
        let (file, state) = Renewable::open(path, migrate::MIRROR, Durability::Derived)?;
        Ok(Opened {
            db: Self { file },
            state,
        })
    }

    /// Opens an existing database for reading alone, beside a server that writes it or without one. Nothing is checked,
    /// replaced or brought up to date, and every method that writes fails.
    pub fn open_read_only(path: &Path) -> Result<Self, Error> {
        let file = Renewable::open_read_only(path, migrate::MIRROR)?;
        Ok(Self { file })
    }

    pub(crate) fn database(&self) -> Arc<Database> {
        self.file.current()
    }

    /// Looks through the whole file for damage, beside everything else: some hundred megabytes a second.
    pub fn check(&self) -> Result<(), Error> {
        self.database().quick_check()
    }

    /// Begins anew if damage was met since the file was opened, by [`check`](Self::check) or in use: the damaged file is moved
    /// aside as at an opening, and whoever uses this database goes on with an empty one. The caller fills it again.
    pub fn renew_if_damaged(&self) -> Result<Option<OpenState>, Error> {
        self.file.renew_if_damaged()
    }

    /// Whether it is damaged and was so again and again, so that it is left as it is until the next start.
    pub fn is_given_up(&self) -> bool {
        self.file.is_given_up()
    }

    /// SQLite's full check of the file, its indexes and its search tables; [`Error::Corrupt`] says what is wrong. Slow on a
    /// large file, and nothing is written meanwhile.
    pub fn integrity_check(&self) -> Result<(), Error> {
        self.database().integrity_check()
    }

    /// Moves what the write-ahead log holds into the file and empties it, as far as readers allow.
    pub fn checkpoint(&self) -> Result<(), Error> {
        self.database().checkpoint()
    }
}

#[cfg(test)]
pub(crate) mod tests;
