//! A disk of 64 MiB that is full before an import, and one that becomes full in its middle.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use testkit::{BuiltCrate, CrateBuilder};

use crate::namespaces;
use crate::sides::{Log, Outside, has_all, office_builder, ok, refused, text, visible};

const DISK_BYTES: u64 = 64 << 20;
/// Each takes a page of the disk, and far less by its size.
const TINY: usize = 1_500;

fn old() -> Vec<BuiltCrate> {
    vec![CrateBuilder::new("old", "1.0.0").padding(50_000).build()]
}

fn tiny() -> Vec<BuiltCrate> {
    (0..TINY)
        .map(|number| CrateBuilder::new(&format!("tiny{number}"), "1.0.0").build())
        .collect()
}

fn large() -> Vec<BuiltCrate> {
    (0..4)
        .map(|number| {
            CrateBuilder::new(&format!("large{number}"), "1.0.0")
                .padding(9 << 20)
                .build()
        })
        .collect()
}

#[test]
fn a_full_disk_costs_nothing_that_is_there_and_heals() {
    match namespaces::place() {
        None => prepared_outside(),
        Some(place) => inside(&place),
    }
}

fn prepared_outside() {
    if !testkit::may_mount() {
        eprintln!("skipped: no disk can be mounted here");
        return;
    }
    let outside = Outside::with(&old());
    outside.keep(&old());
    let stick = tempfile::tempdir().unwrap();
    let mut last = outside.export("old.tar", &[]);
    let carry = |from: &Path, name: &str| std::fs::copy(from, stick.path().join(name)).unwrap();
    carry(&last, "old.tar");
    for (name, crates) in [("tiny.tar", tiny()), ("large.tar", large())] {
        outside.publish(&crates);
        // many names at once do not fit into a command
        let list: String = crates
            .iter()
            .map(|krate| format!("{} ={}\n", krate.name, krate.version))
            .collect();
        std::fs::write(outside.on_stick("list"), list).unwrap();
        ok(&outside
            .mirror
            .run(&["prefetch", "--list", text(&outside.on_stick("list"))]));
        last = outside.export_since(name, &last);
        carry(&last, name);
    }
    std::fs::write(stick.path().join("key"), outside.key()).unwrap();
    let place = tempfile::tempdir().unwrap();
    // the disk hides what lies below it
    std::os::unix::fs::symlink(stick.path(), place.path().with_extension("stick")).unwrap();
    let ran = namespaces::with_a_disk(
        DISK_BYTES,
        "full_disk::a_full_disk_costs_nothing_that_is_there_and_heals",
        place.path(),
    );
    std::fs::remove_file(place.path().with_extension("stick")).unwrap();
    println!("ran: {ran}");
}

/// Fills the disk but for so much.
fn ballast(disk: &Path, free_bytes: u64) {
    let mut file = File::create(disk.join("ballast")).unwrap();
    let (piece, mut size_bytes) = ([1; 64 << 10], 0);
    while let Ok(written) = file.write(&piece) {
        size_bytes += written as u64;
    }
    file.set_len(size_bytes - free_bytes).unwrap();
}

fn inside(disk: &Path) {
    let stick = disk.with_extension("stick");
    let office = office_builder()
        .data_dir(&disk.join("data"))
        .env("MIRROR_CACHE__MIN_FREE", "0")
        .start();
    let mut log = Log::default();
    let bundle = |name: &str| stick.join(name).to_str().unwrap().to_owned();
    let key = std::fs::read_to_string(stick.join("key")).unwrap();
    ok(&office.run(&["import", &bundle("old.tar"), "--trust", &key]));
    log.grown(&office);
    let crates = [old(), tiny(), large()].concat();
    let before = visible(&office, &crates[..3]);

    // by its size it fits, by what the disk makes of so many files it does not
    let mut refusals = 0;
    for free_bytes in [0, 512 << 10, 1 << 20, 2 << 20] {
        ballast(disk, free_bytes);
        let said = refused(&office.run(&["import", &bundle("tiny.tar")]));
        println!("{free_bytes} free: {said}");
        assert!(said.contains("nothing was written"), "{free_bytes} free: {said}");
        refusals += 1;
        // what is served is as it was, while the disk is full and after that
        for _ in 0..2 {
            assert_eq!(visible(&office, &crates[..3]), before, "{free_bytes} free");
            has_all(&office, &old());
            let _ = std::fs::remove_file(disk.join("ballast"));
        }
    }
    ok(&office.run(&["import", &bundle("tiny.tar")]));
    has_all(&office, &crates[..=TINY]);
    let after = visible(&office, &crates[..3]);
    ballast(disk, 20 << 20);
    let said = refused(&office.run(&["import", &bundle("large.tar")]));
    assert!(
        ["space", "free", "full"].iter().any(|word| said.contains(word)),
        "{said}"
    );
    assert_eq!(visible(&office, &crates[..3]), after);
    std::fs::remove_file(disk.join("ballast")).unwrap();
    ok(&office.run(&["import", &bundle("large.tar")]));
    has_all(&office, &crates);
    crate::oracles::disk_is_sound(&office);
    assert!(refusals == 4 && !office.log().contains("panicked"), "{}", office.log());
}
