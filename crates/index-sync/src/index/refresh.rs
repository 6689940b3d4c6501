use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use metadata_db::{DecisionKind, UpstreamState};
use registry::{IndexFile, IndexPath};

use super::Inner;
use super::answer::{Before, Good};
use crate::freshness::{Asked, Ticket};
use crate::memory::locked;
use crate::merge::{Answer, Merge, Outcome, merge};
use crate::single_flight::Landing;
use crate::upstream_sparse::{Extent, Failure, Reply, UpstreamSparse, with_sources};
use crate::{Error, IndexEntry};

/// So many whole crates may be removed within an hour, or one in a hundred if that is more.
const REMOVED_CRATES_PER_HOUR: u64 = 10;
pub(super) const HOUR_SECS: i64 = 3600;

impl Inner {
    /// One request, from the question to what is published.
    ///
    /// Boxed, since a request for a file may start one for `config.json`.
    pub(super) fn refresh(
        self: Arc<Self>,
        asked: Asked,
        ticket: Ticket,
    ) -> Pin<Box<dyn Future<Output = Landing> + Send>> {
        Box::pin(async move { self.refresh_now(asked, ticket).await })
    }

    async fn refresh_now(self: Arc<Self>, asked: Asked, ticket: Ticket) -> Landing {
        let Some(upstream) = &self.upstream else {
            return Err("there is no upstream".into());
        };
        let result = match &asked {
            Asked::Config => self.fetch_config(upstream).await,
            Asked::File(path) => self.fetch_file(upstream, path).await,
        };
        let now = (self.clock)();
        let mut freshness = locked(&self.freshness);
        let Err(failure) = result else {
            freshness.succeeded(&asked, now);
            self.reached(freshness.reached());
            return Ok(());
        };
        if failure.extent == Extent::One {
            self.reached(freshness.reached());
        }
        if freshness.failed(&asked, ticket, now, &failure) {
            log::warn!("upstream cannot be asked, what is here is served: {}", failure.why);
        } else {
            log::debug!("{asked:?}: {}", failure.why);
        }
        Err(failure.why.into())
    }

    fn reached(&self, news: bool) {
        if news {
            log::info!("upstream answers again");
        }
    }

    async fn fetch_file(self: &Arc<Self>, upstream: &UpstreamSparse, path: &IndexPath) -> Result<(), Failure> {
        let imported = self.imported.load(Ordering::Relaxed);
        let before = self.before(path).await?;
        let reply = upstream.index_file(path, &before.condition(path)).await?;
        let good = match reply {
            Reply::NotModified => return Ok(()),
            Reply::Absent => Good {
                path: path.clone(),
                before,
                body: None,
                etag: None,
                last_modified: None,
            },
            Reply::Body {
                bytes,
                etag,
                last_modified,
            } => Good {
                path: path.clone(),
                before,
                body: Some(bytes),
                etag,
                last_modified,
            },
        };
        let inner = Arc::clone(self);
        let mut good = self
            .blocking(move || Ok(inner.checked(good)))
            .await
            .map_err(internal)??;
        let _no_import = self.imports.read().await;
        if self.imported.load(Ordering::Relaxed) != imported {
            good.before = self.before(path).await?;
        }
        if good.body.is_none() && good.before.is_nothing() {
            return self.note_absent(good).await;
        }
        let is_old_news = self.follows_git() && good.is_last_body();
        if good.is_same_body() || is_old_news {
            return self.note_same(good).await;
        }
        self.take(good).await
    }

    /// What is known now. Nobody else changes it before this request has ended.
    pub(super) async fn before(self: &Arc<Self>, path: &IndexPath) -> Result<Before, Failure> {
        let published = self.here(path).await.map_err(internal)?;
        let (inner, path) = (Arc::clone(self), path.clone());
        let read = move || {
            let state = match inner.publisher.pending_state(&path) {
                Some(state) => state,
                None => inner.metadata.upstream_state(&path)?,
            };
            let decisions = inner.decisions.decisions_for(&path)?;
            Ok(Before {
                published,
                state,
                decisions,
            })
        };
        self.blocking(read).await.map_err(internal)
    }

    /// Refuses a body that has anything but index lines.
    fn checked(&self, good: Good) -> Result<Good, Failure> {
        if let Some(body) = &good.body {
            let is_here = good.before.published.is_some();
            IndexFile::parse(body, &good.path).map_err(|error| self.refused(good.path.file_name(), is_here, &error))?;
        }
        Ok(good)
    }

    /// `is_here`: whether there is an older answer.
    pub(super) fn refused(&self, what: &str, is_here: bool, error: &registry::Error) -> Failure {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let instead = if is_here {
            "the last good one stays in force"
        } else {
            "and there is no earlier one"
        };
        log::warn!("{what}: upstream's answer is refused, {instead}: {error}");
        Failure::of_one(format!("upstream's answer for {what} is refused: {error}"))
    }

    async fn note_absent(self: &Arc<Self>, good: Good) -> Result<(), Failure> {
        locked(&self.freshness).set_absent(&good.path, (self.clock)());
        match good.before.state {
            Some(_) => self.set_state(good.path, None).await,
            None => Ok(()),
        }
    }

