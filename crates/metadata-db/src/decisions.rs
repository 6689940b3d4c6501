//! `decisions.db`: removals, holds and what the operator decided.

use std::fs;
use std::path::Path;

use registry::{Checksum, Decision, Decisions, IndexPath};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Row, Transaction};

use crate::columns::{parsed, unsigned};
use crate::database::{Check, Database, Durability, with_suffix};
use crate::error::Error;
use crate::migrate;

/// Why a version is not published simply as upstream has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DecisionKind {
    /// Upstream removed it; it is not published.
    Removed,
    /// Upstream changed its checksum; the old line is in force, the new one waits for the operator.
    HeldChecksum,
    /// It went with too many others at once; its line stays in force until the operator decides.
    HeldRemoval,
    /// Upstream removed it and the operator keeps serving it.
    Kept,
    /// The operator took upstream's word; what upstream has is published.
    Accepted,
}

impl DecisionKind {
    const ALL: [Self; 5] = [
        Self::Removed,
        Self::HeldChecksum,
        Self::HeldRemoval,
        Self::Kept,
        Self::Accepted,
    ];

    /// The word it is stored and shown as.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::HeldChecksum => "held-checksum",
            Self::HeldRemoval => "held-removal",
            Self::Kept => "kept",
            Self::Accepted => "accepted",
        }
    }
}

impl ToSql for DecisionKind {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for DecisionKind {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let word = value.as_str()?;
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == word);
        known.ok_or(FromSqlError::InvalidType)
    }
}

/// What was decided about one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionRow {
    /// The version's text as the index line has it.
    pub vers: String,
    /// What was decided.
    pub kind: DecisionKind,
    /// The whole crate went from upstream, and not this version alone.
    pub whole_crate: bool,
    /// The line in force, or the last one known; without the newline.
    pub line: Vec<u8>,
    /// Upstream's new line, where one is held.
    pub held_line: Option<Vec<u8>>,
    /// The checksum in `line`.
    pub checksum: Checksum,
    /// The checksum in `held_line`.
    pub new_checksum: Option<Checksum>,
    /// When, in Unix seconds.
    pub decided_at: i64,
}

/// What `published_lines` makes of these rows: removed versions are left out, held and kept ones stay as they are.
pub fn to_registry(rows: &[DecisionRow]) -> Decisions {
    let decision = |row: &DecisionRow| match row.kind {
        DecisionKind::Removed => Some(Decision::Omit),
        DecisionKind::HeldChecksum | DecisionKind::HeldRemoval | DecisionKind::Kept => {
            Some(Decision::Keep(row.line.clone()))
        }
        DecisionKind::Accepted => None,
    };
    rows.iter()
        .filter_map(|row| Some((row.vers.clone(), decision(row)?)))
        .collect()
}

/// `decisions.db`: what nobody can derive again, so every commit waits for the disk and a damaged file is an error.
///
/// All methods block; call them where blocking is allowed.
#[derive(Debug)]
pub struct DecisionsDb {
    pub(crate) database: Database,
}

const COLUMNS: &str = "vers, kind, whole_crate, line, held_line, checksum, new_checksum, decided_at, path";

