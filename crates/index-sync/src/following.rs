//! Whether and how upstream's git repository is followed: what is remembered between rounds.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use crate::memory::locked;
use crate::upstream_git::{Stop, UpstreamGit};
use crate::{CommitId, Error};

/// While rounds have failed for so many intervals, single index files are asked for again.
const STALE_AFTER_INTERVALS: u32 = 10;
/// The pause after the first failure; it doubles with each further one, up to the interval.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// When upstream's whole index is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Once somebody wants it, and from then on.
    WhenWanted,
    /// From the start.
    Always,
    /// Only by [`Index::sync_once`](crate::Index::sync_once).
    Never,
}

/// How upstream's git repository is followed.
#[derive(Debug, Clone)]
pub struct FollowConfig {
    /// Its http or https address.
    pub url: String,
    /// When.
    pub when: Follow,
    /// The pause between two rounds, give or take a tenth.
    pub sync_interval: Duration,
}

/// What following is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowPhase {
    /// Nobody wants the whole index, or the mode forbids it.
    Waiting,
    /// Between two rounds.
    Idle,
    /// Upstream is asked, and what it sends comes in.
    Fetching {
        /// How much has come so far.
        received_bytes: u64,
    },
    /// What came is brought into the index.
    Publishing {
        /// Index files that are done.
        done: usize,
        /// Index files that changed; 0 while that is not known.
        total: usize,
    },
}

/// How following upstream's git repository goes; for pages, metrics and progress bars.
#[derive(Debug, Clone)]
pub struct FollowStatus {
    /// What it is at.
    pub phase: FollowPhase,
    /// Whether the whole index has come once.
    pub synced: bool,
    /// Whether what is published is as new as upstream was ten intervals ago at most.
    pub current: bool,
    /// The last round that went well.
    pub last_success: Option<SystemTime>,
    /// The last one that did not, and why; `None` once one went well again.
    pub last_error: Option<(SystemTime, String)>,
    /// Rounds that went well since the start.
    pub rounds: u64,
    /// Files of upstream with lines that could not be read, and that were published as they are, since the start.
    pub unreadable_files: u64,
}

/// What one round brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncReport {
    /// Upstream's newest commit.
    pub upstream: CommitId,
    /// Whether it was the first round, which brings the whole index.
    pub first: bool,
    /// Index files that differ from those of the round before.
    pub changed_files: usize,
    /// Bytes that upstream sent.
    pub received_bytes: u64,
    /// How long it took.
    pub took: Duration,
}

#[derive(Debug)]
struct State {
    wanted: bool,
    synced: bool,
    phase: FollowPhase,
    /// What had come before this round.
    bytes_before: u64,
    last_success: Option<(Instant, SystemTime)>,
    last_error: Option<(SystemTime, String)>,
    failures: u32,
    rounds: u64,
    unreadable_files: u64,
}

#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) config: FollowConfig,
    pub(crate) upstream: UpstreamGit,
    pub(crate) stop: Stop,
    /// Something changed that may make a round due.
    pub(crate) wake: Notify,
    /// One round at a time.
    pub(crate) round: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

impl Following {
    pub(crate) fn new(config: FollowConfig, upstream: UpstreamGit, synced: bool) -> Arc<Self> {
        let wanted = match config.when {
            Follow::Always => true,
            Follow::WhenWanted => synced,
            Follow::Never => false,
        };
        Arc::new(Self {
            config,
            upstream,
            stop: Stop::new(),
            wake: Notify::new(),
            round: tokio::sync::Mutex::new(()),
            state: Mutex::new(State {
                wanted,
                synced,
                phase: FollowPhase::Waiting,
                bytes_before: 0,
                last_success: None,
                last_error: None,
                failures: 0,
                rounds: 0,
                unreadable_files: 0,
            }),
        })
    }

    /// Somebody wants the whole index. False if it is not followed for anybody.
    pub(crate) fn want(&self) -> bool {
        if self.config.when == Follow::Never {
            return false;
        }
        let mut state = locked(&self.state);
        if !std::mem::replace(&mut state.wanted, true) {
            log::info!("the whole index is wanted: {} is followed from now on", self.config.url);
            self.wake.notify_one();
        }
        true
    }

    pub(crate) fn is_wanted(&self) -> bool {
        locked(&self.state).wanted
    }

    pub(crate) fn is_synced(&self) -> bool {
        locked(&self.state).synced
    }

