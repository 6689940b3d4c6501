use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use registry::{Checksum, CrateName, CrateVersion};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::database::{damage_mark, with_suffix};
use crate::{DecisionsDb, KeptFile, Manifest, ManifestState};

pub(crate) fn name(text: &str) -> CrateName {
    text.parse().unwrap()
}

pub(crate) fn version(text: &str) -> CrateVersion {
    text.parse().unwrap()
}

/// A kept file whose checksum follows from name and version.
pub(crate) fn kept(crate_name: &str, vers: &str) -> KeptFile {
    KeptFile {
        name: name(crate_name),
        version: version(vers),
        checksum: Checksum::of(format!("{crate_name} {vers}").as_bytes()),
        size_bytes: 100,
        kept_at: 1000,
        manifest: ManifestState::Read(Box::default()),
    }
}

pub(crate) fn manifest_of(file: &mut KeptFile) -> &mut Manifest {
    match &mut file.manifest {
        ManifestState::Read(manifest) => manifest,
        ManifestState::Unparsable(why) => panic!("{why}"),
    }
}

pub(crate) fn scratch() -> (TempDir, MetadataDb) {
    let dir = tempfile::tempdir().unwrap();
    let opened = MetadataDb::open(&dir.path().join("mirror.db")).unwrap();
    assert_eq!(opened.state, OpenState::Fresh);
    (dir, opened.db)
}

fn filled(dir: &TempDir, files: usize) -> PathBuf {
    let path = dir.path().join("mirror.db");
    let db = MetadataDb::open(&path).unwrap().db;
    let many: Vec<_> = (0..files)
        .map(|at| {
            let mut file = kept(&format!("crate-{at}"), "1.0.0");
            manifest_of(&mut file).description = Some("words to fill a page with ".repeat(40));
            file
        })
        .collect();
    db.record_kept_all(&many).unwrap();
    path
}

/// Everything a damaged database may be asked; only [`Error::Corrupt`] may come of it. Says whether it did.
fn use_everything(db: &MetadataDb) -> bool {
    let outcomes = [
        db.search("crate words", 1, 10).err(),
        db.search("", 1, 100).err(),
        db.totals().err(),
        db.for_each_kept(|_| ()).err(),
        db.crate_details(&name("crate_7")).err(),
        db.record_kept(&kept("crate-7", "1.0.1")).err(),
        db.forget_kept(&kept("crate-9", "1.0.0").checksum).err(),
        db.integrity_check().err(),
    ];
    let mut damaged = false;
    for error in outcomes.into_iter().flatten() {
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
        damaged = true;
    }
    damaged
}

/// Opens it and looks through it, as a start does one after the other.
fn open_and_check(path: &Path) -> Opened<MetadataDb> {
    let opened = MetadataDb::open(path).unwrap();
    match opened.db.check() {
        Ok(()) => opened,
        Err(Error::Corrupt { .. }) => Opened {
            state: opened.db.renew_if_damaged().unwrap().expect("damage was met"),
            ..opened
        },
        Err(other) => panic!("{other:?}"),
    }
}

fn assert_replaced(path: &Path) {
    let opened = open_and_check(path);
    let OpenState::Replaced { moved_to, .. } = opened.state else {
        panic!("{:?}", opened.state)
    };
    assert!(moved_to.exists());
    assert_eq!(opened.db.totals().unwrap().files, 0);
    assert!(!use_everything(&opened.db));
    drop(opened.db);
    assert_eq!(MetadataDb::open(path).unwrap().state, OpenState::Existing);
}

#[test]
fn it_is_there_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(&dir, 3);
    let opened = MetadataDb::open(&path).unwrap();
    assert_eq!(opened.state, OpenState::Existing);
    assert_eq!(opened.db.totals().unwrap().files, 3);
    opened.db.checkpoint().unwrap();
    opened.db.integrity_check().unwrap();
}

#[test]
fn the_bundled_sqlite_is_new_enough_and_set_up_as_promised() {
    assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
    let (_dir, db) = scratch();
    let settings = db
        .database()
        .write("look", |transaction| {
            [
                "journal_mode",
                "synchronous",
                "foreign_keys",
                "trusted_schema",
                "cell_size_check",
                "busy_timeout",
            ]
            .iter()
            .map(|name| {
                transaction.pragma_query_value(None, name, |row| {
                    Ok(match row.get_ref(0)? {
                        rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                        other => other.as_str()?.to_owned(),
                    })
                })
            })
            .collect::<rusqlite::Result<Vec<_>>>()
        })
        .unwrap();
    assert_eq!(settings, ["wal", "1", "1", "0", "1", "5000"]);
    let refused = db.database().read("write with a reader", |snapshot| {
        snapshot.execute("DELETE FROM crates", [])
    });
    assert!(matches!(refused, Err(Error::Sqlite { .. })));
}

