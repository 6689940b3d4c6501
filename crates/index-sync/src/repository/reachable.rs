//! Which objects a repository must keep.

use std::collections::HashSet;

use gix::ObjectId;
use gix::objs::{CommitRefIter, Kind, TagRefIter, TreeRefIter};

use super::layout::BRANCH;
use super::mirror_refs::PREFIX;
use crate::Error;
use crate::published::object;

/// All that is needed once `root` is published without its history: its index, and whatever other references name.
pub(crate) fn kept_objects(git: &gix::Repository, root: ObjectId) -> Result<Vec<ObjectId>, Error> {
    let mut walk = Walk {
        seen: HashSet::new(),
        found: Vec::new(),
        open: Vec::new(),
    };
    walk.push(root);
    let (own, others) = other_references(git)?;
    own.into_iter().for_each(|commit| walk.push(commit));
    // Our own history ends here, and upstream's; only then come those whose history counts.
    walk.run(git, false)?;
    others.into_iter().for_each(|reference| walk.push(reference));
    walk.run(git, true)?;
    Ok(walk.found)
}

/// Those of the mirror's own, for upstream and for states, and the rest.
fn other_references(git: &gix::Repository) -> Result<(Vec<ObjectId>, Vec<ObjectId>), Error> {
    let unreadable = || Error::git("list the references");
    let references = git.references().map_err(unreadable())?;
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for reference in references.all().map_err(unreadable())? {
        let reference = reference.map_err(unreadable())?;
        if reference.name().as_bstr() != BRANCH
            && let Some(id) = reference.try_id()
        {
            let is_own = reference.name().as_bstr().starts_with(PREFIX.as_bytes());
            if is_own { &mut own } else { &mut others }.push(id.detach());
        }
    }
    Ok((own, others))
}

struct Walk {
    seen: HashSet<ObjectId>,
    found: Vec<ObjectId>,
    /// Found, but not read yet.
    open: Vec<ObjectId>,
}

impl Walk {
    fn push(&mut self, id: ObjectId) {
        if self.push_leaf(id) {
            self.open.push(id);
        }
    }

    /// A file's content names nothing further.
    fn push_leaf(&mut self, id: ObjectId) -> bool {
        let new = self.seen.insert(id);
        if new {
            self.found.push(id);
        }
        new
    }

    fn run(&mut self, git: &gix::Repository, with_parents: bool) -> Result<(), Error> {
        let shallow = git
            .shallow_commits()
            .map_err(Error::git("read the list of shallow commits"))?;
        let unreadable = || Error::git("read an object");
        while let Some(id) = self.open.pop() {
            let object = object(git, id)?;
            match object.kind {
                Kind::Tree => self.tree(&object.data)?,
                Kind::Commit => {
                    let commit = || CommitRefIter::from_bytes(&object.data, id.kind());
                    self.push(commit().tree_id().map_err(unreadable())?);
                    let is_end = shallow
                        .as_ref()
                        .is_some_and(|commits| commits.iter().any(|end| *end == id));
                    if with_parents && !is_end {
                        commit().parent_ids().for_each(|parent| self.push(parent));
                    }
                }
                Kind::Tag => {
                    let target = TagRefIter::from_bytes(&object.data, id.kind())
                        .target_id()
                        .map_err(unreadable())?;
                    self.push(target);
                }
                Kind::Blob => {}
            }
        }
        Ok(())
    }

    fn tree(&mut self, data: &[u8]) -> Result<(), Error> {
        for entry in TreeRefIter::from_bytes(data, gix::hash::Kind::Sha1) {
            let entry = entry.map_err(Error::git("read a tree"))?;
            if entry.mode.is_tree() {
                self.push(entry.oid.to_owned());
            } else {
                self.push_leaf(entry.oid.to_owned());
            }
        }
        Ok(())
    }
}
