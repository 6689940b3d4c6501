use std::collections::BTreeMap;

use tempfile::TempDir;

use super::*;

pub(crate) fn scratch() -> (TempDir, DecisionsDb) {
    let dir = tempfile::tempdir().unwrap();
    let db = DecisionsDb::open(&dir.path().join("decisions.db")).unwrap();
    (dir, db)
}

fn path(text: &str) -> IndexPath {
    text.parse().unwrap()
}

fn decided(vers: &str, kind: DecisionKind) -> DecisionRow {
    DecisionRow {
        vers: vers.to_owned(),
        kind,
        whole_crate: false,
        line: format!("line of {vers} \u{1f980}").into_bytes(),
        held_line: None,
        checksum: Checksum::of(vers.as_bytes()),
        new_checksum: None,
        decided_at: 100,
    }
}

#[test]
fn decisions_are_there_after_a_restart() {
    let (dir, db) = scratch();
    let mut held = decided("1.0.0", DecisionKind::HeldChecksum);
    held.held_line = Some(b"\xff\0 new".to_vec());
    held.new_checksum = Some(Checksum::of(b"new"));
    let removed = decided("1.1.0", DecisionKind::Removed);
    db.put_all(&path("se/rd/serde"), &[held.clone(), removed.clone()], &[])
        .unwrap();
    db.put(&path("3/l/log"), &decided("0.4.0", DecisionKind::Kept)).unwrap();
    drop(db);
    let db = DecisionsDb::open(&dir.path().join("decisions.db")).unwrap();
    assert_eq!(
        db.decisions_for(&path("se/rd/serde")).unwrap(),
        [held.clone(), removed.clone()]
    );
    assert_eq!(db.decisions_for(&path("se/rd/serdf")).unwrap(), []);
    let all: Vec<_> = db.all().unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(all[0].0, path("3/l/log"));
    let of_kind = db.of_kind(DecisionKind::Removed).unwrap();
    assert_eq!(of_kind, [(path("se/rd/serde"), removed)]);
    db.integrity_check().unwrap();
}

#[test]
fn a_decision_replaces_the_one_before_and_can_be_taken_back() {
    let (_dir, db) = scratch();
    let serde = path("se/rd/serde");
    db.put(&serde, &decided("1.0.0", DecisionKind::HeldRemoval)).unwrap();
    db.put(&serde, &decided("1.0.0", DecisionKind::Accepted)).unwrap();
    db.put(&serde, &decided("2.0.0", DecisionKind::Removed)).unwrap();
    let kinds = |rows: Vec<DecisionRow>| rows.iter().map(|row| row.kind).collect::<Vec<_>>();
    let found = kinds(db.decisions_for(&serde).unwrap());
    assert_eq!(found, [DecisionKind::Accepted, DecisionKind::Removed]);
    let remove = ["1.0.0".to_owned(), "2.0.0".to_owned(), "unknown".to_owned()];
    db.put_all(&serde, &[decided("2.0.0", DecisionKind::Kept)], &remove)
        .unwrap();
    assert_eq!(kinds(db.decisions_for(&serde).unwrap()), [DecisionKind::Kept]);
    assert!(db.delete(&serde, "2.0.0").unwrap());
    assert!(!db.delete(&serde, "2.0.0").unwrap());
    assert_eq!(db.all().unwrap(), []);
}

#[test]
fn each_kind_means_something_to_what_is_published() {
    let rows = DecisionKind::ALL.map(|kind| decided(kind.as_str(), kind));
    let keep = |vers: &str| {
        let line = decided(vers, DecisionKind::Kept).line;
        (vers.to_owned(), Decision::Keep(line))
    };
    let expected = BTreeMap::from([
        ("removed".to_owned(), Decision::Omit),
        keep("held-checksum"),
        keep("held-removal"),
        keep("kept"),
    ]);
    assert_eq!(to_registry(&rows), expected);
    let (_dir, db) = scratch();
    db.put_all(&path("1/a"), &rows, &[]).unwrap();
    assert_eq!(to_registry(&db.decisions_for(&path("1/a")).unwrap()), expected);
}

#[test]
fn only_whole_crates_that_went_lately_count_as_a_mass_removal() {
    let (_dir, db) = scratch();
    let gone = |vers: &str, kind, decided_at| DecisionRow {
        whole_crate: true,
        decided_at,
        ..decided(vers, kind)
    };
    let rows = [
        gone("1.0.0", DecisionKind::Removed, 200),
        gone("1.0.1", DecisionKind::Removed, 200),
    ];
    db.put_all(&path("1/a"), &rows, &[]).unwrap();
    db.put(&path("1/b"), &gone("1.0.0", DecisionKind::HeldRemoval, 150))
        .unwrap();
    db.put(&path("1/c"), &gone("1.0.0", DecisionKind::Removed, 149))
        .unwrap();
    db.put(&path("1/d"), &gone("1.0.0", DecisionKind::Kept, 200)).unwrap();
    db.put(&path("1/e"), &decided("1.0.0", DecisionKind::Removed)).unwrap();
    assert_eq!(db.removed_crates_since(150).unwrap(), 2);
    assert_eq!(db.removed_crates_since(201).unwrap(), 0);
}

#[test]
fn a_commit_waits_for_the_disk() {
    let (_dir, db) = scratch();
    let synchronous: i64 = db
        .database
        .write("look", |transaction| {
            transaction.pragma_query_value(None, "synchronous", |row| row.get(0))
        })
        .unwrap();
    assert_eq!(synchronous, 2);
}

#[test]
fn a_damaged_file_is_an_error_and_stays_as_it_is() {
    let (dir, db) = scratch();
    let file = dir.path().join("decisions.db");
    let rows: Vec<_> = (0..100)
        .map(|at| decided(&format!("1.0.{at}"), DecisionKind::Kept))
        .collect();
    db.put_all(&path("1/a"), &rows, &[]).unwrap();
    drop(db);
    let sound = fs::read(&file).unwrap();
    let mut overwritten = sound.clone();
    overwritten[5000..9000].fill(0x5A);
    for damaged in [
        vec![0xA5; 9000],
        overwritten,
        sound[..sound.len() / 2].to_vec(),
        sound[..100].to_vec(),
    ] {
        fs::write(&file, &damaged).unwrap();
        let error = DecisionsDb::open(&file).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
        assert_eq!(fs::read(&file).unwrap(), damaged);
    }
    let names = fs::read_dir(dir.path()).unwrap();
    assert!(
        names
            .into_iter()
            .all(|entry| !entry.unwrap().file_name().to_string_lossy().contains("damaged"))
    );
}

#[test]
fn a_log_without_its_file_is_an_error_and_kept() {
    let (dir, db) = scratch();
    let file = dir.path().join("decisions.db");
    db.put(&path("1/a"), &decided("1.0.0", DecisionKind::Kept)).unwrap();
    let crashed = dir.path().join("crashed.db");
    let log = with_suffix(&crashed, "-wal");
    fs::copy(with_suffix(&file, "-wal"), &log).unwrap();
    for empty in [false, true] {
        if empty {
            fs::write(&crashed, b"").unwrap();
        }
        assert!(matches!(DecisionsDb::open(&crashed), Err(Error::Corrupt { .. })));
        assert!(fs::metadata(&log).unwrap().len() > 0);
    }
}
