mod on_disk;
mod states;
mod trees;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use gix::odb::store::init::Slots;
use registry::IndexPath;

use crate::{BlobId, CommitId, Error, TreeId};
use on_disk::branch_on_disk;
pub(crate) use trees::entry;
pub(crate) use trees::{commit, entries, object, tip_at};
use trees::{compare, tree_of, walk};

/// A file of the published tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TreeFile {
    /// `config.json`, at the top.
    ConfigJson,
    /// A crate's index file.
    Index(IndexPath),
}

impl TreeFile {
    /// Its path in the tree, with `/` between the parts.
    pub fn as_str(&self) -> &str {
        match self {
            Self::ConfigJson => "config.json",
            Self::Index(path) => path.as_str(),
        }
    }
}

/// The commit that is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    /// Its id.
    pub commit: CommitId,
    /// The index as it is at that commit.
    pub tree: TreeId,
    /// The commit's time, in seconds since 1970.
    pub time_unix: i64,
    /// The commit's message: it names what the commit came from.
    pub message: String,
}

/// A file's content as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedBlob {
    /// The content's id: the strong `ETag`.
    pub id: BlobId,
    /// The content.
    pub bytes: Vec<u8>,
}

/// What happened to one index file between two commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// The file.
    pub path: IndexPath,
    /// Its content before; none if it was not there.
    pub old: Option<BlobId>,
    /// Its content after; none if it is gone.
    pub new: Option<BlobId>,
}

/// Reads what is published. Cheap to clone, and for any number of threads; each call blocks on the disk.
#[derive(Clone)]
pub struct PublishedTree {
    shared: Arc<Shared>,
}

/// What the writer and its readers have in common.
struct Shared {
    dir: PathBuf,
    slots: u16,
    current: RwLock<Current>,
    /// Handles between two uses. Each has its own cache of trees, so they are worth keeping.
    idle: Mutex<Vec<Handle>>,
}

struct Current {
    generation: u64,
    git: gix::ThreadSafeRepository,
    tip: Option<Arc<Tip>>,
    /// Where the branch is moved to just now: on disk it may be there already.
    next: Option<CommitId>,
}

struct Handle {
    generation: u64,
    git: gix::Repository,
}

/// Root and folder trees that a handle keeps inflated.
const TREE_CACHE_BYTES: usize = 4 << 20;
const MAX_IDLE_HANDLES: usize = 16;

