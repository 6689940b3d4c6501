use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::decisions::tests::scratch;

const SITE: &str = "00112233445566778899aabbccddeeff";

fn file(text: &str) -> Checksum {
    Checksum::of(text.as_bytes())
}

fn row(bundle: &str, serial: u64, result: ImportResult) -> ImportRow {
    ImportRow {
        at: 100 + i64::try_from(serial).unwrap(),
        bundle: Some(ImportedBundle {
            id: bundle.to_owned(),
            site: SITE.to_owned(),
            serial,
            part: 1,
            parts: 3,
        }),
        key_id: Some("0123456789ABCDEF".to_owned()),
        who: "carol \u{1f980}".to_owned(),
        result,
        why: (result == ImportResult::Refused).then(|| "the signature is wrong".to_owned()),
        counts: ImportCounts {
            crate_files: 1,
            crate_bytes: u64::from(u32::MAX) + 1,
            new_versions: 2,
            yanked: 3,
            removed: 4,
            changed: 5,
        },
    }
}

fn loose() -> ImportRow {
    ImportRow {
        bundle: None,
        key_id: None,
        ..row("", 0, ImportResult::Files)
    }
}

fn removed(vers: &str, decided_at: i64) -> SiteDecision {
    SiteDecision {
        path: "se/rd/serde".parse().unwrap(),
        vers: vers.to_owned(),
        kind: DecisionKind::Removed,
        whole_crate: true,
        decided_at,
        checksum: Some(file(vers)),
        new_checksum: None,
    }
}

fn ended<'a>(row: &'a ImportRow, decisions: Option<&'a [SiteDecision]>) -> EndedImport<'a> {
    EndedImport { row, decisions }
}

#[test]
fn the_log_has_every_row_as_it_was_in_its_order() {
    let (dir, db) = scratch();
    let rows: Vec<ImportRow> = ImportResult::ALL
        .into_iter()
        .zip(1..)
        .map(|(result, serial)| row("a", serial, result))
        .chain([loose()])
        .collect();
    for row in &rows {
        db.log_import(row).unwrap();
    }
    drop(db);
    let db = DecisionsDb::open(&dir.path().join("decisions.db")).unwrap();
    let mut found = Vec::new();
    db.for_each_import(|row| found.push(row)).unwrap();
    assert_eq!(found, rows);
    let latest: Vec<ImportRow> = rows.iter().rev().take(2).cloned().collect();
    assert_eq!(db.latest_imports(2).unwrap(), latest);
    let counts = db.import_counts().unwrap();
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 6);
    assert!(counts.contains(&(ImportResult::Files, 2)) && counts.contains(&(ImportResult::Imported, 1)));
}

#[test]
fn the_log_cannot_be_rewritten() {
    let (_dir, db) = scratch();
    db.log_import(&row("a", 1, ImportResult::Refused)).unwrap();
    for forbidden in ["UPDATE imports SET who = 'nobody'", "DELETE FROM imports"] {
        let refused = db
            .database
            .write("rewrite", |transaction| transaction.execute(forbidden, []));
        assert!(refused.unwrap_err().to_string().contains("only added to"));
    }
    assert_eq!(db.latest_imports(9).unwrap(), [row("a", 1, ImportResult::Refused)]);
}

