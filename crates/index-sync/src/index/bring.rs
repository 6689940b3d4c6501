//! What upstream's git repository says is brought into the published index: file by file through the merge, and the first time
//! as a whole.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use gix::objs::tree::EntryKind;
use metadata_db::DecisionKind;
use registry::{Checksum, IndexFile, IndexPath};

use super::Inner;
use super::answer::Before;
use super::follow::tree_of;
use super::refresh::{HOUR_SECS, internal};
use crate::following::Following;
use crate::memory::locked;
use crate::merge::{Answer, Merge, Outcome, merge_git};
use crate::publisher::with_upstream;
use crate::repository::{Differing, Leaf, RawChange, tree_diff};
use crate::upstream_sparse::Failure;
use crate::{BlobId, CommitId, Error, FollowPhase, IndexEntry};

/// What a round changes.
#[derive(Default)]
struct Changes {
    files: Vec<FromGit>,
    /// Files beside the index, such as a README.
    raw: Vec<RawChange>,
}

/// What the removals of one hour allow.
#[derive(Clone, Copy)]
pub(super) struct Removals {
    /// Whole crates that git lacks now may go.
    pub(super) allowed: bool,
    /// Those that were held before may go too.
    pub(super) held_too: bool,
}

/// One index file in upstream's git repository, or in a state of another mirror's index.
#[derive(Clone)]
pub(super) struct FromGit {
    pub(super) path: IndexPath,
    pub(super) old: Option<BlobId>,
    pub(super) new: Option<BlobId>,
}

impl Changes {
    fn sort(found: Vec<Differing>) -> Self {
        let mut changes = Self::default();
        for (path, old, new) in found {
            let is_file = |leaf: &Leaf| matches!(leaf.kind, EntryKind::Blob | EntryKind::BlobExecutable);
            let are_files = [old, new].iter().flatten().all(is_file);
            match path.parse() {
                Ok(path) if are_files => changes.files.push(FromGit {
                    path,
                    old: old.map(|leaf| leaf.id.into()),
                    new: new.map(|leaf| leaf.id.into()),
                }),
                _ if path == "config.json" => {}
                _ => changes.raw.push(RawChange { path, leaf: new }),
            }
        }
        changes
    }

    /// Adds files that git has as it had them before.
    fn add_unchanged(&mut self, files: impl IntoIterator<Item = (IndexPath, Option<BlobId>)>) {
        let known: BTreeSet<IndexPath> = self.files.iter().map(|file| file.path.clone()).collect();
        let files = files.into_iter().filter(|(path, _)| !known.contains(path));
        self.files
            .extend(files.map(|(path, id)| FromGit { path, old: id, new: id }));
    }

    fn removed(&self) -> u64 {
        self.files.iter().filter(|file| file.new.is_none()).count() as u64
    }
}

impl Inner {
    /// The first round: upstream's tree is published as it is, and then merged with what was here before it.
    pub(super) async fn bring_first(
        self: &Arc<Self>,
        following: &Following,
        upstream: CommitId,
    ) -> Result<usize, Error> {
        let (message, time) = (with_upstream("Publish the whole index", upstream), self.now_unix());
        let no_import = self.imports.read().await;
        self.publisher
            .with_repository(move |repository| repository.graft(upstream, &message, time))
            .await?;
        drop(no_import);
        locked(&self.freshness).forget_all_absent();
        let inner = Arc::clone(self);
        let files = self.blocking(move || inner.both_speak_of(upstream)).await?;
        let removals = Removals {
            allowed: true,
            held_too: false,
        };
        self.bring_all(following, files, removals).await?;
        self.publisher.finish_round(upstream, Vec::new()).await?;
        usize::try_from(self.publisher.files()).map_or(Ok(usize::MAX), Ok)
    }

