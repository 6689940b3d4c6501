//! What is counted: in memory at once, in the database in batches, so that a hit costs no disk write.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use metadata_db::{MetadataDb, Served};
use registry::Checksum;

/// Counters since the start, and what was served since the last flush.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Crate files answered from disk.
    pub hits: AtomicU64,
    /// Crate files that were not kept when they were asked for.
    pub misses: AtomicU64,
    /// Index files answered, `304` included.
    pub index_answers: AtomicU64,
    /// Those of them that were answered `304`.
    pub index_not_modified: AtomicU64,
    /// Packs that were begun for git clients.
    pub git_packs: AtomicU64,
    /// Git clients that were told why they get nothing.
    pub git_refused: AtomicU64,
    served: Shards,
    flushed: Mutex<Counts>,
}

/// What was served since the last flush, in parts by checksum, so that workers seldom wait for each other.
#[derive(Debug, Default)]
struct Shards([Mutex<HashMap<Checksum, Served>>; 16]);

impl Shards {
    fn of(&self, checksum: &Checksum) -> MutexGuard<'_, HashMap<Checksum, Served>> {
        locked(&self.0[usize::from(checksum.as_bytes()[0] % 16)])
    }

    fn take(&self) -> Vec<(Checksum, Served)> {
        let taken = |shard| std::mem::take(&mut *locked(shard));
        self.0.iter().flat_map(taken).collect()
    }
}

/// Counters by name.
pub type Counts = BTreeMap<&'static str, u64>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds this lock")
}

impl Statistics {
    /// One crate file was served.
    pub fn served(&self, checksum: Checksum, hit: bool, now_unix: i64) {
        if hit { &self.hits } else { &self.misses }.fetch_add(1, Relaxed);
        let mut served = self.served.of(&checksum);
        let entry = served.entry(checksum).or_insert(Served {
            count: 0,
            last_unix: now_unix,
        });
        entry.count += 1;
        entry.last_unix = now_unix;
    }

    /// Whether a file with this checksum was served since the last flush.
    pub fn was_served(&self, checksum: &Checksum) -> bool {
        self.served.of(checksum).contains_key(checksum)
    }

    /// How much each counter has grown since the last flush.
    pub fn unflushed(&self, counts: Counts) -> Counts {
        let flushed = locked(&self.flushed);
        let growth =
            |(name, now): (&'static str, u64)| (name, now.saturating_sub(flushed.get(name).copied().unwrap_or(0)));
        counts.into_iter().map(growth).collect()
    }

    /// Writes what was served, and by how much `counts` have grown. On failure it is kept for the next time.
    pub fn flush(&self, metadata: &MetadataDb, counts: Counts) -> Result<(), metadata_db::Error> {
        let rows = self.served.take();
        if !rows.is_empty()
            && let Err(error) = metadata.add_served(&rows)
        {
            self.put_back(rows);
            return Err(error);
        }
        let mut grown: Vec<_> = self.unflushed(counts.clone()).into_iter().collect();
        grown.retain(|(_, by)| *by > 0);
        if !grown.is_empty() {
            metadata.add_counters(&grown)?;
        }
        *locked(&self.flushed) = counts;
        Ok(())
    }

    fn put_back(&self, rows: Vec<(Checksum, Served)>) {
        for (checksum, old) in rows {
            let mut served = self.served.of(&checksum);
            let entry = served.entry(checksum).or_insert(Served {
                count: 0,
                last_unix: old.last_unix,
            });
            entry.count += old.count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flush_writes_only_what_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = MetadataDb::open(&dir.path().join("mirror.db")).unwrap().db;
        let statistics = Statistics::default();
        let counts = || Counts::from([("hits", statistics.hits.load(Relaxed))]);
        let checksum = Checksum::of(b"a");
        statistics.served(checksum, true, 1);
        statistics.served(checksum, true, 2);
        assert!(statistics.was_served(&checksum));
        statistics.flush(&metadata, counts()).unwrap();
        assert!(!statistics.was_served(&checksum) && metadata.was_served(&checksum).unwrap());
        statistics.served(checksum, true, 3);
        assert_eq!(statistics.unflushed(counts())["hits"], 1);
        statistics.flush(&metadata, counts()).unwrap();
        statistics.flush(&metadata, counts()).unwrap();
        assert_eq!(metadata.counters().unwrap()["hits"], 3);
    }
}
