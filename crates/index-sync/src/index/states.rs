//! States of the index: what bundles carry across, made, kept and looked up.

use std::sync::Arc;

use registry::{IndexEdit, IndexPath};

use super::{Index, Inner};
use crate::published::entry;
use crate::repository::raw_change;
use crate::{BlobId, Change, Error, Repository, StateKind, TreeFile, TreeId};

/// A state is written in pieces of so many bytes, so that a large one takes no more memory than a small one. Only a file that
/// is larger makes a larger piece.
pub(super) const PIECE_BYTES: usize = 24 << 20;
/// The most files in such a piece.
const PIECE_FILES: usize = 20_000;

/// Changes that are written together.
#[derive(Default)]
pub(super) struct Piece {
    pub(super) changes: Vec<Change>,
    bytes: usize,
}

impl Piece {
    /// Whether what is gathered has to be written before another so large a file.
    pub(super) fn is_full(&self, more_bytes: usize) -> bool {
        !self.changes.is_empty() && (self.bytes + more_bytes > PIECE_BYTES || self.changes.len() >= PIECE_FILES)
    }

    pub(super) fn push(&mut self, path: IndexPath, content: Option<Vec<u8>>) {
        self.bytes += content.as_ref().map_or(0, Vec::len);
        let file = TreeFile::Index(path);
        self.changes.push(Change { file, content });
    }
}

impl Index {
    /// Keeps a state of the index under a name, of which there are at most 60 for each kind; older ones are forgotten. It survives a
    /// power cut when this returns.
    ///
    /// # Errors
    /// [`Error::StateName`] for a name that is not made of 1 to 64 digits, lower-case letters and hyphens, and
    /// [`Error::MissingObject`] if the state is not here any more.
    pub async fn keep_state(&self, kind: StateKind, name: &str, tree: TreeId, message: &str) -> Result<(), Error> {
        let (name, message, time) = (
            name.to_owned(),
            format!("{}\n", message.trim_end()),
            self.inner.now_unix(),
        );
        let keep = move |repository: &mut Repository| repository.keep_state(kind, &name, tree, &message, time);
        self.inner.publisher.with_repository(keep).await
    }

    /// Keeps a state no longer. That there is none is as good.
    ///
    /// # Errors
    /// A name that no state can have, or the disk.
    pub async fn forget_state(&self, kind: StateKind, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        let forget = move |repository: &mut Repository| repository.forget_state(kind, &name);
        self.inner.publisher.with_repository(forget).await
    }

    /// A state that is kept; `None` if there is none of this name, or not any more. Blocks for a moment.
    ///
    /// # Errors
    /// A name that no state can have, or the repository cannot be read.
    pub fn state(&self, kind: StateKind, name: &str) -> Result<Option<TreeId>, Error> {
        self.inner.tree.state(kind, name)
    }

    /// The published index files as a state: all of them, or `only` these laid over `base`, from which a file goes that is not
    /// published. What waits for its commit is committed first.
    ///
    /// # Errors
    /// `base` is not here any more, or the repository cannot be read or written.
    pub async fn state_of_published(
        &self,
        only: Option<Vec<IndexPath>>,
        base: Option<TreeId>,
    ) -> Result<TreeId, Error> {
        self.inner.publisher.flush().await?;
        let time = self.inner.now_unix();
        let make = move |repository: &mut Repository| repository.state_of_published(only.as_deref(), base, time);
        self.inner.publisher.with_repository(make).await
    }

    /// The state `base`, or an empty one, with `changes` in it, which come in the order of their paths. Nobody sees anything of it, and it
    /// takes some ten megabytes of memory whatever its size.
    ///
    /// # Errors
    /// What reading the changes fails with, an edit that does not fit, an order that is none; `base` is not here any more; or the disk.
    pub async fn stage_state<E>(
        &self,
        base: Option<TreeId>,
        changes: impl Iterator<Item = Result<(IndexPath, IndexEdit), E>> + Send + 'static,
    ) -> Result<TreeId, Error>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let inner = Arc::clone(&self.inner);
        let alone = Arc::clone(&inner.staging).lock_owned().await;
        let stage = move || {
            let _alone = alone;
            let staged = inner.stage_now(base, changes);
            if staged.is_err() {
                inner.errand(Repository::end_staging)?;
            }
            staged
        };
        self.inner.blocking(stage).await
    }

    /// The state `site` with all that differs between `from` and `to`: what a site's index has come to by a bundle that
    /// speaks of some crates only.
    ///
    /// # Errors
    /// One of them is not here any more, or the repository cannot be read or written.
    pub async fn state_laid_over(
        &self,
        site: Option<TreeId>,
        from: Option<TreeId>,
        to: TreeId,
    ) -> Result<TreeId, Error> {
        let tree = self.inner.tree.clone();
        let changes = self.inner.blocking(move || tree.changes_between(from, to)).await?;
        let raw: Vec<_> = changes
            .iter()
            .map(|change| raw_change(&change.path, change.new.map(Into::into)))
            .collect();
        let time = self.inner.now_unix();
        let make = move |repository: &mut Repository| repository.state_with(site, &raw, time);
        self.inner.publisher.with_repository(make).await
    }
}

impl Inner {
    fn stage_now<E>(
        &self,
        base: Option<TreeId>,
        changes: impl Iterator<Item = Result<(IndexPath, IndexEdit), E>>,
    ) -> Result<TreeId, Error>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut tree, mut piece, mut last) = (base, Piece::default(), None);
        for change in changes {
            let (path, edit) = change.map_err(|source| Error::Changes { source: source.into() })?;
            if last.as_ref().is_some_and(|last| *last >= path) {
                return Err(Error::ChangeOrder { path: path.to_string() });
            }
            let content = self.applied(base, &path, &edit)?;
            if piece.is_full(content.as_ref().map_or(0, Vec::len)) {
                tree = Some(self.stage_piece(tree, std::mem::take(&mut piece))?);
            }
            piece.push(path.clone(), content);
            last = Some(path);
        }
        let tree = self.stage_piece(tree, piece)?;
        let time = self.now_unix();
        self.errand(move |repository| repository.finish_staging(tree, time))?;
        Ok(tree)
    }

    fn applied(&self, base: Option<TreeId>, path: &IndexPath, edit: &IndexEdit) -> Result<Option<Vec<u8>>, Error> {
        let old = match base {
            None => None,
            Some(base) => self.tree.with_git(|git| entry(git, base, path.as_str()))?,
        };
        let old = old.map(|id| self.tree.blob(BlobId::from(id))).transpose()?;
        edit.apply(old.as_deref()).map_err(|source| Error::Edit {
            path: path.to_string(),
            source,
        })
    }

    pub(super) fn stage_piece(&self, before: Option<TreeId>, piece: Piece) -> Result<TreeId, Error> {
        let now = (self.clock)();
        self.errand(move |repository| repository.stage(before, &piece.changes, now))
    }

    /// Has something done by the one that may write, and waits for it. For threads that may block.
    pub(super) fn errand<T: Send + 'static>(
        &self,
        errand: impl FnOnce(&mut Repository) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.runtime.block_on(self.publisher.with_repository(errand))
    }
}
