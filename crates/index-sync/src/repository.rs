mod edited;
mod layout;
mod logged;
mod mirror_refs;
mod new_object;
mod pack_writer;
mod reachable;
mod retired;
mod states;
mod storage;
mod upkeep;
mod upstream;

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gix::ObjectId;
use gix::hash::Kind::Sha1;

use crate::durable::replace_file;
use crate::pack_log_writer::PackLogKeeper;
use crate::published::{commit, entries, open_git, tip_at};
use crate::upstream_git::remove_fetch_dir;
use crate::upstream_sparse::with_sources;
use crate::{CommitId, Error, PublishedTree, Tip, TreeFile};
use edited::edited;
pub(crate) use layout::{BRANCH, pack_path};
use new_object::NewObject;
pub(crate) use pack_writer::{StagedPack, fetched_pack};
use retired::RetiredPacks;
pub use states::StateKind;
pub(crate) use states::{raw_change, state};
use storage::Storage;
pub(crate) use storage::packs_on_disk;
use upkeep::Measured;
pub use upkeep::Upkeep;
pub(crate) use upstream::{Differing, Leaf, RawChange, tree_diff, upstream_commit};

/// One file of the index, as it shall be from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which file.
    pub file: TreeFile,
    /// Its content; none takes the file away.
    pub content: Option<Vec<u8>>,
}

/// How large `index.git` may grow, at any moment, if [`Repository::upkeep`] follows each commit.
#[derive(Debug, Clone, PartialEq)]
pub struct RepositoryLimits {
    /// Packs, those included that were replaced and wait for their readers.
    pub packs: usize,
    /// Objects in files of their own.
    pub loose_objects: usize,
    /// Bytes in `objects/`, as a multiple of the newest state alone …
    pub snapshot_factor: f64,
    /// … and this many more.
    pub slack_bytes: u64,
    /// How long a pack that was replaced stays for readers, as long as the other limits hold.
    pub retire_after: Duration,
}

impl Default for RepositoryLimits {
    fn default() -> Self {
        Self {
            packs: 64,
            loose_objects: 256,
            snapshot_factor: 2.5,
            slack_bytes: 64 << 20,
            retire_after: Duration::from_secs(600),
        }
    }
}

impl RepositoryLimits {
    /// Slots for packs in gix's table: those on disk, and those just removed that a reader still has.
    fn slots(&self) -> u16 {
        u16::try_from(self.packs.saturating_mul(8)).unwrap_or(u16::MAX).max(64)
    }
}

/// The one writer of `index.git`, the bare repository whose branch `master` is what the mirror publishes.
///
/// Whatever a call has returned survives a power cut, and the branch names a complete commit at any moment.
pub struct Repository {
    dir: PathBuf,
    limits: RepositoryLimits,
    published: PublishedTree,
    storage: Storage,
    retired: RetiredPacks,
    /// What the newest state alone takes; measured when first needed and then now and again.
    snapshot: Option<Measured>,
    /// What git clients are served from, if anybody keeps it.
    pack_log: Option<PackLogKeeper>,
    /// A write failed half way: what is on disk has to be looked at before the next one.
    torn: bool,
}

impl Repository {
    /// Opens the repository in `dir`, made anew if there is none, and removes what a killed writer left behind.
    ///
    /// No other writer may be there. A repository that lacks what its branch needs is [`Error::Damaged`].
    pub fn open(dir: &Path, limits: RepositoryLimits) -> Result<Self, Error> {
        layout::sweep(dir)?;
        remove_fetch_dir(dir)?;
        states::drop_staged(dir)?;
        layout::init(dir)?;
        let published = PublishedTree::open(dir, limits.slots())?;
        let (storage, retired) = load(dir, &published, limits.slots())?;
        Ok(Self {
            dir: dir.to_owned(),
            limits,
            published,
            storage,
            retired,
            snapshot: None,
            pack_log: None,
            torn: false,
        })
    }

    /// For reading what is published, beside this writer and on any thread.
    pub fn reader(&self) -> PublishedTree {
        self.published.clone()
    }

    /// Publishes one commit with all of `changes`, applied in their order, on top of what is published.
    ///
    /// Gives none, and publishes nothing, if that leaves the index as it is. `time_unix` is in seconds since 1970.
    pub fn commit(&mut self, changes: &[Change], message: &str, time_unix: i64) -> Result<Option<CommitId>, Error> {
        self.commit_raw(changes, &[], message, time_unix)
    }

    /// The same with files that stand in the tree as upstream has them.
    pub(crate) fn commit_raw(
        &mut self,
        changes: &[Change],
        raw: &[RawChange],
        message: &str,
        time_unix: i64,
    ) -> Result<Option<CommitId>, Error> {
        self.guarded(|repository| repository.commit_whole(changes, raw, message, time_unix))
    }

    /// After a failure, what we think is on disk may be wrong: the next call begins as a new start does.
    fn guarded<T>(&mut self, write: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.torn {
            layout::sweep(&self.dir)?;
            self.published.reopen()?;
            (self.storage, self.retired) = load(&self.dir, &self.published, self.limits.slots())?;
            self.snapshot = None;
            self.torn = false;
            self.repair_pack_log()?;
        }
        self.torn = true;
        let done = write(self)?;
        self.torn = false;
        Ok(done)
    }