impl PublishedTree {
    /// `slots` bounds the packs that may exist at once, those that vanished a moment ago included.
    pub(crate) fn open(dir: &Path, slots: u16) -> Result<Self, Error> {
        let git = open_git(dir, slots)?.into_sync();
        let current = RwLock::new(Current {
            generation: 0,
            git,
            tip: None,
            next: None,
        });
        let shared = Shared {
            dir: dir.to_owned(),
            slots,
            current,
            idle: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Opens a repository for reading alone, as it is at this moment, beside the process that writes it or without one.
    pub fn open_read_only(dir: &Path) -> Result<Self, Error> {
        let tree = Self::open(dir, 1024)?;
        let Some(branch) = branch_on_disk(dir)? else {
            return Ok(tree);
        };
        let tip = tree.with_git(|git| tip_at(git, branch.parse()?))?;
        tree.set_tip(Some(tip));
        Ok(tree)
    }

    pub(crate) fn set_tip(&self, tip: Option<Tip>) {
        let mut current = self.shared.current.write().unwrap_or_else(PoisonError::into_inner);
        current.tip = tip.map(Arc::new);
        current.next = None;
    }

    /// The branch is about to be moved to this commit.
    pub(crate) fn set_next(&self, next: CommitId) {
        let mut current = self.shared.current.write().unwrap_or_else(PoisonError::into_inner);
        current.next = Some(next);
    }

    /// The commit that the branch is about to be moved to.
    pub(crate) fn next(&self) -> Option<CommitId> {
        self.shared.current.read().unwrap_or_else(PoisonError::into_inner).next
    }

    /// Lets go of all that is mapped: without it a pack that was removed holds its disk space for ever.
    pub(crate) fn reopen(&self) -> Result<(), Error> {
        let git = open_git(&self.shared.dir, self.shared.slots)?.into_sync();
        let mut current = self.shared.current.write().unwrap_or_else(PoisonError::into_inner);
        current.git = git;
        current.generation += 1;
        drop(current);
        self.idle().clear();
        Ok(())
    }

    /// The directory of the repository.
    pub(crate) fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// The commit that is published; none before the first one.
    pub fn tip(&self) -> Result<Option<Tip>, Error> {
        Ok(self.current_tip().as_deref().cloned())
    }

    /// A file's content; none if it is not published.
    pub fn read(&self, file: &TreeFile) -> Result<Option<PublishedBlob>, Error> {
        self.at_tip(|git, tip| {
            let Some(id) = entry(git, tip.tree, file.as_str())? else {
                return Ok(None);
            };
            let bytes = object(git, id)?.detach().data;
            Ok(Some(PublishedBlob { id: id.into(), bytes }))
        })
        .map(Option::flatten)
    }

    /// The id of a file's content, without reading it; none if it is not published.
    pub fn entry(&self, file: &TreeFile) -> Result<Option<BlobId>, Error> {
        let found = self.at_tip(|git, tip| entry(git, tip.tree, file.as_str()))?;
        Ok(found.flatten().map(BlobId::from))
    }

    /// Calls `visit` with every index file, in the tree's order. Files that no index has are passed over.
    pub fn for_each_file(&self, mut visit: impl FnMut(IndexPath, BlobId)) -> Result<(), Error> {
        let files = self.at_tip(|git, tip| {
            let mut files = Vec::new();
            walk(git, tip.tree.into(), "", &mut |path, id| {
                if let Ok(path) = path.parse::<IndexPath>() {
                    files.push((path, BlobId::from(id)));
                }
            })?;
            Ok(files)
        })?;
        files.into_iter().flatten().for_each(|(path, id)| visit(path, id));
        Ok(())
    }

    /// How many index files are published.
    pub fn count_files(&self) -> Result<usize, Error> {
        let mut count = 0;
        self.for_each_file(|_, _| count += 1)?;
        Ok(count)
    }

    /// The index files that differ between two commits, in the tree's order.
    ///
    /// Commits that a squash replaced are gone some minutes later: then this is [`Error::MissingObject`], and
    /// [`for_each_file`](Self::for_each_file) is the way to catch up.
    pub fn changed_between(&self, old: CommitId, new: CommitId) -> Result<Vec<FileChange>, Error> {
        self.with_git(|git| {
            let mut changes = Vec::new();
            let old = Some(tree_of(git, old)?);
            let new = Some(tree_of(git, new)?);
            compare(git, old, new, "", &mut changes)?;
            Ok(changes)
        })
    }

    fn current_tip(&self) -> Option<Arc<Tip>> {
        self.shared
            .current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .tip
            .clone()
    }

    fn at_tip<T>(&self, read: impl Fn(&gix::Repository, &Tip) -> Result<T, Error>) -> Result<Option<T>, Error> {
        self.with_git(|git| self.current_tip().map(|tip| read(git, &tip)).transpose())
    }

    /// Runs `read` with a handle of its own. A pack may go away beneath it: then once more, with what is there now.
    pub(crate) fn with_git<T>(&self, read: impl Fn(&gix::Repository) -> Result<T, Error>) -> Result<T, Error> {
        let handle = self.take_handle();
        let first = read(&handle.git);
        if !matches!(first, Err(Error::MissingObject { .. } | Error::Git { .. })) {
            self.put_back(handle);
            return first;
        }
        drop(handle);
        read(&open_git(&self.shared.dir, self.shared.slots)?)
    }

    /// The same once, for what cannot be done twice.
    pub(crate) fn with_git_mut<T>(&self, read: impl FnOnce(&gix::Repository) -> Result<T, Error>) -> Result<T, Error> {
        let handle = self.take_handle();
        let done = read(&handle.git);
        if done.is_ok() {
            self.put_back(handle);
        }
        done
    }

    fn take_handle(&self) -> Handle {
        let current = self.shared.current.read().unwrap_or_else(PoisonError::into_inner);
        let generation = current.generation;
        let idle = std::iter::from_fn(|| self.idle().pop()).find(|handle| handle.generation == generation);
        idle.unwrap_or_else(|| {
            let mut git = current.git.to_thread_local();
            git.object_cache_size_if_unset(TREE_CACHE_BYTES);
            Handle { generation, git }
        })
    }

    fn put_back(&self, handle: Handle) {
        let generation = self
            .shared
            .current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .generation;
        let mut idle = self.idle();
        if handle.generation == generation && idle.len() < MAX_IDLE_HANDLES {
            idle.push(handle);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Handle>> {
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the repository by itself: no configuration of the user or the machine has a say in it.
pub(crate) fn open_git(dir: &Path, slots: u16) -> Result<gix::Repository, Error> {
    // Whose the files are is the operator's business: a volume may belong to another user.
    let options = gix::open::Options::isolated()
        .with(gix::sec::Trust::Full)
        .open_path_as_is(true)
        .object_store_slots(Slots::Given(slots));
    gix::open_opts(dir, options).map_err(Error::git("open the repository"))
}

#[cfg(test)]
mod tests;
