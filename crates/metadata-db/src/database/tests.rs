use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crate::metadata::tests::{kept, name, scratch};

#[test]
fn many_threads_read_and_write_at_once() {
    let (_dir, db) = scratch();
    thread::scope(|scope| {
        for worker in 0..12 {
            let db = &db;
            scope.spawn(move || {
                for at in 0..10 {
                    let file = kept(&format!("crate-{worker}"), &format!("1.0.{at}"));
                    db.record_kept(&file).unwrap();
                    assert_eq!(db.kept_versions(&file.name).unwrap().len(), at + 1);
                    assert!(db.search(file.name.as_str(), 1, 10).unwrap().hits[0].exact_match);
                }
            });
        }
    });
    assert_eq!(db.totals().unwrap().files, 120);
    db.integrity_check().unwrap();
}

#[test]
fn a_panic_leaves_neither_half_a_transaction_nor_a_lost_connection() {
    let (_dir, db) = scratch();
    db.record_kept(&kept("serde", "1.0.0")).unwrap();
    for _ in 0..6 {
        let writing = catch_unwind(AssertUnwindSafe(|| {
            let _ = db.database().write("fail", |transaction| -> rusqlite::Result<()> {
                transaction.execute("DELETE FROM kept_files", [])?;
                panic!("while writing")
            });
        }));
        let reading = catch_unwind(AssertUnwindSafe(|| {
            let _ = db.for_each_kept(|_| panic!("while reading"));
        }));
        assert!(writing.is_err() && reading.is_err());
    }
    assert_eq!(db.kept_versions(&name("serde")).unwrap().len(), 1);
    db.record_kept(&kept("serde", "1.0.1")).unwrap();
}
