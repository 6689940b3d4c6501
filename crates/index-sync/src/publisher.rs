mod at_once;
mod commit_thread;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Instant, SystemTime};

use metadata_db::{MetadataDb, UpstreamState};
use registry::IndexPath;
use tokio::sync::{oneshot, watch};

use crate::index::Clock;
use crate::memory::{Memory, Remembered, locked};
use crate::repository::RawChange;
use crate::{CommitId, Error, IndexEntry, Repository};
use commit_thread::Thread;
pub(crate) use commit_thread::with_upstream;

/// What the publisher has done so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// Why the last try to commit failed, if it did.
    failed: Option<String>,
    /// Since when every try fails.
    failing_since: Option<SystemTime>,
    ended: bool,
}

/// The end of a round of following git.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Round {
    upstream: CommitId,
    /// Files beside the index.
    raw: Vec<RawChange>,
    /// The newest change of the round: it is over once that and all before it are committed.
    last_change: u64,
    since: Instant,
}

/// Something to be done with the repository between two commits.
struct Errand(Box<dyn FnOnce(&mut Repository) + Send>);

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Errand")
    }
}

#[derive(Debug)]
struct Work {
    memory: Memory,
    config_json: Option<(Vec<u8>, Instant)>,
    /// A round of following git whose last change is to be committed.
    round: Option<Round>,
    errands: Vec<Errand>,
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
                round: None,
                errands: Vec::new(),
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
                if work.stopping || progress.borrow().ended {
                    return Err(Error::Stopped);
                }
                let waiting = work.memory.pending_bytes();
                if waiting == 0 || waiting + bytes <= self.pending_bytes {
                    // The thread knows already when to commit, except after the first.
                    let first = work.memory.pending_len() == 0;
                    work.memory.submit(path, entry, state);
                    if first {
                        self.desk.wake.notify_all();
                    }
                    return Ok(());
                }
                work.hurry = true;
            }
            self.desk.wake.notify_all();
            progress.changed().await.map_err(|_| Error::Stopped)?;
        }
    }

    /// Commits it at once, with what waits: until then, git clients are sent to another address.
    pub(crate) fn set_config_json(&self, bytes: Vec<u8>) {
        {
            let mut work = locked(&self.desk.work);
            work.config_json = Some((bytes, Instant::now()));
            work.hurry = true;
        }
        self.desk.wake.notify_all();
    }

    /// Has something done by the one that may write, between two commits.
    pub(crate) async fn with_repository<T: Send + 'static>(
        &self,
        errand: impl FnOnce(&mut Repository) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, done) = oneshot::channel();
        {
            let mut work = locked(&self.desk.work);
            if work.stopping {
                return Err(Error::Stopped);
            }
            work.errands.push(Errand(Box::new(|repository| {
                // Who asked may have left.
                let _ = sender.send(errand(repository));
            })));
        }
        self.desk.wake.notify_all();
        done.await.map_err(|_| Error::Stopped)?
    }

    /// Waits until all that was submitted is committed, with `raw` and the name of the commit it came from in the last
    /// commit. After a failure it is still tried again.
    pub(crate) async fn finish_round(&self, upstream: CommitId, raw: Vec<RawChange>) -> Result<(), Error> {
        let mut progress = self.desk.progress.subscribe();
        {
            let mut work = locked(&self.desk.work);
            let (last_change, since) = (work.memory.changes(), Instant::now());
            work.round = Some(Round {
                upstream,
                raw,
                last_change,
                since,
            });
            work.hurry = true;
        }
        self.desk.wake.notify_all();
        loop {
            progress.borrow_and_update();
            if locked(&self.desk.work)
                .round
                .as_ref()
                .is_none_or(|round| round.upstream != upstream)
            {
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

    /// The files that wait for their commit.
    pub(crate) fn pending_paths(&self) -> Vec<IndexPath> {
        let work = locked(&self.desk.work);
        work.memory
            .batch(usize::MAX)
            .into_iter()
            .map(|(path, _)| path)
            .collect()
    }

    /// Since when commits fail, if they do, and whether the thread runs.
    pub(crate) fn health(&self) -> (Option<SystemTime>, bool) {
        let progress = self.desk.progress.borrow();
        (progress.failing_since, !progress.ended)
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
