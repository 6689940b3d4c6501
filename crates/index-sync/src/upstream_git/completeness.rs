use std::collections::HashSet;

use gix::ObjectId;
use gix::objs::{Exists, TreeRefIter};

use crate::Error;
use crate::published::object;

/// Looks whether every tree and file below `new` is there, apart from what is in one of the `known` trees too.
pub(super) fn check(git: &gix::Repository, new: ObjectId, known: &[ObjectId]) -> Result<(), Error> {
    let mut seen = HashSet::new();
    for tree in known {
        collect(git, *tree, &mut seen)?;
    }
    descend(git, new, &mut seen)
}

/// What is directly in a known tree; below that, ids that are the same mean the same.
fn collect(git: &gix::Repository, tree: ObjectId, seen: &mut HashSet<ObjectId>) -> Result<(), Error> {
    seen.insert(tree);
    let root = object(git, tree)?;
    for entry in TreeRefIter::from_bytes(&root.data, tree.kind()) {
        let entry = entry.map_err(Error::git("read a tree of upstream"))?;
        seen.insert(entry.oid.to_owned());
    }
    Ok(())
}

fn descend(git: &gix::Repository, tree: ObjectId, seen: &mut HashSet<ObjectId>) -> Result<(), Error> {
    if !seen.insert(tree) {
        return Ok(());
    }
    let object = object(git, tree)?;
    for entry in TreeRefIter::from_bytes(&object.data, tree.kind()) {
        let entry = entry.map_err(Error::git("read a tree of upstream"))?;
        if entry.mode.is_tree() {
            descend(git, entry.oid.to_owned(), seen)?;
        } else if !entry.mode.is_commit() && seen.insert(entry.oid.to_owned()) && !git.objects.exists(entry.oid) {
            return Err(Error::MissingObject {
                id: entry.oid.to_hex().to_string(),
            });
        }
    }
    Ok(())
}
