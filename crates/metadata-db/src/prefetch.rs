//! What a prefetch could not bring, and how far the scrubber has come: derived, but worth more than one run.

use registry::{Checksum, CrateName, CrateVersion};

use crate::columns::parsed;
use crate::{Error, MetadataDb};

/// A crate file that a prefetch could not bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefetchFailure {
    /// As the index line spells it.
    pub name: CrateName,
    /// As the index line writes it.
    pub version: CrateVersion,
    /// What the index says its SHA-256 is.
    pub checksum: Checksum,
    /// Why it could not be brought.
    pub why: String,
    /// When that was, in Unix seconds.
    pub failed_at: i64,
}

/// How far the scrubber has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubCursor {
    /// The folder of `blobs/` that is next: the first byte of its checksums.
    pub folder: u8,
    /// When this round through all folders began, in Unix seconds.
    pub began_unix: i64,
}

const SCRUB_FACT: &str = "scrub-cursor";

impl MetadataDb {
    /// Writes failures down in one transaction, each in place of the one before of its name and version.
    pub fn record_prefetch_failures(&self, failures: &[PrefetchFailure]) -> Result<(), Error> {
        self.database().write("record prefetch failures", |transaction| {
            let mut insert = transaction.prepare_cached(
                "INSERT OR REPLACE INTO prefetch_failures (canonical, version, name, checksum, why, failed_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for failure in failures {
                insert.execute((
                    failure.name.canonical(),
                    failure.version.as_str(),
                    failure.name.as_str(),
                    &failure.checksum.as_bytes()[..],
                    &failure.why,
                    failure.failed_at,
                ))?;
            }
            Ok(())
        })
    }

    /// Forgets the failure of one version, for a file that is here by now; says whether there was one.
    pub fn clear_prefetch_failure(&self, name: &CrateName, version: &CrateVersion) -> Result<bool, Error> {
        self.database().write("clear a prefetch failure", |transaction| {
            let deleted = transaction
                .prepare_cached("DELETE FROM prefetch_failures WHERE canonical = ?1 AND version = ?2")?
                .execute((name.canonical(), version.as_str()))?;
            Ok(deleted > 0)
        })
    }

    /// All failures that were not cleared, by name and version text.
    pub fn prefetch_failures(&self) -> Result<Vec<PrefetchFailure>, Error> {
        self.database().read("list prefetch failures", |snapshot| {
            snapshot
                .prepare_cached(
                    "SELECT name, version, checksum, why, failed_at FROM prefetch_failures ORDER BY canonical, version",
                )?
                .query_map([], |row| {
                    Ok(PrefetchFailure {
                        name: parsed(row, 0)?,
                        version: parsed(row, 1)?,
                        checksum: Checksum::from_bytes(row.get(2)?),
                        why: row.get(3)?,
                        failed_at: row.get(4)?,
                    })
                })?
                .collect()
        })
    }

    /// How far the scrubber has come; `None` if it never began.
    pub fn scrub_cursor(&self) -> Result<Option<ScrubCursor>, Error> {
        let fact = self.fact(SCRUB_FACT)?;
        Ok(fact.and_then(|bytes| {
            let (folder, began) = bytes.split_first()?;
            Some(ScrubCursor {
                folder: *folder,
                began_unix: i64::from_be_bytes(began.try_into().ok()?),
            })
        }))
    }

    /// Remembers how far the scrubber has come.
    pub fn set_scrub_cursor(&self, cursor: ScrubCursor) -> Result<(), Error> {
        let mut bytes = vec![cursor.folder];
        bytes.extend(cursor.began_unix.to_be_bytes());
        self.set_fact(SCRUB_FACT, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::{name, scratch, version};

    #[test]
    fn a_failure_is_there_until_it_is_cleared() {
        let (_dir, db) = scratch();
        let mut failure = PrefetchFailure {
            name: name("Serde-Json"),
            version: version("1.0.0"),
            checksum: Checksum::of(b"a"),
            why: "upstream answered 404".to_owned(),
            failed_at: 5,
        };
        let other = PrefetchFailure {
            name: name("a"),
            ..failure.clone()
        };
        db.record_prefetch_failures(&[failure.clone(), other.clone()]).unwrap();
        failure.why = "upstream is gone".to_owned();
        failure.failed_at = 6;
        db.record_prefetch_failures(std::slice::from_ref(&failure)).unwrap();
        assert_eq!(db.prefetch_failures().unwrap(), [other.clone(), failure]);
        let version = version("1.0.0");
        assert!(db.clear_prefetch_failure(&name("serde_json"), &version).unwrap());
        assert!(!db.clear_prefetch_failure(&name("serde_json"), &version).unwrap());
        assert_eq!(db.prefetch_failures().unwrap(), [other]);
    }

    #[test]
    fn the_scrubber_goes_on_where_it_was() {
        let (_dir, db) = scratch();
        assert_eq!(db.scrub_cursor().unwrap(), None);
        let cursor = ScrubCursor {
            folder: 255,
            began_unix: 1_795_000_000,
        };
        db.set_scrub_cursor(cursor).unwrap();
        assert_eq!(db.scrub_cursor().unwrap(), Some(cursor));
        db.set_fact(SCRUB_FACT, b"\x01").unwrap();
        assert_eq!(db.scrub_cursor().unwrap(), None, "one that cannot be read begins anew");
    }
}
