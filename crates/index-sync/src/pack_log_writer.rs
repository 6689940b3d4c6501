//! Keeps the pack log, from which git clients are served, in step with what is published. It can be made anew from the
//! repository at any time, so nothing that happens to it fails a commit.

mod fill;
mod many;
mod packs;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use git_smart_http::{PackLog, PackLogWriter};

use crate::memory::locked;
use crate::upstream_sparse::with_sources;
use crate::{CommitId, Error, PublishedTree, Tip};
use fill::{Next, append_snapshot, catch_up};

/// A commit with more new objects than this, such as the first whole index, is appended on a thread of its own after it is
/// published; git clients wait meanwhile.
const MANY_OBJECTS: usize = 5_000;
/// How often it is tried in a row to make the log good.
const TRIES: usize = 3;
/// How long nobody tries after that.
const PAUSE: Duration = Duration::from_secs(60);

/// Whether git clients can be served.
#[derive(Debug, Clone)]
pub enum PackLogState {
    /// They can, from this.
    Ready(PackLog),
    /// Not yet: the log is being made from the repository.
    Building {
        /// How far that is.
        percent: u8,
    },
}

/// The one that writes the log, in the hands of the one that writes the repository.
pub(crate) struct PackLogKeeper {
    shared: Arc<Shared>,
}

/// The log as clients see it.
#[derive(Clone)]
pub(crate) struct PackLogReader {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    tree: PublishedTree,
    /// How long the last commit of a history that was squashed stays known.
    old_tips: Duration,
    place: Mutex<Place>,
    percent: AtomicU8,
    stopping: AtomicBool,
}

struct Place {
    writer: Whereabouts,
    /// What clients are served from meanwhile.
    log: Option<PackLog>,
    thread: Option<JoinHandle<()>>,
    /// When mending it was given up.
    gave_up: Option<Instant>,
}

/// Who has the writer.
enum Whereabouts {
    /// It is here, and commits are appended as they are made.
    Here(Box<PackLogWriter>),
    /// A thread of its own makes the log good.
    Away,
    /// Nobody: the last try failed.
    Nowhere,
}

impl PackLogKeeper {
    /// Opens the log in `dir`. What is not as it should be is made good on a thread of its own. Gives the log's last commit too,
    /// if it is not the published one.
    pub(crate) fn open(dir: &Path, tree: PublishedTree, old_tips: Duration) -> (Self, Option<git_smart_http::Commit>) {
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            tree,
            old_tips,
            place: Mutex::new(Place {
                writer: Whereabouts::Nowhere,
                log: None,
                thread: None,
                gave_up: None,
            }),
            percent: AtomicU8::new(0),
            stopping: AtomicBool::new(false),
        });
        let mut head = None;
        match PackLogWriter::open(dir) {
            Ok((writer, _)) => {
                head = writer.log().view().head().copied();
                let mut place = locked(&shared.place);
                place.writer = Whereabouts::Here(Box::new(writer));
            }
            Err(error) => log::warn!("the pack log is made anew: {}", with_sources(&error)),
        }
        let keeper = Self { shared };
        let published = keeper.shared.tree.tip().ok().flatten().map(|tip| id(tip.commit));
        let ahead = head.filter(|head| Some(head.id) != published);
        (keeper, ahead)
    }

    pub(crate) fn reader(&self) -> PackLogReader {
        PackLogReader {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Appends a commit whose objects are on disk, before it is published as what follows `from`.
    pub(crate) fn append(&self, git: &gix::Repository, from: Option<&Tip>, to: &Tip) {
        let mut place = locked(&self.shared.place);
        let Whereabouts::Here(writer) = &mut place.writer else {
            return;
        };
        let head = writer.log().view().head().map(|head| head.id);
        if head != from.map(|tip| id(tip.commit)) {
            // It has to catch up first.
            return;
        }
        if head == Some(id(to.commit)) {
            return;
        }
        let appended = Next::read(writer, git, to.commit, MANY_OBJECTS).and_then(|next| {
            let is_small = next.ids.len() <= MANY_OBJECTS;
            if is_small {
                next.append(writer, git)?;
            }
            Ok(is_small)
        });
        match appended {
            Ok(true) => place.log = Some(writer.log()),
            Ok(false) => place.log = None,
            Err(error) => {
                log::error!(
                    "commit {} is not in the pack log, which is mended now: {}",
                    to.commit,
                    with_sources(&error)
                );
                place.writer = Whereabouts::Nowhere;
            }
        }
    }

    /// The log's last commit, if the writer is here.
    pub(crate) fn head(&self) -> Option<git_smart_http::Commit> {
        match &locked(&self.shared.place).writer {
            Whereabouts::Here(writer) => writer.log().view().head().copied(),
            _ => None,
        }
    }

    /// Something was published, or the log was opened: if the log is not in step, or lacks a place to clone from, it is made good.
    pub(crate) fn settle(&self) {
        self.shared.settle();
    }
}

impl Drop for PackLogKeeper {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let thread = locked(&self.shared.place).thread.take();
        if let Some(thread) = thread {
            // A panic of the thread has been printed by itself; the next start mends the log.
            let _ = thread.join();
        }
    }
}

