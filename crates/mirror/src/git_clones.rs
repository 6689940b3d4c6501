//! Turns of git clients: so many packs are sent at once, others wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Clients that may wait for their turn at once; each costs a task.
const MOST_WAITING: usize = 256;

/// Who may send a pack now, and who waits to.
#[derive(Debug)]
pub struct GitClones {
    slots: Arc<Semaphore>,
    most: usize,
    waiting: AtomicUsize,
}

/// The right to send one pack, until it is dropped.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "it is held, not read")] OwnedSemaphorePermit);

impl GitClones {
    /// Turns for `most` packs at once.
    pub fn new(most: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(most)),
            most,
            waiting: AtomicUsize::new(0),
        }
    }

    /// A turn, if there is one at once.
    pub fn try_take(&self) -> Option<Turn> {
        Arc::clone(&self.slots).try_acquire_owned().ok().map(Turn)
    }

    /// Waits for a turn, first come first served; `None` if too many wait already.
    pub async fn take(&self) -> Option<Turn> {
        if let Some(turn) = self.try_take() {
            return Some(turn);
        }
        let waiting = Waiting::new(&self.waiting)?;
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        drop(waiting);
        slot.ok().map(Turn)
    }

    /// Packs that are being sent, or about to be.
    pub fn running(&self) -> usize {
        self.most.saturating_sub(self.slots.available_permits())
    }

    /// How many clients wait for their turn.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }
}

/// Counts one client that waits, also when it gives up.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = Self(count);
        let before = count.fetch_add(1, Relaxed);
        (before < MOST_WAITING).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_is_counted_and_served_in_turn() {
        let clones = Arc::new(GitClones::new(1));
        let first = clones.try_take().unwrap();
        assert!(clones.try_take().is_none());
        let own = Arc::clone(&clones);
        let second = tokio::spawn(async move { own.take().await });
        while clones.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        drop(first);
        let second = second.await.unwrap().unwrap();
        assert_eq!((clones.waiting(), clones.running()), (0, 1));
        drop(second);
        assert_eq!(clones.running(), 0);
    }

    #[tokio::test]
    async fn those_who_give_up_are_not_counted_and_too_many_are_turned_away() {
        let clones = Arc::new(GitClones::new(1));
        let _first = clones.try_take().unwrap();
        let waiters: Vec<_> = (0..MOST_WAITING)
            .map(|_| {
                let own = Arc::clone(&clones);
                tokio::spawn(async move { own.take().await.is_some() })
            })
            .collect();
        while clones.waiting() < MOST_WAITING {
            tokio::task::yield_now().await;
        }
        assert!(clones.take().await.is_none());
        for waiter in waiters {
            waiter.abort();
            drop(waiter.await);
        }
        assert_eq!(clones.waiting(), 0);
    }
}
