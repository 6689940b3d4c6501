use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::memory::locked;

/// How a request to upstream ended: well, or with the reason why not.
pub(crate) type Landing = Result<(), Arc<str>>;

/// One request per thing, however many ask for it. The request is a task of its own: no caller's departure ends it.
#[derive(Debug)]
pub(crate) struct SingleFlight<K: Eq + Hash> {
    under_way: Mutex<HashMap<K, Waiter>>,
}

/// Waits for the end of a request.
#[derive(Debug, Clone)]
pub(crate) struct Waiter {
    landing: watch::Receiver<Option<Landing>>,
    /// When the request began.
    pub(crate) since: Instant,
}

impl Waiter {
    /// How it ended; a task that died is a failure too.
    pub(crate) async fn landed(mut self) -> Landing {
        let landed = self.landing.wait_for(Option::is_some).await;
        match landed.ok().and_then(|landing| landing.clone()) {
            Some(landing) => landing,
            None => Err("the request ended without an outcome".into()),
        }
    }
}

impl<K: Eq + Hash + Clone + Send + 'static> SingleFlight<K> {
    pub(crate) fn new() -> Self {
        Self {
            under_way: Mutex::new(HashMap::new()),
        }
    }

    /// Joins the request for `key` that is under way. If there is none, `start` says what to do: run this on `runtime`, or
    /// give an answer that is there already. Nothing lands while it is asked.
    pub(crate) fn join_or_start<F>(
        self: &Arc<Self>,
        runtime: &Handle,
        key: K,
        start: impl FnOnce() -> Result<F, Landing>,
    ) -> Result<Waiter, Landing>
    where
        F: Future<Output = Landing> + Send + 'static,
    {
        let mut under_way = locked(&self.under_way);
        if let Some(waiter) = under_way.get(&key) {
            return Ok(waiter.clone());
        }
        let work = start()?;
        let (sender, landing) = watch::channel(None);
        let since = Instant::now();
        let waiter = Waiter { landing, since };
        under_way.insert(key.clone(), waiter.clone());
        drop(under_way);
        let place = Place {
            flights: Arc::clone(self),
            key,
        };
        runtime.spawn(async move {
            let landing = work.await;
            // First the place, then the news: who comes now sees what the request brought.
            drop(place);
            sender.send_replace(Some(landing));
        });
        Ok(waiter)
    }
}

/// Frees the key, also when the task panics or its runtime ends.
struct Place<K: Eq + Hash> {
    flights: Arc<SingleFlight<K>>,
    key: K,
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        locked(&self.flights.under_way).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn many_callers_one_piece_of_work_that_outlives_the_first() {
        let flights = Arc::new(SingleFlight::new());
        let (gate, runs) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let start = || {
            let (gate, runs) = (Arc::clone(&gate), Arc::clone(&runs));
            let work = async move {
                runs.fetch_add(1, Ordering::Relaxed);
                gate.notified().await;
                Err("no".into())
            };
            flights.join_or_start(&Handle::current(), "serde", || Ok(work)).unwrap()
        };
        drop(start());
        let waiters: Vec<Waiter> = (0..100).map(|_| start()).collect();
        gate.notify_one();
        for waiter in waiters {
            assert_eq!(waiter.landed().await, Err("no".into()));
        }
        assert_eq!(runs.load(Ordering::Relaxed), 1);
        let there = flights.join_or_start(&Handle::current(), "serde", || {
            Err::<std::future::Pending<_>, _>(Ok(()))
        });
        assert_eq!(
            there.unwrap_err(),
            Ok(()),
            "the place is free, and an answer may be at hand"
        );
    }

    #[tokio::test]
    async fn work_that_panics_is_a_failure_and_may_be_started_again() {
        let flights = Arc::new(SingleFlight::new());
        let dies = flights
            .join_or_start(&Handle::current(), 1, || Ok(async { panic!("on purpose") }))
            .unwrap();
        assert!(dies.landed().await.is_err());
        let lives = flights
            .join_or_start(&Handle::current(), 1, || Ok(async { Ok(()) }))
            .unwrap();
        assert_eq!(lives.landed().await, Ok(()));
    }
}
