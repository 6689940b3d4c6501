//! What the owner of a cache decides, asks for and is told.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use registry::{Checksum, CrateName, CrateVersion};

use crate::disk::FaultHook;

/// How many bytes are free for us where this path is (`statvfs`, which std does not have).
pub type FreeBytes = Arc<dyn Fn(&Path) -> io::Result<u64> + Send + Sync>;

/// The limits of a cache.
#[derive(Clone)]
pub struct Config {
    /// `blobs/` and `tmp/` are below it.
    pub data_dir: PathBuf,
    /// The largest crate file that is fetched.
    pub max_file_bytes: u64,
    /// With less than this free, files are passed on but not kept.
    pub min_free_bytes: u64,
    /// Asked before a file is kept.
    pub free_bytes: FreeBytes,
    /// Fills that may be under way upstream; others wait for their turn.
    pub fills_at_once: usize,
    /// The same for one host.
    pub fills_per_host: usize,
    /// Fills that may be begun for one client at once, those that wait for their turn too.
    pub fills_per_client: usize,
    /// How long a fill may take, waiting for its turn and all attempts included.
    pub fill_deadline: Duration,
    /// The least that upstream may give while a body comes; 0 is no limit.
    pub min_bytes_per_second: u64,
    /// How long it may give less than that before the fill fails, in waiting time.
    pub slow_for: Duration,
    /// How often a file is asked for when the trouble may be transient; 1 is once.
    pub attempts: u32,
    /// The pause before the second attempt, give or take a half; each further one is twice as long, up to 10 s.
    pub backoff: Duration,
    /// How long a failure answers for those who ask after it.
    pub remember_failure: Duration,
    /// So many bytes of small files that were wanted of late are held in memory; 0 is none.
    pub memory_bytes: u64,
    /// Files up to this size are hashed whenever they are read from disk, and may be held in memory.
    pub small_file_bytes: u64,
    /// For tests: called before each operation on a file.
    pub fault_hook: Option<FaultHook>,
}

impl Config {
    /// The defaults, for a data directory. They know of no limit of the disk: set `free_bytes`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            max_file_bytes: 512 << 20,
            min_free_bytes: 512 << 20,
            free_bytes: Arc::new(|_| Ok(u64::MAX)),
            fills_at_once: 64,
            fills_per_host: 16,
            fills_per_client: 1024,
            fill_deadline: Duration::from_secs(600),
            min_bytes_per_second: 1024,
            slow_for: Duration::from_secs(30),
            attempts: 3,
            backoff: Duration::from_millis(250),
            remember_failure: Duration::from_secs(5),
            memory_bytes: 64 << 20,
            small_file_bytes: 256 << 10,
            fault_hook: None,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("data_dir", &self.data_dir)
            .field("max_file_bytes", &self.max_file_bytes)
            .field("min_free_bytes", &self.min_free_bytes)
            .field("fills_at_once", &self.fills_at_once)
            .field("fills_per_host", &self.fills_per_host)
            .field("fills_per_client", &self.fills_per_client)
            .field("fill_deadline", &self.fill_deadline)
            .field("min_bytes_per_second", &self.min_bytes_per_second)
            .field("slow_for", &self.slow_for)
            .field("attempts", &self.attempts)
            .field("backoff", &self.backoff)
            .field("remember_failure", &self.remember_failure)
            .field("memory_bytes", &self.memory_bytes)
            .field("small_file_bytes", &self.small_file_bytes)
            .finish_non_exhaustive()
    }
}

/// A crate file: what it is called, for people and logs, and what its bytes must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The crate.
    pub name: CrateName,
    /// The version.
    pub version: CrateVersion,
    /// What the index says that its file hashes to.
    pub checksum: Checksum,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name.as_str(), self.version.as_str())
    }
}

/// What the owner of a cache has to write down.
///
/// It is told on a task or thread of the cache: a receiver only passes it on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The file is on disk for good. Told before the waiters of its fill hear of the end.
    Kept {
        /// What the fill was begun for.
        wanted: Wanted,
        /// The size of the file.
        size_bytes: u64,
    },
    /// The file had other bytes than it should. It is in `blobs/bad/` and counts as absent.
    Bad {
        /// What it should have been.
        checksum: Checksum,
    },
}