#[test]
fn a_newer_database_is_refused_and_not_a_byte_of_it_changes() {
    for in_wal in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        for file in ["mirror.db", "decisions.db"] {
            let path = dir.path().join(file);
            let other = Connection::open(&path).unwrap();
            other.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
            other
                .execute_batch("CREATE TABLE future (x); PRAGMA user_version = 1000")
                .unwrap();
            // Left open, so that its last state is in the log alone.
            let open = if in_wal { Some(other) } else { None };
            let before = fs::read(&path).unwrap();
            let wal = fs::read(with_suffix(&path, "-wal")).ok();
            let error = match file {
                "mirror.db" => MetadataDb::open(&path).unwrap_err(),
                _ => DecisionsDb::open(&path).unwrap_err(),
            };
            assert!(
                matches!(
                    error,
                    Error::Newer {
                        found: 1000,
                        known: 3,
                        ..
                    }
                ),
                "{error:?}"
            );
            assert!(error.to_string().ends_with("up to 3: use a newer mirror"), "{error}");
            let reading = MetadataDb::open_read_only(&path);
            assert!(matches!(reading, Err(Error::Newer { found: 1000, .. })));
            assert_eq!(fs::read(&path).unwrap(), before);
            assert_eq!(fs::read(with_suffix(&path, "-wal")).ok(), wal);
            drop(open);
        }
    }
}

#[test]
fn a_reader_beside_the_writer_sees_what_is_committed_and_changes_nothing() {
    let (dir, db) = scratch();
    let path = dir.path().join("mirror.db");
    let reader = MetadataDb::open_read_only(&path).unwrap();
    db.record_kept(&kept("serde", "1.0.0")).unwrap();
    assert_eq!(reader.search("serde", 1, 1).unwrap().total, 1);
    assert!(matches!(
        reader.record_kept(&kept("log", "1.0.0")),
        Err(Error::Sqlite { .. })
    ));
    db.record_kept(&kept("log", "1.0.0")).unwrap();
    assert_eq!(reader.totals().unwrap().files, 2);
    assert!(MetadataDb::open_read_only(&dir.path().join("none.db")).is_err());
    assert!(!dir.path().join("none.db").exists());
    let garbage = dir.path().join("garbage.db");
    fs::write(&garbage, [0xA5; 5000]).unwrap();
    assert!(matches!(
        MetadataDb::open_read_only(&garbage),
        Err(Error::Corrupt { .. })
    ));
    assert!(!damage_mark(&garbage).exists());
}

#[test]
fn a_file_that_is_no_database_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mirror.db");
    let garbage = vec![0xA5; 10_000];
    fs::write(&path, &garbage).unwrap();
    fs::write(with_suffix(&path, "-wal"), b"old log").unwrap();
    let opened = MetadataDb::open(&path).unwrap();
    let OpenState::Replaced { moved_to, .. } = opened.state else {
        panic!("{:?}", opened.state)
    };
    assert_eq!(fs::read(&moved_to).unwrap(), garbage);
    assert_eq!(opened.db.totals().unwrap().files, 0);
    drop(opened.db);
    fs::write(&path, &garbage).unwrap();
    assert_replaced(&path);
}

#[test]
fn an_empty_or_deleted_file_is_a_fresh_start() {
    for delete in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = filled(&dir, 3);
        fs::write(with_suffix(&path, "-wal"), b"a log without its file").unwrap();
        if delete {
            fs::remove_file(&path).unwrap();
        } else {
            fs::write(&path, b"").unwrap();
        }
        let opened = MetadataDb::open(&path).unwrap();
        assert_eq!(opened.state, OpenState::Fresh);
        assert_eq!(opened.db.totals().unwrap().files, 0);
    }
}

#[test]
fn a_truncated_file_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(&dir, 200);
    let size_bytes = fs::metadata(&path).unwrap().len();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(size_bytes / 2)
        .unwrap();
    assert_replaced(&path);
}

#[test]
fn damage_that_is_met_in_use_is_replaced_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(&dir, 3);
    // A sound file with a value that we never write: no check by SQLite can see it.
    let other = Connection::open(&path).unwrap();
    other.execute("UPDATE crate_texts SET manifest = '{'", []).unwrap();
    drop(other);
    let opened = MetadataDb::open(&path).unwrap();
    assert_eq!(opened.state, OpenState::Existing);
    let error = opened.db.crate_details(&name("crate-1")).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    drop(opened.db);
    assert_replaced(&path);
}

#[test]
fn a_damaged_search_table_is_replaced() {
    for damage in [
        "DELETE FROM crate_search_data WHERE id > 10",
        "UPDATE crate_search_data SET block = x'00'",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = filled(&dir, 50);
        Connection::open(&path).unwrap().execute(damage, []).unwrap();
        let opened = MetadataDb::open(&path).unwrap();
        assert!(use_everything(&opened.db), "{damage}");
        drop(opened.db);
        assert_replaced(&path);
    }
}

