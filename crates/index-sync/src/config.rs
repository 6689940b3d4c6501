use std::time::{Duration, SystemTime};

use registry::{Checksum, CrateName};

use crate::Tip;

/// How the index is followed.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where index files are asked for; `None`: nowhere.
    pub upstream: Option<SparseUpstream>,
    /// How long an index file is served without asking again.
    pub max_age: Duration,
    /// How long a version must be missing upstream before it counts as removed.
    pub removal_grace: Duration,
    /// How long a first change waits for others before both are committed.
    pub batch_delay: Duration,
    /// The most index requests that are under way upstream.
    pub requests_at_once: usize,
    /// The most further index files that are asked for ahead of need for each that a client asks for; 0: none.
    pub look_ahead: usize,
    /// The most names that are remembered as unknown upstream.
    pub absent_names: usize,
    /// The most bytes of files that wait for their commit.
    pub pending_bytes: u64,
    /// The most bytes of index files that are kept in memory to answer from.
    pub memory_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            upstream: None,
            max_age: Duration::from_secs(60),
            removal_grace: Duration::from_secs(15 * 60),
            batch_delay: Duration::from_secs(1),
            requests_at_once: 64,
            look_ahead: 500,
            absent_names: 10_000,
            pending_bytes: 64 << 20,
            memory_bytes: 64 << 20,
        }
    }
}

/// A sparse index somewhere else.
#[derive(Debug, Clone)]
pub struct SparseUpstream {
    /// Its http or https address, with a `/` at the end and without cargo's `sparse+`.
    pub base: String,
}

/// When upstream is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// For what is absent, and again for what is older than `max_age`.
    Online,
    /// Only for what is absent.
    Fallback,
    /// Never.
    Offline,
}

/// Whether an index file is asked of upstream before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// If it was asked for longer than `max_age` ago. The mode may say otherwise.
    IfOld,
    /// Whatever its age; a failure is an error even if there is an older answer. Not when offline.
    Now,
    /// Not at all.
    Never,
}

/// What the index says of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The SHA-256 of the crate file.
    pub checksum: Checksum,
    /// The name as the publisher of this version spelled it.
    pub spelled: CrateName,
    /// Whether it was yanked; it is served all the same.
    pub yanked: bool,
}

/// How the index is doing; for pages, metrics and `mirror doctor`.
#[derive(Debug, Clone)]
pub struct IndexStatus {
    /// The published commit; `None` before the first.
    pub tip: Option<Tip>,
    /// Published index files.
    pub files: u64,
    /// Files that wait for their commit.
    pub pending: usize,
    /// Since when commits fail: the first failure since the last commit that succeeded.
    pub commits_failing_since: Option<SystemTime>,
    /// Whether the publisher's thread runs: without it nothing is committed any more.
    pub publisher_alive: bool,
    /// When upstream last gave an answer that could be used.
    pub last_upstream_success: Option<SystemTime>,
    /// When upstream last failed, and how.
    pub last_upstream_error: Option<(SystemTime, String)>,
    /// Index requests sent upstream since the start.
    pub requests: u64,
    /// How many of them were for files that no client had asked for yet.
    pub asked_ahead: u64,
    /// How many of them were answered with "not modified".
    pub not_modified: u64,
    /// Answers that were refused since the start: login pages, unreadable lines.
    pub refused: u64,
    /// Index lines that differed from before in anything but the checksum, and passed, since the start.
    pub changed_lines: u64,
    /// Removals and changed checksums that are held for the operator's word.
    pub held: u64,
    /// Names that are remembered as unknown upstream.
    pub absent_names: usize,
    /// Bytes of index files kept in memory.
    pub memory_bytes: u64,
}
