//! Imports the whole index of another mirror, as large as that of crates.io, and then what changes in a week; says how long each step
//! takes, what it takes of memory at most, and what is left on disk.
//!
//! `cargo run --release -p index-sync --example whole_import [CRATES]`

use std::convert::Infallible;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use index_sync::{Config, Index, Repository, RepositoryLimits};
use metadata_db::{DecisionsDb, MetadataDb};
use registry::{Checksum, IndexEdit, IndexPath};

const CRATES: usize = 200_000;
/// One in so many has another version after the week.
const CHANGED: usize = 20;
const SITE: &str = "site";

type Made = Result<(IndexPath, IndexEdit), Infallible>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let crates = std::env::args().nth(1).map_or(Ok(CRATES), |crates| crates.parse())?;
    let dir = tempfile::tempdir()?;
    let git_dir = dir.path().join("index.git");
    let mut repository = Repository::open(&git_dir, RepositoryLimits::default())?;
    repository.keep_pack_log(&dir.path().join("pack-log"), std::time::Duration::from_secs(60))?;
    let metadata = Arc::new(MetadataDb::open(&dir.path().join("mirror.db"))?.db);
    let decisions = Arc::new(DecisionsDb::open(&dir.path().join("decisions.db"))?);
    let nothing_kept = Arc::new(|_: &Checksum| false);
    let index = Index::open(Config::default(), repository, metadata, decisions, None, nothing_kept)?;
    let mut names: Vec<(IndexPath, usize)> = (0..crates)
        .map(|n| name(n).parse().map(|name| (IndexPath::of(&name), n)))
        .collect::<Result<_, _>>()?;
    names.sort();

    let started = Instant::now();
    let whole = names.clone().into_iter();
    let whole = whole.map(|(path, n)| Made::Ok((path, IndexEdit::whole(file(n, versions(n)).as_bytes()))));
    let first = index.stage_state(None, whole).await?;
    said("staging the whole index", started, &git_dir)?;
    let started = Instant::now();
    let changes = index.publish_state(SITE, first, "Import").await?;
    said(
        &format!("publishing {} crates", changes.new_crates.count),
        started,
        &git_dir,
    )?;

    let started = Instant::now();
    let week = names.into_iter().filter(|(_, n)| n.is_multiple_of(CHANGED));
    let week = week.map(|(path, n)| {
        let (old, new) = (file(n, versions(n)), file(n, versions(n) + 1));
        Made::Ok((path, IndexEdit::between(Some(old.as_bytes()), new.as_bytes())))
    });
    let second = index.stage_state(Some(first), week).await?;
    said("staging a week's changes", started, &git_dir)?;
    let started = Instant::now();
    index.compare_with_published(Some(first), second).await?;
    said("comparing them", started, &git_dir)?;
    let started = Instant::now();
    let changes = index.publish_state(SITE, second, "Import").await?;
    said(
        &format!("publishing {} versions", changes.new_versions.count),
        started,
        &git_dir,
    )?;
    let started = Instant::now();
    index.state_of_published(None, None).await?;
    said("a state of all that is published", started, &git_dir)?;
    index.shutdown().await;
    Ok(())
}

fn name(n: usize) -> String {
    let letter = |power: usize| char::from(b'a' + u8::try_from(n / power % 26).unwrap_or_default());
    let letters: String = [1, 26, 676, 17_576].into_iter().map(letter).collect();
    format!("{letters}-crate{n}")
}

/// A few crates have very many versions, and most have few.
fn versions(n: usize) -> usize {
    if n.is_multiple_of(1_000) { 400 } else { 1 + n % 16 }
}

fn file(n: usize, versions: usize) -> String {
    let name = name(n);
    let line = |vers: usize| {
        let cksum = Checksum::of(format!("{n} {vers}").as_bytes());
        let dep = |dep: usize| {
            format!(
                r#"{{"name":"{}","req":"^{}.{dep}","features":[],"optional":false,"default_features":true,"target":null,"kind":"normal"}}"#,
                self::name(n * 7 + dep * 31),
                vers % 5
            )
        };
        let deps: Vec<String> = (0..4).map(dep).collect();
        let deps = deps.join(",");
        format!(
            r#"{{"name":"{name}","vers":"0.{vers}.0","deps":[{deps}],"cksum":"{cksum}","features":{{}},"yanked":false}}"#
        ) + "\n"
    };
    (0..versions).map(line).collect()
}

fn said(what: &str, started: Instant, git_dir: &Path) -> Result<(), Box<dyn Error>> {
    let took = started.elapsed();
    let (mut packs, mut bytes) = (0, 0);
    for entry in git_dir.join("objects/pack").read_dir()? {
        let entry = entry?;
        packs += usize::from(entry.path().extension().is_some_and(|extension| extension == "pack"));
        bytes += entry.metadata()?.len();
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().nth(1))
            .unwrap_or("?")
            .to_owned()
    };
    println!(
        "{what}: {took:.1?}; {packs} packs with {} MiB; at most {} KiB of memory, now {} KiB and {} KiB of mapped files",
        bytes >> 20,
        memory("VmHWM"),
        memory("RssAnon"),
        memory("RssFile")
    );
    Ok(())
}
