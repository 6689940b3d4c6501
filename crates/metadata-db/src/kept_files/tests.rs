use std::collections::HashSet;

use super::*;
use crate::Served;
use crate::metadata::tests::{kept, manifest_of, name, scratch, version};

fn versions(db: &MetadataDb, crate_name: &str) -> Vec<String> {
    let rows = db.kept_versions(&name(crate_name)).unwrap();
    rows.iter().map(|row| row.version.to_string()).collect()
}

#[test]
fn a_kept_file_is_found_by_every_spelling_of_its_name() {
    let (_dir, db) = scratch();
    let mut file = kept("Serde-Json", "1.0.0+build.1");
    file.size_bytes = 1 << 40;
    db.record_kept(&file).unwrap();
    let expected = KeptRow {
        name: file.name.clone(),
        version: file.version.clone(),
        checksum: file.checksum,
        size_bytes: 1 << 40,
        kept_at: 1000,
        unparsable: None,
        served_count: 0,
        last_served: None,
    };
    for spelled in ["Serde-Json", "serde_json", "SERDE-JSON"] {
        let found = db.kept_file(&name(spelled), &file.version).unwrap();
        assert_eq!(found.as_ref(), Some(&expected));
    }
    assert_eq!(db.kept_file(&name("serde_json"), &version("1.0.0")).unwrap(), None);
    assert_eq!(db.kept_file(&name("serdejson"), &file.version).unwrap(), None);
}

#[test]
fn recording_again_replaces_and_counts_once() {
    let (_dir, db) = scratch();
    let mut file = kept("serde", "1.0.0");
    db.record_kept(&file).unwrap();
    file.checksum = Checksum::of(b"other bytes");
    file.size_bytes = 7;
    file.manifest = ManifestState::Unparsable("`x` is a symlink".to_owned());
    db.record_kept(&file).unwrap();
    let row = db.kept_file(&file.name, &file.version).unwrap().unwrap();
    assert_eq!((row.checksum, row.size_bytes), (file.checksum, 7));
    assert_eq!(row.unparsable.as_deref(), Some("`x` is a symlink"));
    assert_eq!(db.kept_checksums().unwrap(), HashSet::from([file.checksum]));
    let totals = db.totals().unwrap();
    assert_eq!((totals.files, totals.bytes, totals.crates), (1, 7, 1));
}

#[test]
fn forgetting_takes_the_versions_and_then_the_crate() {
    let (_dir, db) = scratch();
    let (old, new) = (kept("serde", "1.9.0"), kept("serde", "1.10.0"));
    db.record_kept_all(&[old.clone(), new.clone()]).unwrap();
    assert_eq!(versions(&db, "serde"), ["1.10.0", "1.9.0"]);
    assert!(db.forget_kept(&new.checksum).unwrap());
    assert_eq!(versions(&db, "serde"), ["1.9.0"]);
    assert_eq!(db.search("serde", 1, 1).unwrap().hits[0].newest.as_str(), "1.9.0");
    assert!(db.forget_kept(&old.checksum).unwrap());
    assert!(!db.forget_kept(&old.checksum).unwrap());
    assert_eq!(db.search("serde", 1, 1).unwrap().total, 0);
    assert_eq!(db.totals().unwrap(), Totals::default());
    db.integrity_check().unwrap();
}

#[test]
fn one_checksum_may_stand_for_several_versions() {
    let (_dir, db) = scratch();
    let (mut a, mut b) = (kept("aa", "1.0.0"), kept("bb", "1.0.0"));
    (a.checksum, b.checksum) = (Checksum::of(b"same"), Checksum::of(b"same"));
    db.record_kept_all(&[a.clone(), b]).unwrap();
    assert!(db.forget_kept(&a.checksum).unwrap());
    assert_eq!(db.totals().unwrap(), Totals::default());
}

#[test]
fn a_lost_file_is_listed_and_not_counted() {
    let (_dir, db) = scratch();
    let (old, new, other) = (kept("serde", "1.9.0"), kept("serde", "1.10.0"), kept("other", "1.0.0"));
    let lost = |file: &KeptFile| {
        let size_bytes = 0;
        let file = file.clone();
        db.record_kept(&KeptFile { size_bytes, ..file }).unwrap();
    };
    let totals = || {
        let Totals { files, bytes, crates } = db.totals().unwrap();
        (files, bytes, crates)
    };
    db.record_kept_all(&[old.clone(), new.clone(), other.clone()]).unwrap();
    assert_eq!(totals(), (3, 300, 2));
    lost(&new);
    assert_eq!(totals(), (2, 200, 2));
    lost(&old);
    lost(&old);
    assert_eq!(totals(), (1, 100, 1));
    assert_eq!(versions(&db, "serde"), ["1.10.0", "1.9.0"]);
    db.record_kept(&new).unwrap();
    assert_eq!(totals(), (2, 200, 2));
    assert!(db.forget_kept(&old.checksum).unwrap());
    assert!(db.forget_kept(&other.checksum).unwrap());
    assert_eq!(totals(), (1, 100, 1));
    lost(&new);
    assert!(db.forget_kept(&new.checksum).unwrap());
    assert_eq!(totals(), (0, 0, 0));
}