    /// Whether the published tree can be answered from without asking for single files.
    pub(crate) fn is_current(&self) -> bool {
        let state = locked(&self.state);
        let fresh = |at: Instant| at.elapsed() < self.config.sync_interval * STALE_AFTER_INTERVALS;
        state.synced && state.last_success.is_some_and(|(at, _)| fresh(at))
    }

    /// A round begins. Gives how many bytes had come before it.
    pub(crate) fn begin(&self) -> u64 {
        let mut state = locked(&self.state);
        state.bytes_before = self.upstream.received_bytes();
        state.phase = FollowPhase::Fetching { received_bytes: 0 };
        state.bytes_before
    }

    pub(crate) fn set_phase(&self, phase: FollowPhase) {
        locked(&self.state).phase = phase;
    }

    pub(crate) fn count_unreadable(&self) {
        locked(&self.state).unreadable_files += 1;
    }

    /// A round is over. What changes by that is logged; the same again is not.
    pub(crate) fn ended(&self, outcome: &Result<SyncReport, Error>, now: SystemTime) {
        let mut state = locked(&self.state);
        state.phase = FollowPhase::Idle;
        match outcome {
            Ok(report) => {
                if state.failures > 0 {
                    log::info!("{} can be followed again", self.config.url);
                }
                log_report(report);
                state.synced = true;
                state.failures = 0;
                state.rounds += 1;
                state.last_success = Some((Instant::now(), now));
                state.last_error = None;
            }
            Err(error) => {
                let why = crate::upstream_sparse::with_sources(error);
                if state.failures == 0 {
                    log::warn!("{} cannot be followed, what is published stays: {why}", self.config.url);
                } else {
                    log::debug!("{} still cannot be followed: {why}", self.config.url);
                }
                state.failures = state.failures.saturating_add(1);
                state.last_error = Some((now, why));
            }
        }
    }

    /// Tells how far a long round is.
    pub(crate) fn log_progress(&self) {
        match self.status().phase {
            FollowPhase::Fetching { received_bytes } => {
                let mib = received_bytes >> 20;
                log::info!("fetching the index from {}: {mib} MiB so far", self.config.url);
            }
            FollowPhase::Publishing { done, total } if total > 0 => {
                log::info!("bringing in what changed upstream: {done} of {total} index files");
            }
            FollowPhase::Publishing { .. } => log::info!("publishing upstream's index"),
            FollowPhase::Waiting | FollowPhase::Idle => {}
        }
    }

    /// How long to wait before the next round.
    pub(crate) fn pause(&self) -> Duration {
        let failures = locked(&self.state).failures;
        let interval = self.config.sync_interval;
        let pause = match failures.checked_sub(1) {
            None => interval,
            Some(more) => (FIRST_PAUSE * (1 << more.min(10))).min(interval),
        };
        pause.mul_f64(jitter())
    }

    pub(crate) fn status(&self) -> FollowStatus {
        let current = self.is_current();
        let state = locked(&self.state);
        let phase = match state.phase {
            FollowPhase::Fetching { .. } => FollowPhase::Fetching {
                received_bytes: self.upstream.received_bytes() - state.bytes_before,
            },
            other => other,
        };
        FollowStatus {
            phase,
            synced: state.synced,
            current,
            last_success: state.last_success.map(|(_, at)| at),
            last_error: state.last_error.clone(),
            rounds: state.rounds,
            unreadable_files: state.unreadable_files,
        }
    }
}

fn log_report(report: &SyncReport) {
    let SyncReport {
        upstream,
        first,
        changed_files,
        received_bytes,
        took,
    } = report;
    if *first {
        log::info!("the whole index has come, as of upstream's commit {upstream}: {received_bytes} bytes in {took:?}");
    } else if *changed_files > 0 {
        log::info!("{changed_files} index files changed with upstream's commit {upstream}, {received_bytes} bytes");
    }
}

/// Between 0.9 and 1.1, so that many mirrors do not ask at the same moment.
fn jitter() -> f64 {
    let random = RandomState::new().build_hasher().finish() % 1024;
    // At most 1023: exact.
    0.9 + 0.2 * random as f64 / 1023.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_a_tenth_at_most() {
        let some: Vec<f64> = (0..100).map(|_| jitter()).collect();
        assert!(some.iter().all(|factor| (0.9..=1.1).contains(factor)), "{some:?}");
        assert!(some.iter().any(|factor| *factor != some[0]), "always the same");
    }
}
