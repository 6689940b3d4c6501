//! Which crate files are kept.

use std::collections::HashSet;

use registry::{Checksum, CrateName, CrateVersion};
use rusqlite::{OptionalExtension, Row, Transaction};

use crate::columns::{parsed, unsigned};
use crate::record::{record, refresh_crate};
use crate::{Error, ManifestState, MetadataDb};

/// A crate file that was verified and is on the disk, with what was read out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    /// As the index line spells it.
    pub name: CrateName,
    /// As the index line writes it.
    pub version: CrateVersion,
    /// The SHA-256 it is stored by.
    pub checksum: Checksum,
    /// Its size.
    pub size_bytes: u64,
    /// When it was kept, in Unix seconds.
    pub kept_at: i64,
    /// From [`read_crate_file`](crate::read_crate_file).
    pub manifest: ManifestState,
}

/// What is known of a kept file without reading its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRow {
    /// As the index line spelled it.
    pub name: CrateName,
    /// As the index line wrote it.
    pub version: CrateVersion,
    /// The SHA-256 it is stored by.
    pub checksum: Checksum,
    /// Its size.
    pub size_bytes: u64,
    /// When it was kept, in Unix seconds.
    pub kept_at: i64,
    /// Why nothing could be read out of it, if so.
    pub unparsable: Option<String>,
    /// How often it was served; survives eviction.
    pub served_count: u64,
    /// When it was last served, in Unix seconds.
    pub last_served: Option<i64>,
}

/// The sum of everything kept; a file of size 0 is lost and is not in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Crate files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Crates with at least one kept file.
    pub crates: u64,
}

const ROWS: &str =
    "SELECT f.name, f.version, f.checksum, f.size_bytes, f.kept_at, f.unparsable, s.served_count, s.last_served, f.id
     FROM kept_files f LEFT JOIN served s ON s.checksum = f.checksum";

const RECENT_ROWS: &str = "SELECT f.name, f.version, f.checksum, f.size_bytes, f.kept_at, f.unparsable, s.served_count, s.last_served, c.description
     FROM kept_files f JOIN crates c ON c.id = f.crate_id LEFT JOIN served s ON s.checksum = f.checksum";

impl MetadataDb {
    /// Records one kept file, in place of what was recorded for its name and version.
    pub fn record_kept(&self, file: &KeptFile) -> Result<(), Error> {
        self.record_kept_all(std::slice::from_ref(file))
    }

    /// Records many kept files in one transaction; for rebuilding.
    pub fn record_kept_all(&self, files: &[KeptFile]) -> Result<(), Error> {
        self.database().write("record a kept file", |transaction| {
            files.iter().try_for_each(|file| record(transaction, file))
        })
    }

