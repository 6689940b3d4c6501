use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use metadata_db::{MetadataDb, UpstreamState};
use registry::IndexPath;
use tokio::sync::watch;

use crate::index::Clock;
use crate::memory::{Memory, Pending, Remembered, locked};
use crate::upstream_sparse::with_sources;
use crate::{Change, Error, IndexEntry, PublishedTree, Repository, TreeFile};

/// The most files in one commit, so that none takes long; the rest follows at once.
const BATCH_FILES: usize = 500;
/// The longest pause after commits that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What the publisher has done so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// Why the last try to commit failed, if it did.
    failed: Option<String>,
    ended: bool,
}

#[derive(Debug)]
struct Work {
    memory: Memory,
    config_json: Option<(Vec<u8>, Instant)>,
    /// Do not wait for more changes: memory is full.
    hurry: bool,
    stopping: bool,
}

/// What the publisher's thread and everybody else have in common.
#[derive(Debug)]
struct Desk {
    work: Mutex<Work>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
    files: AtomicU64,
}

/// The one that commits. Changes are handed to it and can be read from memory at once; a thread of its own commits them
/// in batches. Dropping it commits what waits, without waiting for that.
#[derive(Debug)]
pub(crate) struct Publisher {
    desk: Arc<Desk>,
    pending_bytes: u64,
}

impl Publisher {
    pub(crate) fn start(
        repository: Repository,
        metadata: Arc<MetadataDb>,
        config: &crate::Config,
        clock: Clock,
    ) -> Result<Self, Error> {
        let tree = repository.reader();
        let desk = Arc::new(Desk {
            work: Mutex::new(Work {
                memory: Memory::new(config.memory_bytes),
                config_json: None,
                hurry: false,
                stopping: false,
            }),
            wake: Condvar::new(),
            progress: watch::channel(Progress::default()).0,
            files: AtomicU64::new(tree.count_files()? as u64),
        });
        let batch_delay = config.batch_delay;
        let thread = Thread {
            desk: Arc::clone(&desk),
            repository,
            tree,
            metadata,
            batch_delay,
            clock,
        };
        let started = thread::Builder::new()
            .name("publisher".to_owned())
            .spawn(move || thread.run());
        started.map_err(|source| Error::Thread { source })?;
        Ok(Self {
            desk,
            pending_bytes: config.pending_bytes,
        })
    }

    pub(crate) fn remembered(&self, path: &IndexPath) -> Remembered {
        locked(&self.desk.work).memory.get(path)
    }

    pub(crate) fn read_from_tree(&self, path: &IndexPath, entry: &Arc<IndexEntry>, changes: u64) {
        locked(&self.desk.work).memory.read_from_tree(path, entry, changes);
    }

    /// The state that belongs to the waiting change of a file; `None` if none waits.
    pub(crate) fn pending_state(&self, path: &IndexPath) -> Option<Option<UpstreamState>> {
        let work = locked(&self.desk.work);
        work.memory.pending(path).map(|pending| pending.state.clone())
    }

    /// Changes what will be remembered of upstream, if the file waits for its commit; else false.
    pub(crate) fn set_pending_state(&self, path: &IndexPath, state: Option<&UpstreamState>) -> bool {
        locked(&self.desk.work).memory.set_pending_state(path, state)
    }

    /// Hands over a change. Waits for a commit first if too much waits already.
    pub(crate) async fn submit(
        &self,
        path: &IndexPath,
        entry: Option<Arc<IndexEntry>>,
        state: Option<UpstreamState>,
    ) -> Result<(), Error> {
        let bytes = entry.as_ref().map_or(0, |entry| entry.bytes.len() as u64);
        let mut progress = self.desk.progress.subscribe();
        loop {
            progress.borrow_and_update();
            {
                let mut work = locked(&self.desk.work);
                if work.stopping {
                    return Err(Error::Stopped);
                }
                let waiting = work.memory.pending_bytes();
                if waiting == 0 || waiting + bytes <= self.pending_bytes {
                    work.memory.submit(path, entry, state);
                    break;
                }
                work.hurry = true;
            }
            self.desk.wake.notify_all();
            progress.changed().await.map_err(|_| Error::Stopped)?;
        }
        self.desk.wake.notify_all();
        Ok(())
    }

    pub(crate) fn set_config_json(&self, bytes: Vec<u8>) {
        locked(&self.desk.work).config_json = Some((bytes, Instant::now()));
        self.desk.wake.notify_all();
    }

    /// Waits until no change of `path` waits for its commit.
    pub(crate) async fn committed(&self, path: &IndexPath) -> Result<(), Error> {
        let mut progress = self.desk.progress.subscribe();
        loop {
            progress.borrow_and_update();
            if locked(&self.desk.work).memory.pending(path).is_none() {
                return Ok(());
            }
            if progress.borrow().ended {
                return Err(Error::Stopped);
            }
            progress.changed().await.map_err(|_| Error::Stopped)?;
            if let Some(why) = progress.borrow_and_update().failed.clone() {
                return Err(Error::NotCommitted { why });
            }
        }
    }

    /// Commits what waits and ends the thread.
    pub(crate) async fn shutdown(&self) {
        self.stop();
        let mut progress = self.desk.progress.subscribe();
        // The sender lives as long as we do.
        let _ = progress.wait_for(|progress| progress.ended).await;
    }

    /// How many files wait for their commit, and what memory holds in bytes.
    pub(crate) fn waiting(&self) -> (usize, u64) {
        let work = locked(&self.desk.work);
        (work.memory.pending_len(), work.memory.bytes())
    }

