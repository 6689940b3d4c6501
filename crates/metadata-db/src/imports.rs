//! What came across the air gap: the log of imports, which is only added to, and what each site has brought.

use std::collections::HashSet;

use registry::{Checksum, IndexPath};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, Row, Transaction};

use crate::columns::{parsed, signed, unsigned};
use crate::{DecisionKind, DecisionsDb, Error};

/// Loose files come from no site.
const NO_SITE: i64 = 0;

/// What an import came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImportResult {
    /// All of a bundle is here and published.
    Imported,
    /// A part of a bundle is here, and others are missing yet.
    Part,
    /// Nothing of it was taken.
    Refused,
    /// It was imported before.
    Unchanged,
    /// Loose crate files were taken.
    Files,
}

impl ImportResult {
    const ALL: [Self; 5] = [Self::Imported, Self::Part, Self::Refused, Self::Unchanged, Self::Files];

    /// The word it is stored and shown as.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Imported => "imported",
            Self::Part => "part",
            Self::Refused => "refused",
            Self::Unchanged => "unchanged",
            Self::Files => "files",
        }
    }
}

impl ToSql for ImportResult {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for ImportResult {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let word = value.as_str()?;
        let known = Self::ALL.into_iter().find(|result| result.as_str() == word);
        known.ok_or(FromSqlError::InvalidType)
    }
}

/// Which bundle an import was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedBundle {
    /// Its id: 32 hexadecimal digits.
    pub id: String,
    /// The mirror that it comes from: as many.
    pub site: String,
    /// Its place in the row of that mirror's exports.
    pub serial: u64,
    /// Which part it was, from 1.
    pub part: u32,
    /// Of how many.
    pub parts: u32,
}

/// What an import changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportCounts {
    /// Crate files that were taken.
    pub crate_files: u64,
    /// Their bytes.
    pub crate_bytes: u64,
    /// Versions that the index has since.
    pub new_versions: u64,
    /// Versions that are yanked since.
    pub yanked: u64,
    /// Versions that the index no longer has.
    pub removed: u64,
    /// Versions with another checksum since.
    pub changed: u64,
}

/// One row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRow {
    /// When, in Unix seconds.
    pub at: i64,
    /// The bundle, as far as it could be read; loose files have none.
    pub bundle: Option<ImportedBundle>,
    /// The key it was signed with, if it was.
    pub key_id: Option<String>,
    /// The user who gave the command.
    pub who: String,
    /// What came of it.
    pub result: ImportResult,
    /// Why, where that needs saying.
    pub why: Option<String>,
    /// What it changed.
    pub counts: ImportCounts,
}

/// What a site outside decided about one version, as its bundles say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteDecision {
    /// The index file.
    pub path: IndexPath,
    /// The version's text.
    pub vers: String,
    /// What was decided.
    pub kind: DecisionKind,
    /// The whole crate went, and not this version alone.
    pub whole_crate: bool,
    /// When, in Unix seconds.
    pub decided_at: i64,
    /// The checksum in force there.
    pub checksum: Option<Checksum>,
    /// Upstream's new one.
    pub new_checksum: Option<Checksum>,
}

/// A bundle of which everything is published: what remains to be written down.
#[derive(Debug, Clone)]
pub struct EndedImport<'a> {
    /// For the log.
    pub row: &'a ImportRow,
    /// All decisions of the site, in place of those before; `None` if the bundle says nothing of the index.
    pub decisions: Option<&'a [SiteDecision]>,
}

/// A mirror outside, and how far its bundles were imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its id.
    pub id: String,
    /// The bundle that was imported last.
    pub last_bundle: String,
    /// That one's serial.
    pub last_serial: u64,
    /// When, in Unix seconds.
    pub imported_at: i64,
}

const COLUMNS: &str = "logged_at, bundle, site, serial, part, parts, key_id, who, result, why, crate_files, crate_bytes, \
     new_versions, yanked, removed, changed";

impl DecisionsDb {
    /// Adds a row to the log of imports.
    pub fn log_import(&self, row: &ImportRow) -> Result<(), Error> {
        self.database
            .write("log an import", |transaction| insert_row(transaction, row))
    }

    /// Writes down, in one transaction, that a bundle was imported: its row in the log, how far its site has come, its crate
    /// files and the site's decisions. All of it or nothing.
    ///
    /// # Panics
    /// If the row names no bundle.
    pub fn end_import(&self, ended: &EndedImport<'_>, files: impl IntoIterator<Item = Checksum>) -> Result<(), Error> {
        let bundle = ended.row.bundle.as_ref().expect("what was imported is a bundle");
        self.database.write("end an import", |transaction| {
            insert_row(transaction, ended.row)?;
            let site: i64 = transaction.query_row(
                "INSERT INTO sites (site, last_bundle, last_serial, imported_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (site) DO UPDATE SET last_bundle = excluded.last_bundle,
                     last_serial = excluded.last_serial, imported_at = excluded.imported_at
                 RETURNING id",
                (&bundle.site, &bundle.id, signed(bundle.serial), ended.row.at),
                |row| row.get(0),
            )?;
            insert_files(transaction, site, files)?;
            match ended.decisions {
                Some(decisions) => replace_decisions(transaction, site, decisions),
                None => Ok(()),
            }
        })
    }

