//! What goes into the log: of each commit all that the commit before it lacks.

use std::collections::BTreeMap;

use git_smart_http::{Commit, Kind, Object, PackLogWriter};
use gix::ObjectId;
use gix::objs::TreeRefIter;

use super::many::push_many;
use super::{MANY_OBJECTS, Shared, id};
use crate::published::{commit, object};
use crate::{CommitId, Error};

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
        shared.goes_on()?;
        let parent = commit(git, commit_id.into())?.parent_ids().next().map(|id| id.detach());
        next = parent.map(CommitId::from);
    }
    // On disk at the end: what a crash leaves of it is cut off and made once more.
    writer.put_off_sync();
    for commit in missing.into_iter().rev() {
        shared.goes_on()?;
        let next = Next::read(writer, git, commit, usize::MAX)?;
        if next.ids.len() > MANY_OBJECTS {
            push_many(writer.begin(next.commit)?, shared, commit, next.ids)?;
        } else {
            next.append(writer, git)?;
        }
    }
    Ok(writer.sync()?)
}

/// A commit that goes on top of the log.
pub(super) struct Next {
    commit: Commit,
    /// What it needs and the log's last commit does not have, itself left out.
    pub(super) ids: Vec<ObjectId>,
}

impl Next {
    /// Stops looking once there are more than `most` of them.
    pub(super) fn read(
        writer: &PackLogWriter,
        git: &gix::Repository,
        id: CommitId,
        most: usize,
    ) -> Result<Self, Error> {
        let commit = read_commit(git, id)?;
        let before = writer.log().view().head().map(|head| ObjectId::from(head.tree.0));
        let mut ids = Vec::new();
        lacking(git, before, ObjectId::from(commit.tree.0), most, &mut ids)?;
        Ok(Self { commit, ids })
    }

    pub(super) fn append(self, writer: &mut PackLogWriter, git: &gix::Repository) -> Result<(), Error> {
        let commit = ObjectId::from(self.commit.id.0);
        let mut append = writer.begin(self.commit)?;
        for object_id in std::iter::once(commit).chain(self.ids) {
            with_object(git, object_id, |object| Ok(append.push(object)?))?;
        }
        Ok(append.finish()?)
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
    lacking(git, None, ObjectId::from(new.tree.0), usize::MAX, &mut ids)?;
    push_many(writer.begin_snapshot(&new.id)?, shared, tip, ids)
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

/// Shows an object as the log takes it; none for what no index has.
pub(super) fn with_object<T>(
    git: &gix::Repository,
    object_id: ObjectId,
    take: impl FnOnce(Object<'_>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    let object = object(git, object_id)?;
    let kind = match object.kind {
        gix::objs::Kind::Commit => Kind::Commit,
        gix::objs::Kind::Tree => Kind::Tree,
        gix::objs::Kind::Blob => Kind::Blob,
        // No tree names one.
        gix::objs::Kind::Tag => return Ok(None),
    };
    let id = id(CommitId::from(object_id));
    let data = &object.data;
    take(Object { id, kind, data }).map(Some)
}

/// The trees and files of `new` that are not in the same place of `old`, a tree before what is in it; not all of them if those are
/// more than `most`.
fn lacking(
    git: &gix::Repository,
    old: Option<ObjectId>,
    new: ObjectId,
    most: usize,
    ids: &mut Vec<ObjectId>,
) -> Result<(), Error> {
    if old == Some(new) || ids.len() > most {
        return Ok(());
    }
    ids.push(new);
    let before = old.map_or_else(|| Ok(BTreeMap::new()), |old| names(git, old))?;
    for (name, (is_tree, id)) in names(git, new)? {
        let there = before.get(&name).filter(|(was_tree, _)| *was_tree == is_tree);
        let there = there.map(|(_, id)| *id);
        if is_tree {
            lacking(git, there, id, most, ids)?;
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
