//! What other programs say of a data directory.

use std::path::Path;
use std::process::Command;

use testkit::{MirrorProcess, git, misnamed, run_if_there, said, text_of};

const DATABASES: [&str; 3] = ["mirror.db", "decisions.db", "fetch-log.db"];

pub fn there_are_judges() -> bool {
    let missing = ["python3", "sha256sum", "git"]
        .into_iter()
        .find(|program| run_if_there(program, &["--version"]).is_none_or(|output| !output.status.success()));
    if let Some(program) = missing {
        eprintln!("skipped: there is no {program} to judge the data directory");
    }
    missing.is_none()
}

pub fn disk_is_sound(mirror: &MirrorProcess) {
    let data_dir = mirror.data_dir();
    let fsck = git(&data_dir.join("index.git"), &["fsck", "--strict"]);
    assert!(fsck.status.success(), "git fsck: {}", said(&fsck));
    databases_are_sound(&data_dir);
    let wrong = misnamed(&mirror.kept_files()).unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// SQLite's own word on copies, so that the mirror finds its logs as the kill left them.
fn databases_are_sound(data_dir: &Path) {
    let copy = tempfile::tempdir().unwrap();
    let mut there = Vec::new();
    for name in DATABASES {
        for file in [name.to_owned(), format!("{name}-wal")] {
            if data_dir.join(&file).exists() {
                std::fs::copy(data_dir.join(&file), copy.path().join(&file)).unwrap();
            }
        }
        there.extend(copy.path().join(name).exists().then_some(name));
    }
    let script = "import sqlite3, sys\n\
                  for name in sys.argv[1:]:\n \
                  db = sqlite3.connect(name)\n \
                  print([row[0] for row in db.execute('PRAGMA integrity_check')], db.execute('PRAGMA foreign_key_check').fetchall())";
    let mut python = Command::new("python3");
    let output = python
        .args(["-c", script])
        .args(&there)
        .current_dir(copy.path())
        .output();
    let output = output.unwrap();
    assert_eq!(
        text_of(&output).0,
        "['ok'] []\n".repeat(there.len()),
        "{there:?}: {}",
        said(&output)
    );
}

/// For one that was just started: what a kill left in `tmp/` is swept.
pub fn no_unfinished_files(mirror: &MirrorProcess) {
    let unfinished = std::fs::read_dir(mirror.data_dir().join("tmp")).unwrap();
    let unfinished: Vec<_> = unfinished.map(|entry| entry.unwrap().file_name()).collect();
    assert!(unfinished.is_empty(), "{unfinished:?}");
}
