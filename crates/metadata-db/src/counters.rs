//! Downloads of kept files, and counters that outlive the process.

use std::collections::BTreeMap;

use registry::Checksum;

use crate::columns::{signed, unsigned};
use crate::{Error, MetadataDb};

/// Downloads of one kept file since the last time they were written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// How many.
    pub count: u64,
    /// When the last of them was, in Unix seconds.
    pub last_unix: i64,
}

impl MetadataDb {
    /// Adds downloads, all in one transaction. A file that is not recorded yet is counted all the same.
    pub fn add_served(&self, served: &[(Checksum, Served)]) -> Result<(), Error> {
        self.database().write("count downloads", |transaction| {
            let mut add = transaction.prepare_cached(
                "INSERT INTO served (checksum, served_count, last_served) VALUES (?1, ?2, ?3)
                 ON CONFLICT (checksum) DO UPDATE SET
                     served_count = min(served_count, 9223372036854775807 - excluded.served_count) + excluded.served_count,
                     last_served = max(last_served, excluded.last_served)",
            )?;
            for (checksum, served) in served {
                add.execute((&checksum.as_bytes()[..], signed(served.count), served.last_unix))?;
            }
            Ok(())
        })
    }

    /// Whether a file with this checksum was ever served or is kept.
    pub fn was_served(&self, checksum: &Checksum) -> Result<bool, Error> {
        self.database().read("find a served file", |snapshot| {
            snapshot
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM served WHERE checksum = ?1)
                         OR EXISTS (SELECT 1 FROM kept_files WHERE checksum = ?1)",
                )?
                .query_row([&checksum.as_bytes()[..]], |row| row.get(0))
        })
    }

    /// Adds to counters that outlive the process, all in one transaction; one that is not known begins at 0.
    pub fn add_counters(&self, amounts: &[(&str, u64)]) -> Result<(), Error> {
        self.database().write("add to counters", |transaction| {
            let mut add = transaction.prepare_cached(
                "INSERT INTO counters (name, value) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET
                     value = min(value, 9223372036854775807 - excluded.value) + excluded.value",
            )?;
            for (name, amount) in amounts {
                add.execute((name, signed(*amount)))?;
            }
            Ok(())
        })
    }

    /// All counters by name.
    pub fn counters(&self) -> Result<BTreeMap<String, u64>, Error> {
        self.database().read("read counters", |snapshot| {
            snapshot
                .prepare_cached("SELECT name, value FROM counters")?
                .query_map([], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::{kept, scratch};

    #[test]
    fn counters_add_up_and_stop_at_the_end() {
        let (_dir, db) = scratch();
        db.add_counters(&[("hits", 2), ("misses", 1), ("hits", 3)]).unwrap();
        db.add_counters(&[("misses", u64::MAX), ("misses", 5)]).unwrap();
        let counters = db.counters().unwrap();
        assert_eq!(counters["hits"], 5);
        assert_eq!(counters["misses"], i64::MAX as u64);
    }

    #[test]
    fn downloads_are_counted_before_and_after_the_file_is_recorded() {
        let (_dir, db) = scratch();
        let file = kept("serde", "1.0.0");
        let served = |count, last_unix| (file.checksum, Served { count, last_unix });
        db.add_served(&[served(2, 50), served(1, 40)]).unwrap();
        assert!(db.was_served(&file.checksum).unwrap());
        assert!(!db.was_served(&kept("other", "1.0.0").checksum).unwrap());
        db.record_kept(&file).unwrap();
        db.add_served(&[served(4, 45)]).unwrap();
        let row = db.kept_file(&file.name, &file.version).unwrap().unwrap();
        assert_eq!((row.served_count, row.last_served), (7, Some(50)));
        assert!(db.forget_kept(&file.checksum).unwrap());
        assert!(
            db.was_served(&file.checksum).unwrap(),
            "what was served stays known after an eviction"
        );
    }
}
