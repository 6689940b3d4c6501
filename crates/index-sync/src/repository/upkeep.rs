//! Keeps the repository small: gix has no gc and makes no deltas, so every commit costs a whole root tree.

use std::time::SystemTime;

use super::new_object::NewObject;
use super::pack_writer::{StagedPack, stage};
use super::reachable::kept_objects;
use super::retired::{Replacement, RetiredPacks};
use super::{Repository, RepositoryLimits};
use crate::published::{commit, open_git};
use crate::{CommitId, Error, Tip};

/// What one round of upkeep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Loose objects that went into a pack.
    pub packed_loose: usize,
    /// Packs that became one.
    pub merged_packs: usize,
    /// The commit that was published, and the one without history that took its place.
    pub squashed: Option<(CommitId, CommitId)>,
    /// Replaced packs whose time was over; those that had to go earlier, to keep the limits, are only logged.
    pub removed_packs: usize,
}

/// A measurement of what the newest state alone takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// As one pack with its index.
    snapshot_bytes: u64,
    /// What everything in force took at that time.
    live_bytes: u64,
}

impl RepositoryLimits {
    fn bytes(&self, snapshot_bytes: u64) -> u64 {
        // The precision lost is beyond nine petabytes.
        (snapshot_bytes as f64 * self.snapshot_factor) as u64 + self.slack_bytes
    }

    /// Whether history weighs enough to be dropped. While that is done the old packs and the new one stand side by
    /// side: with what is said here they take 2.25 snapshots and three eighths of the slack, and the limit has room for
    /// the growth between two measurements too.
    fn is_heavy(&self, live_bytes: u64, snapshot_bytes: u64) -> bool {
        live_bytes > snapshot_bytes + snapshot_bytes / 4 + self.slack_bytes / 8 * 3
    }

    /// How much may come in before the snapshot is measured again.
    fn growth_bytes(&self, snapshot_bytes: u64) -> u64 {
        (snapshot_bytes + self.slack_bytes) / 16
    }
}

impl Repository {
    /// Keeps the limits: packs loose objects, merges small packs, replaces the history by a single commit with the
    /// same index when it outweighs that, and removes replaced packs when they are due. Does little when little is
    /// due; call it after each commit and after opening.
    pub fn upkeep(&mut self, now: SystemTime) -> Result<Upkeep, Error> {
        self.guarded(|repository| repository.upkeep_whole(now))
    }

    pub(super) fn upkeep_whole(&mut self, now: SystemTime) -> Result<Upkeep, Error> {
        let mut done = Upkeep::default();
        let after = self.limits.retire_after;
        done.removed_packs = self.retired.remove_due(&self.dir, now, after)?;
        if done.removed_packs > 0 {
            self.published.reopen()?;
        }
        if self.storage.loose.len() > self.limits.loose_objects * 3 / 4 {
            done.packed_loose = self.pack_loose()?;
        }
        if let Some(tip) = self.published.tip()?
            && self.history_is_heavy(&tip)?
        {
            done.squashed = self.squash(&tip, now)?;
        }
        if self.storage.packs.len() > self.limits.packs / 4 {
            done.merged_packs = self.merge_small_packs(now)?;
        }
        self.make_room(0)?;
        Ok(done)
    }

    /// Removes replaced packs before their time if a new pack of `bytes` would break the limits otherwise.
    pub(super) fn make_room(&mut self, bytes: u64) -> Result<(), Error> {
        if self.retired.packs.is_empty() {
            return Ok(());
        }
        let snapshot_bytes = match (&self.snapshot, self.published.tip()?) {
            (Some(measured), _) => measured.snapshot_bytes,
            (None, Some(tip)) => self.measure(&tip)?.snapshot_bytes,
            (None, None) => 0,
        };
        let (live_packs, live_bytes) = (self.storage.packs.len(), self.storage.bytes());
        let limit_bytes = self.limits.bytes(snapshot_bytes);
        let max_packs = self.limits.packs;
        let fits = |retired: &RetiredPacks, more_packs: usize| {
            live_packs + retired.packs.len() + more_packs <= max_packs
                && live_bytes + retired.bytes() + bytes <= limit_bytes
        };
        if fits(&self.retired, 1) {
            return Ok(());
        }
        // Many at once, so that it does not happen with every commit.
        let removed = self
            .retired
            .remove_until(&self.dir, |retired| fits(retired, 1 + max_packs / 4))?;
        if removed > 0 {
            log::info!(
                "removed {removed} replaced packs before their time, to keep within {max_packs} packs and {limit_bytes} bytes"
            );
            self.published.reopen()?;
        }
        Ok(())
    }

    fn measure(&mut self, tip: &Tip) -> Result<Measured, Error> {
        let ids = self.published.with_git(|git| kept_objects(git, tip.commit.into()))?;
        let measured = Measured {
            snapshot_bytes: self.storage.packed_bytes(&ids),
            live_bytes: self.storage.bytes(),
        };
        self.snapshot = Some(measured);
        Ok(measured)
    }

    /// What came in since there were `before_bytes` belongs to a state, so it is part of what must be kept.
    pub(super) fn count_as_kept(&mut self, before_bytes: u64) -> Result<(), Error> {
        let live_bytes = self.storage.bytes();
        let more = live_bytes.saturating_sub(before_bytes);
        match &mut self.snapshot {
            Some(measured) => {
                measured.snapshot_bytes += more;
                measured.live_bytes += more;
            }
            // Without history there is nothing else.
            None if self.published.tip()?.is_none() => {
                self.snapshot = Some(Measured {
                    snapshot_bytes: live_bytes,
                    live_bytes,
                });
            }
            None => {}
        }
        Ok(())
    }

