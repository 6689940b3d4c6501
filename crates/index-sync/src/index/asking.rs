use std::sync::Arc;
use std::time::{Duration, Instant};

use registry::IndexPath;

use super::Inner;
use crate::freshness::Asked;
use crate::memory::{Remembered, locked};
use crate::single_flight::Landing;
use crate::{Ask, Error, IndexEntry, Mode, TreeFile};

/// How long a client waits for upstream when there is an older answer to give it.
const PATIENCE_WITH_ANSWER: Duration = Duration::from_secs(5);
/// How long it waits when there is none: cargo gives up after 30 seconds without a byte.
const PATIENCE: Duration = Duration::from_secs(25);

impl Inner {
    pub(super) fn is_known_absent(&self, path: &IndexPath) -> bool {
        locked(&self.freshness).is_absent(path, (self.clock)())
    }

    /// What is published now, from memory or from the tree.
    pub(super) async fn here(self: &Arc<Self>, path: &IndexPath) -> Result<Option<Arc<IndexEntry>>, Error> {
        match self.publisher.remembered(path) {
            Remembered::Here(entry) => Ok(entry),
            Remembered::AskTree(changes) => {
                let (inner, path) = (Arc::clone(self), path.clone());
                self.blocking(move || inner.read_tree(&path, changes)).await
            }
        }
    }

    fn read_tree(&self, path: &IndexPath, changes: u64) -> Result<Option<Arc<IndexEntry>>, Error> {
        let Some(blob) = self.tree.read(&TreeFile::Index(path.clone()))? else {
            return Ok(None);
        };
        let entry = Arc::new(IndexEntry::new(blob.bytes));
        self.publisher.read_from_tree(path, &entry, changes);
        Ok(Some(entry))
    }

    /// Whether upstream was not asked for this less than `max_age` ago.
    pub(super) fn is_old(&self, path: &IndexPath) -> bool {
        let asked = Asked::File(path.clone());
        !locked(&self.freshness).is_fresh(&asked, (self.clock)())
    }

    pub(super) fn is_to_be_asked(&self, how: Ask, is_old: bool, is_here: bool) -> Result<bool, Error> {
        let mode = *locked(&self.mode);
        let can_ask = self.upstream.is_some() && mode != Mode::Offline;
        match (how, mode) {
            (Ask::Now, _) if can_ask => Ok(true),
            (Ask::Now, _) if self.upstream.is_none() => Err(Error::Unavailable {
                why: "there is no upstream".to_owned(),
            }),
            (Ask::Now, _) => Err(Error::Unavailable {
                why: "the mirror is offline".to_owned(),
            }),
            (Ask::Never, _) | (_, Mode::Offline) => Ok(false),
            (Ask::IfOld, Mode::Fallback) if is_here => Ok(false),
            (Ask::IfOld, _) if is_here && self.follows_git() => Ok(false),
            (Ask::IfOld, _) => Ok(can_ask && is_old),
        }
    }

    /// Waits for the one request for this, and starts it if need be. `insist`: even if it failed a moment ago. With an older
    /// answer at hand, who comes late to a slow request does not wait at all.
    pub(super) async fn refreshed(self: &Arc<Self>, asked: Asked, insist: bool, is_here: bool) -> Landing {
        let start = || {
            let (now, mut freshness) = ((self.clock)(), locked(&self.freshness));
            if !insist && freshness.is_fresh(&asked, now) {
                return Err(Ok(()));
            }
            let ticket = freshness.admit(&asked, now, insist).map_err(Err)?;
            Ok(Arc::clone(self).refresh(asked.clone(), ticket))
        };
        let waiter = match self.flights.join_or_start(&self.runtime, asked.clone(), start) {
            Ok(waiter) => waiter,
            Err(landing) => return landing,
        };
        let until = if is_here && !insist {
            waiter.since + PATIENCE_WITH_ANSWER
        } else {
            Instant::now() + PATIENCE
        };
        match tokio::time::timeout_at(until.into(), waiter.landed()).await {
            Ok(landing) => landing,
            Err(_) => Err("upstream is too slow".into()),
        }
    }

    /// Runs what may block where that does no harm.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match self.runtime.spawn_blocking(work).await {
            Ok(done) => done,
            Err(cause) if cause.is_panic() => std::panic::resume_unwind(cause.into_panic()),
            Err(_) => Err(Error::Stopped),
        }
    }
}
