//! Following upstream's git repository: rounds, one after the other, beside everything else.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use upstream_http::UpstreamHttp;

use super::{Index, Inner};
use crate::following::Following;
use crate::memory::locked;
use crate::published::tip_at;
use crate::repository::{tree_diff, upstream_commit};
use crate::upstream_git::UpstreamGit;
use crate::{BlobId, CommitId, Error, FollowConfig, FollowPhase, FollowStatus, Mode, SyncReport};

/// How often a progress bar hears of progress.
const PROGRESS: Duration = Duration::from_millis(100);
/// How often the log hears of a round that takes long.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// A file in which the published index differs from upstream's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The file's path in the tree.
    pub path: String,
    /// Its content upstream; `None` if it is not there.
    pub upstream: Option<BlobId>,
    /// Its content as it is published; `None` if it is not.
    pub published: Option<BlobId>,
}

impl Index {
    /// Begins to follow an upstream git repository, once per process. To be called inside the runtime.
    ///
    /// # Errors
    /// An address that cannot be used, or a repository that cannot be read.
    pub fn follow(&self, config: FollowConfig, http: UpstreamHttp) -> Result<(), Error> {
        let inner = &self.inner;
        let upstream = UpstreamGit::new(http, &config.url, inner.runtime.clone())?;
        let synced = upstream_commit(inner.tree.dir())?.is_some();
        let following = Following::new(config, upstream, synced);
        if inner.following.set(Arc::clone(&following)).is_err() {
            log::warn!("a git repository is followed already, {} is not", following.config.url);
            return Ok(());
        }
        inner.runtime.spawn(run(Arc::downgrade(inner), following));
        Ok(())
    }

    /// The commit of upstream's git repository that the published index has come to, if it is followed.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub fn upstream_commit(&self) -> Result<Option<CommitId>, Error> {
        upstream_commit(self.inner.tree.dir())
    }

    /// Says that somebody wants the whole index. False if it is followed for nobody.
    pub fn want_whole(&self) -> bool {
        self.inner.following.get().is_some_and(|following| following.want())
    }

    /// One round now, whatever [`Follow`](crate::Follow) says. `progress` is called now and then until it ends.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if nothing is followed or the mode forbids it; else what went wrong in the round.
    pub async fn sync_once(&self, mut progress: impl FnMut(&FollowStatus)) -> Result<SyncReport, Error> {
        let unavailable = |why: &str| Error::Unavailable { why: why.to_owned() };
        let following = self.inner.following.get();
        let following = following.ok_or_else(|| unavailable("no git repository is followed"))?;
        if self.mode() == Mode::Offline {
            return Err(unavailable("the mirror is offline"));
        }
        let round = self.inner.round(following);
        tokio::pin!(round);
        loop {
            tokio::select! {
                outcome = &mut round => return outcome,
                () = tokio::time::sleep(PROGRESS) => progress(&following.status()),
            }
        }
    }

    /// How following goes; `None` if nothing is followed.
    pub fn follow_status(&self) -> Option<FollowStatus> {
        self.inner.following.get().map(|following| following.status())
    }

    /// Where the published index differs from the upstream commit that it has come to, apart from `config.json`. Blocks.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no upstream was followed yet; else the repository cannot be read.
    pub fn verify_against_upstream(&self) -> Result<Vec<Difference>, Error> {
        let tree = &self.inner.tree;
        let upstream = upstream_commit(tree.dir())?.ok_or_else(|| Error::Unavailable {
            why: "no git repository was followed yet".to_owned(),
        })?;
        let published = tree.tip()?.map(|tip| tip.tree.into());
        let found = tree.with_git(|git| tree_diff(git, Some(tip_at(git, upstream)?.tree.into()), published))?;
        let found = found.into_iter().filter(|(path, _, _)| path != "config.json");
        let differences = found.map(|(path, upstream, published)| Difference {
            path,
            upstream: upstream.map(|leaf| leaf.id.into()),
            published: published.map(|leaf| leaf.id.into()),
        });
        Ok(differences.collect())
    }
}

/// Rounds until the mirror stops.
async fn run(inner: Weak<Inner>, following: Arc<Following>) {
    let mut stop = following.stop.subscribe();
    loop {
        let Some(here) = inner.upgrade() else { return };
        let due = here.is_round_due(&following);
        let pause = if due {
            here.round_with_log(&following).await;
            Some(following.pause())
        } else {
            following.set_phase(FollowPhase::Waiting);
            None
        };
        drop(here);
        let waiting = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = following.wake.notified() => {}
            () = waiting => {}
        }
    }
}

impl Inner {
    fn is_round_due(&self, following: &Following) -> bool {
        following.is_wanted()
            && match *locked(&self.mode) {
                Mode::Online => true,
                Mode::Fallback => !following.is_synced(),
                Mode::Offline => false,
            }
    }

    /// Whether single files need not be asked for again, since all of them come by git.
    pub(super) fn follows_git(&self) -> bool {
        self.following.get().is_some_and(|following| following.is_current())
    }

    pub(super) async fn round(self: &Arc<Self>, following: &Arc<Following>) -> Result<SyncReport, Error> {
        let _alone = following.round.lock().await;
        let outcome = self.bring_in(following).await;
        following.ended(&outcome, (self.clock)());
        outcome
    }

    /// A round that nobody watches: a long one is told of in the log. How it ends is logged and remembered by itself.
    async fn round_with_log(self: &Arc<Self>, following: &Arc<Following>) {
        let round = self.round(following);
        tokio::pin!(round);
        loop {
            tokio::select! {
                _ = &mut round => return,
                () = tokio::time::sleep(LOG_PAUSE) => following.log_progress(),
            }
        }
    }

    async fn bring_in(self: &Arc<Self>, following: &Arc<Following>) -> Result<SyncReport, Error> {
        let (started, before_bytes) = (Instant::now(), following.begin());
        let (previous, known) = self
            .publisher
            .with_repository(|repository| Ok((repository.upstream()?, repository.known_upstream()?)))
            .await?;
        let previous = previous.filter(|previous| known.contains(previous));
        let (dir, theirs) = (self.tree.dir().to_owned(), Arc::clone(following));
        let fetch = move || theirs.upstream.fetch(&dir, &known, &theirs.stop);
        let fetched = self.blocking(fetch).await?;
        let upstream = fetched.commit;
        let mut changed_files = 0;
        if previous == Some(upstream) {
            self.bring_decided(following, upstream).await?;
        } else {
            following.set_phase(FollowPhase::Publishing { done: 0, total: 0 });
            self.publisher
                .with_repository(move |repository| repository.adopt(fetched))
                .await?;
            changed_files = match previous {
                None => self.bring_first(following, upstream).await?,
                Some(previous) => self.bring_update(following, previous, upstream).await?,
            };
        }
        Ok(SyncReport {
            upstream,
            first: previous.is_none(),
            changed_files,
            received_bytes: following.upstream.received_bytes() - before_bytes,
            took: started.elapsed(),
        })
    }
}

/// The trees of two commits of upstream, or of upstream and of what is published.
pub(super) fn tree_of(git: &gix::Repository, commit: CommitId) -> Result<gix::ObjectId, Error> {
    Ok(tip_at(git, commit)?.tree.into())
}

#[cfg(test)]
mod tests;
