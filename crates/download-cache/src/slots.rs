//! How many fills may be under way at once, in all and per host.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use upstream_http::Authority;

/// More hosts than a registry's `config.json` ever names at a time; unused ones are forgotten beyond it.
const HOSTS: usize = 64;

#[derive(Debug)]
pub(crate) struct Slots {
    all: Arc<Semaphore>,
    per_host: usize,
    hosts: Mutex<HashMap<Authority, Arc<Semaphore>>>,
    waiting: AtomicU64,
}

/// The right to ask upstream, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _host: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Slots {
    pub(crate) fn new(all: usize, per_host: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all.clamp(1, Semaphore::MAX_PERMITS))),
            per_host: per_host.clamp(1, Semaphore::MAX_PERMITS),
            hosts: Mutex::default(),
            waiting: AtomicU64::new(0),
        }
    }

    /// Waits for a turn, first come first served. The host's comes first, so that a slow host's queue holds nobody else up.
    pub(crate) async fn take(&self, host: &Authority) -> Slot {
        let _waiting = Waiting::among(&self.waiting);
        let host = acquire(self.host(host)).await;
        let all = acquire(self.all.clone()).await;
        Slot { _host: host, _all: all }
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    fn host(&self, host: &Authority) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = hosts.get(host) {
            return known.clone();
        }
        if hosts.len() >= HOSTS {
            // Permits and those who wait for them hold the semaphore too.
            hosts.retain(|_, slots| Arc::strong_count(slots) > 1);
        }
        let slots = Arc::new(Semaphore::new(self.per_host));
        hosts.insert(host.clone(), slots.clone());
        slots
    }
}

async fn acquire(slots: Arc<Semaphore>) -> OwnedSemaphorePermit {
    slots.acquire_owned().await.expect("these semaphores are never closed")
}

/// Counts somebody who waits, also if the waiting is given up.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn among(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_busy_host_leaves_room_for_others() {
        let slots = Slots::new(3, 2);
        let (a, b): (Authority, Authority) = ("a.example:80".parse().unwrap(), "b.example:80".parse().unwrap());
        let first = poll_once(slots.take(&a)).unwrap();
        let _second = poll_once(slots.take(&a)).unwrap();
        assert!(poll_once(slots.take(&a)).is_none(), "the host's limit");
        let _third = poll_once(slots.take(&b)).unwrap();
        assert!(poll_once(slots.take(&b)).is_none(), "the limit of all");
        assert_eq!(slots.waiting(), 0, "those who gave up do not count");
        drop(first);
        assert!(poll_once(slots.take(&a)).is_some());
    }

    #[test]
    fn hosts_are_forgotten() {
        let slots = Slots::new(1000, 1);
        let busy: Authority = "busy.example:80".parse().unwrap();
        let _slot = poll_once(slots.take(&busy)).unwrap();
        for number in 0..10 * HOSTS {
            let host: Authority = format!("h{number}.example:80").parse().unwrap();
            drop(poll_once(slots.take(&host)).unwrap());
        }
        assert!(slots.hosts.lock().unwrap().len() <= HOSTS + 1);
        assert!(poll_once(slots.take(&busy)).is_none(), "it still has its slot");
    }
}
