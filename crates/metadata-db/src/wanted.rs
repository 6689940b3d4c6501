//! What clients asked for in vain while the mirror was offline: a list to take outside.

use registry::{CrateName, CrateVersion};
use rusqlite::Transaction;

use crate::columns::{parsed, signed, unsigned};
use crate::{DecisionsDb, Error};

/// So many are remembered. Beyond that those go first that name no version, then those that were asked for once and longest ago.
pub const MAX_WANTED: u32 = 10_000;

/// Something that was asked for and is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The crate, as it was asked for.
    pub name: CrateName,
    /// The version whose crate file was asked for; `None` for an index file.
    pub version: Option<CrateVersion>,
    /// When first, in Unix seconds.
    pub first_at: i64,
    /// When last.
    pub last_at: i64,
    /// How often.
    pub count: u64,
}

impl Wanted {
    fn version_text(&self) -> &str {
        self.version.as_ref().map_or("", CrateVersion::as_str)
    }
}

impl DecisionsDb {
    /// Adds what was asked for, in one transaction. At most [`MAX_WANTED`] stay.
    pub fn add_wanted(&self, wanted: &[Wanted]) -> Result<(), Error> {
        self.database.write("note what is wanted", |transaction| {
            let mut add = transaction.prepare_cached(
                "INSERT INTO wanted (name, version, first_at, last_at, count) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (name, version) DO UPDATE SET
                     first_at = min(first_at, excluded.first_at),
                     last_at = max(last_at, excluded.last_at),
                     count = min(count, 9223372036854775807 - excluded.count) + excluded.count",
            )?;
            for one in wanted {
                let (name, version) = (one.name.as_str(), one.version_text());
                add.execute((name, version, one.first_at, one.last_at, signed(one.count)))?;
            }
            keep_within_bounds(transaction)
        })
    }

    /// All that is wanted, by name and version text; names without a version last.
    pub fn wanted(&self) -> Result<Vec<Wanted>, Error> {
        self.database.read("list what is wanted", |snapshot| {
            snapshot
                .prepare_cached(
                    "SELECT name, version, first_at, last_at, count FROM wanted ORDER BY version = '', name, version",
                )?
                .query_map([], |row| {
                    let version: String = row.get(1)?;
                    Ok(Wanted {
                        name: parsed(row, 0)?,
                        version: if version.is_empty() {
                            None
                        } else {
                            Some(parsed(row, 1)?)
                        },
                        first_at: row.get(2)?,
                        last_at: row.get(3)?,
                        count: unsigned(row.get(4)?),
                    })
                })?
                .collect()
        })
    }

    /// How many are wanted.
    pub fn count_wanted(&self) -> Result<u64, Error> {
        self.database.read("count what is wanted", |snapshot| {
            snapshot
                .prepare_cached("SELECT count(*) FROM wanted")?
                .query_row([], |row| row.get(0).map(unsigned))
        })
    }

    /// Deletes what is no longer wanted, in one transaction.
    pub fn forget_wanted(&self, gone: &[Wanted]) -> Result<(), Error> {
        self.database.write("forget what was wanted", |transaction| {
            let mut delete = transaction.prepare_cached("DELETE FROM wanted WHERE name = ?1 AND version = ?2")?;
            for wanted in gone {
                delete.execute((wanted.name.as_str(), wanted.version_text()))?;
            }
            Ok(())
        })
    }

    /// Deletes the whole list; says how many were on it.
    pub fn clear_wanted(&self) -> Result<u64, Error> {
        self.database.write("clear what was wanted", |transaction| {
            Ok(transaction.execute("DELETE FROM wanted", [])? as u64)
        })
    }
}

fn keep_within_bounds(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let many: u32 = transaction
        .prepare_cached("SELECT count(*) FROM wanted")?
        .query_row([], |row| row.get(0))?;
    if many > MAX_WANTED {
        transaction
            .prepare_cached(
                "DELETE FROM wanted WHERE (name, version) IN (
                     SELECT name, version FROM wanted
                     ORDER BY version <> '', count > 1, last_at, name, version LIMIT ?1
                 )",
            )?
            .execute([many - MAX_WANTED])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::tests::scratch;

    fn wanted(name: &str, version: &str, last_at: i64, count: u64) -> Wanted {
        Wanted {
            name: name.parse().unwrap(),
            version: (!version.is_empty()).then(|| version.parse().unwrap()),
            first_at: last_at,
            last_at,
            count,
        }
    }

    #[test]
    fn what_is_wanted_adds_up_and_is_there_after_a_restart() {
        let (dir, db) = scratch();
        db.add_wanted(&[
            wanted("serde", "", 5, 1),
            wanted("tokio", "1.0.0", 5, 1),
            wanted("alpha", "", 5, 1),
        ])
        .unwrap();
        db.add_wanted(&[
            wanted("tokio", "1.0.0", 9, 2),
            wanted("tokio", "1.0.0+b", 9, u64::MAX),
            wanted("tokio", "1.0.0+b", 9, u64::MAX),
        ])
        .unwrap();
        drop(db);
        let db = DecisionsDb::open(&dir.path().join("decisions.db")).unwrap();
        let all = db.wanted().unwrap();
        let tokio = Wanted {
            first_at: 5,
            ..wanted("tokio", "1.0.0", 9, 3)
        };
        let most = wanted("tokio", "1.0.0+b", 9, i64::MAX as u64);
        assert_eq!(all, [tokio, most, wanted("alpha", "", 5, 1), wanted("serde", "", 5, 1)]);
        assert_eq!(db.count_wanted().unwrap(), 4);
        db.forget_wanted(&all[1..3]).unwrap();
        assert_eq!(db.wanted().unwrap(), [all[0].clone(), all[3].clone()]);
        assert_eq!((db.clear_wanted().unwrap(), db.clear_wanted().unwrap()), (2, 0));
    }

    #[test]
    fn the_list_is_bounded_and_what_is_least_sure_goes_first() {
        let (_dir, db) = scratch();
        db.add_wanted(&[
            wanted("slip", "", 100, 9),
            wanted("old", "1.0.0", 1, 1),
            wanted("often", "1.0.0", 1, 2),
        ])
        .unwrap();
        let flood: Vec<Wanted> = (0..MAX_WANTED - 2)
            .map(|at| wanted(&format!("made-up-{at}"), "1.0.0", 50, 1))
            .collect();
        db.add_wanted(&flood).unwrap();
        let names = || -> Vec<String> { db.wanted().unwrap().iter().map(|row| row.name.to_string()).collect() };
        assert_eq!(names().len(), MAX_WANTED as usize);
        assert!(!names().contains(&"slip".to_owned()) && names().contains(&"old".to_owned()));
        db.add_wanted(&[wanted("new", "1.0.0", 51, 1)]).unwrap();
        let left = names();
        assert_eq!(left.len(), MAX_WANTED as usize);
        assert!(!left.contains(&"old".to_owned()));
        assert!(left.contains(&"new".to_owned()) && left.contains(&"often".to_owned()));
    }
}
