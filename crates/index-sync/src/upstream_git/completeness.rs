use std::collections::HashSet;

use gix::ObjectId;
use gix::objs::{Exists, Kind, TreeRefIter};
use gix::validate::path::component::Options;

use crate::Error;
use crate::published::object;

/// What leads out of a folder or into git's own is refused on any system; names that Windows alone does not like are not.
const NAMES: Options = Options {
    protect_windows: false,
    protect_hfs: true,
    protect_ntfs: true,
};

/// Looks whether every tree and file below `new` is there, apart from what is in one of the `known` trees too, and whether the trees
/// are such as git makes: others would go on to whoever checks them out.
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
    if object.kind != Kind::Tree {
        return Err(refused(tree, "it is something else"));
    }
    let mut names = HashSet::new();
    for entry in TreeRefIter::from_bytes(&object.data, tree.kind()) {
        let entry = entry.map_err(Error::git("read a tree of upstream"))?;
        if gix::validate::path::component(entry.filename, None, NAMES).is_err() {
            return Err(refused(tree, "it has a name that no file may have"));
        }
        if !names.insert(entry.filename) {
            return Err(refused(tree, "it has a name twice"));
        }
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

fn refused(tree: ObjectId, why: &'static str) -> Error {
    Error::UpstreamTree {
        id: tree.to_hex().to_string(),
        why,
    }
}
