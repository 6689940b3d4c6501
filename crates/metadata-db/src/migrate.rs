//! The tables of both databases, and how older ones get there.

use rusqlite::{Connection, TransactionBehavior};

/// The layouts of `mirror.db`, oldest first; the number of those applied is its `user_version`.
///
/// `served` stands apart from `kept_files` so that counting a download rewrites a small row, and outlives it so
/// that a file that is evicted and fetched again goes on counting. `crate_texts` stands apart so that listing
/// versions does not read READMEs.
pub(crate) const MIRROR: &[&str] = &["
    CREATE TABLE crates (
        id INTEGER PRIMARY KEY,
        canonical TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        newest_version TEXT NOT NULL,
        description TEXT,
        keywords TEXT NOT NULL DEFAULT '[]',
        updated_at INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE kept_files (
        id INTEGER PRIMARY KEY,
        crate_id INTEGER NOT NULL REFERENCES crates (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        version TEXT NOT NULL,
        checksum BLOB NOT NULL CHECK (length(checksum) = 32),
        size_bytes INTEGER NOT NULL,
        kept_at INTEGER NOT NULL,
        unparsable TEXT,
        UNIQUE (crate_id, version)
    ) STRICT;
    CREATE INDEX kept_files_by_checksum ON kept_files (checksum);
    CREATE TABLE crate_texts (
        file_id INTEGER PRIMARY KEY REFERENCES kept_files (id) ON DELETE CASCADE,
        manifest TEXT NOT NULL,
        readme_path TEXT,
        readme_cut INTEGER NOT NULL DEFAULT 0,
        readme TEXT
    ) STRICT;
    CREATE TABLE served (
        checksum BLOB PRIMARY KEY CHECK (length(checksum) = 32),
        served_count INTEGER NOT NULL,
        last_served INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE counters (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE upstream_state (
        path TEXT PRIMARY KEY,
        digest BLOB NOT NULL CHECK (length(digest) = 32),
        etag TEXT,
        last_modified TEXT,
        missing TEXT NOT NULL,
        absent_since INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE facts (
        name TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE VIRTUAL TABLE crate_search USING fts5 (
        name, keywords, description, readme,
        content = '', contentless_delete = 1, prefix = '2 3', tokenize = 'unicode61 remove_diacritics 2'
    );
"];

/// The layouts of `decisions.db`, oldest first.
pub(crate) const DECISIONS: &[&str] = &["
    CREATE TABLE decisions (
        id INTEGER PRIMARY KEY,
        path TEXT NOT NULL,
        vers TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('removed', 'held-checksum', 'held-removal', 'kept', 'accepted')),
        whole_crate INTEGER NOT NULL CHECK (whole_crate IN (0, 1)),
        checksum BLOB NOT NULL CHECK (length(checksum) = 32),
        new_checksum BLOB CHECK (length(new_checksum) = 32),
        decided_at INTEGER NOT NULL,
        line BLOB NOT NULL,
        held_line BLOB,
        UNIQUE (path, vers)
    ) STRICT;
    CREATE INDEX decisions_by_kind ON decisions (kind, decided_at);
"];

/// The layout a file has: 0 for a new one.
pub(crate) fn layout(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings the file to the newest layout in one exclusive transaction: all steps or none.
pub(crate) fn migrate(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    let newest = count(steps);
    if layout(connection)? >= newest {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    // Asked again under the lock: another process may have been faster.
    let applied = usize::try_from(layout(&transaction)?).unwrap_or(usize::MAX);
    for step in steps.iter().skip(applied) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", newest)?;
    transaction.commit()
}

/// The layout that applying all of `steps` gives.
pub(crate) fn count(steps: &[&str]) -> i64 {
    i64::try_from(steps.len()).expect("there are few migrations")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_applies_once_and_a_failing_one_leaves_nothing() {
        for steps in [MIRROR, DECISIONS] {
            let mut connection = Connection::open_in_memory().unwrap();
            migrate(&mut connection, steps).unwrap();
            migrate(&mut connection, steps).unwrap();
            assert_eq!(layout(&connection).unwrap(), count(steps));
        }
        let mut connection = Connection::open_in_memory().unwrap();
        let broken = ["CREATE TABLE a (b) STRICT", "CREATE TABLE c (d INTEGER) STRICT"];
        migrate(&mut connection, &broken).unwrap_err();
        migrate(&mut connection, &[broken[1], broken[0]]).unwrap_err();
        assert_eq!(layout(&connection).unwrap(), 0);
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .unwrap();
        assert_eq!(tables, 0);
    }
}