impl PackLogReader {
    pub(crate) fn state(&self) -> PackLogState {
        self.shared.settle();
        match &locked(&self.shared.place).log {
            Some(log) => PackLogState::Ready(log.clone()),
            None => PackLogState::Building {
                percent: self.shared.percent.load(Ordering::Relaxed),
            },
        }
    }
}

impl Shared {
    fn settle(self: &Arc<Self>) {
        let mut place = locked(&self.place);
        let damaged = place.log.as_ref().is_some_and(|log| log.view().is_damaged());
        let is_being_mended = match &place.writer {
            Whereabouts::Here(writer) if !damaged && self.is_ahead(writer) => return,
            Whereabouts::Here(writer) if !damaged && self.is_good(writer) => {
                let log = writer.log();
                place.log = log.view().head().is_some().then_some(log);
                return;
            }
            Whereabouts::Here(_) => false,
            Whereabouts::Away => true,
            Whereabouts::Nowhere => false,
        };
        let is_hopeless = place.gave_up.is_some_and(|at| at.elapsed() < PAUSE);
        if is_being_mended || is_hopeless || self.stopping.load(Ordering::Relaxed) {
            return;
        }
        if damaged {
            log::error!("the pack log is damaged and made anew; git clients wait meanwhile");
            place.log = None;
        }
        let writer = std::mem::replace(&mut place.writer, Whereabouts::Away);
        let writer = match writer {
            Whereabouts::Here(writer) if !damaged => Some(writer),
            _ => None,
        };
        let shared = Arc::clone(self);
        let started = thread::Builder::new()
            .name("pack-log".to_owned())
            .spawn(move || shared.mend(writer, damaged));
        match started {
            Ok(thread) => place.thread = Some(thread),
            Err(error) => {
                log::error!("the pack log is not mended, no thread can be started: {error}");
                place.writer = Whereabouts::Nowhere;
            }
        }
    }

    /// Whether it ends at what is published, and clones need nothing from before a squash.
    fn is_good(&self, writer: &PackLogWriter) -> bool {
        let view = writer.log().view();
        let head = view.head().map(|head| head.id);
        let published = self.tree.tip().ok().flatten().map(|tip| id(tip.commit));
        head == published && (head.is_none() || view.root_is_whole())
    }

    /// Whether it ends at the commit that the branch is just being moved to: who publishes that looks after the log next.
    fn is_ahead(&self, writer: &PackLogWriter) -> bool {
        let next = self.tree.next().map(id);
        next.is_some() && next == writer.log().view().head().map(|head| head.id)
    }

    fn mend(&self, mut writer: Option<Box<PackLogWriter>>, damaged: bool) {
        let mut anew = damaged;
        for _ in 0..TRIES {
            let mended = self.try_to_mend(writer.take(), anew);
            match mended {
                Ok(()) => return,
                Err(_) if self.stopping.load(Ordering::Relaxed) => break,
                Err(error) => {
                    log::warn!("the pack log is made anew: {}", with_sources(&error));
                    anew = true;
                    // What is served may be what cannot be read.
                    locked(&self.place).log = None;
                }
            }
        }
        let mut place = locked(&self.place);
        place.writer = Whereabouts::Nowhere;
        place.gave_up = Some(Instant::now());
    }

    fn try_to_mend(&self, writer: Option<Box<PackLogWriter>>, anew: bool) -> Result<(), Error> {
        let mut writer = match writer {
            Some(writer) if !anew => writer,
            _ if anew => Box::new(PackLogWriter::create(&self.dir)?),
            _ => Box::new(PackLogWriter::open(&self.dir).map(|(writer, _)| writer)?),
        };
        loop {
            if let Some(tip) = self.tree.tip()? {
                self.tree
                    .with_git_mut(|git| catch_up(&mut writer, git, tip.commit, self))?;
                if !writer.log().view().root_is_whole() {
                    self.tree
                        .with_git_mut(|git| append_snapshot(&mut writer, git, tip.commit, self))?;
                    writer.drop_before(self.oldest_tip())?;
                }
            } else if writer.log().view().head().is_some() {
                // Of a repository that is gone.
                *writer = PackLogWriter::create(&self.dir)?;
            }
            let mut place = locked(&self.place);
            if self.is_good(&writer) {
                place.log = Some(writer.log());
                place.writer = Whereabouts::Here(writer);
                return Ok(());
            }
        }
    }

    fn oldest_tip(&self) -> i64 {
        let since = SystemTime::now().checked_sub(self.old_tips).unwrap_or(UNIX_EPOCH);
        let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }

    /// An error ends a long piece of work, since the mirror stops.
    fn goes_on(&self) -> Result<(), Error> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        Ok(())
    }

    /// Notes how far that is.
    fn progress(&self, done: usize, total: usize) -> Result<(), Error> {
        self.goes_on()?;
        let percent = (done * 100).checked_div(total).unwrap_or(0).min(99);
        self.percent
            .store(u8::try_from(percent).unwrap_or(99), Ordering::Relaxed);
        Ok(())
    }
}

fn id(commit: CommitId) -> git_smart_http::ObjectId {
    git_smart_http::ObjectId(*commit.as_bytes())
}

#[cfg(test)]
mod tests;