    fn history_is_heavy(&mut self, tip: &Tip) -> Result<bool, Error> {
        let live_bytes = self.storage.bytes();
        if let Some(last) = self.snapshot {
            let calm = live_bytes < last.live_bytes + self.limits.growth_bytes(last.snapshot_bytes);
            if calm {
                return Ok(false);
            }
        }
        let measured = self.measure(tip)?;
        Ok(self.limits.is_heavy(live_bytes, measured.snapshot_bytes))
    }

    fn pack_loose(&mut self) -> Result<usize, Error> {
        let mut ids: Vec<_> = self.storage.loose.keys().copied().collect();
        if ids.is_empty() {
            return Ok(0);
        }
        ids.sort();
        self.make_room(self.storage.loose.values().sum())?;
        let pack = stage(&self.dir, &open_git(&self.dir, self.limits.slots())?, &ids, &[])?;
        self.add(pack)?;
        self.storage.drop_loose()
    }

    /// Merges the smallest packs, so that each one left is at least twice as large as all smaller ones together.
    fn merge_small_packs(&mut self, now: SystemTime) -> Result<usize, Error> {
        self.storage.packs.sort_by_key(|pack| pack.bytes);
        let sizes: Vec<u64> = self.storage.packs.iter().map(|pack| pack.bytes).collect();
        let snapshot_bytes = self.snapshot.map_or(0, |measured| measured.snapshot_bytes);
        let room_bytes = self.limits.bytes(snapshot_bytes).saturating_sub(self.storage.bytes());
        let small = &self.storage.packs[..merged_count(&sizes, room_bytes)];
        let mut ids: Vec<_> = small.iter().flat_map(|pack| pack.ids()).collect();
        ids.sort();
        ids.dedup();
        let old: Vec<String> = small.iter().map(|pack| pack.name.clone()).collect();
        let merged = old.len();
        self.make_room(small.iter().map(|pack| pack.bytes).sum())?;
        let pack = stage(&self.dir, &open_git(&self.dir, self.limits.slots())?, &ids, &[])?;
        self.replace(pack, old, None, |_| Ok(()), now)?;
        Ok(merged)
    }

    /// Publishes the newest index as a commit without a parent, and keeps only what that needs.
    ///
    /// Without a parent already, it is only packed anew: then something else is in the way.
    fn squash(&mut self, tip: &Tip, now: SystemTime) -> Result<Option<(CommitId, CommitId)>, Error> {
        let git = open_git(&self.dir, self.limits.slots())?;
        let new = root_for(&git, tip)?;
        let root = new.as_ref().map_or(tip.commit, |new| new.id.into());
        // A new root is not among the objects yet, and needs what its tree needs.
        let ids = kept_objects(
            &git,
            if new.is_some() {
                tip.tree.into()
            } else {
                tip.commit.into()
            },
        )?;
        self.make_room(self.storage.packed_bytes(&ids))?;
        let pack = stage(&self.dir, &git, &ids, new.as_slice())?;
        drop(git);
        let old = self.storage.packs.iter().map(|pack| pack.name.clone()).collect();
        let publish = |repository: &mut Self| {
            if root != tip.commit {
                repository.move_branch(Some(tip), root)?;
            }
            repository.cut_upstream()
        };
        self.replace(pack, old, Some(root), publish, now)?;
        self.storage.drop_loose()?;
        let live_bytes = self.storage.bytes();
        self.snapshot = Some(Measured {
            snapshot_bytes: live_bytes,
            live_bytes,
        });
        self.published.reopen()?;
        if root == tip.commit {
            return Ok(None);
        }
        log::info!(
            "commit {root} replaces {} and its history, {live_bytes} bytes are left",
            tip.commit
        );
        Ok(Some((tip.commit, root)))
    }

    /// Puts `pack` in the place of the packs `old`, which are retired once `publish` is through.
    fn replace(
        &mut self,
        pack: StagedPack,
        mut old: Vec<String>,
        root: Option<CommitId>,
        publish: impl FnOnce(&mut Self) -> Result<(), Error>,
        now: SystemTime,
    ) -> Result<(), Error> {
        let new = pack.name.clone();
        old.retain(|name| *name != new);
        self.retired.begin(
            &self.dir,
            Replacement {
                new: new.clone(),
                root,
                old: old.clone(),
            },
        )?;
        pack.place(&self.dir)?;
        self.storage.add_pack(&new)?;
        publish(self)?;
        self.retired.finish(&self.dir, now)?;
        self.storage.packs.retain(|pack| !old.contains(&pack.name));
        Ok(())
    }
}

/// The commit that takes the place of `tip` and its history; none if `tip` has no history.
fn root_for(git: &gix::Repository, tip: &Tip) -> Result<Option<NewObject<'static>>, Error> {
    if commit(git, tip.commit.into())?.parent_ids().next().is_none() {
        return Ok(None);
    }
    let message = format!("{}\n\nReplaces: {}\n", tip.message.trim_end(), tip.commit);
    NewObject::commit(tip.tree, None, &message, tip.time_unix).map(Some)
}

/// How many of the smallest packs to merge; `sizes` are in ascending order. The merged pack, which stands beside them
/// for a moment, shall fit into `room_bytes`.
fn merged_count(sizes: &[u64], room_bytes: u64) -> usize {
    let mut smaller = 0;
    let mut count = 0;
    for (number, size) in sizes.iter().enumerate() {
        if *size < 2 * smaller {
            count = number + 1;
        }
        smaller += size;
    }
    // At least half, so that the next merge is not due at once.
    count = count.max(sizes.len() / 2 + 1).min(sizes.len());
    while count > 2 && sizes[..count].iter().sum::<u64>() > room_bytes {
        count -= 1;
    }
    count
}

#[cfg(test)]
mod tests;
