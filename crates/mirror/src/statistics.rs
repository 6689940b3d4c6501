//! What is counted: in memory at once, in the database in batches, so that a hit costs no disk write.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
    served: Mutex<HashMap<Checksum, Served>>,
    flushed: Mutex<[u64; 3]>,
}

/// Counts that the next flush will write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unflushed {
    /// Crate files answered from disk.
    pub hits: u64,
    /// Crate files that had to be fetched.
    pub misses: u64,
}

impl Statistics {
    /// One crate file was served.
    pub fn served(&self, checksum: Checksum, hit: bool, now_unix: i64) {
        if hit { &self.hits } else { &self.misses }.fetch_add(1, Relaxed);
        let mut served = self.served.lock().expect("nothing panics while it holds this lock");
        let entry = served.entry(checksum).or_insert(Served {
            count: 0,
            last_unix: now_unix,
        });
        entry.count += 1;
        entry.last_unix = now_unix;
    }

    /// Whether a file with this checksum was served since the last flush.
    pub fn was_served(&self, checksum: &Checksum) -> bool {
        self.served
            .lock()
            .expect("nothing panics while it holds this lock")
            .contains_key(checksum)
    }

    /// What is not in the database yet.
    pub fn unflushed(&self) -> Unflushed {
        let flushed = *self.flushed.lock().expect("nothing panics while it holds this lock");
        Unflushed {
            hits: self.hits.load(Relaxed) - flushed[0],
            misses: self.misses.load(Relaxed) - flushed[1],
        }
    }

    /// Writes what has gathered. On failure it is kept for the next time.
    pub fn flush(&self, metadata: &MetadataDb) -> Result<(), metadata_db::Error> {
        let batch = std::mem::take(&mut *self.served.lock().expect("nothing panics while it holds this lock"));
        let rows: Vec<_> = batch.iter().map(|(checksum, served)| (*checksum, *served)).collect();
        if !rows.is_empty()
            && let Err(error) = metadata.add_served(&rows)
        {
            self.put_back(rows);
            return Err(error);
        }
        self.flush_counters(metadata)
    }

    fn put_back(&self, rows: Vec<(Checksum, Served)>) {
        let mut served = self.served.lock().expect("nothing panics while it holds this lock");
        for (checksum, old) in rows {
            let entry = served.entry(checksum).or_insert(Served {
                count: 0,
                last_unix: old.last_unix,
            });
            entry.count += old.count;
        }
    }

    fn flush_counters(&self, metadata: &MetadataDb) -> Result<(), metadata_db::Error> {
        let mut flushed = self.flushed.lock().expect("nothing panics while it holds this lock");
        let now = [&self.hits, &self.misses, &self.index_answers].map(|counter| counter.load(Relaxed));
        let names = ["hits", "misses", "index_answers"];
        let grown: Vec<_> = names
            .into_iter()
            .zip(now.iter().zip(flushed.iter()))
            .map(|(name, (now, before))| (name, now - before))
            .filter(|(_, by)| *by > 0)
            .collect();
        if !grown.is_empty() {
            metadata.add_counters(&grown)?;
        }
        *flushed = now;
        Ok(())
    }
}
