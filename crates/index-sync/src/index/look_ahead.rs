//! Index files that a client will ask for next are asked for before it does: cargo learns of dependencies level by level, and
//! each level would wait for upstream once more.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use registry::IndexPath;
use tokio::sync::Semaphore;

use super::Inner;
use crate::Ask;
use crate::absent_names::younger;
use crate::freshness::Asked;
use crate::memory::locked;
use crate::needs::{Want, needs};

/// What was looked at of late is not looked at again; past so many, nothing more is until those are old.
const SEEN_AT_MOST: usize = 50_000;
/// So many wait for their turn at most.
const WAITING_AT_MOST: usize = 10_000;

/// Where index files count as old sooner than this, asking ahead is in vain.
const LIFE_AT_LEAST: Duration = Duration::from_secs(1);

/// What is to be looked at, and what was.
#[derive(Debug)]
pub(super) struct LookAhead {
    queue: Mutex<Queue>,
    /// So many files are read for what they need at once: clients need the processor too.
    readers: Semaphore,
    /// Index files that were asked for before a client did.
    pub(super) asked: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Looked>,
    seen: HashMap<(IndexPath, Option<String>), SystemTime>,
    workers: usize,
    closed: bool,
}

/// Something to look at, and how much more may be for the sake of the same client's request.
#[derive(Debug)]
struct Looked {
    want: Want,
    more: Arc<AtomicUsize>,
}

impl Queue {
    /// Takes it in, unless it was looked at of late or its client's share is used up. True if it waits now.
    fn push(&mut self, looked: Looked, now: SystemTime, max_age: Duration) -> bool {
        let key = (looked.want.path.clone(), looked.want.req.clone());
        let is_young = |at: &SystemTime| younger(*at, now, max_age);
        if self.closed || self.waiting.len() >= WAITING_AT_MOST || self.seen.get(&key).is_some_and(is_young) {
            return false;
        }
        if self.seen.len() >= SEEN_AT_MOST {
            self.seen.retain(|_, at| is_young(at));
        }
        let one_less = |more: usize| more.checked_sub(1);
        let share = &looked.more;
        if self.seen.len() >= SEEN_AT_MOST
            || share
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
                .is_err()
        {
            return false;
        }
        self.seen.insert(key, now);
        self.waiting.push_back(looked);
        true
    }
}

impl LookAhead {
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::default(),
            readers: Semaphore::new(1),
            asked: AtomicU64::new(0),
        }
    }

    /// Nothing more is asked for.
    pub(super) fn close(&self) {
        let mut queue = locked(&self.queue);
        queue.closed = true;
        queue.waiting.clear();
    }

    /// Whether nothing waits and nothing is under way.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        locked(&self.queue).workers == 0
    }

    fn forget_waiting(&self) {
        locked(&self.queue).waiting.clear();
    }

    /// The next in turn; without one, the worker that asked is gone.
    fn next(&self) -> Option<Looked> {
        let mut queue = locked(&self.queue);
        let next = queue.waiting.pop_front();
        if next.is_none() {
            queue.workers -= 1;
        }
        next
    }
}

impl Inner {
    /// A client asked for this file, and upstream answered: what it needs next is asked for in the background.
    pub(super) fn look_ahead(self: &Arc<Self>, path: &IndexPath) {
        // What is old at once would be asked for again by the client.
        if self.config.look_ahead > 0 && self.config.max_age >= LIFE_AT_LEAST {
            // The file itself is looked at too.
            let more = Arc::new(AtomicUsize::new(self.config.look_ahead + 1));
            self.look_at_all(vec![Want::of_client(path)], &more);
        }
    }

    /// Level by level: who came first is looked at first.
    fn look_at_all(self: &Arc<Self>, wants: Vec<Want>, more: &Arc<AtomicUsize>) {
        // A quarter of what may be under way stays free for clients.
        let workers_at_most = (self.config.requests_at_once * 3 / 4).max(1);
        let mut queue = locked(&self.look_ahead.queue);
        for want in wants {
            let more = Arc::clone(more);
            let waits = queue.push(Looked { want, more }, (self.clock)(), self.config.max_age);
            if waits && queue.workers < workers_at_most {
                queue.workers += 1;
                self.runtime.spawn(Arc::clone(self).look());
            }
        }
    }

    async fn look(self: Arc<Self>) {
        while let Some(Looked { want, more }) = self.look_ahead.next() {
            let found = self.look_at(want).await;
            self.look_at_all(found, &more);
        }
    }

    /// Asks for a file if it is old, and says what that needs. Empty if there is no such crate or no answer.
    async fn look_at(self: &Arc<Self>, want: Want) -> Vec<Want> {
        if self.is_known_absent(&want.path) {
            return Vec::new();
        }
        let is_old = self.is_old(&want.path);
        let Ok(mut here) = self.here(&want.path).await else {
            return Vec::new();
        };
        if self.is_to_be_asked(Ask::IfOld, is_old, here.is_some()).unwrap_or(false) {
            self.look_ahead.asked.fetch_add(1, Ordering::Relaxed);
            let asked = Asked::File(want.path.clone());
            if self.refreshed(asked, false, here.is_some()).await.is_err() {
                if locked(&self.freshness).is_upstream_gone((self.clock)()) {
                    self.look_ahead.forget_waiting();
                }
                return Vec::new();
            }
            here = self.here(&want.path).await.unwrap_or_default();
        }
        let Some(entry) = here else {
            return Vec::new();
        };
        let Ok(_turn) = self.look_ahead.readers.acquire().await else {
            return Vec::new();
        };
        self.blocking(move || Ok(needs(&entry.bytes, &want)))
            .await
            .unwrap_or_default()
    }
}
