//! What a clone costs: a log of so many files (the first argument; 40,000) in a directory of its own, then ten clones
//! and ten updates of it. Times are of one thread, which does nothing else.

use std::{
    error::Error,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use git_smart_http::{Commit, Kind, Limits, Object, ObjectId, PackLogWriter, Protocol, View, respond};

fn main() -> Result<(), Box<dyn Error>> {
    let files: u64 = std::env::args().nth(1).map_or(Ok(40_000), |count| count.parse())?;
    let dir = Path::new(&std::env::args().nth(2).unwrap_or_else(|| "clone-cost-log".to_owned())).to_owned();
    let mut log = PackLogWriter::create(&dir)?;
    let started = Instant::now();
    append(&mut log, 0, files)?;
    println!("first commit of {files} files: {:?}", started.elapsed());
    let started = Instant::now();
    for number in 1..=100 {
        append(&mut log, number, 5)?;
    }
    println!("each further commit: {:?}", started.elapsed() / 100);
    drop(log);
    let started = Instant::now();
    let (log, _) = PackLogWriter::open(&dir)?;
    println!("opening: {:?}", started.elapsed());

    let view = log.log().view();
    let started = Instant::now();
    view.verify(|_, _| {})?;
    println!("verifying: {:?}", started.elapsed());
    measure("clone", &view, "")?;
    measure("update", &view, &format!("0032have {}\n", name(1, 50, 0)))?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// Ten answers to the same request, of which the mean is shown.
fn measure(what: &str, view: &Arc<View>, haves: &str) -> Result<(), Box<dyn Error>> {
    // "want ", the name, " side-band-64k" and the length itself are 63 bytes.
    let body = format!("003fwant {} side-band-64k0000{haves}0009done\n", name(1, 100, 0));
    let (mut bytes, mut first) = (0, Duration::ZERO);
    let started = Instant::now();
    for _ in 0..10 {
        let asked = Instant::now();
        let answer = respond(view, Protocol::V0, body.as_bytes(), &Limits::default())?;
        for (number, piece) in answer.pieces().enumerate() {
            bytes += piece?.len();
            if number == 1 {
                first += asked.elapsed();
            }
        }
    }
    println!(
        "{what}: {} bytes in {:?}, first of the pack after {:?}",
        bytes / 10,
        started.elapsed() / 10,
        first / 10
    );
    Ok(())
}

fn append(log: &mut PackLogWriter, commit: u64, files: u64) -> Result<(), git_smart_http::Error> {
    let parent = commit.checked_sub(1).map(|parent| name(1, parent, 0));
    let mut append = log.begin(Commit {
        id: name(1, commit, 0),
        tree: name(2, commit, 0),
        parent,
        time: commit.cast_signed(),
    })?;
    append.push(Object {
        id: name(1, commit, 0),
        kind: Kind::Commit,
        data: b"a commit",
    })?;
    append.push(Object {
        id: name(2, commit, 0),
        kind: Kind::Tree,
        data: b"a tree",
    })?;
    for file in 0..files {
        let line = |n: u64| {
            format!(
                "{{\"vers\":\"0.{n}.0\",\"cksum\":\"{:032x}\"}}\n",
                u128::from(n + file).pow(3).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            )
        };
        let data: String = (0..12).map(|n| line(n + commit)).collect();
        append.push(Object {
            id: name(3, commit, file),
            kind: Kind::Blob,
            data: data.as_bytes(),
        })?;
    }
    append.finish()
}

/// Names that are not those of the content: the log believes them.
fn name(kind: u8, commit: u64, file: u64) -> ObjectId {
    let mut id = [kind; 20];
    id[..8].copy_from_slice(
        &file
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(u64::from(kind))
            .to_be_bytes(),
    );
    id[8..16].copy_from_slice(&commit.to_be_bytes());
    ObjectId(id)
}
