//! The tables of all databases, and how older ones get there.

use rusqlite::{Connection, TransactionBehavior};

/// The layouts of `mirror.db`, oldest first; the number of those applied is its `user_version`.
///
/// `served` stands apart from `kept_files` so that counting a download rewrites a small row, and outlives it so
/// that a file that is evicted and fetched again goes on counting. `crate_texts` stands apart so that listing
/// versions does not read READMEs. `totals` is kept by triggers, since adding up 200,000 rows takes a tenth of a second;
/// a file of size 0 is lost, and none of them counts it.
pub(crate) const MIRROR: &[&str] = &[
    "
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
",
    "
    DROP INDEX kept_files_by_checksum;
    CREATE INDEX kept_files_by_checksum ON kept_files (checksum, size_bytes);
    CREATE TABLE totals (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        files INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        crates INTEGER NOT NULL
    ) STRICT;
    INSERT INTO totals SELECT 1, count(*), coalesce(sum(size_bytes), 0), (SELECT count(*) FROM crates) FROM kept_files;
    CREATE TRIGGER file_added AFTER INSERT ON kept_files BEGIN
        UPDATE totals SET files = files + 1, bytes = bytes + new.size_bytes;
    END;
    CREATE TRIGGER file_changed AFTER UPDATE OF size_bytes ON kept_files BEGIN
        UPDATE totals SET bytes = bytes - old.size_bytes + new.size_bytes;
    END;
    CREATE TRIGGER file_gone AFTER DELETE ON kept_files BEGIN
        UPDATE totals SET files = files - 1, bytes = bytes - old.size_bytes;
    END;
    CREATE TRIGGER crate_added AFTER INSERT ON crates BEGIN
        UPDATE totals SET crates = crates + 1;
    END;
    CREATE TRIGGER crate_gone AFTER DELETE ON crates BEGIN
        UPDATE totals SET crates = crates - 1;
    END;
    CREATE TABLE prefetch_failures (
        canonical TEXT NOT NULL,
        version TEXT NOT NULL,
        name TEXT NOT NULL,
        checksum BLOB NOT NULL CHECK (length(checksum) = 32),
        why TEXT NOT NULL,
        failed_at INTEGER NOT NULL,
        PRIMARY KEY (canonical, version)
    ) STRICT, WITHOUT ROWID;
",
    "
    DROP TRIGGER file_added;
    DROP TRIGGER file_changed;
    DROP TRIGGER file_gone;
    DROP TRIGGER crate_added;
    DROP TRIGGER crate_gone;
    UPDATE totals SET files = (SELECT count(*) FROM kept_files WHERE size_bytes > 0),
        crates = (SELECT count(DISTINCT crate_id) FROM kept_files WHERE size_bytes > 0);
    CREATE TRIGGER file_added AFTER INSERT ON kept_files WHEN new.size_bytes > 0 BEGIN
        UPDATE totals SET files = files + 1, bytes = bytes + new.size_bytes, crates = crates + (NOT EXISTS (
            SELECT 1 FROM kept_files WHERE crate_id = new.crate_id AND size_bytes > 0 AND id <> new.id));
    END;
    CREATE TRIGGER file_changed AFTER UPDATE OF size_bytes ON kept_files BEGIN
        UPDATE totals SET files = files + (new.size_bytes > 0) - (old.size_bytes > 0),
            bytes = bytes - old.size_bytes + new.size_bytes,
            crates = crates + ((new.size_bytes > 0) - (old.size_bytes > 0)) * (NOT EXISTS (
                SELECT 1 FROM kept_files WHERE crate_id = new.crate_id AND size_bytes > 0 AND id <> new.id));
    END;
    CREATE TRIGGER file_gone AFTER DELETE ON kept_files WHEN old.size_bytes > 0 BEGIN
        UPDATE totals SET files = files - 1, bytes = bytes - old.size_bytes, crates = crates - (NOT EXISTS (
            SELECT 1 FROM kept_files WHERE crate_id = old.crate_id AND size_bytes > 0));
    END;
",
];

