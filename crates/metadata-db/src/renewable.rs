//! A database that is begun anew when it is damaged, also while it is in use.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::database::{Check, Database, Durability, damage_mark, with_suffix};
use crate::{Error, OpenState};

/// A disk that damages one file after the other must not be filled with them.
const MOST_RENEWALS: u32 = 3;

/// A database whose file may be replaced under those who use it.
#[derive(Debug)]
pub(crate) struct Renewable {
    path: PathBuf,
    steps: &'static [&'static str],
    durability: Durability,
    current: RwLock<Arc<Database>>,
    /// How often it was replaced since it was opened. Held by who replaces it.
    renewals: Mutex<u32>,
}

impl Renewable {
    /// Opens or makes the database at `path`; one that shows damage at once is moved aside and a new one begun.
    pub(crate) fn open(
        path: &Path,
        steps: &'static [&'static str],
        durability: Durability,
    ) -> Result<(Self, OpenState), Error> {
        let open = || Database::open(path, steps, durability, Check::Later);
        let first = if damage_mark(path).exists() {
            Err(Error::Corrupt {
                path: path.to_owned(),
                why: "damage was met while it was last in use".to_owned(),
            })
        } else {
            open()
        };
        let (database, state) = match first {
            Ok((database, true)) => (database, OpenState::Fresh),
            Ok((database, false)) => (database, OpenState::Existing),
            Err(Error::Corrupt { why, .. }) => {
                let moved_to = put_aside(path, &why)?;
                (open()?.0, OpenState::Replaced { moved_to, why })
            }
            Err(other) => return Err(other),
        };
        Ok((Self::of(path, steps, durability, database), state))
    }

    /// Opens an existing one for reading alone.
    pub(crate) fn open_read_only(path: &Path, steps: &'static [&'static str]) -> Result<Self, Error> {
        let database = Database::open_read_only(path, steps)?;
        Ok(Self::of(path, steps, Durability::Truth, database))
    }

    fn of(path: &Path, steps: &'static [&'static str], durability: Durability, database: Database) -> Self {
        Self {
            path: path.to_owned(),
            steps,
            durability,
            current: RwLock::new(Arc::new(database)),
            renewals: Mutex::new(0),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The database of this moment. Work on it ends in the file in which it began.
    pub(crate) fn current(&self) -> Arc<Database> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the file if damage was met in it: what was wrong, and where it is now. `None` if there is no need, or if it
    /// was done so often that the disk must be at fault.
    pub(crate) fn renew_if_damaged(&self) -> Result<Option<OpenState>, Error> {
        let mut renewals = self.renewals.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.current();
        if !old.is_damaged() || *renewals >= MOST_RENEWALS {
            return Ok(None);
        }
        let why = "damage was met in it".to_owned();
        old.retire()?;
        let moved_to = put_aside(&self.path, &why)?;
        let (fresh, _) = Database::open(&self.path, self.steps, self.durability, Check::Later)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        *renewals += 1;
        Ok(Some(OpenState::Replaced { moved_to, why }))
    }

    /// Whether it is damaged and stays so until the next start.
    pub(crate) fn is_given_up(&self) -> bool {
        let renewals = *self.renewals.lock().unwrap_or_else(PoisonError::into_inner);
        renewals >= MOST_RENEWALS && self.current().is_damaged()
    }
}

fn put_aside(path: &Path, why: &str) -> Result<PathBuf, Error> {
    let moved_to = move_aside(path)?;
    remove_if_there(&damage_mark(path))?;
    log::error!("{} is damaged ({why}); moved to {}", path.display(), moved_to.display());
    Ok(moved_to)
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
