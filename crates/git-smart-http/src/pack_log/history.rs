//! What of the log is in memory: the commits, where their ranges are, and which objects it has twice.

use std::{collections::HashMap, sync::Arc};

use super::{
    Commit,
    format::{CommitRecord, Purpose},
};
use crate::ObjectId;

/// A range of the log: the entries of one commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The first entry.
    pub start: u64,
    /// Behind the last entry.
    pub end: u64,
    /// Where its payloads start in `entries`, counted from behind the header.
    pub payload_start: u64,
    /// Where they end.
    pub payload_end: u64,
    /// CRC-32 of its payloads.
    pub payload_crc: u32,
    /// CRC-32 of its index records.
    pub index_crc: u32,
}

impl Segment {
    pub(crate) fn len(&self) -> u64 {
        self.end - self.start
    }
}

#[derive(Clone, Debug)]
struct Published {
    commit: Commit,
    /// The number of the first commit of its history, or of the log if that was dropped.
    root: u32,
    whole: bool,
    segment: Segment,
}

#[derive(Clone, Debug)]
struct Snapshot {
    of: u32,
    segment: Segment,
}

/// Where a range stands: among the commits, or among the snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Commit(u32),
    Snapshot(u32),
}

/// Where a copy of an object is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy {
    pub entry: u64,
    pub place: Place,
}

/// From where a commit can be sent to somebody who has nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// The commit that is there whole.
    pub commit: u32,
    /// The snapshot that has it; none: its ordinary range is whole.
    pub snapshot: Option<u32>,
}

/// The commits of the log by number. Numbers follow the order of publishing, across squashes.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    commits: Vec<Published>,
    snapshots: Vec<Snapshot>,
    numbers: HashMap<ObjectId, u32>,
    /// Objects of which the log has more than one copy outside of snapshots, with all copies.
    pub(crate) repeats: Arc<HashMap<ObjectId, Vec<Copy>>>,
}

impl History {
    pub(crate) fn head(&self) -> Option<&Commit> {
        self.commits.last().map(|published| &published.commit)
    }

