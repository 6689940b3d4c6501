//! What upstream last said of each index file, and other derived facts.

use std::collections::BTreeMap;

use registry::IndexPath;
use rusqlite::OptionalExtension;

use crate::columns::{json, to_json};
use crate::{Error, MetadataDb};

/// What upstream last said of one index file; the published file may differ from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamState {
    /// Of the body it last sent.
    pub digest: [u8; 32],
    /// The validator to ask with, if it gave one.
    pub etag: Option<String>,
    /// The other validator, as it was written.
    pub last_modified: Option<String>,
    /// Versions it no longer lists, and when that was first seen, in Unix seconds.
    pub missing: BTreeMap<String, i64>,
    /// Since when it has not had the file at all, in Unix seconds.
    pub absent_since: Option<i64>,
}

impl MetadataDb {
    /// What upstream last said of the index file at `path`; `None` if it was never asked or that was forgotten.
    pub fn upstream_state(&self, path: &IndexPath) -> Result<Option<UpstreamState>, Error> {
        self.database().read("read upstream's state", |snapshot| {
            snapshot
                .prepare_cached(
                    "SELECT digest, etag, last_modified, missing, absent_since FROM upstream_state WHERE path = ?1",
                )?
                .query_row([path.as_str()], |row| {
                    Ok(UpstreamState {
                        digest: row.get(0)?,
                        etag: row.get(1)?,
                        last_modified: row.get(2)?,
                        missing: json(row, 3)?,
                        absent_since: row.get(4)?,
                    })
                })
                .optional()
        })
    }

    /// Remembers what upstream said, in place of what it said before.
    pub fn set_upstream_state(&self, path: &IndexPath, state: &UpstreamState) -> Result<(), Error> {
        self.database().write("write upstream's state", |transaction| {
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO upstream_state (path, digest, etag, last_modified, missing, absent_since)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute((
                    path.as_str(),
                    &state.digest[..],
                    &state.etag,
                    &state.last_modified,
                    to_json(&state.missing),
                    state.absent_since,
                ))?;
            Ok(())
        })
    }

    /// Forgets what upstream said of the index file at `path`.
    pub fn forget_upstream_state(&self, path: &IndexPath) -> Result<(), Error> {
        self.database().write("forget upstream's state", |transaction| {
            transaction
                .prepare_cached("DELETE FROM upstream_state WHERE path = ?1")?
                .execute([path.as_str()])?;
            Ok(())
        })
    }

    /// A derived fact by its name, such as upstream's last good `config.json`.
    pub fn fact(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.database().read("read a fact", |snapshot| {
            snapshot
                .prepare_cached("SELECT value FROM facts WHERE name = ?1")?
                .query_row([name], |row| row.get(0))
                .optional()
        })
    }

    /// Remembers a derived fact in place of the one of that name.
    pub fn set_fact(&self, name: &str, value: &[u8]) -> Result<(), Error> {
        self.database().write("write a fact", |transaction| {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO facts (name, value) VALUES (?1, ?2)")?
                .execute((name, value))?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::scratch;

    #[test]
    fn what_upstream_said_is_remembered_replaced_and_forgotten() {
        let (_dir, db) = scratch();
        let path: IndexPath = "se/rd/serde".parse().unwrap();
        assert_eq!(db.upstream_state(&path).unwrap(), None);
        let mut state = UpstreamState {
            digest: [7; 32],
            etag: Some("\"a\"".to_owned()),
            missing: BTreeMap::from([("1.0.0".to_owned(), 12)]),
            ..UpstreamState::default()
        };
        db.set_upstream_state(&path, &state).unwrap();
        assert_eq!(db.upstream_state(&path).unwrap().as_ref(), Some(&state));
        state.missing.clear();
        state.absent_since = Some(5);
        db.set_upstream_state(&path, &state).unwrap();
        assert_eq!(db.upstream_state(&path).unwrap(), Some(state));
        db.forget_upstream_state(&path).unwrap();
        assert_eq!(db.upstream_state(&path).unwrap(), None);
    }

    #[test]
    fn a_fact_is_bytes() {
        let (_dir, db) = scratch();
        assert_eq!(db.fact("config.json").unwrap(), None);
        db.set_fact("config.json", b"{").unwrap();
        db.set_fact("config.json", b"\xff\0").unwrap();
        assert_eq!(db.fact("config.json").unwrap().as_deref(), Some(&b"\xff\0"[..]));
    }
}
