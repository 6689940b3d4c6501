//! The ledger of exports: which bundles left this mirror, and what each of them brought.

use registry::Checksum;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, Row, Transaction};

use crate::columns::{signed, unsigned};
use crate::{DecisionsDb, Error};

/// An export that was begun and not finished for so long was abandoned.
const ABANDONED_AFTER_SECONDS: i64 = 7 * 24 * 3600;

/// How much of the index went with a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExportScope {
    /// All index files.
    Full,
    /// Those of the chosen crates.
    Selected,
}

impl ExportScope {
    /// The word it is stored and shown as.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Selected => "selected",
        }
    }
}

impl ToSql for ExportScope {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for ExportScope {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_str()? {
            "full" => Ok(Self::Full),
            "selected" => Ok(Self::Selected),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// An export that is about to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewExport {
    /// The bundle's id: 32 hexadecimal digits.
    pub id: String,
    /// The bundle that this one continues; without one it stands alone.
    pub parent: Option<String>,
    /// When, in Unix seconds.
    pub created_at: i64,
    /// How much of the index goes with it, if anything of it does.
    pub scope: Option<ExportScope>,
    /// The tree that the index of its receiver has come to, in hexadecimal digits.
    pub tree: Option<String>,
    /// Crate files in it.
    pub crate_files: u64,
    /// Their bytes.
    pub crate_bytes: u64,
}

/// An export that was finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Its place in the row of all exports from here; one that was abandoned leaves a gap.
    pub serial: u64,
    /// When the last of it was written, in Unix seconds.
    pub finished_at: i64,
    /// What was exported.
    pub export: NewExport,
}

const COLUMNS: &str = "e.serial, e.finished_at, e.bundle, p.bundle, e.created_at, e.scope, e.tree, e.crate_files, e.crate_bytes \
     FROM exports e LEFT JOIN exports p ON p.id = e.parent";

impl DecisionsDb {
    /// What this mirror is called in its bundles: 32 hexadecimal digits, made at random the first time and the same ever after.
    pub fn own_site(&self) -> Result<String, Error> {
        self.database.write("look up the own site", make_own_site)
    }

    /// Enters an export that is about to be written, with the crate files that it brings beyond its parent, and gives it the
    /// next serial, which is never given again. It counts for nothing before [`Self::finish_export`].
    /// `None`: its parent is no finished export from here.
    pub fn begin_export(
        &self,
        export: &NewExport,
        files: impl IntoIterator<Item = Checksum>,
    ) -> Result<Option<u64>, Error> {
        self.database.write("begin an export", |transaction| {
            make_own_site(transaction)?;
            let parent = match &export.parent {
                None => None,
                Some(parent) => match finished(transaction, parent)? {
                    Some(id) => Some(id),
                    None => return Ok(None),
                },
            };
            transaction.execute(
                "DELETE FROM exports WHERE finished_at IS NULL AND created_at < ?1",
                [export.created_at - ABANDONED_AFTER_SECONDS],
            )?;
            let serial: i64 = transaction.query_row(
                "UPDATE own_site SET last_serial = last_serial + 1 RETURNING last_serial",
                [],
                |row| row.get(0),
            )?;
            let id: i64 = transaction.query_row(
                "INSERT INTO exports (bundle, serial, parent, created_at, scope, tree, crate_files, crate_bytes)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING id",
                (
                    &export.id,
                    serial,
                    parent,
                    export.created_at,
                    export.scope,
                    &export.tree,
                    signed(export.crate_files),
                    signed(export.crate_bytes),
                ),
                |row| row.get(0),
            )?;
            let mut insert = transaction
                .prepare_cached("INSERT OR IGNORE INTO export_files (export_id, checksum) VALUES (?1, ?2)")?;
            for checksum in files {
                insert.execute((id, &checksum.as_bytes()[..]))?;
            }
            Ok(Some(unsigned(serial)))
        })
    }

    /// From now on the export counts: all of it was written. Says whether it was begun, and not finished before.
    pub fn finish_export(&self, id: &str, now_unix: i64) -> Result<bool, Error> {
        self.database.write("finish an export", |transaction| {
            let changed = transaction.execute(
                "UPDATE exports SET finished_at = ?2 WHERE bundle = ?1 AND finished_at IS NULL",
                (id, now_unix),
            )?;
            Ok(changed > 0)
        })
    }

