//! The fetching itself: at most eight files at once, each through the cache as if a client had asked.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use download_cache::CrateFile;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use metadata_db::PrefetchFailure;
use registry::{Checksum, CrateName, CrateVersion};
use selection::Selected;

use super::afterwards::Missing;
use super::plan::size;
use super::source::Source;
use super::{TICK, Watcher, over};
use crate::appliance::{Appliance, StartError};
use crate::clock::unix_now;
use crate::control::Reply;
use crate::error::chain;
use crate::selected::AT_ONCE;

/// Upstream is not worth asking any more after so many failures on end.
const FAILURES_ON_END: u32 = 100;
/// So many missing files are named; all of them are in the database.
const NAMED: usize = 1000;
/// A file counts as kept once it is recorded, which waits for a commit.
const RECORDED_WITHIN: Duration = Duration::from_secs(30);
/// So many of the files that were fetched last are waited for.
const RECORDS_AWAITED: usize = 10_000;

/// Work under way.
pub struct Fetching<'a, W> {
    appliance: &'a Arc<Appliance>,
    watcher: &'a W,
    total: u64,
    began: Instant,
    bytes: AtomicU64,
    fetched: u64,
    failed: Vec<String>,
    failures: u64,
    on_end: u32,
    failed_before: HashSet<(String, CrateVersion)>,
    unrecorded: Vec<(CrateName, CrateVersion, Checksum)>,
    failed_files: HashSet<(String, CrateVersion)>,
}

/// How it ended.
pub struct Fetched {
    fetched: u64,
    bytes: u64,
    took: Duration,
    failed: Vec<String>,
    failures: u64,
    failed_files: HashSet<(String, CrateVersion)>,
    given_up: Option<String>,
}

impl<'a, W: Watcher> Fetching<'a, W> {
    /// `total`: how many files there are to fetch.
    pub fn new(appliance: &'a Arc<Appliance>, watcher: &'a W, total: u64) -> Result<Self, StartError> {
        let failures = appliance.metadata.prefetch_failures()?.into_iter();
        Ok(Self {
            appliance,
            watcher,
            total,
            began: Instant::now(),
            bytes: AtomicU64::new(0),
            fetched: 0,
            failed: Vec::new(),
            failures: 0,
            on_end: 0,
            failed_before: failures
                .map(|failure| (failure.name.canonical(), failure.version))
                .collect(),
            unrecorded: Vec::new(),
            failed_files: HashSet::new(),
        })
    }

    /// Fetches what `source` gives until it has no more, or it makes no sense to go on.
    pub async fn run(mut self, mut source: Source) -> Result<Fetched, StartError> {
        let bytes = std::mem::take(&mut self.bytes);
        let (appliance, counted) = (self.appliance, &bytes);
        let mut running = FuturesUnordered::new();
        let mut given_up = None;
        loop {
            while running.len() < AT_ONCE {
                let Some(file) = source.next(appliance).await? else {
                    break;
                };
                running.push(async move {
                    let outcome = fetch(appliance, &file, counted).await;
                    (file, outcome)
                });
            }
            self.watcher.say(self.words(counted.load(Ordering::Relaxed)));
            tokio::select! {
                done = running.next() => match done {
                    Some((file, outcome)) => self.note(file, outcome)?,
                    None => break,
                },
                () = tokio::time::sleep(TICK) => {}
            }
            // fills that are under way belong to the cache, and end by themselves
            given_up = self.reason_to_stop();
            if given_up.is_some() {
                break;
            }
        }
        drop(running);
        self.wait_until_recorded().await?;
        Ok(Fetched {
            fetched: self.fetched,
            bytes: bytes.into_inner(),
            took: self.began.elapsed(),
            failed: self.failed,
            failures: self.failures,
            failed_files: self.failed_files,
            given_up,
        })
    }

    fn reason_to_stop(&self) -> Option<String> {
        if self.on_end >= FAILURES_ON_END {
            return Some(format!("{FAILURES_ON_END} files on end could not be fetched"));
        }
        over(self.appliance, self.watcher).map(str::to_owned)
    }

    fn note(
        &mut self,
        file: Selected,
        outcome: Result<Checksum, (Option<Checksum>, String)>,
    ) -> Result<(), StartError> {
        match outcome {
            Ok(checksum) => {
                self.fetched += 1;
                self.on_end = 0;
                if self
                    .failed_before
                    .contains(&(file.name.canonical(), file.version.clone()))
                {
                    self.appliance
                        .metadata
                        .clear_prefetch_failure(&file.name, &file.version)?;
                }
                if self.unrecorded.len() == RECORDS_AWAITED {
                    self.unrecorded.clear();
                }
                self.unrecorded.push((file.name, file.version, checksum));
            }
            Err((checksum, why)) => self.note_failure(file, checksum, why)?,
        }
        Ok(())
    }

