//! One SQLite file: how it is opened, who may write, and which errors are damage.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction};

use crate::error::{Error, is_damage};
use crate::migrate;
use crate::readers::Readers;

/// 3.51.3: older ones can damage a WAL database when two connections write and checkpoint at once.
const OLDEST_SQLITE: i32 = 3_051_003;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const READERS: usize = 4;
/// How many steps of SQLite's machine pass between two looks at the clock.
const STEPS_PER_LOOK: i32 = 200;

/// The version of SQLite in this program, for reports.
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}

/// How much a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// A power cut may lose the last commits, never the file.
    Derived,
    /// A commit that returned is on the disk.
    Truth,
}

/// When SQLite looks for damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// While it is opened, which takes a second for some hundred megabytes.
    Now,
    /// By [`quick_check`], later; the opening sees damage of the first pages alone.
    Later,
}

/// One database file: a writer and some readers, all of them blocking.
#[derive(Debug)]
pub(crate) struct Database {
    path: PathBuf,
    durability: Durability,
    /// Damage was met.
    damaged: AtomicBool,
    /// Another file has taken its place.
    retired: AtomicBool,
    // Declared before the writer, so that the writer is closed last and checkpoints.
    readers: Readers,
    writer: Mutex<Connection>,
}

impl Database {
    /// Opens or makes the file and brings it to the newest layout. The flag says whether it was new.
    pub(crate) fn open(
        path: &Path,
        steps: &[&str],
        durability: Durability,
        when: Check,
    ) -> Result<(Self, bool), Error> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(Error::OldSqlite {
                version: rusqlite::version(),
            });
        }
        refuse_newer_header(path, migrate::count(steps))?;
        let failed = |doing| move |source| wrap(path, doing, source);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut writer = Connection::open_with_flags(path, flags).map_err(failed("open the database"))?;
        let found = look_at_layout(&writer).map_err(failed("read the layout"))?;
        if found > migrate::count(steps) {
            return Err(newer(path, found, migrate::count(steps)));
        }
        guard(&writer).map_err(failed("set up the connection"))?;
        if when == Check::Now {
            check(&writer, "quick_check", path)?;
        }
        settle(&writer, durability).map_err(failed("set up the connection"))?;
        migrate::migrate(&mut writer, steps).map_err(failed("bring the layout up to date"))?;
        let readers = (0..READERS)
            .map(|_| open_reader(path))
            .collect::<rusqlite::Result<Vec<_>>>()
            .map_err(failed("open a reader"))?;
        Ok((Self::of(path, durability, readers, writer), found == 0))
    }

    /// Opens a file for reading alone, perhaps beside the process that writes it; nothing is checked or brought up to date.
    pub(crate) fn open_read_only(path: &Path, steps: &[&str]) -> Result<Self, Error> {
        refuse_newer_header(path, migrate::count(steps))?;
        let failed = |source| wrap(path, "open the database", source);
        let open = || open_reader(path).map_err(failed);
        let first = open()?;
        let found = migrate::layout(&first).map_err(failed)?;
        if found > migrate::count(steps) {
            return Err(newer(path, found, migrate::count(steps)));
        }
        // Nothing is derived for a reader: it writes no mark beside the file.
        Ok(Self::of(path, Durability::Truth, vec![first], open()?))
    }

    fn of(path: &Path, durability: Durability, readers: Vec<Connection>, writer: Connection) -> Self {
        Self {
            path: path.to_owned(),
            durability,
            damaged: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            readers: Readers::new(readers),
            writer: Mutex::new(writer),
        }
    }

    /// Runs `work` on one state of the database.
    pub(crate) fn read<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let mut reader = self.readers.take();
        in_snapshot(&mut reader, work).map_err(|source| self.failed(doing, source))
    }

    /// Like [`Database::read`], but SQLite is interrupted when `limit` has passed: `None`.
    pub(crate) fn read_within<T>(
        &self,
        limit: Duration,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, Error> {
        let mut reader = self.readers.take();
        let began = Instant::now();
        let outcome = reader
            .progress_handler(STEPS_PER_LOOK, Some(move || began.elapsed() > limit))
            .and_then(|()| in_snapshot(&mut reader, work));
        let cleared = reader.progress_handler(0, None::<fn() -> bool>);
        match outcome.and_then(|found| cleared.map(|()| found)) {
            Ok(found) => Ok(Some(found)),
            Err(source) if source.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) => Ok(None),
            Err(source) => Err(self.failed(doing, source)),
        }
    }

    /// Runs `work` in one transaction that is committed if it succeeds.
    pub(crate) fn write<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let mut writer = self.writer();
        let run = || {
            let transaction = writer.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        run().map_err(|source| self.failed(doing, source))
    }

    /// SQLite's full check of the file, its indexes and its search tables.
    pub(crate) fn integrity_check(&self) -> Result<(), Error> {
        let checked = check(&self.writer(), "integrity_check", &self.path);
        if matches!(checked, Err(Error::Corrupt { .. })) {
            self.remember_damage();
        }
        checked
    }

    /// Looks through the whole file on a connection of its own, beside all others.
    pub(crate) fn quick_check(&self) -> Result<(), Error> {
        let connection = open_reader(&self.path).map_err(|source| self.failed("open a reader", source))?;
        check(&connection, "quick_check", &self.path).inspect_err(|error| {
            if matches!(error, Error::Corrupt { .. }) {
                self.remember_damage();
            }
        })
    }

    /// Whether damage was met.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// From now on it speaks for itself alone: its damage is not that of the file that takes its name, and its end leaves
    /// that file's log in peace.
    pub(crate) fn retire(&self) -> Result<(), Error> {
        self.retired.store(true, Ordering::Relaxed);
        self.writer()
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .map(drop)
            .map_err(|source| wrap(&self.path, "retire the database", source))
    }

    /// Moves what the WAL holds into the file and empties it, as far as readers allow.
    pub(crate) fn checkpoint(&self) -> Result<(), Error> {
        self.writer()
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(|source| self.failed("checkpoint", source))
    }

    /// A panic while the lock was held has rolled its transaction back, so a poisoned lock is as good as any.
    fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, doing: &'static str, source: rusqlite::Error) -> Error {
        let error = wrap(&self.path, doing, source);
        if matches!(error, Error::Corrupt { .. }) {
            self.remember_damage();
        }
        error
    }

    /// Damage that a later quick check may not see is written down beside a derived file.
    fn remember_damage(&self) {
        self.damaged.store(true, Ordering::Relaxed);
        if self.durability == Durability::Derived
            && !self.retired.load(Ordering::Relaxed)
            && let Err(cause) = File::create(damage_mark(&self.path))
        {
            log::error!("cannot note that {} is damaged: {cause}", self.path.display());
        }
    }
}

