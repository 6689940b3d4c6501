//! Reading states of the index that are kept beside the published one.

use super::trees::{compare, object};
use super::{FileChange, PublishedTree};
use crate::repository::{StateKind, state};
use crate::{BlobId, Error, TreeId};

impl PublishedTree {
    /// A state that is kept; `None` if there is none of this name, or not any more.
    ///
    /// # Errors
    /// A name that no state can have, or the repository cannot be read.
    pub fn state(&self, kind: StateKind, name: &str) -> Result<Option<TreeId>, Error> {
        state(self, kind, name)
    }

    /// The index files that differ between two states, in the order of their paths; no state is an empty one.
    ///
    /// # Errors
    /// [`Error::MissingObject`] if a state is not kept any more; else the repository cannot be read.
    pub fn changes_between(&self, from: Option<TreeId>, to: TreeId) -> Result<Vec<FileChange>, Error> {
        self.with_git(|git| {
            let mut changes = Vec::new();
            compare(git, from.map(Into::into), Some(to.into()), "", &mut changes)?;
            changes.sort_by(|one, other| one.path.cmp(&other.path));
            Ok(changes)
        })
    }

    /// A file's content, whether it is published or not.
    ///
    /// # Errors
    /// [`Error::MissingObject`] if no state that is kept has it; else the repository cannot be read.
    pub fn blob(&self, id: BlobId) -> Result<Vec<u8>, Error> {
        self.with_git(|git| Ok(object(git, id.into())?.detach().data))
    }
}
