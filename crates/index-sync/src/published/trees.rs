//! Reading git's objects: commits, trees and what differs between two of them.

use std::collections::BTreeMap;

use gix::ObjectId;
use registry::IndexPath;

use super::{FileChange, Tip};
use crate::{BlobId, CommitId, Error, TreeId};

/// An object that has to be there.
pub(crate) fn object(git: &gix::Repository, id: ObjectId) -> Result<gix::Object<'_>, Error> {
    git.try_find_object(id)
        .map_err(Error::git("read an object"))?
        .ok_or_else(|| Error::MissingObject {
            id: id.to_hex().to_string(),
        })
}

/// A commit that has to be there.
pub(crate) fn commit(git: &gix::Repository, id: ObjectId) -> Result<gix::Commit<'_>, Error> {
    object(git, id)?.try_into_commit().map_err(|_| Error::MissingObject {
        id: id.to_hex().to_string(),
    })
}

/// What is written about a commit.
pub(crate) fn tip_at(git: &gix::Repository, id: CommitId) -> Result<Tip, Error> {
    let unreadable = || Error::git("read a commit");
    let commit = commit(git, id.into())?;
    Ok(Tip {
        commit: id,
        tree: commit.tree_id().map_err(unreadable())?.detach().into(),
        time_unix: commit.time().map_err(unreadable())?.seconds,
        message: commit.message_raw().map_err(unreadable())?.to_string(),
    })
}

pub(super) fn tree_of(git: &gix::Repository, id: CommitId) -> Result<ObjectId, Error> {
    let tree = commit(git, id.into())?
        .tree_id()
        .map_err(Error::git("read a commit"))?
        .detach();
    Ok(tree)
}

/// One tree's entries by name: whether each is a folder, and its id.
pub(crate) fn entries(git: &gix::Repository, id: ObjectId) -> Result<BTreeMap<String, (bool, ObjectId)>, Error> {
    let tree = object(git, id)?.try_into_tree().map_err(|_| Error::MissingObject {
        id: id.to_hex().to_string(),
    })?;
    tree.iter()
        .map(|entry| {
            let entry = entry.map_err(Error::git("read a tree"))?;
            Ok((
                entry.filename().to_string(),
                (entry.mode().is_tree(), entry.object_id()),
            ))
        })
        .collect()
}

/// What is at `path`, if it is a file.
pub(crate) fn entry(git: &gix::Repository, root: TreeId, path: &str) -> Result<Option<ObjectId>, Error> {
    let mut id = root.into();
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        let tree = object(git, id)?.try_into_tree().map_err(|_| Error::MissingObject {
            id: id.to_hex().to_string(),
        })?;
        let found = tree.iter().find_map(|entry| match entry {
            Ok(entry) if entry.filename() == part => Some(Ok((entry.mode().is_tree(), entry.object_id()))),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        });
        match found.transpose().map_err(Error::git("read a tree"))? {
            Some((is_tree, next)) if is_tree == parts.peek().is_some() => id = next,
            _ => return Ok(None),
        }
    }
    Ok(Some(id))
}

/// Calls `visit` with each file's path and content.
pub(super) fn walk(
    git: &gix::Repository,
    id: ObjectId,
    prefix: &str,
    visit: &mut dyn FnMut(&str, ObjectId),
) -> Result<(), Error> {
    for (name, (is_tree, id)) in entries(git, id)? {
        let path = format!("{prefix}{name}");
        if is_tree {
            walk(git, id, &format!("{path}/"), visit)?;
        } else {
            visit(&path, id);
        }
    }
    Ok(())
}

/// Adds the index files that differ between two trees; no tree is an empty one. What is the same is not read.
pub(super) fn compare(
    git: &gix::Repository,
    old: Option<ObjectId>,
    new: Option<ObjectId>,
    prefix: &str,
    changes: &mut Vec<FileChange>,
) -> Result<(), Error> {
    let side = |tree: Option<ObjectId>| tree.map_or_else(|| Ok(BTreeMap::new()), |tree| entries(git, tree));
    let mut pairs = BTreeMap::<String, [Option<(bool, ObjectId)>; 2]>::new();
    for (number, tree) in [old, new].into_iter().enumerate() {
        for (name, entry) in side(tree)? {
            pairs.entry(name).or_default()[number] = Some(entry);
        }
    }
    for (name, [old, new]) in pairs.into_iter().filter(|(_, [old, new])| old != new) {
        let path = format!("{prefix}{name}");
        let of_kind =
            |side: Option<(bool, ObjectId)>, tree| side.filter(|(is_tree, _)| *is_tree == tree).map(|(_, id)| id);
        let (old_tree, new_tree) = (of_kind(old, true), of_kind(new, true));
        if old_tree.is_some() || new_tree.is_some() {
            compare(git, old_tree, new_tree, &format!("{path}/"), changes)?;
        }
        let (old, new) = (
            of_kind(old, false).map(BlobId::from),
            of_kind(new, false).map(BlobId::from),
        );
        if old != new
            && let Ok(path) = path.parse::<IndexPath>()
        {
            changes.push(FileChange { path, old, new });
        }
    }
    Ok(())
}