#[test]
fn an_ended_import_is_known_by_bundle_site_and_file() {
    let (_dir, db) = scratch();
    let first = row("a", 1, ImportResult::Imported);
    db.end_import(&ended(&first, Some(&[removed("1.0.0", 7)])), ["1", "2"].map(file))
        .unwrap();
    db.log_import(&row("b", 2, ImportResult::Refused)).unwrap();
    db.log_import(&row("c", 2, ImportResult::Part)).unwrap();
    assert!(db.was_imported("a").unwrap());
    assert!(!db.was_imported("b").unwrap() && !db.was_imported("c").unwrap());
    let site = Site {
        id: SITE.to_owned(),
        last_bundle: "a".to_owned(),
        last_serial: 1,
        imported_at: 101,
    };
    assert_eq!(db.site(SITE).unwrap(), Some(site.clone()));
    assert_eq!(db.sites().unwrap(), [site]);
    assert_eq!(db.site("other").unwrap(), None);

    let second = row("d", 3, ImportResult::Imported);
    db.end_import(&ended(&second, None), ["2", "3"].map(file)).unwrap();
    let site = db.site(SITE).unwrap().unwrap();
    assert_eq!((&*site.last_bundle, site.last_serial), ("d", 3));
    let mut all = ["1", "2", "3"].map(file);
    all.sort();
    assert_eq!(db.site_files(SITE).unwrap(), all);
    assert_eq!(db.site_files("other").unwrap(), []);

    db.end_import_of_files(&loose(), [file("4"), file("1")]).unwrap();
    assert_eq!(db.site_files(SITE).unwrap(), all);
    assert_eq!(db.imported_checksums().unwrap().len(), 4);
    assert!(db.is_imported(&file("4")).unwrap() && db.is_imported(&file("1")).unwrap());
    assert!(!db.is_imported(&file("5")).unwrap());
}

#[test]
fn what_a_site_decided_is_as_its_last_bundle_with_an_index_says() {
    let (_dir, db) = scratch();
    let told = |serial: u64, decisions: Option<&[SiteDecision]>| {
        let row = row(&serial.to_string(), serial, ImportResult::Imported);
        db.end_import(&ended(&row, decisions), []).unwrap();
        let all = db.site_decisions().unwrap();
        assert!(all.iter().all(|(site, _)| site == SITE));
        all.into_iter().map(|(_, decision)| decision).collect::<Vec<_>>()
    };
    let held = SiteDecision {
        kind: DecisionKind::HeldChecksum,
        whole_crate: false,
        new_checksum: Some(file("new")),
        ..removed("2.0.0", 8)
    };
    let both = [removed("1.0.0", 7), held];
    assert_eq!(told(1, Some(&both)), both);
    assert_eq!(told(2, None), both);
    assert_eq!(told(3, Some(&both[..1])), both[..1]);
    assert_eq!(told(4, Some(&[])), []);
}

#[test]
fn an_end_that_is_cut_off_leaves_nothing() {
    let (dir, db) = scratch();
    let first = row("a", 1, ImportResult::Imported);
    let before = [removed("1.0.0", 7)];
    db.end_import(&ended(&first, Some(&before)), [file("1")]).unwrap();
    let second = row("b", 2, ImportResult::Imported);
    let cut = (0..10).map(|at: u8| {
        if at < 5 {
            file(&format!("cut {at}"))
        } else {
            panic!("cut off")
        }
    });
    let cut_off = catch_unwind(AssertUnwindSafe(|| db.end_import(&ended(&second, Some(&[])), cut)));
    assert!(cut_off.is_err());
    drop(db);
    let db = DecisionsDb::open(&dir.path().join("decisions.db")).unwrap();
    assert!(!db.was_imported("b").unwrap());
    assert_eq!(db.site(SITE).unwrap().unwrap().last_serial, 1);
    assert_eq!(db.site_files(SITE).unwrap(), [file("1")]);
    assert_eq!(db.site_decisions().unwrap().len(), 1);
    db.end_import(&ended(&second, Some(&[])), [file("2")]).unwrap();
    assert!(db.was_imported("b").unwrap());
    assert_eq!(db.site_decisions().unwrap(), []);
}

#[test]
fn the_serials_of_a_site_are_those_of_its_imported_bundles() {
    let (_dir, db) = scratch();
    let of_another = {
        let mut row = row("z", 9, ImportResult::Imported);
        row.bundle.as_mut().unwrap().site = "other".to_owned();
        row
    };
    let rows = [
        row("c", 4, ImportResult::Imported),
        row("a", 1, ImportResult::Imported),
        row("b", 2, ImportResult::Refused),
        row("b", 3, ImportResult::Part),
        row("c", 4, ImportResult::Unchanged),
        row("a", 1, ImportResult::Imported),
        of_another,
        loose(),
    ];
    for row in &rows {
        db.log_import(row).unwrap();
    }
    assert_eq!(db.imported_serials(SITE).unwrap(), [1, 4]);
    assert!(db.imported_serials("nobody").unwrap().is_empty());
}
