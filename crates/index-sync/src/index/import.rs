//! What a bundle brought of another mirror's index is merged into what is published, all of it in one commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use metadata_db::DecisionRow;
use registry::IndexPath;

use super::answer::Before;
use super::bring::{FromGit, Removals};
use super::states::Piece;
use super::{Index, Inner};
use crate::memory::locked;
use crate::merge::Outcome;
use crate::repository::{RawChange, raw_change};
use crate::{BlobId, Error, ImportChanges, IndexEntry, Repository, StateKind, TreeId};

/// A bundle is brought by hand and says what it removes: nothing of that is held.
const REMOVALS: Removals = Removals {
    allowed: true,
    held_too: false,
};

/// An index file about which the other mirror has something new to say.
struct Imported {
    file: FromGit,
    published: Option<BlobId>,
    decisions: Vec<DecisionRow>,
}

impl Imported {
    /// Nothing is known of it here: it is published as it came.
    fn is_new_here(&self) -> bool {
        self.published.is_none() && self.decisions.is_empty()
    }
}

/// What was decided about a file.
struct Decided {
    path: IndexPath,
    put: Vec<DecisionRow>,
    delete: Vec<String>,
}

/// What an import changes, before any of it is published.
struct Gathered {
    changes: ImportChanges,
    raw: Vec<RawChange>,
    decided: Vec<Decided>,
    /// A state that has the content of all files in `raw` but those in `piece`.
    staged: TreeId,
    piece: Piece,
}

impl Gathered {
    fn add_new(&mut self, file: &FromGit) {
        self.changes.add_new_crate(&file.path);
        self.raw.push(raw_change(&file.path, file.new.map(Into::into)));
    }
}

impl Index {
    /// What [`publish_state`](Self::publish_state) would change, if the site's index was at the state `site` before. What waits for its
    /// commit is committed first; nothing else is.
    ///
    /// # Errors
    /// A state is not here any more, or the repository or a database cannot be read.
    pub async fn compare_with_published(&self, site: Option<TreeId>, next: TreeId) -> Result<ImportChanges, Error> {
        self.inner.publisher.flush().await?;
        let inner = Arc::clone(&self.inner);
        self.inner.blocking(move || inner.compared(site, next)).await
    }

    /// Another mirror's index has come to the state `next`: what that changes against the state it was at here before goes through the
    /// merge with what is published, and all of it becomes one commit. Then `next` is kept as the site's state; until then it is safe to
    /// do this again. Once begun it goes to its end, whoever asked.
    ///
    /// # Errors
    /// A name that no site can have, `next` is not here any more, or the repository or a database cannot be read or written: then
    /// nothing is published.
    pub async fn publish_state(&self, site: &str, next: TreeId, message: &str) -> Result<ImportChanges, Error> {
        let (inner, site, message) = (Arc::clone(&self.inner), site.to_owned(), message.trim_end().to_owned());
        let publish = async move {
            let staging = Arc::clone(&inner.staging).lock_owned().await;
            let alone = Arc::clone(&inner.imports).write_owned().await;
            inner.publisher.flush().await?;
            let work = {
                let inner = Arc::clone(&inner);
                move || {
                    let _alone = (staging, alone);
                    let published = inner.publish_now(&site, next, message);
                    inner.errand(Repository::end_staging)?;
                    published
                }
            };
            inner.blocking(work).await
        };
        match self.inner.runtime.spawn(publish).await {
            Ok(published) => published,
            Err(cause) if cause.is_panic() => std::panic::resume_unwind(cause.into_panic()),
            Err(_) => Err(Error::Stopped),
        }
    }
}

impl Inner {
    fn compared(&self, site: Option<TreeId>, next: TreeId) -> Result<ImportChanges, Error> {
        let mut changes = ImportChanges::default();
        for file in self.imported(site, next)? {
            if file.is_new_here() {
                changes.add_new_crate(&file.file.path);
                continue;
            }
            let (before, outcome) = self.merged_import(&file)?;
            changes.add(&file.file.path, before.bytes(), &outcome.published, &outcome.reports);
        }
        Ok(changes)
    }

