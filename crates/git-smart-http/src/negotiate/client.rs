//! What a client has of the log, and what it lacks.

use std::collections::BTreeSet;

use super::Need;
use crate::{Fetch, INFINITE_DEPTH, ObjectId, pack_log::History};

/// What the client has, by commit number.
#[derive(Debug)]
pub(super) struct Client {
    /// Commits whose parents it lacks.
    shallows: BTreeSet<u32>,
    /// Rows of commits that it has with their trees, both ends included, in order and apart from each other.
    rows: Vec<(u32, u32)>,
}

impl Client {
    /// Commits that the log does not know count for nothing.
    pub(super) fn of(history: &History, fetch: &Fetch) -> Client {
        let known = |ids: &[ObjectId]| {
            ids.iter()
                .filter_map(|id| history.number(id))
                .collect::<BTreeSet<u32>>()
        };
        let shallows = known(&fetch.shallows);
        let mut client = Client {
            shallows,
            rows: Vec::new(),
        };
        let haves = known(&fetch.haves);
        client.rows = joined(
            haves
                .into_iter()
                .map(|have| (client.reach(history, have), have))
                .collect(),
        );
        client
    }

    /// How far back the client's history goes from this commit.
    fn reach(&self, history: &History, from: u32) -> u32 {
        let root = history.root(from);
        self.shallows.range(root..=from).next_back().copied().unwrap_or(root)
    }

    /// The newest commit before this one that the client has.
    pub(super) fn newest_before(&self, commit: u32) -> Option<u32> {
        let row = self.rows.iter().rev().find(|(first, _)| *first < commit);
        row.map(|(_, last)| (*last).min(commit - 1))
    }

    pub(super) fn need(&self, history: &History, wants: &[u32], fetch: &Fetch) -> Need {
        let mut need = Need::default();
        let lowest = |want| (self.lowest(history, want, fetch), want);
        let mut rows = joined(wants.iter().map(|want| lowest(*want)).collect());
        if let Some(depth) = fetch.depth {
            let mut unshallow = BTreeSet::new();
            for (first, last) in &rows {
                let is_root = history.root(*first) == *first;
                if !is_root && !self.shallows.contains(first) {
                    need.shallow.push(history.commit(*first).id);
                }
                let inner = first + u32::from(!is_root);
                if inner <= *last {
                    unshallow.extend(self.shallows.range(inner..=*last));
                }
            }
            if depth == INFINITE_DEPTH && !fetch.deepen_relative {
                rows.extend(self.elsewhere(history, &mut unshallow));
                rows = joined(rows);
            }
            need.unshallow = unshallow.into_iter().map(|commit| history.commit(commit).id).collect();
        }
        need.rows = without(&rows, &self.rows);
        need
    }

    /// The oldest commit that the client is to have of a wanted one's history.
    fn lowest(&self, history: &History, want: u32, fetch: &Fetch) -> u32 {
        let root = history.root(want);
        let back = |from: u32, steps: u32| from.saturating_sub(steps).max(root);
        match fetch.depth {
            None => self.reach(history, want),
            Some(steps) if fetch.deepen_relative => back(self.reach(history, want), steps),
            Some(INFINITE_DEPTH) => root,
            Some(depth) => back(want, depth - 1),
        }
    }

    /// What else loses its boundary when all of the history is asked for: clones of what was before a squash.
    fn elsewhere(&self, history: &History, unshallow: &mut BTreeSet<u32>) -> Vec<(u32, u32)> {
        let left = self.shallows.iter().filter(|commit| history.is_complete(**commit));
        let left: Vec<u32> = left.filter(|commit| !unshallow.contains(commit)).copied().collect();
        unshallow.extend(&left);
        left.into_iter().map(|commit| (history.root(commit), commit)).collect()
    }
}

/// The same commits as rows that do not overlap, in order. Rows that only touch stay apart: their ends mean something.
fn joined(mut rows: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    rows.sort_unstable();
    let mut out: Vec<(u32, u32)> = Vec::with_capacity(rows.len());
    for (first, last) in rows {
        match out.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out
}

/// The commits of `rows` that are not in `less`. Both are in order.
fn without(rows: &[(u32, u32)], less: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut out = Vec::new();
    for (first, last) in rows {
        let mut from = *first;
        for (gone, end) in less.iter().filter(|(gone, end)| *end >= *first && *gone <= *last) {
            if from < *gone {
                out.push((from, gone - 1));
            }
            from = end + 1;
        }
        if from <= *last {
            out.push((from, *last));
        }
    }
    out
}
