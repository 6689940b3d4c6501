//! `mirror verify`: all that is kept is hashed now, on all cores, and compared with what is recorded.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use download_cache::{Verdict, Wanted};
use futures_util::StreamExt;
use futures_util::stream;
use registry::Checksum;

use crate::appliance::{Appliance, StartError};
use crate::error::chain;
use crate::reconcile::reconcile;
use crate::scrubber::lost::{lost_among, named};

const FOLDERS: usize = 256;
/// Files that are fetched again at once.
const REPAIRS_AT_ONCE: usize = 8;
/// More than this many are counted and not named.
const MOST_NAMED: usize = 1000;
/// How often progress is told.
const SAY: Duration = Duration::from_millis(200);
const MISSING: &str = "it is recorded, but its file is not there";
const SET_ASIDE: &str = "its file was damaged and set aside earlier, and no other copy is here";

/// How far it is.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    total_bytes: u64,
    bytes: AtomicU64,
    files: AtomicU64,
    to_repair: AtomicU64,
    repaired: AtomicU64,
}

impl Progress {
    fn new(total_bytes: u64) -> Self {
        Self {
            began: Instant::now(),
            total_bytes,
            bytes: AtomicU64::new(0),
            files: AtomicU64::new(0),
            to_repair: AtomicU64::new(0),
            repaired: AtomicU64::new(0),
        }
    }

    /// For people.
    fn words(&self) -> String {
        let (bytes, to_repair) = (self.bytes.load(Relaxed), self.to_repair.load(Relaxed));
        if to_repair > 0 {
            return format!("fetched {} of {to_repair} again", self.repaired.load(Relaxed));
        }
        let mut words = format!(
            "hashed {}, {:.0} of {:.0} MB",
            counted(self.files.load(Relaxed)),
            bytes as f64 / 1e6,
            self.total_bytes.max(bytes) as f64 / 1e6,
        );
        // nothing is known of the rate before a file is hashed
        if bytes > 0 {
            let rate = bytes as f64 / self.began.elapsed().as_secs_f64().max(0.001);
            let left = self.total_bytes.saturating_sub(bytes) as f64 / rate;
            words += &format!(", {:.0} MB/s, {left:.0} s left", rate / 1e6);
        }
        words
    }
}

/// What is wrong with one file.
#[derive(Debug, Clone)]
struct Finding {
    /// What is recorded of it, if anything is.
    wanted: Option<Wanted>,
    checksum: Checksum,
    what: String,
    /// What came of fetching it again; `None` if that was not asked for.
    repaired: Option<Result<(), String>>,
}

impl Finding {
    fn new(checksum: Checksum, wanted: Option<Wanted>, what: String) -> Self {
        Self {
            wanted,
            checksum,
            what,
            repaired: None,
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.wanted {
            Some(wanted) => write!(f, "{wanted} ({}): {}", self.checksum, self.what)?,
            None => write!(f, "{} (not recorded): {}", self.checksum, self.what)?,
        }
        match &self.repaired {
            None => Ok(()),
            Some(Ok(())) => f.write_str("; fetched again"),
            Some(Err(why)) => write!(f, "; not repaired: {why}"),
        }
    }
}

/// What it came to.
#[derive(Debug)]
pub struct Outcome {
    /// Everything is right, perhaps by repair.
    pub is_well: bool,
    /// For people, a line for each file that was not right.
    pub text: String,
}

/// What hashing all files found.
#[derive(Debug, Default)]
struct Found {
    findings: Vec<Finding>,
    /// Right files without a record.
    unrecorded: u64,
}

/// Hashes all kept files. Bad ones are set aside, whatever `repair` says, since they must not be served; with it, bad and missing
/// ones are fetched again. Files without a record are adopted if their hash is right. `say` is told how far it is, now and then.
pub async fn verify(
    appliance: &Appliance,
    repair: bool,
    mut say: impl FnMut(String) + Send,
) -> Result<Outcome, StartError> {
    let progress = Progress::new(tokio::task::block_in_place(|| appliance.metadata.totals())?.bytes);
    let mut found = tokio::task::block_in_place(|| hash_all(appliance, &progress, &mut say))?;
    found.findings.sort_by_cached_key(ToString::to_string);
    if repair {
        repair_all(appliance, &mut found.findings, &progress, &mut say).await;
    }
    let adopted = tokio::task::block_in_place(|| adopt(appliance, &found));
    Ok(outcome(&progress, &found.findings, adopted))
}

/// On all cores, each with a folder of `blobs/` at a time.
fn hash_all(
    appliance: &Appliance,
    progress: &Progress,
    say: &mut (impl FnMut(String) + Send),
) -> Result<Found, StartError> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Ok(Found::default())));
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let work = || {
        while let Ok(folder) = u8::try_from(next.fetch_add(1, Relaxed))
            && !appliance.stopping()
        {
            let of_folder = hash_folder(appliance, folder, progress);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *found, of_folder) {
                (Ok(found), Ok(of_folder)) => {
                    found.unrecorded += of_folder.unrecorded;
                    found.findings.extend(of_folder.findings);
                }
                (Ok(_), Err(error)) => {
                    *found = Err(error);
                    next.store(FOLDERS, Relaxed);
                }
                (Err(_), _) => {}
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            say(progress.words());
            std::thread::park_timeout(SAY);
        }
    });
    if appliance.stopping() {
        return Err("the mirror is shutting down".into());
    }
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn hash_folder(appliance: &Appliance, folder: u8, progress: &Progress) -> Result<Found, StartError> {
    let recorded = appliance.metadata.kept_rows_in(folder)?;
    let wanted: HashMap<Checksum, Wanted> = recorded.iter().map(|row| (row.checksum, named(row))).collect();
    let mut found = Found::default();
    let mut on_disk = HashSet::new();
    for (checksum, size_bytes) in appliance.cache.checksums_in(folder)? {
        let what = match appliance.cache.verify(&checksum) {
            Ok(Verdict::Good) => None,
            // evicted since the folder was listed
            Ok(Verdict::Absent) => continue,
            Ok(Verdict::Bad { actual }) => Some(format!("its file had checksum {actual}, and was set aside")),
            Err(error) => Some(format!("its file cannot be read: {}", chain(&error))),
        };
        on_disk.insert(checksum);
        progress.files.fetch_add(1, Relaxed);
        progress.bytes.fetch_add(size_bytes, Relaxed);
        match what {
            Some(what) => found
                .findings
                .push(Finding::new(checksum, wanted.get(&checksum).cloned(), what)),
            None => found.unrecorded += u64::from(!wanted.contains_key(&checksum)),
        }
    }
    for row in lost_among(appliance, recorded, &on_disk)? {
        let is_set_aside = appliance.cache.is_set_aside(&row.checksum);
        let what = if is_set_aside { SET_ASIDE } else { MISSING };
        found
            .findings
            .push(Finding::new(row.checksum, Some(named(&row)), what.to_owned()));
    }
    Ok(found)
}