    pub(crate) fn commits(&self) -> impl ExactSizeIterator<Item = &Commit> {
        self.commits.iter().map(|published| &published.commit)
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.commits.len()).expect("a log has far fewer than 2^32 commits")
    }

    pub(crate) fn number(&self, id: &ObjectId) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    pub(crate) fn commit(&self, number: u32) -> &Commit {
        &self.commits[number as usize].commit
    }

    pub(crate) fn segment(&self, place: Place) -> &Segment {
        match place {
            Place::Commit(number) => &self.commits[number as usize].segment,
            Place::Snapshot(number) => &self.snapshots[number as usize].segment,
        }
    }

    pub(super) fn snapshot_count(&self) -> u32 {
        self.snapshots.len() as u32
    }

    /// How many ranges there are.
    pub(super) fn record_count(&self) -> u64 {
        (self.commits.len() + self.snapshots.len()) as u64
    }

    /// The commit that a range belongs to.
    pub(crate) fn owner(&self, place: Place) -> u32 {
        match place {
            Place::Commit(number) => number,
            Place::Snapshot(number) => self.snapshots[number as usize].of,
        }
    }

    /// The first commit of the history that this one belongs to.
    pub(crate) fn root(&self, number: u32) -> u32 {
        self.commits[number as usize].root
    }

    /// Whether the history of this commit is here from its root on and can be sent to somebody who has nothing.
    pub(crate) fn is_complete(&self, number: u32) -> bool {
        let root = self.root(number);
        self.commit(root).parent.is_none() && self.base(root).is_some()
    }

    /// The last whole range that is of this commit or of one before it.
    pub(crate) fn base(&self, number: u32) -> Option<Base> {
        let snapshot = self
            .snapshots
            .iter()
            .enumerate()
            .filter(|(_, snapshot)| snapshot.of <= number);
        let snapshot = snapshot.max_by_key(|(_, snapshot)| snapshot.of);
        let whole = self.commits.first().filter(|first| first.whole).map(|_| Base {
            commit: 0,
            snapshot: None,
        });
        snapshot
            .map(|(at, snapshot)| Base {
                commit: snapshot.of,
                snapshot: Some(at as u32),
            })
            .or(whole)
    }

    pub(crate) fn root_is_whole(&self) -> bool {
        let root = self.commits.last().map(|last| last.root);
        root.is_none_or(|root| self.base(root).is_some_and(|base| base.commit == root))
    }

    pub(crate) fn last_whole(&self) -> Option<&Segment> {
        let base = self.base(self.len().checked_sub(1)?)?;
        Some(self.segment(base.snapshot.map_or(Place::Commit(base.commit), Place::Snapshot)))
    }

    /// All ranges with their commits: first the ordinary ones, then the snapshots.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (ObjectId, &Segment)> {
        let ordinary = self
            .commits
            .iter()
            .map(|published| (published.commit.id, &published.segment));
        let snapshots = self.snapshots.iter();
        ordinary.chain(snapshots.map(|snapshot| (self.commit(snapshot.of).id, &snapshot.segment)))
    }

    /// The records of all ranges in the order in which they are in the files.
    pub(super) fn records(&self) -> Vec<CommitRecord> {
        let ordinary = self.commits.iter().map(|published| CommitRecord {
            commit: published.commit,
            purpose: Purpose::Ordinary { whole: published.whole },
            segment: published.segment,
        });
        let snapshots = self.snapshots.iter().map(|snapshot| CommitRecord {
            commit: *self.commit(snapshot.of),
            purpose: Purpose::Snapshot,
            segment: snapshot.segment,
        });
        let mut records: Vec<CommitRecord> = ordinary.chain(snapshots).collect();
        records.sort_by_key(|record| record.segment.start);
        records
    }

    /// Adds a range. None: it does not fit to what is there.
    pub(super) fn push(&mut self, record: &CommitRecord) -> Option<Place> {
        let CommitRecord {
            commit,
            purpose,
            segment,
        } = *record;
        let next = self.len();
        match purpose {
            Purpose::Snapshot => {
                let of = self.number(&commit.id)?;
                self.snapshots.push(Snapshot { of, segment });
                Some(Place::Snapshot(self.snapshots.len() as u32 - 1))
            }
            Purpose::Ordinary { whole } => {
                let follows = commit.parent.is_none() || next == 0 || commit.parent == self.head().map(|head| head.id);
                if !follows || self.numbers.contains_key(&commit.id) {
                    return None;
                }
                let root = match commit.parent {
                    Some(_) => self.commits.last().map_or(next, |last| last.root),
                    None => next,
                };
                self.numbers.insert(commit.id, next);
                self.commits.push(Published {
                    commit,
                    root,
                    whole,
                    segment,
                });
                Some(Place::Commit(next))
            }
        }
    }

    /// The number from which on a rewritten log may start, so that commits since `time` stay known.
    ///
    /// The history of the newest root has to stay clonable, so nothing goes before that root has a whole range.
    pub(super) fn first_kept(&self, time: i64) -> u32 {
        let Some(root) = self
            .commits
            .last()
            .map(|last| last.root)
            .filter(|_| self.root_is_whole())
        else {
            return 0;
        };
        let before = &self.commits[..root as usize];
        let recent = before.iter().position(|published| published.commit.time >= time);
        recent.map_or(root, |recent| recent as u32)
    }

    /// Whether a range stays when the log starts at commit `first`.
    pub(super) fn stays(&self, record: &CommitRecord, first: u32) -> bool {
        let root = self.commits.last().map_or(0, |last| last.root);
        let number = self.number(&record.commit.id);
        match record.purpose {
            // A snapshot from before the newest root serves nobody once the log does not start at its own start.
            Purpose::Snapshot => number.is_some_and(|number| number >= root),
            Purpose::Ordinary { .. } => number.is_some_and(|number| number >= first),
        }
    }
}