    /// How many index files are published.
    pub(crate) fn files(&self) -> u64 {
        self.desk.files.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        locked(&self.desk.work).stopping = true;
        self.desk.wake.notify_all();
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Batch {
    files: Vec<(IndexPath, Pending)>,
    config_json: Option<(Vec<u8>, Instant)>,
}

impl Batch {
    fn message(&self) -> String {
        match (self.files.len(), self.config_json.is_some()) {
            (0, _) => "Set config.json".to_owned(),
            (1, false) => format!("Publish {}", self.files[0].0.file_name()),
            (files, false) => format!("Publish {files} index files"),
            (files, true) => format!("Set config.json and publish {files} index files"),
        }
    }

    fn changes(&self) -> Vec<Change> {
        let content = |entry: &Option<Arc<IndexEntry>>| entry.as_ref().map(|entry| entry.bytes.to_vec());
        let files = self.files.iter();
        let files = files.map(|(path, pending)| (TreeFile::Index(path.clone()), content(&pending.entry)));
        let config = self
            .config_json
            .iter()
            .map(|(bytes, _)| (TreeFile::ConfigJson, Some(bytes.clone())));
        config
            .chain(files)
            .map(|(file, content)| Change { file, content })
            .collect()
    }
}

struct Thread {
    desk: Arc<Desk>,
    repository: Repository,
    tree: PublishedTree,
    metadata: Arc<MetadataDb>,
    batch_delay: Duration,
    clock: Clock,
}

impl Thread {
    fn run(mut self) {
        // However this thread ends, nobody must wait for it after that.
        let _end = End(Arc::clone(&self.desk));
        self.upkeep();
        let (mut failures, mut not_before) = (0u32, Instant::now());
        while let Some(batch) = self.next_batch(not_before) {
            match self.commit(&batch) {
                Ok(()) => {
                    failures = 0;
                    self.turn(None);
                    self.upkeep();
                }
                Err(error) => {
                    let why = with_sources(&error);
                    log::error!(
                        "failed to commit {} index files, will try again: {why}",
                        batch.files.len()
                    );
                    not_before = Instant::now() + (Duration::from_secs(1) * (1 << failures.min(5))).min(LONGEST_PAUSE);
                    failures += 1;
                    let lost = locked(&self.desk.work).stopping;
                    self.turn(Some(why));
                    if lost {
                        return;
                    }
                }
            }
        }
    }

    /// Waits until a batch is due; `None` when all is committed and the end has come.
    fn next_batch(&self, not_before: Instant) -> Option<Batch> {
        let mut work = locked(&self.desk.work);
        loop {
            let waiting = work.memory.waiting_since();
            let since = waiting
                .into_iter()
                .chain(work.config_json.as_ref().map(|(_, since)| *since))
                .min();
            let now = Instant::now();
            let wait = match since {
                None if work.stopping => return None,
                None => None,
                Some(_) if work.stopping => Some(Duration::ZERO),
                Some(_) if work.hurry => Some(not_before.saturating_duration_since(now)),
                Some(since) => Some(
                    (since + self.batch_delay)
                        .max(not_before)
                        .saturating_duration_since(now),
                ),
            };
            work = match wait {
                Some(Duration::ZERO) => break,
                None => self.desk.wake.wait(work).unwrap_or_else(PoisonError::into_inner),
                Some(wait) => {
                    self.desk
                        .wake
                        .wait_timeout(work, wait)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        work.hurry = false;
        Some(Batch {
            files: work.memory.batch(BATCH_FILES),
            config_json: work.config_json.clone(),
        })
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), Error> {
        let time = (self.clock)().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_unix = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let difference = self.difference(batch)?;
        let commit = self.repository.commit(&batch.changes(), &batch.message(), time_unix)?;
        let files = self.desk.files.load(Ordering::Relaxed);
        self.desk
            .files
            .store(files.saturating_add_signed(difference), Ordering::Relaxed);
        if let Some(commit) = commit {
            log::debug!("{} as commit {commit}", batch.message());
        }
        for (path, pending) in &batch.files {
            self.remember(path, pending.state.as_ref());
        }
        let mut work = locked(&self.desk.work);
        work.memory.committed(&batch.files);
        if work.config_json == batch.config_json {
            work.config_json = None;
        }
        Ok(())
    }

    /// How many files the batch adds to the tree.
    fn difference(&self, batch: &Batch) -> Result<i64, Error> {
        let mut difference = 0;
        for (path, pending) in &batch.files {
            let before = self.tree.entry(&TreeFile::Index(path.clone()))?.is_some();
            difference += i64::from(pending.entry.is_some()) - i64::from(before);
        }
        Ok(difference)
    }

    /// Only what is committed may be revalidated: a state without its file would make us believe a "not modified".
    fn remember(&self, path: &IndexPath, state: Option<&UpstreamState>) {
        let result = match state {
            Some(state) => self.metadata.set_upstream_state(path, state),
            None => self.metadata.forget_upstream_state(path),
        };
        if let Err(error) = result {
            log::warn!(
                "{}: failed to remember upstream's state: {}",
                path.file_name(),
                with_sources(&error)
            );
        }
    }

    fn upkeep(&mut self) {
        match self.repository.upkeep((self.clock)()) {
            Ok(_) => {}
            Err(error) => log::warn!("upkeep of index.git failed: {}", with_sources(&error)),
        }
    }

    fn turn(&self, failed: Option<String>) {
        self.desk.progress.send_modify(|progress| progress.failed = failed);
    }
}

struct End(Arc<Desk>);

impl Drop for End {
    fn drop(&mut self) {
        let mut work = locked(&self.0.work);
        work.stopping = true;
        let lost = work.memory.pending_len();
        drop(work);
        if lost > 0 {
            log::error!("the publisher ends with {lost} index files that are not committed");
        }
        self.0.progress.send_modify(|progress| progress.ended = true);
    }
}
