//! States of the index that are kept beside the published one: trees of index files alone, under references of their own. They are
//! what bundles were made from, and what bundles have brought.

use std::path::Path;
use std::time::SystemTime;

use gix::ObjectId;
use gix::objs::tree::{Entry, EntryKind, EntryMode};
use gix::objs::{Tree, TreeRefIter};
use registry::IndexPath;

use super::edited::edited;
use super::mirror_refs::{mirror_ref, refs_in, remove_mirror_ref, set_mirror_ref};
use super::new_object::NewObject;
use super::{Change, Leaf, RawChange, Repository};
use crate::published::{entry, object, tip_at};
use crate::{Error, PublishedTree, TreeId};

/// How many states of each kind are kept.
const KEPT: usize = 60;
/// How many states that nobody has kept or published yet stay.
const STAGED_KEPT: usize = 4;
/// States that were made, by their trees, until they are kept or published.
const STAGED: &str = "refs/mirror/staged/";
/// The state that is being made.
const UNDER_WAY: &str = "refs/mirror/staged/under-way";

/// What a state of the index is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateKind {
    /// What a bundle of this mirror has carried; named by the bundle.
    Export,
    /// What a bundle of another mirror has carried; named by the bundle.
    Import,
    /// What the index of another mirror has come to here; named by that mirror.
    Site,
}

impl StateKind {
    fn folder(self) -> &'static str {
        match self {
            Self::Export => "refs/mirror/exports/",
            Self::Import => "refs/mirror/imports/",
            Self::Site => "refs/mirror/sites/",
        }
    }

    /// Only names that are a reference's on every file system.
    fn reference(self, name: &str) -> Result<String, Error> {
        let is_plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() || byte == b'-';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
            return Err(Error::StateName {
                name: name.chars().take(80).collect(),
            });
        }
        Ok(format!("{}{name}", self.folder()))
    }
}

/// The tree of a state that is kept.
pub(crate) fn state(tree: &PublishedTree, kind: StateKind, name: &str) -> Result<Option<TreeId>, Error> {
    let Some(commit) = mirror_ref(tree.dir(), &kind.reference(name)?)? else {
        return Ok(None);
    };
    tree.with_git(|git| Ok(Some(tip_at(git, commit)?.tree)))
}

/// Forgets the states that were made by a process that is gone. Their objects go with the next squash.
pub(super) fn drop_staged(dir: &Path) -> Result<(), Error> {
    for name in refs_in(dir, STAGED)?.into_keys() {
        log::info!("forgetting the state {name} of the index, which was not used before the last end");
        remove_mirror_ref(dir, &format!("{STAGED}{name}"))?;
    }
    Ok(())
}

impl Repository {
    /// Keeps a state under this name, instead of what had it before. Older ones go when there are too many.
    pub(crate) fn keep_state(
        &mut self,
        kind: StateKind,
        name: &str,
        tree: TreeId,
        message: &str,
        time_unix: i64,
    ) -> Result<(), Error> {
        let reference = kind.reference(name)?;
        if state(&self.published, kind, name)? != Some(tree) {
            self.guarded(|repository| {
                let time_unix = repository.after_those_in(kind.folder(), time_unix)?;
                repository.hold(&reference, tree, Vec::new(), message, time_unix)?;
                repository.limit(kind.folder(), KEPT, &reference)
            })?;
        }
        remove_mirror_ref(&self.dir, &format!("{STAGED}{tree}"))
    }

    /// Keeps a state no longer.
    pub(crate) fn forget_state(&mut self, kind: StateKind, name: &str) -> Result<(), Error> {
        remove_mirror_ref(&self.dir, &kind.reference(name)?)
    }

    /// Goes on with a state that is being made: nothing of it can be lost from here on.
    pub(crate) fn stage(
        &mut self,
        before: Option<TreeId>,
        changes: &[Change],
        now: SystemTime,
    ) -> Result<TreeId, Error> {
        self.guarded(|repository| {
            let bytes = repository.storage.bytes();
            let (tree, objects) = repository.published.with_git(|git| edited(git, before, changes, &[]))?;
            repository.hold(UNDER_WAY, tree, objects, "A state that is being made\n", 0)?;
            repository.count_as_kept(bytes)?;
            repository.upkeep_whole(now)?;
            Ok(tree)
        })
    }

    /// The state that was being made is whole.
    pub(crate) fn finish_staging(&mut self, tree: TreeId, time_unix: i64) -> Result<(), Error> {
        self.guarded(|repository| {
            repository.hold_staged(tree, Vec::new(), time_unix)?;
            remove_mirror_ref(&repository.dir, UNDER_WAY)
        })
    }

    /// Nothing is being made any more.
    pub(crate) fn end_staging(&mut self) -> Result<(), Error> {
        remove_mirror_ref(&self.dir, UNDER_WAY)
    }

    /// A state of all index files that are published, or of these alone with the rest as in `base`.
    pub(crate) fn state_of_published(
        &mut self,
        only: Option<&[IndexPath]>,
        base: Option<TreeId>,
        time_unix: i64,
    ) -> Result<TreeId, Error> {
        self.guarded(|repository| {
            let tip = repository.published.tip()?.map(|tip| tip.tree);
            let (tree, objects) = repository.published.with_git(|git| match only {
                None => index_files_of(git, tip),
                Some(only) => {
                    let as_published = |path: &IndexPath| {
                        let id = tip.map(|tip| entry(git, tip, path.as_str())).transpose()?.flatten();
                        Ok(raw_change(path, id))
                    };
                    let raw = only.iter().map(as_published).collect::<Result<Vec<_>, Error>>()?;
                    edited(git, base, &[], &raw)
                }
            })?;
            repository.hold_staged(tree, objects, time_unix)?;
            Ok(tree)
        })
    }

