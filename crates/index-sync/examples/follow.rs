//! Measures following: `follow GIT_DIR DIR [ROUNDS]` serves the repository in `GIT_DIR` on 127.0.0.1 with `git http-backend`,
//! brings its index into `DIR` and says what that took. With `ROUNDS`, upstream then goes through its last commits one by one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use index_sync::{Config, Follow, FollowConfig, Index, PackLogState, Repository, RepositoryLimits};
use metadata_db::{DecisionsDb, MetadataDb};
use testkit::{GitUpstream, git_ok};

type Ended = Result<(), Box<dyn std::error::Error>>;

fn main() -> Ended {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next();
    let (Some(source), Some(dir)) = (next().map(PathBuf::from), next().map(PathBuf::from)) else {
        return Err("usage: follow GIT_DIR DIR [ROUNDS]".into());
    };
    let rounds: usize = next().map_or(Ok(0), |rounds| rounds.parse())?;
    let upstream = GitUpstream::of(&source);
    let listed = git_ok(
        &upstream.dir(),
        &[
            "rev-list",
            "--first-parent",
            &format!("--max-count={}", rounds + 1),
            "master",
        ],
    );
    let commits: Vec<&str> = listed.lines().rev().collect();
    move_to(&upstream, commits[0]);
    let started = Instant::now();
    let clone = dir.with_extension("clone");
    git_ok(
        Path::new("."),
        &[
            "clone",
            "-q",
            "--bare",
            "--depth",
            "1",
            &upstream.url(),
            &clone.to_string_lossy(),
        ],
    );
    println!("git clone --bare --depth 1: {:?}", started.elapsed());
    tokio::runtime::Runtime::new()?.block_on(follow(&upstream, &dir, &commits[1..]))
}

fn move_to(upstream: &GitUpstream, commit: &str) {
    git_ok(&upstream.dir(), &["update-ref", "refs/heads/master", commit]);
}

async fn follow(upstream: &GitUpstream, dir: &Path, commits: &[&str]) -> Ended {
    std::fs::create_dir_all(dir)?;
    let mut repository = Repository::open(&dir.join("index.git"), RepositoryLimits::default())?;
    repository.keep_pack_log(&dir.join("pack-log"), Duration::from_secs(86_400))?;
    let metadata = Arc::new(MetadataDb::open(&dir.join("mirror.db"))?.db);
    let decisions = Arc::new(DecisionsDb::open(&dir.join("decisions.db"))?);
    let config = Config {
        batch_delay: Duration::from_millis(10),
        ..Config::default()
    };
    let index = Index::open(config, repository, metadata, decisions, None, Arc::new(|_| false))?;
    index.publish_config_json(b"{}".to_vec());
    let http = upstream_http::UpstreamHttp::start(upstream_http::Config::new("mirror-measurement (nobody@localhost)"))?;
    let follow = FollowConfig {
        url: upstream.url(),
        when: Follow::Never,
        sync_interval: Duration::from_secs(600),
    };
    index.follow(follow, http)?;
    let started = Instant::now();
    let report = index.sync_once(|_| ()).await?;
    println!("first round: {report:?}; {}", memory()?);
    while !matches!(index.pack_log(), Some(PackLogState::Ready(_))) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("pack log ready after {:?}; {}", started.elapsed(), memory()?);
    for (number, commit) in commits.iter().enumerate() {
        move_to(upstream, commit);
        index.sync_once(|_| ()).await?;
        if (number + 1) % 100 == 0 {
            println!("{} rounds after {:?}; {}", number + 1, started.elapsed(), memory()?);
        }
    }
    println!("differs from upstream: {:?}", index.verify_against_upstream()?.len());
    index.shutdown().await;
    Ok(())
}

/// What this process takes and took at most, and its open files.
fn memory() -> Result<String, std::io::Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let lines = status
        .lines()
        .filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
    let files = std::fs::read_dir("/proc/self/fd")?.count();
    Ok(format!(
        "{} {files} files",
        lines.collect::<Vec<_>>().join(" ").replace('\t', " ")
    ))
}
