//! Who fetched what: noted in memory at once, written down in batches, told by `mirror who`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use metadata_db::{Fetch, FetchLog, Fetcher};
use registry::{CrateName, CrateVersion};
use site::date_time;
use tokio::sync::Notify;

use crate::appliance::StartError;
use crate::clock::unix_now;

/// So many fetches are written down without waiting for the next time.
const HURRY: usize = 10_000;
/// While the disk refuses, so many are remembered; later ones are lost, which is said.
const MOST_WAITING: usize = 50_000;
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// How many lines `mirror who` gives.
const MOST_SHOWN: u32 = 10_000;
const DAY_SECONDS: i64 = 86_400;

/// The log of fetches of a running mirror.
#[derive(Debug)]
pub struct FetchBook {
    log: FetchLog,
    days: u32,
    waiting: Mutex<Waiting>,
    hurry: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    fetches: Vec<Fetch>,
    lost: u64,
    forgot: Option<Instant>,
}

/// Where the log is.
pub fn fetch_log_path(data_dir: &Path) -> PathBuf {
    data_dir.join("fetch-log.db")
}

impl FetchBook {
    /// Opens the log in `data_dir`; what is older than `days` will be forgotten.
    pub fn open(data_dir: &Path, days: u32) -> Result<Self, metadata_db::Error> {
        Ok(Self {
            // one that was damaged is aside by now, which the log says
            log: FetchLog::open(&fetch_log_path(data_dir))?.db,
            days,
            waiting: Mutex::default(),
            hurry: Notify::new(),
        })
    }

    /// One crate file was sent to a client.
    pub fn note(&self, fetch: Fetch) {
        let mut waiting = self.waiting();
        if waiting.fetches.len() >= MOST_WAITING {
            waiting.lost += 1;
            return;
        }
        waiting.fetches.push(fetch);
        if waiting.fetches.len() == HURRY {
            self.hurry.notify_one();
        }
    }

    /// Ends when so much waits that it should be written down.
    pub async fn is_in_a_hurry(&self) {
        self.hurry.notified().await;
    }

    /// Writes down what waits, and now and then forgets what is old. On failure it is kept for the next time. Blocks.
    pub fn flush(&self) -> Result<(), metadata_db::Error> {
        let (batch, lost) = {
            let mut waiting = self.waiting();
            (std::mem::take(&mut waiting.fetches), std::mem::take(&mut waiting.lost))
        };
        if lost > 0 {
            log::error!("{lost} fetches are missing in the fetch log: they could not be written in time");
        }
        if !batch.is_empty()
            && let Err(error) = self.log.add(&batch)
        {
            self.put_back(batch);
            return Err(error);
        }
        self.forget_old()
    }

    fn put_back(&self, mut batch: Vec<Fetch>) {
        let mut waiting = self.waiting();
        batch.append(&mut waiting.fetches);
        waiting.lost += batch.len().saturating_sub(MOST_WAITING) as u64;
        batch.truncate(MOST_WAITING);
        waiting.fetches = batch;
    }

    fn forget_old(&self) -> Result<(), metadata_db::Error> {
        let mut waiting = self.waiting();
        if waiting.forgot.is_some_and(|at| at.elapsed() < FORGET_EVERY) {
            return Ok(());
        }
        waiting.forgot = Some(Instant::now());
        drop(waiting);
        let forgotten = self
            .log
            .forget_before(unix_now() - i64::from(self.days) * DAY_SECONDS)?;
        if forgotten > 0 {
            log::info!("{forgotten} fetches of more than {} days ago forgotten", self.days);
        }
        Ok(())
    }