    /// Forgets every version kept under this checksum, for a file that is gone. How often it was served stays.
    /// Says whether there was one.
    pub fn forget_kept(&self, checksum: &Checksum) -> Result<bool, Error> {
        self.database().write("forget a kept file", |transaction| {
            let crates: Vec<i64> = transaction
                .prepare_cached("DELETE FROM kept_files WHERE checksum = ?1 RETURNING crate_id")?
                .query_map([&checksum.as_bytes()[..]], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for id in &crates {
                refresh_crate(transaction, *id, None)?;
            }
            Ok(!crates.is_empty())
        })
    }

    /// The kept versions of a crate, highest first, by its name in any case and with `-` or `_`.
    pub fn kept_versions(&self, name: &CrateName) -> Result<Vec<KeptRow>, Error> {
        self.database().read("list the kept versions", |snapshot| {
            versions_of(snapshot, name).map(rows_only)
        })
    }

    /// One kept version, by its exact text and the crate's name in any spelling.
    pub fn kept_file(&self, name: &CrateName, version: &CrateVersion) -> Result<Option<KeptRow>, Error> {
        self.database().read("find a kept file", |snapshot| {
            Ok(find_version(snapshot, name, version)?.map(|(row, _)| row))
        })
    }

    /// The checksums of all kept files.
    pub fn kept_checksums(&self) -> Result<HashSet<Checksum>, Error> {
        self.database().read("list the kept files", |snapshot| {
            snapshot
                .prepare_cached("SELECT checksum FROM kept_files")?
                .query_map([], |row| Ok(Checksum::from_bytes(row.get(0)?)))?
                .collect()
        })
    }

    /// Calls `visit` with every kept file, by name and in no order of versions. It must not call this database.
    pub fn for_each_kept(&self, mut visit: impl FnMut(KeptRow)) -> Result<(), Error> {
        self.database().read("list the kept files", |snapshot| {
            let mut statement = snapshot.prepare_cached(&format!("{ROWS} ORDER BY f.crate_id, f.id"))?;
            let mut rows = statement.query([])?;
            while let Some(found) = rows.next()? {
                visit(row(found)?);
            }
            Ok(())
        })
    }

    /// The crates whose files were kept last, latest first, each with its description: at most `limit` of them.
    pub fn recently_kept(&self, limit: u32) -> Result<Vec<(KeptRow, Option<String>)>, Error> {
        self.database().read("list what was kept last", |snapshot| {
            snapshot
                .prepare_cached(&format!(
                    "{RECENT_ROWS} WHERE f.id IN (SELECT max(id) FROM kept_files GROUP BY crate_id)
                     ORDER BY f.kept_at DESC, f.id DESC LIMIT ?1"
                ))?
                .query_map([limit], |found| Ok((row(found)?, found.get(8)?)))?
                .collect()
        })
    }

    /// The checksums and sizes of the kept files whose checksum begins with the byte `folder`, as their place in `blobs/`
    /// does, by checksum.
    pub fn kept_in(&self, folder: u8) -> Result<Vec<(Checksum, u64)>, Error> {
        self.database().read("list a folder of kept files", |snapshot| {
            snapshot
                .prepare_cached(
                    "SELECT checksum, size_bytes FROM kept_files
                     WHERE checksum >= ?1 AND checksum <= ?2 ORDER BY checksum",
                )?
                .query_map((lowest(folder), highest(folder)), |row| {
                    Ok((Checksum::from_bytes(row.get(0)?), unsigned(row.get(1)?)))
                })?
                .collect()
        })
    }

    /// The kept files whose checksum begins with the byte `folder`, in no order.
    pub fn kept_rows_in(&self, folder: u8) -> Result<Vec<KeptRow>, Error> {
        self.database().read("list a folder of kept files", |snapshot| {
            snapshot
                .prepare_cached(&format!("{ROWS} WHERE f.checksum >= ?1 AND f.checksum <= ?2"))?
                .query_map((lowest(folder), highest(folder)), row)?
                .collect()
        })
    }

    /// What to give up first: kept files by when they were last used, which is the later of being kept and being served,
    /// and then by checksum, at most `limit` of those behind `after`. One that was kept at `younger_than_unix` or later is
    /// left out. Each call looks at all rows, whatever the limit.
    pub fn eviction_candidates(
        &self,
        after: Option<&KeptRow>,
        limit: u32,
        younger_than_unix: i64,
    ) -> Result<Vec<KeptRow>, Error> {
        let last_used = |row: &KeptRow| row.kept_at.max(row.last_served.unwrap_or(0));
        let used = after.map_or(i64::MIN, last_used);
        let checksum = after.map_or(&[][..], |row| row.checksum.as_bytes());
        self.database().read("list what was used least", |snapshot| {
            snapshot
                .prepare_cached(&format!(
                    "{ROWS} WHERE f.kept_at < ?2
                     AND (max(f.kept_at, coalesce(s.last_served, 0)), f.checksum) > (?3, ?4)
                     ORDER BY max(f.kept_at, coalesce(s.last_served, 0)), f.checksum LIMIT ?1"
                ))?
                .query_map((limit, younger_than_unix, used, checksum), row)?
                .collect()
        })
    }

    /// How much is kept; costs next to nothing.
    pub fn totals(&self) -> Result<Totals, Error> {
        self.database().read("read the totals", |snapshot| {
            snapshot
                .prepare_cached(
                    "SELECT (SELECT files FROM totals), (SELECT bytes FROM totals), (SELECT crates FROM totals)",
                )?
                .query_row([], |row| {
                    Ok(Totals {
                        files: unsigned(row.get(0)?),
                        bytes: unsigned(row.get(1)?),
                        crates: unsigned(row.get(2)?),
                    })
                })
        })
    }
}

fn lowest(folder: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = folder;
    bytes
}

fn highest(folder: u8) -> [u8; 32] {
    let mut bytes = [u8::MAX; 32];
    bytes[0] = folder;
    bytes
}

/// A kept file and its row id.
pub(crate) type Found = (KeptRow, i64);

pub(crate) fn rows_only(found: Vec<Found>) -> Vec<KeptRow> {
    found.into_iter().map(|(row, _)| row).collect()
}

/// The versions of a crate by descending precedence.
pub(crate) fn versions_of(snapshot: &Transaction<'_>, name: &CrateName) -> rusqlite::Result<Vec<Found>> {
    let mut found: Vec<Found> = snapshot
        .prepare_cached(&format!(
            "{ROWS} JOIN crates c ON c.id = f.crate_id WHERE c.canonical = ?1"
        ))?
        .query_map([name.canonical()], found_row)?
        .collect::<rusqlite::Result<_>>()?;
    found.sort_by(|(a, _), (b, _)| b.version.cmp(&a.version));
    Ok(found)
}

pub(crate) fn find_version(
    snapshot: &Transaction<'_>,
    name: &CrateName,
    version: &CrateVersion,
) -> rusqlite::Result<Option<Found>> {
    snapshot
        .prepare_cached(&format!(
            "{ROWS} JOIN crates c ON c.id = f.crate_id WHERE c.canonical = ?1 AND f.version = ?2"
        ))?
        .query_row((name.canonical(), version.as_str()), found_row)
        .optional()
}

fn found_row(found: &Row<'_>) -> rusqlite::Result<Found> {
    Ok((row(found)?, found.get(8)?))
}

fn row(row: &Row<'_>) -> rusqlite::Result<KeptRow> {
    Ok(KeptRow {
        name: parsed(row, 0)?,
        version: parsed(row, 1)?,
        checksum: Checksum::from_bytes(row.get(2)?),
        size_bytes: unsigned(row.get(3)?),
        kept_at: row.get(4)?,
        unparsable: row.get(5)?,
        served_count: unsigned(row.get::<_, Option<i64>>(6)?.unwrap_or(0)),
        last_served: row.get(7)?,
    })
}

#[cfg(test)]
mod tests;