/// Overwrites the end of the file, where no opening looks.
fn spoil(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let from = bytes.len() / 2;
    bytes[from..].fill(0xA5);
    fs::write(path, bytes).unwrap();
}

#[test]
fn damage_is_found_and_replaced_under_those_who_use_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(&dir, 300);
    spoil(&path);
    let opened = MetadataDb::open(&path).unwrap();
    assert_eq!(opened.state, OpenState::Existing);
    let db = opened.db;
    assert_eq!(db.renew_if_damaged().unwrap(), None, "nobody has met it yet");
    // somebody is at work in the damaged file all the time
    let before = db.database();
    assert!(matches!(db.check(), Err(Error::Corrupt { .. })));
    assert!(damage_mark(&path).exists(), "a kill at this moment loses nothing");
    let state = db.renew_if_damaged().unwrap();
    assert!(matches!(state, Some(OpenState::Replaced { .. })), "{state:?}");
    assert!(!damage_mark(&path).exists() && !db.is_given_up());
    db.record_kept(&kept("serde", "1.0.0")).unwrap();
    assert!(before.integrity_check().is_err());
    drop(before);
    assert!(
        !damage_mark(&path).exists(),
        "the damage of the old one is not the new one's"
    );
    db.record_kept(&kept("log", "0.4.1")).unwrap();
    assert!(!use_everything(&db));
    db.check().unwrap();
    drop(db);
    let again = open_and_check(&path);
    assert_eq!(again.state, OpenState::Existing);
    assert_eq!(again.db.search("serde", 1, 1).unwrap().total, 1);
}

#[test]
fn a_disk_that_damages_one_after_the_other_is_given_up() {
    let (dir, db) = scratch();
    let path = dir.path().join("mirror.db");
    for round in 0..4 {
        assert!(!db.is_given_up());
        let other = Connection::open(&path).unwrap();
        other.execute_batch("DROP TABLE kept_files").unwrap();
        assert!(matches!(db.kept_checksums(), Err(Error::Corrupt { .. })));
        assert_eq!(db.renew_if_damaged().unwrap().is_some(), round < 3);
    }
    assert!(db.is_given_up());
    drop(db);
    assert_replaced(&path);
}

#[test]
fn tables_that_are_not_ours_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(&dir, 5);
    Connection::open(&path)
        .unwrap()
        .execute_batch("DROP TABLE served")
        .unwrap();
    let db = MetadataDb::open(&path).unwrap().db;
    assert!(matches!(db.kept_versions(&name("crate-1")), Err(Error::Corrupt { .. })));
    drop(db);
    assert_replaced(&path);
}

#[test]
fn a_stale_or_garbled_shm_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(&dir, 5);
    fs::write(with_suffix(&path, "-shm"), vec![0x77; 32 << 10]).unwrap();
    let opened = MetadataDb::open(&path).unwrap();
    assert_eq!(opened.state, OpenState::Existing);
    assert_eq!(opened.db.totals().unwrap().files, 5);
}

#[test]
fn a_path_that_cannot_be_opened_is_an_error_and_not_damage() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().join("no/such/mirror.db"), dir.path().to_owned()] {
        assert!(matches!(MetadataDb::open(&path), Err(Error::Sqlite { .. })));
    }
}

#[test]
fn a_log_that_is_deleted_costs_only_what_was_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(&dir, 10);
    let db = MetadataDb::open(&path).unwrap().db;
    db.record_kept(&kept("late", "1.0.0")).unwrap();
    // A copy is what a crash leaves; the log is left out of it.
    let crashed = dir.path().join("crashed.db");
    fs::copy(&path, &crashed).unwrap();
    let opened = MetadataDb::open(&crashed).unwrap();
    assert_eq!(opened.state, OpenState::Existing);
    assert_eq!(opened.db.totals().unwrap().files, 10);
    opened.db.integrity_check().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn overwritten_pages_end_in_a_sound_database(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 1usize..4096), 1..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = filled(&dir, 120);
        let mut bytes = fs::read(&path).unwrap();
        for (at, byte, length) in damage {
            // The header's layout number would make it a newer database, which is another test.
            let at = at.index(bytes.len()).max(100);
            let end = (at + length).min(bytes.len());
            bytes[at..end].fill(byte);
        }
        fs::write(&path, bytes).unwrap();
        let opened = MetadataDb::open(&path).unwrap();
        let damaged = use_everything(&opened.db);
        drop(opened.db);
        let again = MetadataDb::open(&path).unwrap();
        prop_assert_eq!(damaged, matches!(again.state, OpenState::Replaced { .. }));
    }
}