/// The layouts of `decisions.db`, oldest first.
///
/// In `import_files` the site 0 stands for loose files, which came from no site. In `wanted` an empty version stands for an
/// index file.
pub(crate) const DECISIONS: &[&str] = &[
    "
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
",
    "
    CREATE TABLE pins (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        pinned_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE pinned_files (
        pin_id INTEGER NOT NULL REFERENCES pins (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        version TEXT NOT NULL,
        checksum BLOB NOT NULL CHECK (length(checksum) = 32),
        PRIMARY KEY (pin_id, name, version)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX pinned_files_by_checksum ON pinned_files (checksum);
",
    "
    CREATE TABLE own_site (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        site TEXT NOT NULL,
        last_serial INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE exports (
        id INTEGER PRIMARY KEY,
        bundle TEXT NOT NULL UNIQUE,
        serial INTEGER NOT NULL UNIQUE,
        parent INTEGER REFERENCES exports (id),
        created_at INTEGER NOT NULL,
        finished_at INTEGER,
        scope TEXT CHECK (scope IN ('full', 'selected')),
        tree TEXT,
        crate_files INTEGER NOT NULL,
        crate_bytes INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE export_files (
        export_id INTEGER NOT NULL REFERENCES exports (id) ON DELETE CASCADE,
        checksum BLOB NOT NULL CHECK (length(checksum) = 32),
        PRIMARY KEY (export_id, checksum)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE imports (
        id INTEGER PRIMARY KEY,
        logged_at INTEGER NOT NULL,
        bundle TEXT,
        site TEXT,
        serial INTEGER,
        part INTEGER,
        parts INTEGER,
        key_id TEXT,
        who TEXT NOT NULL,
        result TEXT NOT NULL CHECK (result IN ('imported', 'part', 'refused', 'unchanged', 'files')),
        why TEXT,
        crate_files INTEGER NOT NULL,
        crate_bytes INTEGER NOT NULL,
        new_versions INTEGER NOT NULL,
        yanked INTEGER NOT NULL,
        removed INTEGER NOT NULL,
        changed INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX imports_by_bundle ON imports (bundle, result);
    CREATE TRIGGER imports_stay_as_they_are BEFORE UPDATE ON imports BEGIN
        SELECT raise(ABORT, 'the import log is only added to');
    END;
    CREATE TRIGGER imports_stay BEFORE DELETE ON imports BEGIN
        SELECT raise(ABORT, 'the import log is only added to');
    END;
    CREATE TABLE sites (
        id INTEGER PRIMARY KEY,
        site TEXT NOT NULL UNIQUE,
        last_bundle TEXT NOT NULL,
        last_serial INTEGER NOT NULL,
        imported_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE import_files (
        site_id INTEGER NOT NULL,
        checksum BLOB NOT NULL CHECK (length(checksum) = 32),
        PRIMARY KEY (site_id, checksum)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX import_files_by_checksum ON import_files (checksum);
    CREATE TABLE site_decisions (
        site_id INTEGER NOT NULL REFERENCES sites (id) ON DELETE CASCADE,
        path TEXT NOT NULL,
        vers TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('removed', 'held-checksum', 'held-removal', 'kept', 'accepted')),
        whole_crate INTEGER NOT NULL CHECK (whole_crate IN (0, 1)),
        decided_at INTEGER NOT NULL,
        checksum BLOB CHECK (length(checksum) = 32),
        new_checksum BLOB CHECK (length(new_checksum) = 32),
        PRIMARY KEY (path, vers, site_id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE wanted (
        name TEXT NOT NULL,
        version TEXT NOT NULL,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (name, version)
    ) STRICT, WITHOUT ROWID;
",
];

/// The layouts of `fetch-log.db`, oldest first.
pub(crate) const FETCH_LOG: &[&str] = &["
    CREATE TABLE fetches (
        id INTEGER PRIMARY KEY,
        fetched_at INTEGER NOT NULL,
        canonical TEXT NOT NULL,
        version TEXT NOT NULL,
        checksum BLOB NOT NULL CHECK (length(checksum) = 32),
        hit INTEGER NOT NULL CHECK (hit IN (0, 1)),
        client TEXT NOT NULL,
        agent TEXT NOT NULL
    ) STRICT;
    CREATE INDEX fetches_by_crate ON fetches (canonical, version);
    CREATE INDEX fetches_by_time ON fetches (fetched_at);
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
        for steps in [MIRROR, DECISIONS, FETCH_LOG] {
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

    #[test]
    fn decisions_and_pins_of_an_older_layout_stay() {
        for older in 1..DECISIONS.len() {
            let mut connection = Connection::open_in_memory().unwrap();
            migrate(&mut connection, &DECISIONS[..older]).unwrap();
            connection
                .execute_batch(
                    "INSERT INTO decisions (path, vers, kind, whole_crate, checksum, decided_at, line)
                     VALUES ('1/a', '1.0.0', 'kept', 0, zeroblob(32), 7, x'6c');",
                )
                .unwrap();
            if older >= 2 {
                connection
                    .execute_batch(
                        "INSERT INTO pins (id, name, pinned_at) VALUES (1, 'office', 5);
                         INSERT INTO pinned_files VALUES (1, 'a', '1.0.0', zeroblob(32));",
                    )
                    .unwrap();
            }
            migrate(&mut connection, DECISIONS).unwrap();
            let count = |table: &str| -> i64 {
                connection
                    .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
                    .unwrap()
            };
            assert_eq!((count("decisions"), count("imports"), count("wanted")), (1, 0, 0));
            assert_eq!(count("pinned_files"), i64::from(older >= 2));
        }
    }

    #[test]
    fn a_database_of_the_first_layout_keeps_what_it_has() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &MIRROR[..1]).unwrap();
        connection
            .execute_batch(
                "INSERT INTO crates (id, canonical, name, newest_version) VALUES (1, 'a', 'a', '1.0.0');
                 INSERT INTO kept_files (crate_id, name, version, checksum, size_bytes, kept_at)
                 VALUES (1, 'a', '1.0.0', zeroblob(32), 40, 1), (1, 'a', '1.0.1', zeroblob(32), 2, 1);",
            )
            .unwrap();
        migrate(&mut connection, MIRROR).unwrap();
        let totals = |connection: &Connection| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            let found: (i64, i64, i64) = connection
                .query_row("SELECT files, bytes, crates FROM totals", [], read)
                .unwrap();
            found
        };
        assert_eq!(totals(&connection), (2, 42, 1));
        connection.pragma_update(None, "foreign_keys", true).unwrap();
        connection.execute("DELETE FROM crates", []).unwrap();
        assert_eq!(totals(&connection), (0, 0, 0), "the files went with their crate");
    }
}