    fn commit_whole(
        &mut self,
        changes: &[Change],
        raw: &[RawChange],
        message: &str,
        time: i64,
    ) -> Result<Option<CommitId>, Error> {
        let tip = self.published.tip()?;
        let before = tip.as_ref().map(|tip| tip.tree);
        let (tree, mut objects) = self.published.with_git(|git| edited(git, before, changes, raw))?;
        let before = before.unwrap_or(ObjectId::empty_tree(Sha1).into());
        if tree == before {
            return Ok(None);
        }
        let commit = NewObject::commit(tree, tip.as_ref().map(|tip| tip.commit), message, time)?;
        let id = CommitId::from(commit.id);
        objects.push(commit);
        self.store(objects)?;
        self.move_branch(tip.as_ref(), id)?;
        Ok(Some(id))
    }

    /// Writes and flushes those objects that are not here for good already, as one pack.
    ///
    /// Loose objects would do too, at a flush for each, but then a `git fsck` that runs just now calls the new commit
    /// missing: it lists the loose objects before it looks at the branch.
    fn store(&mut self, mut objects: Vec<NewObject<'_>>) -> Result<(), Error> {
        let mut seen = HashSet::new();
        objects.retain(|object| seen.insert(object.id) && !self.storage.contains(object.id));
        if objects.is_empty() {
            return Ok(());
        }
        self.make_room(objects.iter().map(|object| object.data.len() as u64).sum())?;
        let pack = self
            .published
            .with_git(|git| pack_writer::stage(&self.dir, git, &[], &objects))?;
        self.add(pack)
    }

    fn add(&mut self, pack: StagedPack) -> Result<(), Error> {
        let name = pack.name.clone();
        self.retired.reinstate(&self.dir, &name)?;
        pack.place(&self.dir)?;
        self.storage.add_pack(&name)
    }

    /// Moves the branch from `from` to a commit whose objects are all on disk.
    fn move_branch(&mut self, from: Option<&Tip>, to: CommitId) -> Result<(), Error> {
        let path = self.dir.join(BRANCH);
        let expected = from.map(|tip| tip.commit.to_string());
        match fs::read_to_string(&path) {
            // Then it is in `packed-refs`, or nowhere yet.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            found => {
                let found = found.map_err(Error::io("read", &path))?.trim().to_owned();
                if expected.as_ref() != Some(&found) {
                    let expected = expected.unwrap_or_else(|| "nothing".to_owned());
                    return Err(Error::BranchMoved { expected, found });
                }
            }
        }
        self.published.set_next(to);
        let tip = self.published.with_git(|git| tip_at(git, to))?;
        self.append_to_pack_log(from, &tip)?;
        replace_file(&path, &path.with_extension("lock"), format!("{to}\n").as_bytes())?;
        self.published.set_tip(Some(tip));
        self.settle_pack_log();
        Ok(())
    }
}

/// What is on disk, after the end of whatever was cut short; tells the readers what is published.
fn load(dir: &Path, published: &PublishedTree, slots: u16) -> Result<(Storage, RetiredPacks), Error> {
    let damaged = |error: Error| match error {
        Error::MissingObject { .. } | Error::Git { .. } => Error::Damaged {
            path: dir.to_owned(),
            why: format!("what is published cannot be read: {}", with_sources(&error)),
        },
        error => error,
    };
    let git = open_git(dir, slots)?;
    let tip = published_commit(&git, dir)?
        .map(|id| tip_at(&git, id))
        .transpose()
        .map_err(damaged)?;
    let retired = RetiredPacks::load(dir, tip.as_ref().map(|tip| tip.commit), SystemTime::now())?;
    let storage = Storage::load(dir, |name| retired.contains(name))?;
    if let Some(tip) = &tip {
        check(&git, &storage, tip).map_err(damaged)?;
    }
    published.set_tip(tip);
    Ok((storage, retired))
}

fn published_commit(git: &gix::Repository, dir: &Path) -> Result<Option<CommitId>, Error> {
    let damaged = |why: String| Error::Damaged {
        path: dir.to_owned(),
        why,
    };
    let reference = git
        .try_find_reference(BRANCH)
        .map_err(|error| damaged(format!("the branch cannot be read: {error}")))?;
    let Some(reference) = reference else { return Ok(None) };
    let id = reference
        .try_id()
        .ok_or_else(|| damaged("the branch is symbolic".to_owned()))?;
    Ok(Some(id.detach().into()))
}

/// Looks whether the published commit's top is there for good; a full check would read everything.
fn check(git: &gix::Repository, storage: &Storage, tip: &Tip) -> Result<(), Error> {
    commit(git, tip.commit.into())?;
    let tops = entries(git, tip.tree.into())?;
    let needed = tops
        .values()
        .map(|(_, id)| *id)
        .chain([tip.commit.into(), tip.tree.into()]);
    match needed.into_iter().find(|id| !storage.contains(*id)) {
        Some(id) => Err(Error::MissingObject {
            id: id.to_hex().to_string(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
