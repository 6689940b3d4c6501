//! Named sets of crate files that no budget takes away.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use registry::{Checksum, CrateName, CrateVersion};
use rusqlite::Transaction;

use crate::columns::parsed;
use crate::{DecisionsDb, Error};

/// A crate file that is pinned, whether it is kept yet or not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PinnedFile {
    /// As the index line spells it.
    pub name: CrateName,
    /// As the index line writes it.
    pub version: CrateVersion,
    /// The SHA-256 it is stored by.
    pub checksum: Checksum,
}

/// A named set of crate files that stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// What the operator calls it.
    pub name: String,
    /// When the set was written, in Unix seconds.
    pub pinned_at: i64,
    /// By name and version text.
    pub files: Vec<PinnedFile>,
}

impl DecisionsDb {
    /// Makes `files` the set of that name, in place of the one before.
    pub fn pin(&self, name: &str, files: &[PinnedFile]) -> Result<(), Error> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        self.database.write("pin crate files", |transaction| {
            delete(transaction, name)?;
            let id: i64 = transaction
                .prepare_cached("INSERT INTO pins (name, pinned_at) VALUES (?1, ?2) RETURNING id")?
                .query_row((name, now), |row| row.get(0))?;
            let mut insert = transaction.prepare_cached(
                "INSERT OR REPLACE INTO pinned_files (pin_id, name, version, checksum) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for file in files {
                let checksum = &file.checksum.as_bytes()[..];
                insert.execute((id, file.name.as_str(), file.version.as_str(), checksum))?;
            }
            Ok(())
        })
    }

    /// Deletes the set of that name; says whether there was one.
    pub fn unpin(&self, name: &str) -> Result<bool, Error> {
        self.database
            .write("unpin crate files", |transaction| delete(transaction, name))
    }

    /// All sets by name.
    pub fn pins(&self) -> Result<Vec<Pin>, Error> {
        self.database.read("list the pins", |snapshot| {
            let mut statement = snapshot.prepare_cached(
                "SELECT p.name, p.pinned_at, f.name, f.version, f.checksum
                 FROM pins p LEFT JOIN pinned_files f ON f.pin_id = p.id ORDER BY p.name, f.name, f.version",
            )?;
            let mut rows = statement.query([])?;
            let mut pins: Vec<Pin> = Vec::new();
            while let Some(row) = rows.next()? {
                let name: String = row.get(0)?;
                if pins.last().is_none_or(|pin| pin.name != name) {
                    pins.push(Pin {
                        name,
                        pinned_at: row.get(1)?,
                        files: Vec::new(),
                    });
                }
                // a set without files has one row without a file
                if let (Some(checksum), Some(pin)) = (row.get::<_, Option<[u8; 32]>>(4)?, pins.last_mut()) {
                    pin.files.push(PinnedFile {
                        name: parsed(row, 2)?,
                        version: parsed(row, 3)?,
                        checksum: Checksum::from_bytes(checksum),
                    });
                }
            }
            Ok(pins)
        })
    }

    /// The checksums of all pinned files.
    pub fn pinned_checksums(&self) -> Result<HashSet<Checksum>, Error> {
        self.database.read("list the pinned files", |snapshot| {
            snapshot
                .prepare_cached("SELECT DISTINCT checksum FROM pinned_files")?
                .query_map([], |row| Ok(Checksum::from_bytes(row.get(0)?)))?
                .collect()
        })
    }
}

fn delete(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<bool> {
    let deleted = transaction
        .prepare_cached("DELETE FROM pins WHERE name = ?1")?
        .execute([name])?;
    Ok(deleted > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::{name, version};

    fn file(crate_name: &str, vers: &str) -> PinnedFile {
        PinnedFile {
            name: name(crate_name),
            version: version(vers),
            checksum: Checksum::of(format!("{crate_name} {vers}").as_bytes()),
        }
    }

    #[test]
    fn a_set_is_replaced_as_a_whole_and_shares_files_with_others() {
        let dir = tempfile::tempdir().unwrap();
        let db = DecisionsDb::open(&dir.path().join("decisions.db")).unwrap();
        let (serde, log, syn) = (file("serde", "1.0.0"), file("Log", "0.4.1"), file("syn", "2.0.0"));
        db.pin("office", &[serde.clone(), log.clone()]).unwrap();
        db.pin("ci", &[serde.clone(), syn.clone(), serde.clone()]).unwrap();
        db.pin("empty", &[]).unwrap();
        let pins = db.pins().unwrap();
        let names: Vec<_> = pins.iter().map(|pin| (pin.name.as_str(), pin.files.len())).collect();
        assert_eq!(names, [("ci", 2), ("empty", 0), ("office", 2)]);
        assert_eq!(pins[2].files, [log.clone(), serde.clone()]);
        assert!(pins[0].pinned_at > 1_700_000_000);

        db.pin("office", std::slice::from_ref(&log)).unwrap();
        let all = HashSet::from([serde.checksum, syn.checksum, log.checksum]);
        assert_eq!(db.pinned_checksums().unwrap(), all);
        assert!(db.unpin("ci").unwrap() && !db.unpin("ci").unwrap());
        drop(db);
        let db = DecisionsDb::open(&dir.path().join("decisions.db")).unwrap();
        assert_eq!(db.pinned_checksums().unwrap(), HashSet::from([log.checksum]));
        assert!(db.unpin("office").unwrap());
        assert!(db.pinned_checksums().unwrap().is_empty(), "files go with their set");
    }
}
