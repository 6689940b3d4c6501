//! `mirror.db`: opening it, and beginning anew when it is damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::database::{Database, Durability, damage_mark, with_suffix};
use crate::error::Error;
use crate::migrate;

/// `mirror.db`: everything that can be derived again from the kept files and the index, and statistics.
///
/// All methods block; call them where blocking is allowed.
#[derive(Debug)]
pub struct MetadataDb {
    pub(crate) database: Database,
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
    /// Opens or makes the database at `path`. A damaged one is moved to `<path>.corrupt-<unix seconds>` and a new one
    /// begun; one written by a newer mirror is [`Error::Newer`] and left as it is.
    pub fn open(path: &Path) -> Result<Opened<Self>, Error> {
        let mark = damage_mark(path);
        let first = if mark.exists() {
            Err(Error::Corrupt {
                path: path.to_owned(),
                why: "damage was met while it was last in use".to_owned(),
            })
        } else {
            open_database(path)
        };
        let why = match first {
            Ok((database, fresh)) => {
                let state = if fresh { OpenState::Fresh } else { OpenState::Existing };
                return Ok(opened(database, state));
            }
            Err(Error::Corrupt { why, .. }) => why,
            Err(other) => return Err(other),
        };
        let moved_to = move_aside(path)?;
        remove_if_there(&mark)?;
        log::error!("{} is damaged ({why}); moved to {}", path.display(), moved_to.display());
        let (database, _) = open_database(path)?;
        Ok(opened(database, OpenState::Replaced { moved_to, why }))
    }

    /// Opens an existing database for reading alone, beside a server that writes it or without one. Nothing is checked,
    /// replaced or brought up to date, and every method that writes fails.
    pub fn open_read_only(path: &Path) -> Result<Self, Error> {
        let database = Database::open_read_only(path, migrate::MIRROR)?;
        Ok(Self { database })
    }

    /// SQLite's full check of the file, its indexes and its search tables; [`Error::Corrupt`] says what is wrong. Slow on a
    /// large file.
    pub fn integrity_check(&self) -> Result<(), Error> {
        self.database.integrity_check()
    }

    /// Moves what the write-ahead log holds into the file and empties it, as far as readers allow.
    pub fn checkpoint(&self) -> Result<(), Error> {
        self.database.checkpoint()
    }
}

fn open_database(path: &Path) -> Result<(Database, bool), Error> {
    Database::open(path, migrate::MIRROR, Durability::Derived)
}

fn opened(database: Database, state: OpenState) -> Opened<MetadataDb> {
    Opened {
        db: MetadataDb { database },
        state,
    }
}

/// Renames the file and its companions, which keep their names behind the new one so that SQLite finds them.
fn move_aside(path: &Path) -> Result<PathBuf, Error> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs());
    let free = |seconds: &u64| !with_suffix(path, &format!(".corrupt-{seconds}")).exists();
    let stamp = (now..).find(free).expect("there are more seconds than files");
    let target = with_suffix(path, &format!(".corrupt-{stamp}"));
    for companion in ["-wal", "-shm", ""] {
        let (from, to) = (with_suffix(path, companion), with_suffix(&target, companion));
        match fs::rename(&from, to) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Io {
                    path: from,
                    doing: "move aside",
                    source,
                });
            }
            _ => {}
        }
    }
    Ok(target)
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::Io {
            path: path.to_owned(),
            doing: "remove",
            source,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