    /// Writes down that loose crate files were taken, in one transaction.
    pub fn end_import_of_files(&self, row: &ImportRow, files: impl IntoIterator<Item = Checksum>) -> Result<(), Error> {
        self.database.write("end an import of files", |transaction| {
            insert_row(transaction, row)?;
            insert_files(transaction, NO_SITE, files)
        })
    }

    /// Whether a bundle was imported, all of it.
    pub fn was_imported(&self, bundle: &str) -> Result<bool, Error> {
        self.database.read("look up an import", |snapshot| {
            snapshot
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM imports WHERE bundle = ?1 AND result = 'imported')")?
                .query_row([bundle], |row| row.get(0))
        })
    }

    /// The last `limit` rows of the log, the latest first.
    pub fn latest_imports(&self, limit: u32) -> Result<Vec<ImportRow>, Error> {
        self.database.read("read the log of imports", |snapshot| {
            snapshot
                .prepare_cached(&format!("SELECT {COLUMNS} FROM imports ORDER BY id DESC LIMIT ?1"))?
                .query_map([limit], import_row)?
                .collect()
        })
    }

    /// Goes through the whole log, the oldest row first.
    pub fn for_each_import(&self, mut each: impl FnMut(ImportRow)) -> Result<(), Error> {
        self.database.read("read the log of imports", |snapshot| {
            let mut statement = snapshot.prepare_cached(&format!("SELECT {COLUMNS} FROM imports ORDER BY id"))?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                each(import_row(row)?);
            }
            Ok(())
        })
    }

    /// How many rows of the log have each result; those that none has are left out.
    pub fn import_counts(&self) -> Result<Vec<(ImportResult, u64)>, Error> {
        self.database.read("count imports", |snapshot| {
            snapshot
                .prepare_cached("SELECT result, count(*) FROM imports GROUP BY result ORDER BY result")?
                .query_map([], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?
                .collect()
        })
    }

    /// The sites of which something was imported, the latest first.
    pub fn sites(&self) -> Result<Vec<Site>, Error> {
        self.database.read("list the sites", |snapshot| {
            snapshot
                .prepare_cached(
                    "SELECT site, last_bundle, last_serial, imported_at FROM sites ORDER BY imported_at DESC, site",
                )?
                .query_map([], site_row)?
                .collect()
        })
    }

    /// One of them.
    pub fn site(&self, id: &str) -> Result<Option<Site>, Error> {
        self.database.read("look up a site", |snapshot| {
            snapshot
                .prepare_cached("SELECT site, last_bundle, last_serial, imported_at FROM sites WHERE site = ?1")?
                .query_row([id], site_row)
                .optional()
        })
    }

    /// All crate files that came by bundles of a site, sorted: 32 bytes of memory for each.
    pub fn site_files(&self, site: &str) -> Result<Vec<Checksum>, Error> {
        self.database.read("list the files of a site", |snapshot| {
            snapshot
                .prepare_cached(
                    "SELECT checksum FROM import_files WHERE site_id = (SELECT id FROM sites WHERE site = ?1)
                     ORDER BY checksum",
                )?
                .query_map([site], |row| Ok(Checksum::from_bytes(row.get(0)?)))?
                .collect()
        })
    }

    /// The serials of all bundles of a site that were imported, ascending, each once.
    pub fn imported_serials(&self, site: &str) -> Result<Vec<u64>, Error> {
        self.database.read("list imported serials", |snapshot| {
            snapshot
                .prepare_cached(
                    "SELECT DISTINCT serial FROM imports WHERE site = ?1 AND result = 'imported' ORDER BY serial",
                )?
                .query_map([site], |row| Ok(unsigned(row.get(0)?)))?
                .collect()
        })
    }

    /// Whether a crate file came by an import, from any site or loose.
    pub fn is_imported(&self, checksum: &Checksum) -> Result<bool, Error> {
        self.database.read("look up an imported file", |snapshot| {
            snapshot
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM import_files WHERE checksum = ?1)")?
                .query_row([&checksum.as_bytes()[..]], |row| row.get(0))
        })
    }

    /// The checksums of all crate files that came by an import, from any site or loose.
    pub fn imported_checksums(&self) -> Result<HashSet<Checksum>, Error> {
        self.database.read("list the imported files", |snapshot| {
            snapshot
                .prepare_cached("SELECT DISTINCT checksum FROM import_files")?
                .query_map([], |row| Ok(Checksum::from_bytes(row.get(0)?)))?
                .collect()
        })
    }

    /// What the sites decided, with the site's id: by index path, version text and site.
    pub fn site_decisions(&self) -> Result<Vec<(String, SiteDecision)>, Error> {
        self.database.read("list what sites decided", |snapshot| {
            snapshot
                .prepare_cached(
                    "SELECT s.site, d.path, d.vers, d.kind, d.whole_crate, d.decided_at, d.checksum, d.new_checksum
                     FROM site_decisions d JOIN sites s ON s.id = d.site_id ORDER BY d.path, d.vers, s.site",
                )?
                .query_map([], |row| Ok((row.get(0)?, decision_row(row)?)))?
                .collect()
        })
    }
}