    /// The state `base` with these files as they are given.
    pub(crate) fn state_with(
        &mut self,
        base: Option<TreeId>,
        raw: &[RawChange],
        time_unix: i64,
    ) -> Result<TreeId, Error> {
        self.guarded(|repository| {
            let (tree, objects) = repository.published.with_git(|git| edited(git, base, &[], raw))?;
            repository.hold_staged(tree, objects, time_unix)?;
            Ok(tree)
        })
    }

    fn hold_staged(&mut self, tree: TreeId, objects: Vec<NewObject<'_>>, time_unix: i64) -> Result<(), Error> {
        let reference = format!("{STAGED}{tree}");
        let time_unix = self.after_those_in(STAGED, time_unix)?;
        self.hold(&reference, tree, objects, "A state of the index\n", time_unix)?;
        self.limit(STAGED, STAGED_KEPT, &reference)
    }

    /// Writes what is new of a tree, and has a reference name it, so that it stays.
    fn hold(
        &mut self,
        reference: &str,
        tree: TreeId,
        mut objects: Vec<NewObject<'_>>,
        message: &str,
        time_unix: i64,
    ) -> Result<(), Error> {
        // What is only in a pack that was replaced would go with that.
        let is_new = objects.iter().any(|object| object.id == ObjectId::from(tree));
        if !is_new && !self.storage.contains(tree.into()) {
            return Err(Error::MissingObject { id: tree.to_string() });
        }
        let commit = NewObject::commit(tree, None, message, time_unix)?;
        let id = commit.id.into();
        objects.push(commit);
        self.store(objects)?;
        set_mirror_ref(&self.dir, reference, id)
    }

    /// Later than all in that folder, whatever the clock says: their times are their order.
    fn after_those_in(&self, folder: &str, time_unix: i64) -> Result<i64, Error> {
        let newest = self.by_age(folder)?.last().map(|(time, _)| *time);
        Ok(newest.map_or(time_unix, |newest| time_unix.max(newest.saturating_add(1))))
    }

    /// Forgets the oldest of a folder, but not `last`, until there are no more than `most`.
    fn limit(&self, folder: &str, most: usize, last: &str) -> Result<(), Error> {
        let mut all = self.by_age(folder)?;
        all.retain(|(_, name)| name != last);
        let too_many = (all.len() + 1).saturating_sub(most);
        let mut oldest = all.iter().take(too_many);
        oldest.try_for_each(|(_, name)| remove_mirror_ref(&self.dir, name))
    }

    /// The references of a folder, the oldest first.
    fn by_age(&self, folder: &str) -> Result<Vec<(i64, String)>, Error> {
        let mut all = refs_in(&self.dir, folder)?;
        all.retain(|name, _| format!("{folder}{name}") != UNDER_WAY);
        let with_time = |(name, commit)| {
            let time = self.published.with_git(|git| Ok(tip_at(git, commit)?.time_unix))?;
            Ok((time, format!("{folder}{name}")))
        };
        let mut all = all.into_iter().map(with_time).collect::<Result<Vec<_>, Error>>()?;
        all.sort();
        Ok(all)
    }
}

/// A file of a state, or none, as a change of a tree.
pub(crate) fn raw_change(path: &IndexPath, blob: Option<ObjectId>) -> RawChange {
    RawChange {
        path: path.as_str().to_owned(),
        leaf: blob.map(|id| Leaf {
            kind: EntryKind::Blob,
            id,
        }),
    }
}

/// The index files of a tree alone, each an ordinary file, and the trees that may be new.
fn index_files_of(git: &gix::Repository, tree: Option<TreeId>) -> Result<(TreeId, Vec<NewObject<'static>>), Error> {
    let mut objects = Vec::new();
    let root = tree.map(|tree| index_files_below(git, tree.into(), "", &mut objects));
    let root = match root.transpose()?.flatten() {
        Some(root) => root,
        None => {
            let empty = NewObject::tree(&Tree::empty())?;
            let id = empty.id;
            objects.push(empty);
            id
        }
    };
    Ok((root.into(), objects))
}

fn index_files_below(
    git: &gix::Repository,
    id: ObjectId,
    prefix: &str,
    objects: &mut Vec<NewObject<'static>>,
) -> Result<Option<ObjectId>, Error> {
    let data = object(git, id)?.detach().data;
    let (mut tree, mut is_same) = (Tree::empty(), true);
    for found in TreeRefIter::from_bytes(&data, id.kind()) {
        let found = found.map_err(Error::git("read a tree"))?;
        let path = format!("{prefix}{}", found.filename);
        let (mode, oid) = match found.mode.kind() {
            EntryKind::Tree => {
                let below = index_files_below(git, found.oid.to_owned(), &format!("{path}/"), objects)?;
                (found.mode, below)
            }
            EntryKind::Blob | EntryKind::BlobExecutable => {
                let is_index_file = path.parse::<IndexPath>().is_ok();
                (
                    EntryMode::from(EntryKind::Blob),
                    is_index_file.then(|| found.oid.to_owned()),
                )
            }
            _ => (found.mode, None),
        };
        is_same &= mode == found.mode && oid.as_deref() == Some(found.oid);
        tree.entries.extend(oid.map(|oid| Entry {
            mode,
            filename: found.filename.to_owned(),
            oid,
        }));
    }
    if is_same && !tree.entries.is_empty() {
        return Ok(Some(id));
    }
    if tree.entries.is_empty() {
        return Ok(None);
    }
    let object = NewObject::tree(&tree)?;
    let id = object.id;
    objects.push(object);
    Ok(Some(id))
}

#[cfg(test)]
mod tests;
