//! What goes into the log: of each commit all that the commit before it lacks.

use std::collections::BTreeMap;

use git_smart_http::{Append, Commit, Kind, Object, PackLogWriter};
use gix::ObjectId;
use gix::objs::TreeRefIter;

use super::{Shared, id};
use crate::published::{commit, object};
use crate::{CommitId, Error};

/// Hears how many objects of how many are done; an error ends the work.
pub(super) type Progress<'a> = &'a dyn Fn(usize, usize) -> Result<(), Error>;

/// Appends all commits up to `tip` that the log lacks. A history that does not begin where the log ends begins with a root of its
/// own, and the commits before it stay known.
pub(super) fn catch_up(
    writer: &mut PackLogWriter,
    git: &gix::Repository,
    tip: CommitId,
    shared: &Shared,
) -> Result<(), Error> {
    let head = writer.log().view().head().map(|head| head.id);
    let mut missing = Vec::new();
    let mut next = Some(tip);
    while let Some(commit_id) = next.filter(|next| Some(id(*next)) != head) {
        missing.push(commit_id);
        shared.progress(0, 1)?;
        let parent = commit(git, commit_id.into())?.parent_ids().next().map(|id| id.detach());
        next = parent.map(CommitId::from);
    }
    let progress = |done: usize, total: usize| shared.progress(done, total);
    // Nearly all of the objects are those of the first commit.
    missing
        .into_iter()
        .rev()
        .try_for_each(|commit| Next::read(writer, git, commit)?.append(writer, git, &progress))
}

/// A commit that goes on top of the log.
pub(super) struct Next {
    commit: Commit,
    /// What it needs and the log's last commit does not have, itself left out.
    pub(super) ids: Vec<ObjectId>,
}

impl Next {
    pub(super) fn read(writer: &PackLogWriter, git: &gix::Repository, id: CommitId) -> Result<Self, Error> {
        let commit = read_commit(git, id)?;
        let before = writer.log().view().head().map(|head| ObjectId::from(head.tree.0));
        let mut ids = Vec::new();
        lacking(git, before, ObjectId::from(commit.tree.0), &mut ids)?;
        Ok(Self { commit, ids })
    }

    pub(super) fn append(
        self,
        writer: &mut PackLogWriter,
        git: &gix::Repository,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let id = CommitId::from_bytes(self.commit.id.0);
        push_all(writer.begin(self.commit)?, git, id, &self.ids, progress)
    }
}

/// Appends all that a commit needs, for clones to begin with.
pub(super) fn append_snapshot(
    writer: &mut PackLogWriter,
    git: &gix::Repository,
    tip: CommitId,
    shared: &Shared,
) -> Result<(), Error> {
    let new = read_commit(git, tip)?;
    let mut ids = Vec::new();
    lacking(git, None, ObjectId::from(new.tree.0), &mut ids)?;
    let append = writer.begin_snapshot(&new.id)?;
    push_all(append, git, tip, &ids, &|done, total| shared.progress(done, total))
}

fn read_commit(git: &gix::Repository, commit_id: CommitId) -> Result<Commit, Error> {
    let unreadable = || Error::git("read a commit for the pack log");
    let commit = commit(git, commit_id.into())?;
    let parent = commit.parent_ids().next().map(|parent| CommitId::from(parent.detach()));
    let tree = CommitId::from(commit.tree_id().map_err(unreadable())?.detach());
    Ok(Commit {
        id: id(commit_id),
        tree: id(tree),
        parent: parent.map(id),
        time: commit.time().map_err(unreadable())?.seconds,
    })
}

fn push_all(
    mut append: Append<'_>,
    git: &gix::Repository,
    commit: CommitId,
    ids: &[ObjectId],
    progress: Progress<'_>,
) -> Result<(), Error> {
    let all = std::iter::once(ObjectId::from(commit)).chain(ids.iter().copied());
    for (done, object_id) in all.enumerate() {
        progress(done, ids.len() + 1)?;
        let object = object(git, object_id)?;
        let kind = match object.kind {
            gix::objs::Kind::Commit => Kind::Commit,
            gix::objs::Kind::Tree => Kind::Tree,
            gix::objs::Kind::Blob => Kind::Blob,
            // No tree names one.
            gix::objs::Kind::Tag => continue,
        };
        append.push(Object {
            id: id(CommitId::from(object_id)),
            kind,
            data: &object.data,
        })?;
    }
    Ok(append.finish()?)
}

/// The trees and files of `new` that are not in the same place of `old`, a tree before what is in it.
fn lacking(git: &gix::Repository, old: Option<ObjectId>, new: ObjectId, ids: &mut Vec<ObjectId>) -> Result<(), Error> {
    if old == Some(new) {
        return Ok(());
    }
    ids.push(new);
    let before = old.map_or_else(|| Ok(BTreeMap::new()), |old| names(git, old))?;
    for (name, (is_tree, id)) in names(git, new)? {
        let there = before.get(&name).filter(|(was_tree, _)| *was_tree == is_tree);
        let there = there.map(|(_, id)| *id);
        if is_tree {
            lacking(git, there, id, ids)?;
        } else if there != Some(id) {
            ids.push(id);
        }
    }
    Ok(())
}

/// One tree's entries by name: whether each is a folder, and its id. Commits of other repositories are none of ours.
fn names(git: &gix::Repository, tree: ObjectId) -> Result<BTreeMap<Vec<u8>, (bool, ObjectId)>, Error> {
    let object = object(git, tree)?;
    let mut names = BTreeMap::new();
    for entry in TreeRefIter::from_bytes(&object.data, tree.kind()) {
        let entry = entry.map_err(Error::git("read a tree for the pack log"))?;
        if !entry.mode.is_commit() {
            names.insert(entry.filename.to_vec(), (entry.mode.is_tree(), entry.oid.to_owned()));
        }
    }
    Ok(names)
}
