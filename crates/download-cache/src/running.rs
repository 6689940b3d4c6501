//! A fill that is under way: what its waiters share, and what its task must do before it ends.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    Error, Event, Waiter, Wanted,
    cache::Inner,
    disk::DiskFile,
    progress::{Progress, State},
};

/// An upstream may ask to be left alone for long; the first client after a minute may ask again.
const LONGEST_REMEMBERED: Duration = Duration::from_secs(60);

/// What the waiters of a fill share.
#[derive(Debug)]
pub(crate) struct Fill {
    pub wanted: Wanted,
    /// For whom it was begun.
    pub client: Option<IpAddr>,
    /// Where its bytes are: this changes when the disk has no more place for them.
    file: Mutex<Option<Arc<DiskFile>>>,
    progress: watch::Receiver<Progress>,
}

impl Fill {
    pub(crate) fn new(wanted: Wanted, client: Option<IpAddr>) -> (Arc<Self>, watch::Sender<Progress>) {
        let (sender, progress) = watch::channel(Progress::new());
        let fill = Self {
            wanted,
            client,
            file: Mutex::default(),
            progress,
        };
        (Arc::new(fill), sender)
    }

    pub(crate) fn waiter(self: &Arc<Self>) -> Waiter {
        Waiter::new(self.clone(), self.progress.clone())
    }

    /// The file with all that was released; `None` before the first byte has come.
    pub(crate) fn file(&self) -> Option<Arc<DiskFile>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on waiters read this file, which has all that was released.
    pub(crate) fn set_file(&self, file: Arc<DiskFile>) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }
}

/// How a fill went well.
#[derive(Debug)]
pub(crate) enum Filled {
    Kept { size_bytes: u64 },
    NotKept { size_bytes: u64, why: Error },
}

/// The task's own side of a fill. However the task ends, the fill leaves the table and its waiters hear of it.
#[derive(Debug)]
pub(crate) struct Running {
    pub cache: Arc<Inner>,
    pub fill: Arc<Fill>,
    pub sender: watch::Sender<Progress>,
    pub begun: Instant,
}

impl Running {
    /// Tells the owner of the cache what is kept, and then the waiters.
    pub(crate) fn finish(self, outcome: Result<Filled, Error>) {
        match outcome {
            Ok(filled) => self.succeed(filled),
            Err(error) => self.fail(error),
        }
    }

    fn succeed(self, filled: Filled) {
        let wanted = &self.fill.wanted;
        let counters = &self.cache.counters;
        counters.fills_ok.add(1);
        let total = match filled {
            Filled::Kept { size_bytes } => {
                let took = self.begun.elapsed();
                log::info!("kept {wanted}: {size_bytes} bytes in {took:.3?}");
                (self.cache.events)(Event::Kept {
                    wanted: wanted.clone(),
                    size_bytes,
                });
                size_bytes
            }
            Filled::NotKept { size_bytes, why } => {
                counters.fills_not_kept.add(1);
                let why = why.in_one_line();
                log::warn!("passed on {wanted} ({size_bytes} bytes) without keeping it: {why}");
                size_bytes
            }
        };
        self.leave();
        self.sender.send_replace(Progress {
            released: total,
            state: State::Done { total },
        });
    }

    fn fail(self, error: Error) {
        let wanted = &self.fill.wanted;
        log::warn!("failed to fetch {wanted}: {}", error.in_one_line());
        let asked_for = error.retry_after().unwrap_or_default().min(LONGEST_REMEMBERED);
        let duration = match error {
            // Not upstream's answer: the next call may be luckier at once.
            Error::Busy { .. } | Error::Abandoned => Duration::ZERO,
            _ => self.cache.config.remember_failure.max(asked_for),
        };
        self.cache
            .table()
            .remember(wanted.checksum, error.clone(), Instant::now(), duration);
        self.end_with(error);
    }

    fn end_with(&self, error: Error) {
        self.cache.counters.fills_failed.add(1);
        self.leave();
        self.sender
            .send_modify(|progress| progress.state = State::Failed(error));
    }

    fn leave(&self) {
        let mut table = self.cache.table();
        table.running.remove(&self.fill.wanted.checksum);
        table.leaves(self.fill.client);
        table.ended += 1;
        drop(table);
        self.cache.running.send_modify(|running| *running -= 1);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.sender.borrow().is_over() {
            log::error!("the fetch of {} was abandoned", self.fill.wanted);
            self.end_with(Error::Abandoned);
        }
    }
}