    /// Forgets an export that was not finished; its serial is gone. Says whether there was one.
    pub fn abandon_export(&self, id: &str) -> Result<bool, Error> {
        self.database.write("abandon an export", |transaction| {
            let deleted = transaction.execute("DELETE FROM exports WHERE bundle = ?1 AND finished_at IS NULL", [id])?;
            Ok(deleted > 0)
        })
    }

    /// A finished export.
    pub fn export(&self, id: &str) -> Result<Option<Export>, Error> {
        self.database.read("look up an export", |snapshot| {
            snapshot
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} WHERE e.bundle = ?1 AND e.finished_at IS NOT NULL"
                ))?
                .query_row([id], export_row)
                .optional()
        })
    }

    /// All finished exports, the latest first.
    pub fn exports(&self) -> Result<Vec<Export>, Error> {
        self.database.read("list the exports", |snapshot| {
            snapshot
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} WHERE e.finished_at IS NOT NULL ORDER BY e.serial DESC"
                ))?
                .query_map([], export_row)?
                .collect()
        })
    }

    /// All crate files that somebody has who has imported these finished exports and those before them that they continue:
    /// sorted, each once. 32 bytes of memory for each.
    pub fn exported_files(&self, ids: &[&str]) -> Result<Vec<Checksum>, Error> {
        let ids = serde_json::Value::from(ids).to_string();
        self.database.read("list exported files", |snapshot| {
            snapshot
                .prepare_cached(
                    "WITH RECURSIVE chain (id, parent) AS (
                         SELECT id, parent FROM exports
                         WHERE bundle IN (SELECT value FROM json_each(?1)) AND finished_at IS NOT NULL
                         UNION SELECT e.id, e.parent FROM exports e JOIN chain ON e.id = chain.parent
                     )
                     SELECT DISTINCT checksum FROM export_files WHERE export_id IN (SELECT id FROM chain)
                     ORDER BY checksum",
                )?
                .query_map([&ids], |row| Ok(Checksum::from_bytes(row.get(0)?)))?
                .collect()
        })
    }
}

/// SQLite's random numbers begin with the system's.
fn make_own_site(transaction: &Transaction<'_>) -> rusqlite::Result<String> {
    transaction.execute(
        "INSERT OR IGNORE INTO own_site (id, site) VALUES (1, lower(hex(randomblob(16))))",
        [],
    )?;
    transaction.query_row("SELECT site FROM own_site", [], |row| row.get(0))
}

fn finished(transaction: &Transaction<'_>, id: &str) -> rusqlite::Result<Option<i64>> {
    transaction
        .query_row(
            "SELECT id FROM exports WHERE bundle = ?1 AND finished_at IS NOT NULL",
            [id],
            |row| row.get(0),
        )
        .optional()
}