impl DecisionsDb {
    /// Opens or makes the database at `path`. A damaged one is [`Error::Corrupt`], also when its write-ahead log is
    /// there and the file itself is gone; one written by a newer mirror is [`Error::Newer`]. Either is left as it is.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let size_bytes = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        // SQLite would delete the log, and with it decisions.
        if size_bytes(path) == 0 && size_bytes(&with_suffix(path, "-wal")) > 0 {
            return Err(Error::Corrupt {
                path: path.to_owned(),
                why: "the file is gone or empty, but its write-ahead log is not".to_owned(),
            });
        }
        let (database, _) = Database::open(path, migrate::DECISIONS, Durability::Truth, Check::Now)?;
        Ok(Self { database })
    }

    /// What was decided about the versions in the index file at `path`, by version text.
    pub fn decisions_for(&self, path: &IndexPath) -> Result<Vec<DecisionRow>, Error> {
        self.database.read("read decisions", |snapshot| {
            snapshot
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM decisions WHERE path = ?1 ORDER BY vers"
                ))?
                .query_map([path.as_str()], decision_row)?
                .collect()
        })
    }

    /// Writes one decision in place of the one about that version.
    pub fn put(&self, path: &IndexPath, row: &DecisionRow) -> Result<(), Error> {
        self.put_all(path, std::slice::from_ref(row), &[])
    }

    /// Writes `rows` and deletes the decisions about the versions in `remove`, in one transaction. A version in both
    /// ends as in `rows`.
    pub fn put_all(&self, path: &IndexPath, rows: &[DecisionRow], remove: &[String]) -> Result<(), Error> {
        self.database.write("write decisions", |transaction| {
            for vers in remove {
                delete_row(transaction, path, vers)?;
            }
            rows.iter().try_for_each(|row| put_row(transaction, path, row))
        })
    }

    /// Deletes the decision about one version; says whether there was one.
    pub fn delete(&self, path: &IndexPath, vers: &str) -> Result<bool, Error> {
        self.database
            .write("delete a decision", |transaction| delete_row(transaction, path, vers))
    }

    /// All decisions, by index path and version text.
    pub fn all(&self) -> Result<Vec<(IndexPath, DecisionRow)>, Error> {
        self.listed(None)
    }

    /// The decisions of one kind, by index path and version text.
    pub fn of_kind(&self, kind: DecisionKind) -> Result<Vec<(IndexPath, DecisionRow)>, Error> {
        self.listed(Some(kind))
    }

    fn listed(&self, kind: Option<DecisionKind>) -> Result<Vec<(IndexPath, DecisionRow)>, Error> {
        self.database.read("list decisions", |snapshot| {
            snapshot
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM decisions WHERE ?1 IS NULL OR kind = ?1 ORDER BY path, vers"
                ))?
                .query_map([kind], |row| Ok((parsed(row, 8)?, decision_row(row)?)))?
                .collect()
        })
    }

    /// How many whole crates were recorded as removed, or held because too many went, at `unix` seconds or later.
    pub fn removed_crates_since(&self, unix: i64) -> Result<u64, Error> {
        self.database.read("count removed crates", |snapshot| {
            snapshot
                .prepare_cached(
                    "SELECT count(DISTINCT path) FROM decisions
                     WHERE kind IN ('removed', 'held-removal') AND whole_crate AND decided_at >= ?1",
                )?
                .query_row([unix], |row| row.get(0).map(unsigned))
        })
    }

    /// SQLite's full check; [`Error::Corrupt`] says what is wrong.
    pub fn integrity_check(&self) -> Result<(), Error> {
        self.database.integrity_check()
    }

    /// Moves what the write-ahead log holds into the file and empties it, as far as readers allow.
    pub fn checkpoint(&self) -> Result<(), Error> {
        self.database.checkpoint()
    }
}

fn decision_row(row: &Row<'_>) -> rusqlite::Result<DecisionRow> {
    Ok(DecisionRow {
        vers: row.get(0)?,
        kind: row.get(1)?,
        whole_crate: row.get(2)?,
        line: row.get(3)?,
        held_line: row.get(4)?,
        checksum: Checksum::from_bytes(row.get(5)?),
        new_checksum: row.get::<_, Option<[u8; 32]>>(6)?.map(Checksum::from_bytes),
        decided_at: row.get(7)?,
    })
}

fn put_row(transaction: &Transaction<'_>, path: &IndexPath, row: &DecisionRow) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO decisions ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
        ))?
        .execute((
            &row.vers,
            row.kind,
            row.whole_crate,
            &row.line,
            &row.held_line,
            &row.checksum.as_bytes()[..],
            row.new_checksum.as_ref().map(|checksum| &checksum.as_bytes()[..]),
            row.decided_at,
            path.as_str(),
        ))?;
    Ok(())
}

fn delete_row(transaction: &Transaction<'_>, path: &IndexPath, vers: &str) -> rusqlite::Result<bool> {
    let deleted = transaction
        .prepare_cached("DELETE FROM decisions WHERE path = ?1 AND vers = ?2")?
        .execute((path.as_str(), vers))?;
    Ok(deleted > 0)
}

#[cfg(test)]
pub(crate) mod tests;
