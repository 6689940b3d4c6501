//! The pack log: the objects of each published commit as ready-made pack entries, in commit order.

mod append;
mod deflate;
mod files;
mod format;
mod history;
mod known;
mod recover;
mod rewrite;
mod writer;

use std::{
    io,
    sync::{Arc, PoisonError, RwLock, atomic::Ordering},
};

use crate::{Error, Kind, ObjectId};

pub use append::Append;
pub use deflate::{Deflated, Deflater};
pub(crate) use files::{Files, Window};
pub(crate) use format::EntryRecord;
pub(crate) use history::{Base, History, Place, Segment};
pub use recover::Recovered;
pub use writer::PackLogWriter;

/// One commit, as the log keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its name.
    pub id: ObjectId,
    /// Its tree.
    pub tree: ObjectId,
    /// The commit before it; none for a root, the first one or one that squashed the history.
    pub parent: Option<ObjectId>,
    /// When it was committed, in seconds since 1970.
    pub time: i64,
}

/// One object, inflated, without git's header.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// Its name. It is not computed again: who appends vouches for it.
    pub id: ObjectId,
    /// What it is.
    pub kind: Kind,
    /// Its content.
    pub data: &'a [u8],
}

/// The log as readers see it. Clones are cheap and see the same log.
#[derive(Clone, Debug)]
pub struct PackLog {
    current: Arc<RwLock<Arc<View>>>,
}

impl PackLog {
    fn new(view: View) -> PackLog {
        PackLog {
            current: Arc::new(RwLock::new(Arc::new(view))),
        }
    }

    /// The log as it is now. What is appended later does not change it.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn publish(&self, view: View) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }
}

/// The log at one moment: what one request is answered from, start to end.
#[derive(Clone, Debug)]
pub struct View {
    history: History,
    files: Arc<Files>,
}

impl View {
    /// The last commit, which `HEAD` names.
    pub fn head(&self) -> Option<&Commit> {
        self.history.head()
    }

    /// The commits in the order in which they were published, those before a squash included.
    pub fn commits(&self) -> impl ExactSizeIterator<Item = &Commit> {
        self.history.commits()
    }

    /// Whether the log knows this commit.
    pub fn contains(&self, commit: &ObjectId) -> bool {
        self.history.number(commit).is_some()
    }

    /// Deflated bytes of everything in the log.
    pub fn payload_bytes(&self) -> u64 {
        self.history
            .segments()
            .map(|(_, segment)| segment.payload_end - segment.payload_start)
            .sum()
    }

    /// Deflated bytes of the last whole copy of a commit (the first commit, or the last snapshot).
    ///
    /// The rest of [`View::payload_bytes`] is history: a new snapshot is due when it outweighs this.
    pub fn snapshot_bytes(&self) -> u64 {
        self.history
            .last_whole()
            .map_or(0, |segment| segment.payload_end - segment.payload_start)
    }

    /// Whether the newest root commit can be cloned without what was before it.
    ///
    /// False after a squash, until a snapshot of the new root was appended.
    pub fn root_is_whole(&self) -> bool {
        self.history.root_is_whole()
    }

    /// Whether reading found bytes that are not the ones that were written. The log has to be rebuilt then.
    pub fn is_damaged(&self) -> bool {
        self.files.damaged.load(Ordering::Relaxed)
    }

    /// Reads the whole log and compares its checksums; `progress` hears the bytes done and those of all.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the first commit whose range is not what was written, or [`Error::Disk`].
    pub fn verify(&self, mut progress: impl FnMut(u64, u64)) -> Result<(), Error> {
        let all = self.payload_bytes();
        let mut done = 0;
        for (commit, segment) in self.history.segments() {
            if let Err(error) = self.files.verify(commit, segment) {
                self.note(&error);
                return Err(error);
            }
            done += segment.payload_end - segment.payload_start;
            progress(done, all);
        }
        Ok(())
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn files(&self) -> &Arc<Files> {
        &self.files
    }

    pub(crate) fn note(&self, error: &Error) {
        if error.needs_rebuild() {
            self.files.damaged.store(true, Ordering::Relaxed);
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::other(error)
    }
}
