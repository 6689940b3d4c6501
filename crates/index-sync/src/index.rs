mod answer;
mod asking;
mod bring;
mod config_json;
mod decide;
mod follow;
mod import;
mod in_turn;
mod look_ahead;
mod refresh;
mod states;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use metadata_db::{DecisionsDb, MetadataDb};
use registry::{Checksum, CrateName, CrateVersion, IndexPath, UpstreamConfig};
use tokio::runtime::Handle;
use upstream_http::UpstreamHttp;

use crate::following::Following;
use crate::freshness::{Asked, Freshness};
use crate::memory::locked;
use crate::pack_log_writer::PackLogReader;
use crate::publisher::Publisher;
use crate::single_flight::SingleFlight;
use crate::upstream_sparse::UpstreamSparse;
use crate::{Ask, Config, Error, IndexEntry, IndexStatus, Listed, Mode, PackLogState, PublishedTree, Repository};
pub use decide::Decided;
pub use follow::Difference;
use look_ahead::LookAhead;

/// What time it is; tests have their own.
pub(crate) type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;
type KeptOrServed = Arc<dyn Fn(&Checksum) -> bool + Send + Sync>;

/// The published index, and the way by which index files of the sparse upstream come into it. Cheap to clone.
#[derive(Clone)]
pub struct Index {
    inner: Arc<Inner>,
}

/// What all clones and all requests under way share.
struct Inner {
    config: Config,
    clock: Clock,
    runtime: Handle,
    tree: PublishedTree,
    publisher: Publisher,
    metadata: Arc<MetadataDb>,
    decisions: Arc<DecisionsDb>,
    upstream: Option<UpstreamSparse>,
    kept_or_served: KeptOrServed,
    following: OnceLock<Arc<Following>>,
    pack_log: Option<PackLogReader>,
    mode: Mutex<Mode>,
    freshness: Mutex<Freshness>,
    flights: Arc<SingleFlight<Asked>>,
    look_ahead: LookAhead,
    upstream_config: Mutex<Option<UpstreamConfig>>,
    /// One removal at a time: each counts those before it.
    removals: tokio::sync::Mutex<()>,
    /// One state of the index is made or published at a time.
    staging: Arc<tokio::sync::Mutex<()>>,
    /// While somebody changes an index file, from what is published to its change, no import does; and the other way round.
    imports: Arc<tokio::sync::RwLock<()>>,
    /// How many imports were published.
    imported: AtomicU64,
    refused: AtomicU64,
    changed_lines: AtomicU64,
    held: AtomicU64,
}

impl Index {
    /// Starts the publisher. To be called inside a tokio runtime, on which requests to upstream run from then on; blocks
    /// for as long as it takes to count the published files.
    ///
    /// `kept_or_served` says whether the crate file of a checksum was ever kept or served here; it may block a little.
    ///
    /// # Errors
    /// An upstream address that cannot be used, or a repository or database that cannot be read.
    pub fn open(
        config: Config,
        repository: Repository,
        metadata: Arc<MetadataDb>,
        decisions: Arc<DecisionsDb>,
        upstream: Option<UpstreamHttp>,
        kept_or_served: Arc<dyn Fn(&Checksum) -> bool + Send + Sync>,
    ) -> Result<Self, Error> {
        let clock: Clock = Arc::new(SystemTime::now);
        Self::open_at(clock, config, repository, metadata, decisions, upstream, kept_or_served)
    }