async fn repair_all(
    appliance: &Appliance,
    findings: &mut [Finding],
    progress: &Progress,
    say: &mut (impl FnMut(String) + Send),
) {
    progress.to_repair.store(findings.len() as u64, Relaxed);
    say(progress.words());
    let wanted = findings.iter().map(|finding| finding.wanted.clone());
    let repairs: Vec<_> = (0..)
        .zip(wanted)
        .map(|(at, wanted)| repair_one(appliance, at, wanted))
        .collect();
    let mut repairs = stream::iter(repairs).buffer_unordered(REPAIRS_AT_ONCE);
    while let Some((at, repaired)) = repairs.next().await {
        findings[at].repaired = Some(repaired);
        progress.repaired.fetch_add(1, Relaxed);
        say(progress.words());
    }
}

async fn repair_one(appliance: &Appliance, at: usize, wanted: Option<Wanted>) -> (usize, Result<(), String>) {
    let repaired = match &wanted {
        Some(wanted) => appliance.fetch_again(wanted).await,
        None => Err("it is not known which version it was".to_owned()),
    };
    (at, repaired)
}

/// Right files without a record get one. Reconciling also forgets what is missing, which is to be found again until it is
/// repaired or the mirror starts anew: it is left for then if anything is. Blocks.
fn adopt(appliance: &Appliance, found: &Found) -> u64 {
    let is_missing = |finding: &Finding| finding.wanted.is_some() && !matches!(finding.repaired, Some(Ok(())));
    if found.unrecorded == 0 || found.findings.iter().any(is_missing) {
        return 0;
    }
    let files = || appliance.metadata.totals().map_or(0, |totals| totals.files);
    let before = files();
    reconcile(appliance);
    files().saturating_sub(before)
}

fn outcome(progress: &Progress, findings: &[Finding], adopted: u64) -> Outcome {
    let (files, bytes) = (progress.files.load(Relaxed), progress.bytes.load(Relaxed));
    let left = |finding: &&Finding| !matches!(finding.repaired, Some(Ok(())));
    let (wrong, left) = (findings.len(), findings.iter().filter(left).count());
    let took = progress.began.elapsed();
    let mut text = format!("{} of {bytes} bytes hashed in {took:.1?}: ", counted(files));
    text += &match (wrong, left) {
        (0, _) => "all of them are right".to_owned(),
        (1, 0) => "1 was bad or missing, and is repaired".to_owned(),
        (1, _) => "1 is bad or missing, and not repaired".to_owned(),
        (wrong, 0) => format!("{wrong} were bad or missing, and all of them are repaired"),
        (wrong, left) => format!("{wrong} are bad or missing, {left} of them not repaired"),
    };
    match adopted {
        0 => {}
        1 => text += "; 1 without a record was adopted",
        _ => text += &format!("; {adopted} without a record were adopted"),
    }
    for finding in findings.iter().take(MOST_NAMED) {
        text += &format!("\n  {finding}");
    }
    if wrong > MOST_NAMED {
        text += &format!("\n  and {} more", wrong - MOST_NAMED);
    }
    Outcome {
        is_well: left == 0,
        text,
    }
}

fn counted(files: u64) -> String {
    match files {
        1 => "1 file".to_owned(),
        _ => format!("{files} files"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_long_it_takes_once_it_knows_and_in_english() {
        let progress = Progress::new(73_000_000);
        assert_eq!(progress.words(), "hashed 0 files, 0 of 73 MB");
        progress.files.store(1, Relaxed);
        progress.bytes.store(73_000_000, Relaxed);
        let words = progress.words();
        assert!(
            words.starts_with("hashed 1 file, 73 of 73 MB, ") && words.ends_with(" MB/s, 0 s left"),
            "{words}"
        );

        let mut findings = [Finding::new(Checksum::of(b"x"), None, "it is bad".to_owned())];
        let text = outcome(&progress, &findings, 1).text;
        assert!(
            text.contains(": 1 is bad or missing, and not repaired; 1 without a record was adopted\n"),
            "{text}"
        );
        findings[0].repaired = Some(Ok(()));
        let text = outcome(&progress, &findings, 0).text;
        assert!(text.contains(": 1 was bad or missing, and is repaired\n"), "{text}");
    }
}
