//! Keeps the crate files within `cache.max_size`: those that were not used for the longest time go first.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use download_cache::{Eviction, Wanted};
use metadata_db::KeptRow;
use registry::Checksum;
use tokio::sync::{Notify, watch};

use crate::appliance::{Appliance, StartError};
use crate::clock::unix_now;
use crate::error::chain;
use crate::recorder::described;

/// Files that are looked at together. To find the next ones costs as much as to look at all rows, so not too few.
const BATCH: u32 = 4096;
/// Fills come in crowds; so long is waited for more of them.
const GATHER: Duration = Duration::from_secs(1);
/// A look costs next to nothing as long as nothing has to go.
const NOW_AND_THEN: Duration = Duration::from_secs(60);
/// When nothing more may go, the next look has time: files grow old, and pins are taken back.
const STUCK: Duration = Duration::from_secs(30);

/// Wakes the task that keeps the budget, and counts what it did.
#[derive(Debug, Default)]
pub struct Budget {
    woken: Notify,
    unstuck: Notify,
    one_at_a_time: Mutex<()>,
    /// Files that went to make room.
    pub evicted_files: AtomicU64,
    /// Their bytes.
    pub evicted_bytes: AtomicU64,
}

impl Budget {
    /// Something was kept.
    pub fn look(&self) {
        self.woken.notify_one();
    }

    /// Something that had to stay may go now: a pin or a removal was taken back, or upstream may be asked again.
    pub fn look_again(&self) {
        self.unstuck.notify_one();
    }

    /// Nothing is evicted to make room as long as this is held.
    pub fn lock(&self) -> MutexGuard<'_, ()> {
        self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a round came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Files that went.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that are kept now.
    pub kept_bytes: u64,
    /// What may be kept.
    pub max_bytes: u64,
    /// Nothing went, since nothing could be fetched again.
    pub is_offline: bool,
}

impl Pruned {
    /// Whether more is kept than may be.
    pub fn is_over(&self) -> bool {
        self.kept_bytes > self.max_bytes
    }
}

impl std::fmt::Display for Pruned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {} forgotten, {} bytes freed; {} bytes are kept of {} that may be",
            self.files,
            if self.files == 1 { "file" } else { "files" },
            self.bytes,
            self.kept_bytes,
            self.max_bytes
        )?;
        match (self.is_over(), self.is_offline) {
            (true, true) => f.write_str(": nothing goes by itself while upstream may not be asked for it again"),
            (true, false) => {
                f.write_str(": what is over is pinned, being read, younger than cache.min_age, or gone upstream")
            }
            _ => Ok(()),
        }
    }
}