fn export_row(row: &Row<'_>) -> rusqlite::Result<Export> {
    Ok(Export {
        serial: unsigned(row.get(0)?),
        finished_at: row.get(1)?,
        export: NewExport {
            id: row.get(2)?,
            parent: row.get(3)?,
            created_at: row.get(4)?,
            scope: row.get(5)?,
            tree: row.get(6)?,
            crate_files: unsigned(row.get(7)?),
            crate_bytes: unsigned(row.get(8)?),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::decisions::tests::scratch;

    fn new(id: &str, parent: Option<&str>, created_at: i64) -> NewExport {
        NewExport {
            id: id.to_owned(),
            parent: parent.map(str::to_owned),
            created_at,
            scope: Some(ExportScope::Full),
            tree: Some(format!("tree of {id}")),
            crate_files: 2,
            crate_bytes: u64::from(u32::MAX) + 1,
        }
    }

    fn file(text: &str) -> Checksum {
        Checksum::of(text.as_bytes())
    }

    fn sorted<const N: usize>(texts: [&str; N]) -> Vec<Checksum> {
        let mut all = texts.map(file).to_vec();
        all.sort();
        all
    }

    #[test]
    fn the_own_site_is_made_once() {
        let (dir, db) = scratch();
        let site = db.own_site().unwrap();
        assert!(site.len() == 32 && site.bytes().all(|byte| b"0123456789abcdef".contains(&byte)));
        db.begin_export(&new("a", None, 1), []).unwrap();
        assert_eq!(db.own_site().unwrap(), site);
        drop(db);
        let db = DecisionsDb::open(&dir.path().join("decisions.db")).unwrap();
        assert_eq!(db.own_site().unwrap(), site);
        assert_ne!(scratch().1.own_site().unwrap(), site);
    }

    #[test]
    fn what_somebody_has_is_the_union_over_the_chain() {
        let (_dir, db) = scratch();
        let done = |id: &str, parent: Option<&str>, files: &[&str]| {
            let serial = db.begin_export(&new(id, parent, 1), files.iter().map(|text| file(text)));
            assert!(db.finish_export(id, 2).unwrap());
            serial.unwrap().unwrap()
        };
        assert_eq!(done("a", None, &["1", "2"]), 1);
        assert_eq!(done("b", Some("a"), &["2", "3"]), 2);
        assert_eq!(done("c", Some("b"), &[]), 3);
        assert_eq!(done("d", None, &["4"]), 4);
        assert_eq!(done("e", Some("a"), &["5", "5"]), 5);
        assert_eq!(db.exported_files(&["a"]).unwrap(), sorted(["1", "2"]));
        assert_eq!(db.exported_files(&["c"]).unwrap(), sorted(["1", "2", "3"]));
        assert_eq!(db.exported_files(&["d"]).unwrap(), sorted(["4"]));
        assert_eq!(db.exported_files(&["e"]).unwrap(), sorted(["1", "2", "5"]));
        assert_eq!(db.exported_files(&["nobody"]).unwrap(), []);
        assert_eq!(db.exported_files(&[]).unwrap(), []);
        let together = db.exported_files(&["b", "d", "nobody"]).unwrap();
        assert_eq!(together, sorted(["1", "2", "3", "4"]));
        let found = db.export("c").unwrap().unwrap();
        assert_eq!((found.serial, found.finished_at), (3, 2));
        assert_eq!(found.export, new("c", Some("b"), 1));
        let serials: Vec<u64> = db.exports().unwrap().iter().map(|export| export.serial).collect();
        assert_eq!(serials, [5, 4, 3, 2, 1]);
    }

    #[test]
    fn only_a_finished_export_counts_and_no_serial_is_given_twice() {
        let (_dir, db) = scratch();
        assert_eq!(db.begin_export(&new("a", None, 1), [file("1")]).unwrap(), Some(1));
        assert_eq!((db.export("a").unwrap(), db.exports().unwrap()), (None, vec![]));
        assert_eq!(db.exported_files(&["a"]).unwrap(), []);
        assert_eq!(
            db.begin_export(&new("b", Some("a"), 1), []).unwrap(),
            None,
            "its parent may never leave"
        );
        assert!(db.abandon_export("a").unwrap() && !db.abandon_export("a").unwrap());
        assert!(!db.finish_export("a", 2).unwrap());
        assert_eq!(db.begin_export(&new("c", None, 1), [file("1")]).unwrap(), Some(2));
        assert!(db.finish_export("c", 2).unwrap() && !db.finish_export("c", 3).unwrap());
        assert!(!db.abandon_export("c").unwrap(), "what was finished stays");
        assert_eq!(db.export("c").unwrap().unwrap().finished_at, 2);

        // one that nobody came back to is forgotten at some time, one that goes on is not
        db.begin_export(&new("d", None, 100), []).unwrap();
        db.begin_export(&new("e", None, 100 + ABANDONED_AFTER_SECONDS), [])
            .unwrap();
        assert!(db.finish_export("d", 3).unwrap());
        db.begin_export(&new("f", None, 101 + 2 * ABANDONED_AFTER_SECONDS), [])
            .unwrap();
        assert!(!db.finish_export("e", 3).unwrap());
    }

    #[test]
    fn a_beginning_that_is_cut_off_leaves_nothing() {
        let (_dir, db) = scratch();
        let cut = (0..10).map(|at: u8| {
            if at < 5 {
                file(&at.to_string())
            } else {
                panic!("cut off")
            }
        });
        assert!(catch_unwind(AssertUnwindSafe(|| db.begin_export(&new("a", None, 1), cut))).is_err());
        assert!(!db.finish_export("a", 2).unwrap());
        assert_eq!(db.begin_export(&new("a", None, 1), [file("9")]).unwrap(), Some(1));
        assert!(db.finish_export("a", 2).unwrap());
        assert_eq!(db.exported_files(&["a"]).unwrap(), sorted(["9"]));
    }

    #[test]
    fn two_hundred_thousand_files_are_listed_in_order() {
        let (_dir, db) = scratch();
        let files = (0..200_000_u32).map(|at| file(&at.to_string()));
        db.begin_export(&new("a", None, 1), files).unwrap();
        db.finish_export("a", 2).unwrap();
        let all = db.exported_files(&["a"]).unwrap();
        assert!(all.len() == 200_000 && all.is_sorted());
    }
}
