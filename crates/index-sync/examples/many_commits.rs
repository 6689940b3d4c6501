//! Ten thousand commits of one file each, with the limits of `mirror serve`; says what is left and how long a read takes.
//!
//! `cargo run --release -p index-sync --example many_commits`

use std::error::Error;
use std::path::Path;
use std::time::{Instant, SystemTime};

use index_sync::{Change, Repository, RepositoryLimits, TreeFile};

const COMMITS: usize = 10_000;
const FILES: usize = 3_000;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut repository = Repository::open(dir.path(), RepositoryLimits::default())?;
    let first: Vec<Change> = (0..FILES).map(|n| change(n, 0)).collect::<Result<_, _>>()?;
    repository.commit(&first, "all\n", 0)?;
    let (mut most_packs, mut most_bytes, mut squashes) = (0, 0, 0);
    let started = Instant::now();
    for n in 1..=COMMITS {
        repository.commit(&[change(n * 7 % FILES, n)?], "one\n", i64::try_from(n)?)?;
        squashes += usize::from(repository.upkeep(SystemTime::now())?.squashed.is_some());
        let (packs, bytes) = on_disk(&dir.path().join("objects/pack"))?;
        most_packs = most_packs.max(packs);
        most_bytes = most_bytes.max(bytes);
    }
    let each = started.elapsed() / u32::try_from(COMMITS)?;
    println!("{each:?} for a commit with upkeep; at most {most_packs} packs, {most_bytes} bytes; {squashes} squashes");
    let (tree, started) = (repository.reader(), Instant::now());
    for n in 0..FILES {
        tree.read(&file(n)?)?.ok_or("a file is missing")?;
    }
    println!("{:?} to read one index file", started.elapsed() / u32::try_from(FILES)?);
    Ok(())
}

fn change(file_number: usize, n: usize) -> Result<Change, Box<dyn Error>> {
    let content = format!("{{\"name\":\"crate{file_number}\",\"vers\":\"0.1.{n}\"}}\n").repeat(1 + file_number % 9);
    Ok(Change {
        file: file(file_number)?,
        content: Some(content.into_bytes()),
    })
}

fn file(number: usize) -> Result<TreeFile, Box<dyn Error>> {
    let letter = |power: usize| char::from(b'a' + u8::try_from(number / power % 26).unwrap_or_default());
    let (a, b) = (letter(1), letter(26));
    Ok(TreeFile::Index(format!("{a}{b}/cr/{a}{b}crate{number}").parse()?))
}

fn on_disk(packs: &Path) -> Result<(usize, u64), Box<dyn Error>> {
    let (mut count, mut bytes) = (0, 0);
    for entry in packs.read_dir()? {
        let entry = entry?;
        count += usize::from(entry.path().extension().is_some_and(|extension| extension == "pack"));
        bytes += entry.metadata()?.len();
    }
    Ok((count, bytes))
}