/// Keeps the budget at the start and after fills, until the mirror stops. Returns at once if there is none.
pub async fn keep_within(appliance: Arc<Appliance>, mut stop: watch::Receiver<bool>) {
    let Some(max_bytes) = appliance.settings.cache.max_bytes else {
        return;
    };
    let mut was_over = false;
    while !*stop.borrow() {
        let own = Arc::clone(&appliance);
        let round = tokio::task::spawn_blocking(move || make_room(&own, max_bytes)).await;
        let is_over = told(round.unwrap_or_else(|panic| Err(panic.into())), was_over).unwrap_or(was_over);
        was_over = is_over;
        tokio::select! {
            () = next_round(&appliance.budget, is_over) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

async fn next_round(budget: &Budget, is_over: bool) {
    if is_over {
        // what else is kept changes nothing
        let _ = tokio::time::timeout(STUCK, budget.unstuck.notified()).await;
    } else {
        // whoever adopts files without a fill does not say so
        let _ = tokio::time::timeout(NOW_AND_THEN, budget.woken.notified()).await;
        tokio::time::sleep(GATHER).await;
    }
}

/// Logs a round, and says whether too much is kept still; `None` if it failed.
fn told(round: Result<Pruned, StartError>, was_over: bool) -> Option<bool> {
    match round {
        Ok(pruned) => {
            if pruned.files > 0 {
                log::info!("made room: {pruned}");
            } else if pruned.is_over() && !was_over {
                log::warn!("cache.max_size cannot be kept: {pruned}");
            }
            Some(pruned.is_over())
        }
        Err(error) => {
            log::error!("no room could be made: {}", chain(&*error));
            None
        }
    }
}

/// What the mirror does by itself: it evicts as [`prune`] does, but nothing as long as nothing could be fetched again. Blocks.
pub fn make_room(appliance: &Appliance, max_bytes: u64) -> Result<Pruned, StartError> {
    if appliance.is_offline() {
        return Ok(Pruned {
            kept_bytes: appliance.metadata.totals()?.bytes,
            max_bytes,
            is_offline: true,
            ..Pruned::default()
        });
    }
    prune(appliance, max_bytes, &|_| !appliance.is_offline())
}

/// Evicts least recently used files until at most `max_bytes` are kept; a fiftieth less if anything has to go, so that the
/// next file does not need a round of its own. Pinned and young files stay, and those that are being read. `goes_on` hears before
/// each file how far it is, and may end it. Blocks.
pub fn prune(appliance: &Appliance, max_bytes: u64, goes_on: &dyn Fn(&Pruned) -> bool) -> Result<Pruned, StartError> {
    let _one_at_a_time = appliance.budget.lock();
    let mut pruned = Pruned {
        kept_bytes: appliance.metadata.totals()?.bytes,
        max_bytes,
        ..Pruned::default()
    };
    if !pruned.is_over() {
        return Ok(pruned);
    }
    // what was served a moment ago is the last to go
    appliance.flush_statistics()?;
    let mut pinned = appliance.decisions.pinned_checksums()?;
    // upstream may not have them any more, and the operator may want them back
    pinned.extend(appliance.index.irreplaceable()?);
    // exports under way would miss theirs
    pinned.extend(crate::bundles::held(appliance.data_dir())?);
    let round = Round {
        appliance,
        pinned,
        goal: max_bytes - max_bytes / 50,
        goes_on,
    };
    let evicted = round.evict_until_goal(&mut pruned);
    appliance.budget.evicted_files.fetch_add(pruned.files, Relaxed);
    appliance.budget.evicted_bytes.fetch_add(pruned.bytes, Relaxed);
    evicted.map(|()| pruned)
}

/// The next ones behind the last that was looked at.
fn candidates(appliance: &Appliance, last: Option<&KeptRow>) -> Result<Vec<KeptRow>, metadata_db::Error> {
    let min_age = i64::try_from(appliance.settings.cache.min_age.as_secs()).unwrap_or(i64::MAX);
    // without an age, what was kept in this very second may go too
    let younger_than = unix_now()
        .saturating_sub(min_age)
        .saturating_add(i64::from(min_age == 0));
    appliance.metadata.eviction_candidates(last, BATCH, younger_than)
}

/// One look for what can go.
struct Round<'a> {
    appliance: &'a Appliance,
    pinned: HashSet<Checksum>,
    /// So many bytes may be left.
    goal: u64,
    goes_on: &'a dyn Fn(&Pruned) -> bool,
}

impl Round<'_> {
    fn is_over(&self, pruned: &Pruned) -> bool {
        pruned.kept_bytes <= self.goal || self.appliance.stopping() || !(self.goes_on)(pruned)
    }

    fn evict_until_goal(&self, pruned: &mut Pruned) -> Result<(), StartError> {
        let mut last = None;
        while !self.is_over(pruned) {
            let mut candidates = candidates(self.appliance, last.as_ref())?;
            for row in &candidates {
                if self.is_over(pruned) {
                    return Ok(());
                }
                self.evict(row, pruned)?;
            }
            if candidates.len() < BATCH as usize {
                break;
            }
            last = candidates.pop();
        }
        Ok(())
    }

    fn evict(&self, row: &KeptRow, pruned: &mut Pruned) -> Result<(), StartError> {
        let appliance = self.appliance;
        if self.pinned.contains(&row.checksum) {
            return Ok(());
        }
        let freed_bytes = match appliance.cache.evict_unused(&row.checksum)? {
            Eviction::InUse => return Ok(()),
            Eviction::Freed(bytes) => bytes,
            Eviction::Absent => 0,
        };
        appliance.metadata.forget_kept(&row.checksum)?;
        record_again_if_back(appliance, row)?;
        log::debug!("{} {}: evicted to make room", row.name, row.version);
        pruned.files += u64::from(freed_bytes > 0);
        pruned.bytes += freed_bytes;
        pruned.kept_bytes = appliance.metadata.totals()?.bytes;
        Ok(())
    }
}

/// A fill may have brought the file again, and recorded it, before its old row went.
fn record_again_if_back(appliance: &Appliance, row: &KeptRow) -> Result<(), StartError> {
    let Some(back) = appliance.cache.kept(&row.checksum)? else {
        return Ok(());
    };
    let wanted = Wanted {
        name: row.name.clone(),
        version: row.version.clone(),
        checksum: row.checksum,
    };
    if let Some(file) = described(appliance, &wanted, back.size_bytes) {
        appliance.metadata.record_kept(&file)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use metadata_db::{KeptFile, ManifestState, PinnedFile};
    use tokio::sync::mpsc;

    use super::*;
    use crate::data_dir::DataDir;
    use crate::settings::{Environment, Settings};

    fn recorded(at: u32) -> KeptFile {
        KeptFile {
            name: format!("krate-{at}").parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            checksum: Checksum::of(&at.to_be_bytes()),
            size_bytes: 10,
            kept_at: i64::from(at / 100),
            manifest: ManifestState::Unparsable("none".to_owned()),
        }
    }

    /// Offline, with so many files recorded, which are on no disk.
    fn appliance(dir: &std::path::Path, files: u32) -> (Appliance, Vec<KeptFile>) {
        let settings = Settings::load(None, Environment::of(&[("MIRROR_MODE", "offline")]), &[]).unwrap();
        let data_dir = DataDir::lock(&dir.join("data"), "the test").unwrap();
        let appliance = Appliance::open(settings, data_dir, mpsc::unbounded_channel().0).unwrap();
        let files: Vec<KeptFile> = (0..files).map(recorded).collect();
        appliance.metadata.record_kept_all(&files).unwrap();
        (appliance, files)
    }

    #[tokio::test]
    async fn it_looks_at_each_file_once_however_many_are_pinned() {
        let dir = tempfile::tempdir().unwrap();
        // the first batch is pinned as a whole, and of the second all but the last few
        let pinned = BATCH * 3 / 2;
        let (appliance, files) = appliance(dir.path(), pinned + 5);
        let pin = |file: &KeptFile| PinnedFile {
            name: file.name.clone(),
            version: file.version.clone(),
            checksum: file.checksum,
        };
        let pins: Vec<PinnedFile> = files.iter().take(pinned as usize).map(pin).collect();
        appliance.decisions.pin("many", &pins).unwrap();

        let pruned = prune(&appliance, 0, &|_| true).unwrap();
        assert_eq!(pruned.kept_bytes, u64::from(pinned) * 10);
        assert!(pruned.is_over());
        appliance.stop(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn nothing_goes_by_itself_when_nothing_can_be_fetched_again() {
        let dir = tempfile::tempdir().unwrap();
        let (appliance, _) = appliance(dir.path(), 3);
        let pruned = make_room(&appliance, 0).unwrap();
        assert!(pruned.is_over() && pruned.is_offline && pruned.kept_bytes == 30);
        assert!(pruned.to_string().contains("nothing goes by itself"), "{pruned}");
        assert_eq!(appliance.metadata.totals().unwrap().files, 3);
        let by_hand = prune(&appliance, 0, &|_| true).unwrap();
        assert_eq!((by_hand.kept_bytes, appliance.metadata.totals().unwrap().files), (0, 0));
        appliance.stop(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn it_ends_before_the_next_file_when_nobody_wants_it_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let (appliance, _) = appliance(dir.path(), 20);
        let pruned = prune(&appliance, 0, &|pruned| pruned.kept_bytes > 150).unwrap();
        assert_eq!(pruned.kept_bytes, 150);
        appliance.stop(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn when_it_is_stuck_it_is_woken_by_what_lets_something_go() {
        let budget = Budget::default();
        budget.look();
        let woken = next_round(&budget, true);
        tokio::pin!(woken);
        let is_waiting = tokio::time::timeout(Duration::ZERO, &mut woken).await.is_err();
        assert!(is_waiting, "what is kept more lets nothing go");
        let began = std::time::Instant::now();
        budget.look_again();
        woken.await;
        assert!(began.elapsed() < STUCK);
    }
}