    fn publish_now(&self, site: &str, next: TreeId, message: String) -> Result<ImportChanges, Error> {
        let before = self.tree.state(StateKind::Site, site)?;
        // On top of the state that came is put what becomes of it here: so all of it stays until the commit is made.
        let mut gathered = Gathered {
            changes: ImportChanges::default(),
            raw: Vec::new(),
            decided: Vec::new(),
            staged: self.stage_piece(Some(next), Piece::default())?,
            piece: Piece::default(),
        };
        for imported in self.imported(before, next)? {
            if imported.is_new_here() {
                gathered.add_new(&imported.file);
            } else {
                let (before, outcome) = self.merged_import(&imported)?;
                self.gather(&mut gathered, imported, &before, outcome)?;
            }
        }
        self.stage_piece(Some(gathered.staged), gathered.piece)?;
        self.commit_import(gathered.raw, &gathered.decided, message)?;
        let (site, time) = (site.to_owned(), self.now_unix());
        self.errand(move |repository| {
            let message = "What a site's index has come to here\n";
            repository.keep_state(StateKind::Site, &site, next, message, time)
        })?;
        Ok(gathered.changes)
    }

    fn gather(
        &self,
        gathered: &mut Gathered,
        imported: Imported,
        before: &Before,
        outcome: Outcome,
    ) -> Result<(), Error> {
        let path = imported.file.path;
        gathered
            .changes
            .add(&path, before.bytes(), &outcome.published, &outcome.reports);
        outcome.reports.iter().for_each(|report| report.log(&path));
        self.changed_lines
            .fetch_add(outcome.changed_lines as u64, Ordering::Relaxed);
        if !outcome.put.is_empty() || !outcome.delete.is_empty() {
            gathered.decided.push(Decided {
                path: path.clone(),
                put: outcome.put,
                delete: outcome.delete,
            });
        }
        let id = (!outcome.published.is_empty()).then(|| BlobId::of(&outcome.published));
        if id == imported.published {
            return Ok(());
        }
        gathered.raw.push(raw_change(&path, id.map(Into::into)));
        if id.is_some() && id != imported.file.new {
            if gathered.piece.is_full(outcome.published.len()) {
                gathered.staged = self.stage_piece(Some(gathered.staged), std::mem::take(&mut gathered.piece))?;
            }
            gathered.piece.push(path, Some(outcome.published));
        }
        Ok(())
    }

    /// First the decisions, which are truth, then the files.
    fn commit_import(&self, raw: Vec<RawChange>, decided: &[Decided], message: String) -> Result<(), Error> {
        for Decided { path, put, delete } in decided {
            self.decisions.put_all(path, put, delete)?;
        }
        self.count_held()?;
        let time = self.now_unix();
        // Who read a file before this has to read it once more before changing it.
        self.imported.fetch_add(1, Ordering::Relaxed);
        self.runtime
            .block_on(self.publisher.publish_at_once(raw, message, time))?;
        locked(&self.freshness).forget_all_absent();
        Ok(())
    }

    /// The files that differ between what the site had and what it has now, and that are not published so already with nothing
    /// decided about them.
    fn imported(&self, site: Option<TreeId>, next: TreeId) -> Result<Vec<Imported>, Error> {
        let theirs = self.tree.changes_between(site, next)?;
        let tip = self.tree.tip()?.map(|tip| tip.tree);
        let ours = self.tree.changes_between(tip, next)?.into_iter();
        let ours: HashMap<IndexPath, Option<BlobId>> = ours.map(|file| (file.path, file.old)).collect();
        let mut decisions = HashMap::<IndexPath, Vec<DecisionRow>>::new();
        for (path, row) in self.decisions.all()? {
            decisions.entry(path).or_default().push(row);
        }
        let imported = theirs.into_iter().filter_map(|file| {
            let decisions = decisions.remove(&file.path).unwrap_or_default();
            let published = match ours.get(&file.path) {
                None if decisions.is_empty() => return None,
                None => file.new,
                Some(published) => *published,
            };
            let is_nothing = published.is_none() && file.new.is_none() && decisions.is_empty();
            let (path, old, new) = (file.path, file.old, file.new);
            (!is_nothing).then_some(Imported {
                file: FromGit { path, old, new },
                published,
                decisions,
            })
        });
        Ok(imported.collect())
    }

    fn merged_import(&self, imported: &Imported) -> Result<(Before, Outcome), Error> {
        let published = imported.published.map(|id| self.tree.blob(id)).transpose()?;
        let before = Before {
            published: published.map(|bytes| Arc::new(IndexEntry::new(bytes))),
            state: None,
            decisions: imported.decisions.clone(),
        };
        let (outcome, _) = self.merged_from_git(&imported.file, &before, REMOVALS)?;
        Ok((before, outcome))
    }
}
