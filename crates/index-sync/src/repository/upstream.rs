//! What upstream's git repository has in ours: its newest commit under references of its own, which are never published.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gix::ObjectId;
use gix::objs::tree::{Entry, EntryKind, EntryMode};
use gix::objs::{Tree, TreeRefIter};

use super::Repository;
use super::mirror_refs::{mirror_ref, remove_mirror_ref, set_mirror_ref};
use super::new_object::NewObject;
use crate::durable::{remove_file, replace_file};
use crate::published::{commit, object, tip_at};
use crate::upstream_git::Fetched;
use crate::{CommitId, Error, TreeId};

/// The commit that the published index has come to: what a next round compares with.
const UPSTREAM: &str = "refs/mirror/upstream";
/// The commit that is being brought in.
const INCOMING: &str = "refs/mirror/incoming";

/// What stands in a tree under one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) kind: EntryKind,
    pub(crate) id: ObjectId,
}

/// A path that differs between two trees, with what stands there in each.
pub(crate) type Differing = (String, Option<Leaf>, Option<Leaf>);

/// A file of the tree that is put there as upstream has it, or taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawChange {
    pub(crate) path: String,
    pub(crate) leaf: Option<Leaf>,
}

impl Repository {
    /// The commit of upstream that the published index has come to.
    pub(crate) fn upstream(&self) -> Result<Option<CommitId>, Error> {
        upstream_commit(&self.dir)
    }

    /// Commits of upstream whose trees are here, first the one that the published index has come to. Only a damaged repository
    /// names others: those are fetched again.
    pub(crate) fn known_upstream(&self) -> Result<Vec<CommitId>, Error> {
        let refs = [self.upstream()?, mirror_ref(&self.dir, INCOMING)?];
        let mut known: Vec<CommitId> = refs.into_iter().flatten().collect();
        known.dedup();
        known.retain(|id| self.storage.contains((*id).into()));
        Ok(known)
    }

    /// Takes what was fetched among our objects, and keeps it until [`Self::finish_upstream`].
    pub(crate) fn adopt(&mut self, fetched: Fetched) -> Result<(), Error> {
        self.guarded(|repository| {
            if let Some(pack) = fetched.pack {
                repository.make_room(pack.bytes()?)?;
                repository.add(pack)?;
            }
            repository.write_shallow(&fetched.shallow)?;
            set_mirror_ref(&repository.dir, INCOMING, fetched.commit)
        })
    }

    /// The published index has come to `commit`: what was before it need not be kept.
    pub(crate) fn finish_upstream(&mut self, commit: CommitId) -> Result<(), Error> {
        if self.upstream()? != Some(commit) {
            set_mirror_ref(&self.dir, UPSTREAM, commit)?;
        }
        remove_mirror_ref(&self.dir, INCOMING)
    }

    /// Publishes all of upstream's tree at once, with what is published already laid over it. No file is read. None if that
    /// changes nothing.
    pub(crate) fn graft(
        &mut self,
        upstream: CommitId,
        message: &str,
        time_unix: i64,
    ) -> Result<Option<CommitId>, Error> {
        self.guarded(|repository| {
            let tip = repository.published.tip()?;
            let over = tip.as_ref().map(|tip| ObjectId::from(tip.tree));
            let (tree, mut objects) = repository.published.with_git(|git| {
                let base = tip_at(git, upstream)?.tree;
                let mut objects = Vec::new();
                let tree = laid_over(git, base.into(), over, true, &mut objects)?;
                Ok((tree, objects))
            })?;
            if Some(tree) == over {
                return Ok(None);
            }
            let parent = tip.as_ref().map(|tip| tip.commit);
            let commit = NewObject::commit(TreeId::from(tree), parent, message, time_unix)?;
            let id = CommitId::from(commit.id);
            objects.push(commit);
            repository.store(objects)?;
            repository.move_branch(tip.as_ref(), id)?;
            Ok(Some(id))
        })
    }

    /// After the history before them is gone: upstream's commits have no parents here.
    pub(super) fn cut_upstream(&self) -> Result<(), Error> {
        let mut lines = Vec::new();
        for id in self.known_upstream()? {
            let has_parents = |git: &gix::Repository| Ok(commit(git, id.into())?.parent_ids().next().is_some());
            if self.published.with_git(has_parents)? {
                lines.push(format!("{id}\n"));
            }
        }
        lines.sort();
        self.write_shallow(lines.concat().as_bytes())
    }