    /// The files about which both upstream's repository and what was here before it have something to say.
    fn both_speak_of(&self, upstream: CommitId) -> Result<Vec<FromGit>, Error> {
        let published = self.tree.tip()?.map(|tip| tip.tree.into());
        let differ = self
            .tree
            .with_git(|git| tree_diff(git, Some(tree_of(git, upstream)?), published))?;
        let differ = Changes::sort(differ).files.into_iter();
        let mut paths: BTreeSet<IndexPath> = differ.filter(|file| file.old.is_some()).map(|file| file.path).collect();
        paths.extend(self.publisher.pending_paths());
        paths.extend(self.decisions.all()?.into_iter().map(|(path, _)| path));
        let theirs = self.tree.with_git(|git| {
            let tree = tree_of(git, upstream)?.into();
            paths
                .iter()
                .map(|path| crate::published::entry(git, tree, path.as_str()))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let both = paths.into_iter().zip(theirs).filter_map(|(path, new)| {
            let new = Some(BlobId::from(new?));
            Some(FromGit { path, old: None, new })
        });
        Ok(both.collect())
    }

    /// A later round: what differs between upstream's trees. How upstream came from one to the other does not matter.
    pub(super) async fn bring_update(
        self: &Arc<Self>,
        following: &Following,
        previous: CommitId,
        upstream: CommitId,
    ) -> Result<usize, Error> {
        let inner = Arc::clone(self);
        let compare = move || {
            inner
                .tree
                .with_git(|git| tree_diff(git, Some(tree_of(git, previous)?), Some(tree_of(git, upstream)?)))
        };
        let mut changes = Changes::sort(self.blocking(compare).await?);
        let (count, removed) = (changes.files.len(), changes.removed());
        let inner = Arc::clone(self);
        let decided = move || Ok((inner.removals(removed)?, inner.decided(upstream)?));
        let (removals, decided) = self.blocking(decided).await?;
        changes.add_unchanged(decided);
        self.bring_all(following, changes.files, removals).await?;
        self.publisher.finish_round(upstream, changes.raw).await?;
        Ok(count)
    }

    /// A round in which upstream has nothing new: what the operator decided since, and removals that need be held no longer.
    pub(super) async fn bring_decided(
        self: &Arc<Self>,
        following: &Following,
        upstream: CommitId,
    ) -> Result<(), Error> {
        let inner = Arc::clone(self);
        let decided = move || Ok((inner.removals(0)?, inner.decided(upstream)?));
        let (removals, decided) = self.blocking(decided).await?;
        let mut changes = Changes::default();
        changes.add_unchanged(decided);
        if changes.files.is_empty() {
            return Ok(());
        }
        self.bring_all(following, changes.files, removals).await?;
        self.publisher.finish_round(upstream, Vec::new()).await
    }

    /// Whether so many more crates may be removed, and with those that are held.
    fn removals(&self, more: u64) -> Result<Removals, Error> {
        let since = self.now_unix() - HOUR_SECS;
        let recent = self.decisions.removed_crates_since(since)?;
        let held = self.decisions.of_kind(DecisionKind::HeldRemoval)?;
        let all_held: BTreeSet<&IndexPath> = held.iter().map(|(path, _)| path).collect();
        let lately = held.iter().filter(|(_, row)| row.decided_at >= since);
        let held_lately: BTreeSet<&IndexPath> = lately.map(|(path, _)| path).collect();
        let accepted = self.decisions.of_kind(DecisionKind::Accepted)?.into_iter();
        let accepted = accepted.filter(|(_, row)| row.whole_crate).map(|(path, _)| path);
        let accepted = accepted.collect::<BTreeSet<IndexPath>>().len() as u64;
        let limit = self.removals_per_hour();
        let removed = recent.saturating_sub(held_lately.len() as u64) + accepted;
        Ok(Removals {
            allowed: recent + more <= limit,
            held_too: removed + more + all_held.len() as u64 <= limit,
        })
    }

    /// The files about which the operator has decided something that is not published yet, or of which a removal is held; as git has
    /// them.
    fn decided(&self, upstream: CommitId) -> Result<Vec<(IndexPath, Option<BlobId>)>, Error> {
        let mut paths = BTreeSet::new();
        for kind in [DecisionKind::Accepted, DecisionKind::HeldRemoval] {
            paths.extend(self.decisions.of_kind(kind)?.into_iter().map(|(path, _)| path));
        }
        self.tree.with_git(|git| {
            let tree = tree_of(git, upstream)?.into();
            let with_blob = |path: &IndexPath| {
                let blob = crate::published::entry(git, tree, path.as_str())?;
                Ok((path.clone(), blob.map(BlobId::from)))
            };
            paths.iter().map(with_blob).collect()
        })
    }

    async fn bring_all(
        self: &Arc<Self>,
        following: &Following,
        files: Vec<FromGit>,
        removals: Removals,
    ) -> Result<(), Error> {
        let total = files.len();
        for (done, file) in files.into_iter().enumerate() {
            following.set_phase(FollowPhase::Publishing { done, total });
            if self.bring(file, removals).await? {
                following.count_unreadable();
            }
        }
        Ok(())
    }

    /// Brings one file in, while no request to the sparse upstream for it is under way. True if it has lines that cannot be read.
    async fn bring(self: &Arc<Self>, file: FromGit, removals: Removals) -> Result<bool, Error> {
        let path = file.path.clone();
        self.in_turn(&path, || Arc::clone(self).merge_from_git(file.clone(), removals))
            .await
    }

    async fn merge_from_git(self: Arc<Self>, file: FromGit, removals: Removals) -> Result<bool, Failure> {
        let _no_import = self.imports.read().await;
        let before = self.before(&file.path).await?;
        let is_there = before.published.as_ref().map(|entry| entry.id) == file.new;
        locked(&self.freshness).forget_absent(&file.path);
        if is_there && before.decisions.is_empty() {
            return Ok(false);
        }
        let (inner, path) = (Arc::clone(&self), file.path.clone());
        let work = move || {
            let (outcome, unreadable) = inner.merged_from_git(&file, &before, removals)?;
            Ok((outcome, unreadable, before))
        };
        let (outcome, unreadable, before) = self.blocking(work).await.map_err(internal)?;
        self.decide(&path, &before, &outcome).await?;
        if before.bytes() != outcome.published {
            let entry = (!outcome.published.is_empty()).then(|| Arc::new(IndexEntry::new(outcome.published)));
            // What the sparse upstream said last stays what it said last.
            let submitted = self.publisher.submit(&path, entry, before.state).await;
            submitted.map_err(internal)?;
        }
        Ok(unreadable)
    }

    pub(super) fn merged_from_git(
        &self,
        file: &FromGit,
        before: &Before,
        removals: Removals,
    ) -> Result<(Outcome, bool), Error> {
        let blob = |id: Option<BlobId>| id.map(|id| self.tree.blob(id)).transpose();
        let is_published = before.published.as_ref().filter(|entry| Some(entry.id) == file.old);
        let old = match is_published {
            Some(entry) => Some(Cow::Borrowed(&entry.bytes[..])),
            None => blob(file.old)?.map(Cow::Owned),
        };
        let new = blob(file.new)?;
        let unreadable = new.as_ref().and_then(|new| IndexFile::parse(new, &file.path).err());
        if let Some(error) = &unreadable {
            log::warn!("{}: it came so, and so it is published: {error}", file.path);
        }
        let kept_or_served = &*self.kept_or_served;
        let answer = new.as_ref().map_or(Answer::Absent, |bytes| Answer::Lines {
            bytes,
            etag: None,
            last_modified: None,
        });
        let input = Merge {
            path: &file.path,
            published: before.bytes(),
            answer,
            state: None,
            decisions: &before.decisions,
            now_unix: self.now_unix(),
            grace_secs: 0,
            config_readable: true,
            may_remove_crate: removals.allowed,
            releases_held: removals.held_too,
            kept_or_served: &|checksum: &Checksum| kept_or_served(checksum),
        };
        Ok((merge_git(&input, old.as_deref()), unreadable.is_some()))
    }
}
