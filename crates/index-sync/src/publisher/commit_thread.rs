use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use metadata_db::{MetadataDb, UpstreamState};
use registry::IndexPath;

use super::{Desk, Errand, Round};
use crate::index::Clock;
use crate::memory::{Pending, locked};
use crate::upstream_sparse::with_sources;
use crate::{Change, CommitId, Error, IndexEntry, PublishedTree, Repository, TreeFile};

/// The most files in one commit, so that none takes long; the rest follows at once.
const BATCH_FILES: usize = 500;
/// The longest pause after commits that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

struct Batch {
    files: Vec<(IndexPath, Pending)>,
    config_json: Option<(Vec<u8>, Instant)>,
    round: Option<Round>,
}

/// What is to be done next.
enum Due {
    Errands(Vec<Errand>),
    Commit(Batch),
}

impl Batch {
    /// With the commit of upstream's git repository that the index has come to, if it is followed.
    fn message(&self, upstream: Option<CommitId>) -> String {
        let what = self.what();
        upstream.map_or_else(|| what.clone(), |upstream| with_upstream(&what, upstream))
    }

    fn what(&self) -> String {
        match (self.files.len(), self.config_json.is_some()) {
            (0, true) => "Set config.json".to_owned(),
            (0, false) => "Follow upstream".to_owned(),
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

/// A commit's message that names the commit of upstream that it came from.
pub(crate) fn with_upstream(what: &str, upstream: CommitId) -> String {
    format!("{what}\n\nUpstream-Commit: {upstream}\n")
}

pub(super) struct Thread {
    pub(super) desk: Arc<Desk>,
    pub(super) repository: Repository,
    pub(super) tree: PublishedTree,
    pub(super) metadata: Arc<MetadataDb>,
    pub(super) batch_delay: Duration,
    pub(super) clock: Clock,
}

impl Thread {
    pub(super) fn run(self) {
        // However this thread ends, nobody must wait for it after that; and nobody is told before the repository is free.
        let _end = End(Arc::clone(&self.desk));
        self.work();
    }

    fn work(mut self) {
        self.upkeep();
        let (mut failures, mut not_before) = (0u32, Instant::now());
        while let Some(due) = self.next_batch(not_before) {
            let batch = match due {
                Due::Commit(batch) => batch,
                Due::Errands(errands) => {
                    self.run_errands(errands);
                    continue;
                }
            };
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
    fn next_batch(&self, not_before: Instant) -> Option<Due> {
        // Without a first commit there is nothing to clone, so it waits for nothing.
        let batch_delay = match self.tree.tip() {
            Ok(None) => Duration::ZERO,
            _ => self.batch_delay,
        };
        let mut work = locked(&self.desk.work);
        loop {
            if !work.errands.is_empty() {
                return Some(Due::Errands(std::mem::take(&mut work.errands)));
            }
            let waiting = work.memory.waiting_since();
            let since = waiting
                .into_iter()
                .chain(work.config_json.as_ref().map(|(_, since)| *since))
                .chain(work.round.as_ref().map(|round| round.since))
                .min();
            let now = Instant::now();
            let wait = match since {
                None if work.stopping => return None,
                None => None,
                Some(_) if work.stopping => Some(Duration::ZERO),
                Some(_) if work.hurry => Some(not_before.saturating_duration_since(now)),
                Some(since) => Some((since + batch_delay).max(not_before).saturating_duration_since(now)),
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
        let files = work.memory.batch(BATCH_FILES);
        let is_last = |round: &&Round| work.memory.waiting_up_to(round.last_change) <= files.len();
        let round = work.round.as_ref().filter(is_last).cloned();
        work.hurry = work.round.is_some() && round.is_none();
        let config_json = work.config_json.clone();
        Some(Due::Commit(Batch {
            files,
            config_json,
            round,
        }))
    }

    fn run_errands(&mut self, errands: Vec<Errand>) {
        let commit = |tree: &PublishedTree| tree.tip().ok().flatten().map(|tip| tip.commit);
        let before = commit(&self.tree);
        for Errand(errand) in errands {
            errand(&mut self.repository);
        }
        if commit(&self.tree) == before {
            return;
        }
        match self.tree.count_files() {
            Ok(files) => self.desk.files.store(files as u64, Ordering::Relaxed),
            Err(error) => log::warn!("failed to count the index files: {}", with_sources(&error)),
        }
        self.upkeep();
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), Error> {
        let time = (self.clock)().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_unix = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let difference = self.difference(batch)?;
        let upstream = match &batch.round {
            Some(round) => Some(round.upstream),
            None => self.repository.upstream()?,
        };
        let raw = batch.round.as_ref().map_or(&[][..], |round| &round.raw);
        let message = batch.message(upstream);
        let commit = self.repository.commit_raw(&batch.changes(), raw, &message, time_unix)?;
        if let Some(round) = &batch.round {
            self.repository.finish_upstream(round.upstream)?;
        }
        let files = self.desk.files.load(Ordering::Relaxed);
        self.desk
            .files
            .store(files.saturating_add_signed(difference), Ordering::Relaxed);
        if let Some(commit) = commit {
            log::debug!("{} as commit {commit}", batch.what());
        }
        for (path, pending) in &batch.files {
            self.remember(path, pending.state.as_ref());
        }
        let mut work = locked(&self.desk.work);
        work.memory.committed(&batch.files);
        if work.config_json == batch.config_json {
            work.config_json = None;
        }
        if work.round == batch.round {
            work.round = None;
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
        let now = (self.clock)();
        self.desk.progress.send_modify(|progress| {
            progress.failing_since = failed.as_ref().map(|_| progress.failing_since.unwrap_or(now));
            progress.failed = failed;
        });
    }
}

struct End(Arc<Desk>);

impl Drop for End {
    fn drop(&mut self) {
        let mut work = locked(&self.0.work);
        work.stopping = true;
        // Who waits for one hears that nobody will do it.
        work.errands.clear();
        let lost = work.memory.pending_len();
        drop(work);
        if lost > 0 {
            log::error!("the publisher ends with {lost} index files that are not committed");
        }
        self.0.progress.send_modify(|progress| progress.ended = true);
    }
}