    fn write_shallow(&self, lines: &[u8]) -> Result<(), Error> {
        let path = self.dir.join("shallow");
        if lines.is_empty() {
            return remove_file(&path);
        }
        match fs::read(&path) {
            Ok(there) if there == lines => Ok(()),
            _ => replace_file(&path, &self.dir.join("shallow.lock"), lines),
        }
    }
}

/// The commit of upstream that the published index in `dir` has come to.
pub(crate) fn upstream_commit(dir: &Path) -> Result<Option<CommitId>, Error> {
    mirror_ref(dir, UPSTREAM)
}

/// What differs between two trees, by path; no tree is an empty one. What goes away comes before what is in its place.
pub(crate) fn tree_diff(
    git: &gix::Repository,
    old: Option<ObjectId>,
    new: Option<ObjectId>,
) -> Result<Vec<Differing>, Error> {
    let mut found = Vec::new();
    diff_below(git, old, new, "", &mut found)?;
    found.sort_by_key(|(_, _, new)| new.is_some());
    Ok(found)
}

fn diff_below(
    git: &gix::Repository,
    old: Option<ObjectId>,
    new: Option<ObjectId>,
    prefix: &str,
    found: &mut Vec<Differing>,
) -> Result<(), Error> {
    if old == new {
        return Ok(());
    }
    let mut pairs = BTreeMap::<String, [Option<(EntryMode, ObjectId)>; 2]>::new();
    for (side, tree) in [old, new].into_iter().enumerate() {
        for (name, entry) in tree.map_or_else(|| Ok(BTreeMap::new()), |tree| names(git, tree))? {
            pairs.entry(name).or_default()[side] = Some(entry);
        }
    }
    for (name, [old, new]) in pairs.into_iter().filter(|(_, [old, new])| old != new) {
        let path = format!("{prefix}{name}");
        let tree = |side: Option<(EntryMode, ObjectId)>| side.filter(|(mode, _)| mode.is_tree()).map(|(_, id)| id);
        let leaf = |side: Option<(EntryMode, ObjectId)>| {
            let (mode, id) = side.filter(|(mode, _)| !mode.is_tree())?;
            Some(Leaf { kind: mode.kind(), id })
        };
        diff_below(git, tree(old), tree(new), &format!("{path}/"), found)?;
        if leaf(old) != leaf(new) {
            found.push((path, leaf(old), leaf(new)));
        }
    }
    Ok(())
}

/// One tree's entries by name. Names that are no text are left out: no index has them.
fn names(git: &gix::Repository, tree: ObjectId) -> Result<BTreeMap<String, (EntryMode, ObjectId)>, Error> {
    let object = object(git, tree)?;
    let mut names = BTreeMap::new();
    for entry in TreeRefIter::from_bytes(&object.data, tree.kind()) {
        let entry = entry.map_err(Error::git("read a tree"))?;
        if let Ok(name) = std::str::from_utf8(entry.filename) {
            names.insert(name.to_owned(), (entry.mode, entry.oid.to_owned()));
        }
    }
    Ok(names)
}

/// The tree `base` with all that is in `over` in its place. At the top, a `config.json` is never taken from `base`.
fn laid_over(
    git: &gix::Repository,
    base: ObjectId,
    over: Option<ObjectId>,
    is_root: bool,
    objects: &mut Vec<NewObject<'static>>,
) -> Result<ObjectId, Error> {
    let mut entries = names(git, base)?;
    let before = entries.clone();
    if is_root {
        entries.remove("config.json");
    }
    for (name, (mode, id)) in over.map_or_else(|| Ok(BTreeMap::new()), |over| names(git, over))? {
        let id = match entries.get(&name) {
            Some((below, below_id)) if below.is_tree() && mode.is_tree() && *below_id != id => {
                laid_over(git, *below_id, Some(id), false, objects)?
            }
            _ => id,
        };
        entries.insert(name, (mode, id));
    }
    if entries == before {
        return Ok(base);
    }
    let mut tree = Tree::empty();
    tree.entries = entries
        .into_iter()
        .map(|(name, (mode, oid))| Entry {
            mode,
            filename: name.into(),
            oid,
        })
        .collect();
    tree.entries.sort();
    let object = NewObject::tree(&tree)?;
    let id = object.id;
    objects.push(object);
    Ok(id)
}