#[test]
fn all_kept_files_are_listed() {
    let (_dir, db) = scratch();
    let files: Vec<_> = (0..20).map(|at| kept(&format!("c{at}"), "1.0.0")).collect();
    db.record_kept_all(&files).unwrap();
    let expected: HashSet<Checksum> = files.iter().map(|file| file.checksum).collect();
    assert_eq!(db.kept_checksums().unwrap(), expected);
    let mut visited = HashSet::new();
    db.for_each_kept(|row| {
        visited.insert(row.checksum);
    })
    .unwrap();
    assert_eq!(visited, expected);
}

#[test]
fn the_crate_speaks_with_the_words_of_its_newest_release() {
    let (_dir, db) = scratch();
    let described = |vers, words: &str| {
        let mut file = kept("serde", vers);
        manifest_of(&mut file).description = Some(words.to_owned());
        file
    };
    let description = || db.search("serde", 1, 1).unwrap().hits[0].description.clone().unwrap();
    db.record_kept(&described("1.0.0", "first")).unwrap();
    db.record_kept(&described("2.0.0-alpha.1", "alpha")).unwrap();
    assert_eq!(description(), "first");
    db.record_kept(&described("0.9.0", "old")).unwrap();
    assert_eq!(description(), "first");
    db.record_kept(&described("1.0.0", "first, corrected")).unwrap();
    assert_eq!(description(), "first, corrected");
    db.record_kept(&described("1.1.0", "second")).unwrap();
    assert_eq!(description(), "second");
    assert_eq!(db.search("corrected", 1, 1).unwrap().total, 0);
    assert_eq!(db.search("second", 1, 1).unwrap().total, 1);
}

#[test]
fn a_folder_lists_what_begins_with_its_byte() {
    let (_dir, db) = scratch();
    let mut all = HashSet::new();
    for (at, first) in [0, 0, 7, 8, 255].into_iter().enumerate() {
        let mut file = kept(&format!("crate-{at}"), "1.0.0");
        let mut bytes = *file.checksum.as_bytes();
        bytes[0] = first;
        file.checksum = Checksum::from_bytes(bytes);
        file.size_bytes = at as u64;
        db.record_kept(&file).unwrap();
        all.insert((file.checksum, file.size_bytes));
    }
    let count = |folder| db.kept_in(folder).unwrap().len();
    assert_eq!([0, 6, 7, 8, 9, 255].map(count), [2, 0, 1, 1, 0, 1]);
    let found: HashSet<_> = (0..=255).flat_map(|folder| db.kept_in(folder).unwrap()).collect();
    assert_eq!(found, all);
}

#[test]
fn what_was_used_least_goes_first_and_the_young_stay() {
    let (_dir, db) = scratch();
    let mut files: Vec<_> = (0..5).map(|at| kept(&format!("crate-{at}"), "1.0.0")).collect();
    for (file, kept_at) in files.iter_mut().zip([500, 100, 200, 300, 400]) {
        file.kept_at = kept_at;
    }
    db.record_kept_all(&files).unwrap();
    let served = |at: usize, last_unix| (files[at].checksum, Served { count: 1, last_unix });
    // a clock that stood wrong does not make a file older than its keeping
    db.add_served(&[served(1, 1000), served(3, 7)]).unwrap();
    let order = |limit, younger| {
        let rows = db.eviction_candidates(None, limit, younger).unwrap();
        rows.iter().map(|row| row.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        order(10, 10_000),
        ["crate-2", "crate-3", "crate-4", "crate-0", "crate-1"]
    );
    assert_eq!(order(2, 10_000), ["crate-2", "crate-3"]);
    assert_eq!(order(10, 300), ["crate-2", "crate-1"]);
    assert_eq!(db.eviction_candidates(None, 1, 10_000).unwrap()[0].size_bytes, 100);
}

#[test]
fn what_was_used_least_is_gone_through_from_row_to_row() {
    let (_dir, db) = scratch();
    let mut files: Vec<_> = (0..7).map(|at| kept(&format!("crate-{at}"), "1.0.0")).collect();
    // several of one second, as after a prefetch
    for (file, kept_at) in files.iter_mut().zip([100, 100, 100, 100, 90, 110, 80]) {
        file.kept_at = kept_at;
    }
    db.record_kept_all(&files).unwrap();
    let served = Served {
        count: 1,
        last_unix: 100,
    };
    db.add_served(&[(files[6].checksum, served)]).unwrap();
    let all = db.eviction_candidates(None, 10, 1000).unwrap();
    assert_eq!(all.len(), files.len());
    for step in 1..4 {
        let mut seen: Vec<KeptRow> = Vec::new();
        loop {
            let rows = db.eviction_candidates(seen.last(), step, 1000).unwrap();
            if rows.is_empty() {
                break;
            }
            // what goes meanwhile does not move the rest
            db.forget_kept(&rows[0].checksum).unwrap();
            seen.extend(rows);
        }
        assert_eq!(seen, all, "in steps of {step}");
        db.record_kept_all(&files).unwrap();
    }
}