fn insert_row(transaction: &Transaction<'_>, row: &ImportRow) -> rusqlite::Result<()> {
    let (bundle, counts) = (row.bundle.as_ref(), &row.counts);
    transaction
        .prepare_cached(&format!(
            "INSERT INTO imports ({COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
        ))?
        .execute(rusqlite::params![
            row.at,
            bundle.map(|bundle| &bundle.id),
            bundle.map(|bundle| &bundle.site),
            bundle.map(|bundle| signed(bundle.serial)),
            bundle.map(|bundle| bundle.part),
            bundle.map(|bundle| bundle.parts),
            row.key_id,
            row.who,
            row.result,
            row.why,
            signed(counts.crate_files),
            signed(counts.crate_bytes),
            signed(counts.new_versions),
            signed(counts.yanked),
            signed(counts.removed),
            signed(counts.changed),
        ])?;
    Ok(())
}

fn insert_files(
    transaction: &Transaction<'_>,
    site: i64,
    files: impl IntoIterator<Item = Checksum>,
) -> rusqlite::Result<()> {
    let mut insert =
        transaction.prepare_cached("INSERT OR IGNORE INTO import_files (site_id, checksum) VALUES (?1, ?2)")?;
    for checksum in files {
        insert.execute((site, &checksum.as_bytes()[..]))?;
    }
    Ok(())
}

fn replace_decisions(transaction: &Transaction<'_>, site: i64, decisions: &[SiteDecision]) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM site_decisions WHERE site_id = ?1", [site])?;
    let mut insert = transaction.prepare_cached(
        "INSERT OR REPLACE INTO site_decisions (site_id, path, vers, kind, whole_crate, decided_at, checksum, new_checksum)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for decision in decisions {
        insert.execute((
            site,
            decision.path.as_str(),
            &decision.vers,
            decision.kind,
            decision.whole_crate,
            decision.decided_at,
            decision.checksum.as_ref().map(|checksum| &checksum.as_bytes()[..]),
            decision.new_checksum.as_ref().map(|checksum| &checksum.as_bytes()[..]),
        ))?;
    }
    Ok(())
}

fn import_row(row: &Row<'_>) -> rusqlite::Result<ImportRow> {
    let bundle = match row.get::<_, Option<String>>(1)? {
        None => None,
        Some(id) => Some(ImportedBundle {
            id,
            site: row.get(2)?,
            serial: unsigned(row.get(3)?),
            part: row.get(4)?,
            parts: row.get(5)?,
        }),
    };
    Ok(ImportRow {
        at: row.get(0)?,
        bundle,
        key_id: row.get(6)?,
        who: row.get(7)?,
        result: row.get(8)?,
        why: row.get(9)?,
        counts: ImportCounts {
            crate_files: unsigned(row.get(10)?),
            crate_bytes: unsigned(row.get(11)?),
            new_versions: unsigned(row.get(12)?),
            yanked: unsigned(row.get(13)?),
            removed: unsigned(row.get(14)?),
            changed: unsigned(row.get(15)?),
        },
    })
}

fn site_row(row: &Row<'_>) -> rusqlite::Result<Site> {
    Ok(Site {
        id: row.get(0)?,
        last_bundle: row.get(1)?,
        last_serial: unsigned(row.get(2)?),
        imported_at: row.get(3)?,
    })
}

/// Behind the site's id.
fn decision_row(row: &Row<'_>) -> rusqlite::Result<SiteDecision> {
    let checksum = |column| {
        row.get::<_, Option<[u8; 32]>>(column)
            .map(|bytes| bytes.map(Checksum::from_bytes))
    };
    Ok(SiteDecision {
        path: parsed(row, 1)?,
        vers: row.get(2)?,
        kind: row.get(3)?,
        whole_crate: row.get(4)?,
        decided_at: row.get(5)?,
        checksum: checksum(6)?,
        new_checksum: checksum(7)?,
    })
}

#[cfg(test)]
mod tests;