    pub(crate) fn open_at(
        clock: Clock,
        config: Config,
        repository: Repository,
        metadata: Arc<MetadataDb>,
        decisions: Arc<DecisionsDb>,
        upstream: Option<UpstreamHttp>,
        kept_or_served: KeptOrServed,
    ) -> Result<Self, Error> {
        let upstream = match (&config.upstream, upstream) {
            (Some(sparse), Some(http)) => Some(UpstreamSparse::new(http, &sparse.base, config.requests_at_once)?),
            _ => None,
        };
        let tree = repository.reader();
        let pack_log = repository.pack_log();
        let publisher = Publisher::start(repository, Arc::clone(&metadata), &config, Arc::clone(&clock))?;
        let inner = Inner {
            freshness: Mutex::new(Freshness::new(config.max_age, config.absent_names)),
            config,
            clock,
            runtime: Handle::current(),
            tree,
            publisher,
            metadata,
            decisions,
            upstream,
            kept_or_served,
            following: OnceLock::new(),
            pack_log,
            mode: Mutex::new(Mode::Online),
            flights: Arc::new(SingleFlight::new()),
            look_ahead: LookAhead::new(),
            upstream_config: Mutex::new(None),
            removals: tokio::sync::Mutex::new(()),
            staging: Arc::default(),
            imports: Arc::default(),
            imported: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            changed_lines: AtomicU64::new(0),
            held: AtomicU64::new(0),
        };
        inner.forget_another_upstream()?;
        inner.recall_config()?;
        inner.count_held()?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What is published for `path`: as it is if upstream was asked less than `max_age` ago, else after asking again, and
    /// whatever its age when upstream fails. `None`: there is no such crate, as far as may be asked.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it is not here and upstream does not answer; with [`Ask::Now`] also if it is here.
    /// Otherwise the tree or a database cannot be read.
    pub async fn file(&self, path: &IndexPath, how: Ask) -> Result<Option<Arc<IndexEntry>>, Error> {
        let inner = &self.inner;
        if how != Ask::Now && inner.is_known_absent(path) {
            return Ok(None);
        }
        // First its age, then the file: it may become fresh in between, but not old.
        let is_old = inner.is_old(path);
        let here = inner.here(path).await?;
        if !inner.is_to_be_asked(how, is_old, here.is_some())? {
            return Ok(here);
        }
        match inner
            .refreshed(Asked::File(path.clone()), how == Ask::Now, here.is_some())
            .await
        {
            Ok(()) => {
                if how == Ask::IfOld {
                    inner.look_ahead(path);
                }
                inner.here(path).await
            }
            Err(_) if here.is_some() && how != Ask::Now => Ok(here),
            Err(why) => Err(Error::Unavailable { why: why.to_string() }),
        }
    }

    /// What the index says of a version. If it is not listed, and the index file is absent or older than `max_age`,
    /// upstream is asked once before the answer is `None`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the version is not listed here and upstream does not answer. Otherwise the tree or a
    /// database cannot be read.
    pub async fn checksum(&self, name: &CrateName, version: &CrateVersion) -> Result<Option<Listed>, Error> {
        let inner = &self.inner;
        let path = IndexPath::of(name);
        let listed =
            |entry: Option<Arc<IndexEntry>>| entry.and_then(|entry| entry.find(&path, version.as_str()).cloned());
        if inner.is_known_absent(&path) {
            return Ok(None);
        }
        let is_old = inner.is_old(&path);
        if let Some(found) = listed(inner.here(&path).await?) {
            return Ok(Some(found));
        }
        if !inner.is_to_be_asked(Ask::IfOld, is_old, false)? {
            return Ok(None);
        }
        match inner.refreshed(Asked::File(path.clone()), false, false).await {
            Ok(()) => Ok(listed(inner.here(&path).await?)),
            Err(why) => Err(Error::Unavailable { why: why.to_string() }),
        }
    }

    /// Upstream's `config.json`: asked again after `max_age`, and the last good one when upstream fails, also across
    /// restarts.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if there never was a good one and upstream does not answer now.
    pub async fn upstream_config(&self) -> Result<UpstreamConfig, Error> {
        let inner = &self.inner;
        if inner.upstream.is_none() {
            let own = Arc::clone(inner);
            return inner.blocking(move || own.config_from_git()).await;
        }
        let known = locked(&inner.upstream_config).clone();
        let may_ask = inner.upstream.is_some()
            && match self.mode() {
                Mode::Online => !locked(&inner.freshness).is_fresh(&Asked::Config, (inner.clock)()),
                Mode::Fallback => known.is_none(),
                Mode::Offline => false,
            };
        let why = if may_ask {
            match inner.refreshed(Asked::Config, false, known.is_some()).await {
                Ok(()) => "upstream's config.json is not known".into(),
                Err(why) => why,
            }
        } else {
            "upstream's config.json is not known, and it cannot be asked for in this mode".into()
        };
        let known = locked(&inner.upstream_config).clone();
        known.ok_or_else(|| Error::Unavailable { why: why.to_string() })
    }

    /// Waits until what is published for `path` is in a commit.
    ///
    /// # Errors
    /// A commit failed meanwhile (it will be tried again), or the mirror stops.
    pub async fn committed(&self, path: &IndexPath) -> Result<(), Error> {
        self.inner.publisher.committed(path).await
    }

    /// Says when upstream is asked from now on.
    pub fn set_mode(&self, mode: Mode) {
        *locked(&self.inner.mode) = mode;
        if let Some(following) = self.inner.following.get() {
            following.wake.notify_one();
        }
    }

    /// When upstream is asked. [`Mode::Online`] at first.
    pub fn mode(&self) -> Mode {
        *locked(&self.inner.mode)
    }

    /// Makes these bytes the `config.json` of the published tree, at once. No commit if they are already.
    pub fn publish_config_json(&self, bytes: Vec<u8>) {
        self.inner.publisher.set_config_json(bytes);
    }

    /// How the index is doing. Reads memory only.
    pub fn status(&self) -> IndexStatus {
        let inner = &self.inner;
        let (pending, memory_bytes) = inner.publisher.waiting();
        let (requests, not_modified) = inner.upstream.as_ref().map_or((0, 0), UpstreamSparse::counts);
        let (commits_failing_since, publisher_alive) = inner.publisher.health();
        let freshness = locked(&inner.freshness);
        IndexStatus {
            tip: inner.tree.tip().ok().flatten(),
            files: inner.publisher.files(),
            pending,
            commits_failing_since,
            publisher_alive,
            last_upstream_success: freshness.last_success,
            last_upstream_error: freshness.last_error.clone(),
            requests,
            asked_ahead: inner.look_ahead.asked.load(Ordering::Relaxed),
            not_modified,
            refused: inner.refused.load(Ordering::Relaxed),
            changed_lines: inner.changed_lines.load(Ordering::Relaxed),
            held: inner.held.load(Ordering::Relaxed),
            absent_names: freshness.absent_names(),
            memory_bytes,
        }
    }

    /// The published tree, as of the last commit.
    pub fn tree(&self) -> PublishedTree {
        self.inner.tree.clone()
    }

    /// What git clients are served from; none if the repository was given without [`Repository::keep_pack_log`]. If the log turns
    /// out to be damaged, asking starts its repair.
    pub fn pack_log(&self) -> Option<PackLogState> {
        self.inner.pack_log.as_ref().map(PackLogReader::state)
    }

    /// Commits what waits, and takes nothing more. What is published stays readable.
    pub async fn shutdown(&self) {
        self.inner.look_ahead.close();
        if let Some(following) = self.inner.following.get() {
            following.stop.now();
        }
        self.inner.publisher.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