    fn note_failure(&mut self, file: Selected, checksum: Option<Checksum>, why: String) -> Result<(), StartError> {
        log::warn!("prefetch: {file}: {why}");
        self.failures += 1;
        self.failed_files.insert((file.name.canonical(), file.version.clone()));
        self.on_end += 1;
        if self.failed.len() < NAMED {
            self.failed.push(format!("{file}: {why}"));
        }
        let Some(checksum) = checksum.or(file.checksum) else {
            return Ok(());
        };
        self.appliance.metadata.record_prefetch_failures(&[PrefetchFailure {
            name: file.name,
            version: file.version,
            checksum,
            why,
            failed_at: unix_now(),
        }])?;
        Ok(())
    }

    /// Files, bytes, rate and time left, for people.
    fn words(&self, bytes: u64) -> String {
        let (done, seconds) = (self.fetched + self.failures, self.began.elapsed().as_secs_f64());
        let percent = (100 * done).checked_div(self.total).unwrap_or(100);
        let filled = (percent / 5).min(20) as usize;
        let bar = format!("{}{}", "#".repeat(filled), ".".repeat(20 - filled));
        let mut words = format!("[{bar}] {percent} %: {done} of {} files, {}", self.total, size(bytes));
        if seconds >= 1.0 {
            words.push_str(&format!(", {}/s", size((bytes as f64 / seconds) as u64)));
        }
        if done > 0 && seconds >= 2.0 {
            let left = self.total.saturating_sub(done) as f64 * seconds / done as f64;
            words.push_str(&format!(", about {} left", duration(left as u64)));
        }
        if self.failures > 0 {
            words.push_str(&format!(", {} failed", self.failures));
        }
        words
    }

    async fn wait_until_recorded(&mut self) -> Result<(), StartError> {
        let end = Instant::now() + RECORDED_WITHIN;
        while let Some((name, version, checksum)) = self.unrecorded.last() {
            let recorded = self.appliance.metadata.kept_file(name, version)?.is_some();
            // what went again already is never recorded
            if recorded || self.appliance.cache.kept(checksum)?.is_none() || Instant::now() > end {
                self.unrecorded.pop();
            } else {
                self.watcher.say("waiting until all of it is recorded".to_owned());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }
}

/// A file counts once it is kept: with too little space it would only pass through.
async fn fetch(
    appliance: &Arc<Appliance>,
    file: &Selected,
    bytes: &AtomicU64,
) -> Result<Checksum, (Option<Checksum>, String)> {
    let opened = appliance.open_crate_file(&file.name, &file.version).await;
    let opened = opened.map_err(|error| (None, chain(&error)))?;
    let checksum = opened.checksum;
    let failed = |why: String| (Some(checksum), why);
    if let CrateFile::Filling(mut waiter) = opened.file {
        while let Some(piece) = waiter.next().await {
            let piece = piece.map_err(|error| failed(chain(&error)))?;
            bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    }
    let own = Arc::clone(appliance);
    let kept = tokio::task::spawn_blocking(move || own.cache.kept(&checksum));
    match kept.await {
        Ok(Ok(Some(_))) => Ok(checksum),
        Ok(Ok(None)) => Err(failed(
            "it was fetched but not kept: less than cache.min_free is free, it is too large, or it went at once to keep cache.max_size"
                .to_owned(),
        )),
        Ok(Err(error)) => Err(failed(chain(&error))),
        Err(_) => Err(failed("the look at the disk was abandoned".to_owned())),
    }
}

impl Fetched {
    /// Whether it ended before its time.
    pub fn is_given_up(&self) -> bool {
        self.given_up.is_some()
    }

    /// How many files could not be fetched.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Whether this one could not be fetched.
    pub fn has_failed(&self, file: &Selected) -> bool {
        self.failed_files
            .contains(&(file.name.canonical(), file.version.clone()))
    }

    /// The end, with what is not here beside what failed.
    pub fn reply(self, missing: Missing) -> Reply {
        let seconds = self.took.as_secs_f64().max(0.001);
        let mut report = format!(
            "{} crate files fetched, {} in {:.1} s ({}/s)",
            self.fetched,
            size(self.bytes),
            seconds,
            size((self.bytes as f64 / seconds) as u64)
        );
        let count = self.failures + missing.named.len() as u64;
        let named = missing.named.len() + self.failed.len();
        for line in missing.named.iter().chain(&self.failed) {
            report.push_str(&format!("\n  missing: {line}"));
        }
        if count > named as u64 {
            report.push_str(&format!("\n  and {} more", count - named as u64));
        }
        if missing.unnamed > 0 {
            let gone = missing.unnamed;
            report.push_str(&format!(
                "\n  missing: {gone} that are not kept any more, which went again to keep cache.max_size"
            ));
        }
        let count = count + missing.unnamed;
        if let Some(warning) = missing.warning {
            report.push_str(&format!("\n{warning}"));
        }
        let reply = match (self.given_up, count) {
            (Some(why), _) => Reply::failed(format!("it was ended before its time: {why}; run it again to go on")),
            (None, 0) => Reply::ok(""),
            (None, 1) => Reply::failed("1 crate file is missing"),
            (None, count) => Reply::failed(format!("{count} crate files are missing")),
        };
        reply.with_report(report)
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}