/// The file whose presence says that damage was met since the last start.
pub(crate) fn damage_mark(path: &Path) -> PathBuf {
    with_suffix(path, ".damaged")
}

/// `path` with `suffix` behind its last part.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Tells damage from everything else.
fn wrap(path: &Path, doing: &'static str, source: rusqlite::Error) -> Error {
    if is_damage(&source) {
        Error::Corrupt {
            path: path.to_owned(),
            why: format!("could not {doing}: {source}"),
        }
    } else {
        Error::Sqlite {
            path: path.to_owned(),
            doing,
            source,
        }
    }
}

fn newer(path: &Path, found: i64, known: i64) -> Error {
    Error::Newer {
        path: path.to_owned(),
        found,
        known,
    }
}

/// Refuses a newer file by its header alone, before SQLite can write a byte or make a file beside it.
fn refuse_newer_header(path: &Path, known: i64) -> Result<(), Error> {
    let mut header = [0; 64];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    if read.is_err() || !header.starts_with(b"SQLite format 3\0") {
        return Ok(());
    }
    let [.., a, b, c, d] = header;
    let found = i64::from(i32::from_be_bytes([a, b, c, d]));
    if found > known {
        Err(newer(path, found, known))
    } else {
        Ok(())
    }
}

/// The layout, WAL included. Should it turn out newer, or the file damaged, closing the connection must not move the WAL
/// into the file.
fn look_at_layout(connection: &Connection) -> rusqlite::Result<i64> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    migrate::layout(connection)
}

fn settle(writer: &Connection, durability: Durability) -> rusqlite::Result<()> {
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    writer.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    let synchronous = match durability {
        Durability::Derived => "NORMAL",
        Durability::Truth => "FULL",
    };
    writer.pragma_update(None, "synchronous", synchronous)
}

fn guard(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let reader = Connection::open_with_flags(path, flags)?;
    guard(&reader)?;
    Ok(reader)
}

fn check(connection: &Connection, pragma: &'static str, path: &Path) -> Result<(), Error> {
    let verdict: String = connection
        .query_row(&format!("PRAGMA {pragma}(1)"), [], |row| row.get(0))
        .map_err(|source| wrap(path, "check the database", source))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(Error::Corrupt {
        path: path.to_owned(),
        why: verdict,
    })
}

fn in_snapshot<T>(
    reader: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = reader.transaction()?;
    let found = work(&transaction)?;
    transaction.commit()?;
    Ok(found)
}

#[cfg(test)]
mod tests;
