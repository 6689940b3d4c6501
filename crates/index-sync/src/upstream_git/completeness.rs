use std::collections::{HashMap, HashSet};

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

/// How deep folders may be: an index needs three. What reads trees elsewhere goes down by calling itself.
const MOST_DEPTH: usize = 32;
/// How many paths a tree may have; that is twenty times what the index has. A few objects that refer to one another again and again can
/// have more than could ever be listed.
const MOST_PATHS: u64 = 4_000_000;

/// Looks whether every tree and file below `new` is there, apart from what is in one of the `known` trees too, and whether the trees
/// are such as git makes and as an index has: others would go on to whoever checks them out.
pub(super) fn check(git: &gix::Repository, new: ObjectId, known: &[ObjectId]) -> Result<(), Error> {
    let mut walk = Walk {
        git,
        known: HashSet::new(),
        files: HashSet::new(),
        extents: HashMap::new(),
    };
    for tree in known {
        walk.collect(*tree)?;
    }
    walk.descend(new, 0).map(|_| ())
}

struct Walk<'a> {
    git: &'a gix::Repository,
    /// Known trees and what is directly in them, until they were met: a second time they are looked at.
    known: HashSet<ObjectId>,
    /// Files that are there.
    files: HashSet<ObjectId>,
    /// Trees that are complete.
    extents: HashMap<ObjectId, Extent>,
}

/// How much is below a tree.
#[derive(Clone, Copy, Default)]
struct Extent {
    paths: u64,
    /// Levels of trees, itself included.
    levels: usize,
}

impl Walk<'_> {
    /// What is directly in a known tree; below that, ids that are the same mean the same.
    fn collect(&mut self, tree: ObjectId) -> Result<(), Error> {
        self.known.insert(tree);
        let root = object(self.git, tree)?;
        for entry in TreeRefIter::from_bytes(&root.data, tree.kind()) {
            let entry = entry.map_err(Error::git("read a tree of upstream"))?;
            let known = if entry.mode.is_tree() {
                &mut self.known
            } else {
                &mut self.files
            };
            known.insert(entry.oid.to_owned());
        }
        Ok(())
    }

    fn descend(&mut self, tree: ObjectId, depth: usize) -> Result<Extent, Error> {
        if self.known.remove(&tree) {
            return Ok(Extent::default());
        }
        let seen = self.extents.get(&tree).copied();
        if depth + seen.unwrap_or_default().levels > MOST_DEPTH {
            return Err(refused(tree, "it is below too many others"));
        }
        if let Some(seen) = seen {
            return Ok(seen);
        }
        let object = object(self.git, tree)?;
        if object.kind != Kind::Tree {
            return Err(refused(tree, "it is something else"));
        }
        let mut names = HashSet::new();
        let mut extent = Extent { paths: 0, levels: 1 };
        for entry in TreeRefIter::from_bytes(&object.data, tree.kind()) {
            let entry = entry.map_err(Error::git("read a tree of upstream"))?;
            if gix::validate::path::component(entry.filename, None, NAMES).is_err() {
                return Err(refused(tree, "it has a name that no file may have"));
            }
            if !names.insert(entry.filename) {
                return Err(refused(tree, "it has a name twice"));
            }
            let id = entry.oid.to_owned();
            extent.paths += 1;
            if entry.mode.is_tree() {
                let below = self.descend(id, depth + 1)?;
                extent.paths = extent.paths.saturating_add(below.paths);
                extent.levels = extent.levels.max(below.levels + 1);
            } else if !entry.mode.is_blob() {
                return Err(refused(tree, "it has a link or a repository of its own in it"));
            } else if self.files.insert(id) && !self.git.objects.exists(&id) {
                return Err(Error::MissingObject {
                    id: id.to_hex().to_string(),
                });
            }
            if extent.paths > MOST_PATHS {
                return Err(refused(tree, "it has more files than any index"));
            }
        }
        self.extents.insert(tree, extent);
        Ok(extent)
    }
}

fn refused(tree: ObjectId, why: &'static str) -> Error {
    Error::UpstreamTree {
        id: tree.to_hex().to_string(),
        why,
    }
}