    /// Looks through the log for damage, and begins it anew if there is some. Blocks, for as long as the file is large.
    pub fn look_through(&self) -> Result<(), metadata_db::Error> {
        match self.log.check() {
            Err(metadata_db::Error::Corrupt { .. }) => self.log.renew_if_damaged().map(drop),
            outcome => outcome,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nothing panics while it holds this lock")
    }
}

/// Who fetched a crate or one version of it, for people: by the log of the running mirror, else by the one on disk. Blocks.
pub fn who(
    data_dir: &Path,
    book: Option<&FetchBook>,
    name: &CrateName,
    version: Option<&CrateVersion>,
) -> Result<String, StartError> {
    let of_disk;
    let log = if let Some(book) = book {
        book.flush()?;
        &book.log
    } else {
        let path = fetch_log_path(data_dir);
        if !path.is_file() {
            return Err("fetches are not logged here: set cache.fetch_log_days to log them from then on".into());
        }
        of_disk = FetchLog::open_read_only(&path)?;
        &of_disk
    };
    let found = log.who(name, version, MOST_SHOWN)?;
    let what = version.map_or_else(|| name.to_string(), |version| format!("{name} {version}"));
    let since = log.since()?.map_or_else(
        || "the log is empty".to_owned(),
        |unix| format!("the log goes back to {}", time(unix)),
    );
    if found.is_empty() {
        return Ok(format!("no client fetched {what}; {since}"));
    }
    let mut text = format!("{what} was fetched by (last time first; {since}):");
    for fetcher in &found {
        text.push_str("\n  ");
        text.push_str(&line(fetcher));
    }
    if found.len() >= MOST_SHOWN as usize {
        text.push_str("\n  ... and more");
    }
    Ok(text)
}

fn line(by: &Fetcher) -> String {
    let times = match by.count {
        1 => "once".to_owned(),
        count => format!("{count} times since {}", time(by.first_unix)),
    };
    let kept = by.hits;
    // what a client calls itself may hold anything: no control character reaches the terminal
    let agent = by.agent.escape_debug();
    let checksum = &by.checksum.to_hex()[..12];
    format!(
        "{}  {}  {}  {times}, {kept} of them from disk  {checksum}  {agent}",
        time(by.last_unix),
        by.client,
        by.version
    )
}

fn time(unix: i64) -> String {
    date_time(u64::try_from(unix).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use registry::Checksum;

    use super::*;

    fn fetch(unix: i64) -> Fetch {
        Fetch {
            unix,
            client: "10.0.0.7".to_owned(),
            agent: "cargo \u{1b}[31m".to_owned(),
            name: "serde".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            checksum: Checksum::of(b"a"),
            hit: true,
        }
    }

    #[test]
    fn what_is_noted_is_told_and_what_is_old_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (name, version) = ("serde".parse().unwrap(), "1.0.0".parse().unwrap());
        assert!(who(dir.path(), None, &name, None).is_err());
        let book = FetchBook::open(dir.path(), 2).unwrap();
        let told = who(dir.path(), Some(&book), &name, Some(&version)).unwrap();
        assert_eq!(told, "no client fetched serde 1.0.0; the log is empty");
        let now = unix_now();
        for unix in [now - 3 * DAY_SECONDS, now - 60, now] {
            book.note(fetch(unix));
        }
        book.waiting().forgot = None;
        let told = who(dir.path(), Some(&book), &name, Some(&version)).unwrap();
        assert!(
            told.contains("10.0.0.7  1.0.0  2 times since") && !told.contains('\u{1b}'),
            "{told}"
        );
        assert!(
            told.contains(&time(now)) && told.contains("2 of them from disk"),
            "{told}"
        );
        drop(book);
        assert_eq!(who(dir.path(), None, &name, None).unwrap().lines().count(), 2);
    }

    #[test]
    fn what_cannot_be_written_waits_up_to_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let book = FetchBook::open(dir.path(), 1).unwrap();
        for _ in 0..=MOST_WAITING {
            book.note(fetch(1));
        }
        let batch = {
            let mut waiting = book.waiting();
            assert_eq!((waiting.fetches.len(), waiting.lost), (MOST_WAITING, 1));
            std::mem::take(&mut waiting.fetches)
        };
        book.note(fetch(2));
        book.put_back(batch);
        let waiting = book.waiting();
        assert_eq!((waiting.fetches.len(), waiting.lost), (MOST_WAITING, 2));
        assert_eq!(waiting.fetches[0].unix, 1);
    }
}
