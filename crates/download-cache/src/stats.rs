//! Counters, for people and metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a cache has done since it was opened, and does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Fills that are under way upstream, now.
    pub fills_running: u64,
    /// Fills that wait for their turn, now.
    pub fills_waiting: u64,
    /// Fills that brought the right bytes, kept or not.
    pub fills_ok: u64,
    /// Fills that failed.
    pub fills_failed: u64,
    /// Fills that brought the right bytes, which were not kept.
    pub fills_not_kept: u64,
    /// Attempts that failed and were followed by another one.
    pub retries: u64,
    /// Bytes of bodies that came from upstream, wrong ones included.
    pub bytes_fetched: u64,
    /// Calls that joined a fill which somebody else had begun.
    pub waiters_joined: u64,
    /// Kept files that were given from memory.
    pub memory_hits: u64,
    /// What small files in memory take, now.
    pub memory_bytes: u64,
    /// Kept files that turned out to have wrong bytes and were set aside.
    pub bad_files: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub fills_ok: Counter,
    pub fills_failed: Counter,
    pub fills_not_kept: Counter,
    pub retries: Counter,
    pub bytes_fetched: Counter,
    pub waiters_joined: Counter,
    pub bad_files: Counter,
}