    /// The same body as last time; its validators may be new.
    async fn note_same(self: &Arc<Self>, good: Good) -> Result<(), Failure> {
        let Some(state) = good.before.state else {
            return Ok(());
        };
        let now = UpstreamState {
            etag: good.etag,
            last_modified: good.last_modified,
            ..state.clone()
        };
        if now == state {
            return Ok(());
        }
        self.set_state(good.path, Some(now)).await
    }

    /// Merges an answer into what is published. If something is missing, upstream's `config.json` must be readable before
    /// that counts.
    async fn take(self: &Arc<Self>, good: Good) -> Result<(), Failure> {
        let inner = Arc::clone(self);
        let work = move || Ok((inner.merged(&good, false)?, good));
        let (outcome, good) = self.blocking(work).await.map_err(internal)?;
        if !outcome.lacks_some || self.follows_git() || self.refreshed(Asked::Config, true, false).await.is_err() {
            return self.publish(good, outcome).await;
        }
        let _alone = self.removals.lock().await;
        let inner = Arc::clone(self);
        let work = move || Ok((inner.merged(&good, true)?, good));
        let (outcome, good) = self.blocking(work).await.map_err(internal)?;
        self.publish(good, outcome).await
    }

    fn merged(&self, good: &Good, config_readable: bool) -> Result<Outcome, Error> {
        let now_unix = self.now_unix();
        let answer = match &good.body {
            None => Answer::Absent,
            Some(bytes) => Answer::Lines {
                bytes,
                etag: good.etag.as_deref(),
                last_modified: good.last_modified.as_deref(),
            },
        };
        let kept_or_served = &*self.kept_or_served;
        Ok(merge(&Merge {
            path: &good.path,
            published: good.before.bytes(),
            answer,
            state: good.before.state.as_ref(),
            decisions: &good.before.decisions,
            now_unix,
            grace_secs: i64::try_from(self.config.removal_grace.as_secs()).unwrap_or(i64::MAX),
            config_readable,
            may_remove_crate: self.may_remove_crate(now_unix)?,
            // The operator decides, or git does.
            releases_held: false,
            kept_or_served: &|checksum| kept_or_served(checksum),
        }))
    }

    fn may_remove_crate(&self, now_unix: i64) -> Result<bool, Error> {
        Ok(self.decisions.removed_crates_since(now_unix - HOUR_SECS)? < self.removals_per_hour())
    }

    pub(super) fn removals_per_hour(&self) -> u64 {
        REMOVED_CRATES_PER_HOUR.max(self.publisher.files() / 100)
    }

    /// First the decisions, which are truth, then the file, then what is remembered of upstream.
    async fn publish(self: &Arc<Self>, good: Good, outcome: Outcome) -> Result<(), Failure> {
        let path = good.path;
        self.decide(&path, &good.before, &outcome).await?;
        locked(&self.freshness).forget_absent(&path);
        if good.before.bytes() == outcome.published {
            return self.set_state(path, outcome.state).await;
        }
        let entry = (!outcome.published.is_empty()).then(|| Arc::new(IndexEntry::new(outcome.published)));
        self.publisher
            .submit(&path, entry, outcome.state)
            .await
            .map_err(internal)
    }

    /// Reports what the merge found, and writes down what it decided.
    pub(super) async fn decide(
        self: &Arc<Self>,
        path: &IndexPath,
        before: &Before,
        outcome: &Outcome,
    ) -> Result<(), Failure> {
        for report in &outcome.reports {
            report.log(path);
        }
        self.changed_lines
            .fetch_add(outcome.changed_lines as u64, Ordering::Relaxed);
        if outcome.put.is_empty() && before.decisions.is_empty() {
            return Ok(());
        }
        let (inner, path) = (Arc::clone(self), path.clone());
        let (put, delete) = (outcome.put.clone(), outcome.delete.clone());
        let decide = move || {
            inner.decisions.put_all(&path, &put, &delete)?;
            inner.count_held()
        };
        self.blocking(decide).await.map_err(internal)
    }

    async fn set_state(self: &Arc<Self>, path: IndexPath, state: Option<UpstreamState>) -> Result<(), Failure> {
        if self.publisher.set_pending_state(&path, state.as_ref()) {
            return Ok(());
        }
        let inner = Arc::clone(self);
        let write = move || match state {
            Some(state) => Ok(inner.metadata.set_upstream_state(&path, &state)?),
            None => Ok(inner.metadata.forget_upstream_state(&path)?),
        };
        self.blocking(write).await.map_err(internal)
    }

    pub(super) fn count_held(&self) -> Result<(), Error> {
        let mut held = 0;
        for kind in [DecisionKind::HeldChecksum, DecisionKind::HeldRemoval] {
            held += self.decisions.of_kind(kind)?.len() as u64;
        }
        self.held.store(held, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn now_unix(&self) -> i64 {
        let now = (self.clock)().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
    }
}

pub(super) fn internal(error: impl Into<Error>) -> Failure {
    let why = with_sources(&error.into());
    log::error!("failed to bring in an answer of upstream: {why}");
    Failure::of_one(why)
}
