//! The parts, put together: index, cache, databases and the way upstream.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use download_cache::{DownloadCache, Event};
use h2c_upgrade::{Connections, Limits};
use index_sync::{FollowConfig, Index, Repository, RepositoryLimits, SparseUpstream};
use metadata_db::{DecisionsDb, MetadataDb};
use registry::Checksum;
use tokio::sync::{Semaphore, mpsc};
use upstream_http::{EnvProxies, ProxyConfig, Token, UpstreamHttp, UpstreamUrl};

use crate::budget::Budget;
use crate::bundles::Bundles;
use crate::commands::{Job, Jobs};
use crate::data_dir::DataDir;
use crate::error::chain;
use crate::fetch_log::FetchBook;
use crate::free_space::free_bytes;
use crate::git_clones::GitClones;
use crate::open_files::connections_that_fit;
use crate::prefetch::Prefetches;
use crate::scrubber::Scrubbed;
use crate::settings::{Follow, Mode, Settings};
use crate::statistics::{Counts, Statistics};
use crate::wanted::WantedBook;

/// Pages that are being sent may take so much memory.
const PAGES_KIB: usize = 32 << 10;
/// Requests of git clients, beyond 16 KiB of each, may take so much.
const GIT_REQUESTS_KIB: usize = 64 << 10;

/// Commits may fail for this long before the mirror counts as not ready.
const COMMITS_MAY_FAIL: Duration = Duration::from_secs(10);

/// Any failure at the start, with its causes.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// Everything behind the routes.
pub struct Appliance {
    /// The settings in force.
    pub settings: Settings,
    /// What is published, and how it is brought up to date.
    pub index: Index,
    /// The crate files.
    pub cache: DownloadCache,
    /// What is known of the kept files.
    pub metadata: Arc<MetadataDb>,
    /// What nobody can derive again: pins, removals, holds.
    pub decisions: Arc<DecisionsDb>,
    /// Counters.
    pub statistics: Arc<Statistics>,
    /// Who fetched what, if that is remembered.
    pub fetches: Option<FetchBook>,
    /// What clients asked for in vain.
    pub wanted: WantedBook,
    /// The way upstream.
    pub upstream: UpstreamHttp,
    /// The token for upstream's own hosts.
    pub token: Option<Token>,
    /// Connections of clients, counted.
    pub connections: Arc<Connections>,
    /// Turns of git clients that want a pack.
    pub git_clones: GitClones,
    /// Memory for requests of git clients, in KiB.
    pub git_requests_kib: Arc<Semaphore>,
    /// Work by command that its commands watch.
    pub jobs: Jobs,
    /// The turns of prefetches by command.
    pub prefetches: Prefetches,
    /// How a verify by command goes.
    pub verify_job: Job,
    /// Bundles that come in.
    pub bundles: Bundles,
    /// What keeps the crate files within their budget.
    pub budget: Budget,
    /// What the scrubber has done.
    pub scrubbed: Scrubbed,
    /// How a sync by command goes.
    pub sync_job: Job,
    reconciling: Mutex<()>,
    /// Memory for pages that are being sent, in KiB: what clients that do not read them can hold.
    pub pages_kib: Arc<Semaphore>,
    data_dir: DataDir,
    stopping: AtomicBool,
}

/// While this is there, upstream hears how to reach the operator.
#[derive(Debug)]
pub struct NamedContact<'a>(&'a Appliance);

impl Drop for NamedContact<'_> {
    fn drop(&mut self) {
        let agent = user_agent(&self.0.settings, None);
        self.0
            .upstream
            .set_user_agent(&agent)
            .expect("the client was started with it");
    }
}

impl std::fmt::Debug for Appliance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Appliance")
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

impl Appliance {
    /// Opens everything in the data directory. To be called in a tokio runtime; ends of fills go to `events`.
    pub fn open(
        settings: Settings,
        data_dir: DataDir,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Self, StartError> {
        let path = data_dir.path().to_owned();
        // one that is fresh or damaged is filled again by `reconcile::look_through`
        let metadata = Arc::new(MetadataDb::open(&path.join("mirror.db"))?.db);
        let decisions = Arc::new(DecisionsDb::open(&path.join("decisions.db"))?);
        let upstream = upstream_client(&settings)?;
        let token = settings.upstream.token.as_deref().map(Token::new).transpose()?;
        let cache = open_cache(&settings, &path, upstream.clone(), events)?;
        let statistics = Arc::new(Statistics::default());
        let days = settings.fetch_log_days;
        let fetches = (days > 0).then(|| FetchBook::open(&path, days)).transpose()?;
        let mut repository = Repository::open(&path.join("index.git"), RepositoryLimits::default())?;
        repository.keep_pack_log(&path.join("pack-log"), settings.git.old_tips)?;
        let known = kept_or_served(cache.clone(), Arc::clone(&metadata), Arc::clone(&statistics));
        let index = Index::open(
            index_config(&settings),
            repository,
            Arc::clone(&metadata),
            Arc::clone(&decisions),
            settings.upstream.sparse.is_some().then(|| upstream.clone()),
            known,
        )?;
        index.set_mode(settings.mode.into());
        trust_upstream(&settings, &upstream, token.as_ref())?;
        follow_upstream(&settings, &index, &upstream, token.as_ref())?;
        Ok(Self {
            index,
            cache,
            metadata,
            decisions,
            statistics,
            fetches,
            wanted: WantedBook::default(),
            upstream,
            token,
            connections: Arc::new(Connections::new(connection_limits(&settings))),
            git_clones: GitClones::new(settings.git.clones_at_once),
            git_requests_kib: Arc::new(Semaphore::new(GIT_REQUESTS_KIB)),
            jobs: Jobs::default(),
            prefetches: Prefetches::default(),
            verify_job: Job::default(),
            bundles: Bundles::default(),
            budget: Budget::default(),
            scrubbed: Scrubbed::default(),
            sync_job: Job::default(),
            reconciling: Mutex::default(),
            pages_kib: Arc::new(Semaphore::new(PAGES_KIB)),
            data_dir,
            stopping: AtomicBool::new(false),
            settings,
        })
    }

    /// Tells upstream how to reach the operator, until what is returned is dropped.
    pub fn name_contact(&self, contact: &str) -> Result<NamedContact<'_>, upstream_http::Error> {
        self.upstream
            .set_user_agent(&user_agent(&self.settings, Some(contact)))?;
        Ok(NamedContact(self))
    }

    /// Held by who makes the metadata agree with the disk.
    pub fn reconciling(&self) -> MutexGuard<'_, ()> {
        // there is nothing behind the lock that a panic could leave half done
        self.reconciling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address in the published git index: `public_url`, else where it listens.
    pub fn git_base_url(&self) -> String {
        let public = self.settings.public_url.as_ref();
        public.map_or_else(|| self.settings.local_url(), ToString::to_string)
    }

    /// Where everything is kept.
    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// How upstream is treated now.
    pub fn mode(&self) -> Mode {
        match self.index.mode() {
            index_sync::Mode::Online => Mode::Online,
            index_sync::Mode::Fallback => Mode::Fallback,
            index_sync::Mode::Offline => Mode::Offline,
        }
    }

    /// Whether upstream is never asked, so that what is not here may well exist.
    pub fn is_offline(&self) -> bool {
        self.mode() == Mode::Offline || !self.settings.upstream.is_there()
    }

    /// Changes how upstream is treated, until the next start.
    pub fn set_mode(&self, mode: Mode) {
        self.index.set_mode(mode.into());
        self.budget.look_again();
    }

    /// Where the index comes from, for people.
    pub fn upstream_name(&self) -> String {
        let text = |key: &str| self.settings.layers.get(key).text.clone();
        let names = [text("upstream.sparse"), text("upstream.git")];
        let name = names.into_iter().find(|name| !name.is_empty());
        name.unwrap_or_else(|| "nothing upstream".to_owned())
    }

    /// Why this mirror is not ready, one sentence each; empty when it is. Blocks.
    pub fn trouble(&self) -> Vec<String> {
        let mut trouble = Vec::new();
        if self.stopping() {
            trouble.push("it is shutting down".to_owned());
        }
        if !self.data_dir.is_in_place() {
            trouble.push("its data directory was moved or replaced: restart it".to_owned());
        }
        trouble.extend(self.index_trouble());
        if self.metadata.is_given_up() {
            trouble
                .push("its metadata database is damaged again and again: look at the disk, and restart it".to_owned());
        } else if let Err(error) = self.metadata.totals() {
            trouble.push(format!("the metadata database cannot be read: {error}"));
        }
        trouble
    }

    fn index_trouble(&self) -> Vec<String> {
        let mut trouble = Vec::new();
        if let Err(error) = self.index.tree().check_on_disk() {
            log::debug!("not ready: {}", chain(&error));
            trouble.push("its published index, index.git, was deleted or replaced: restart it".to_owned());
        }
        let status = self.index.status();
        let failing = status.commits_failing_since.and_then(|since| since.elapsed().ok());
        if failing.is_some_and(|time| time > COMMITS_MAY_FAIL) {
            trouble.push("index files cannot be committed, its log says why".to_owned());
        }
        if !status.publisher_alive && !self.stopping() {
            trouble.push("its publisher has ended, so no index file is committed: restart it".to_owned());
        }
        trouble
    }

    /// Counters since the database began, this moment's included. Blocks.
    pub fn all_time(&self) -> Result<Counts, metadata_db::Error> {
        let flushed = self.metadata.counters()?;
        let mut counts = self.statistics.unflushed(self.counts());
        for (name, count) in &mut counts {
            *count += flushed.get(*name).copied().unwrap_or(0);
        }
        Ok(counts)
    }

    /// Writes what was counted into the database. Blocks.
    pub fn flush_statistics(&self) -> Result<(), metadata_db::Error> {
        self.statistics.flush(&self.metadata, self.counts())
    }

    /// Writes who fetched what into its log. Blocks.
    pub fn flush_fetches(&self) -> Result<(), metadata_db::Error> {
        self.fetches.as_ref().map_or(Ok(()), FetchBook::flush)
    }

    /// Writes down what clients asked for in vain. Blocks.
    pub fn flush_wanted(&self) -> Result<(), metadata_db::Error> {
        self.wanted.flush(&self.decisions)
    }

    fn counts(&self) -> Counts {
        let (statistics, cache, index) = (&self.statistics, self.cache.stats(), self.index.status());
        Counts::from([
            ("hits", statistics.hits.load(Ordering::Relaxed)),
            ("misses", statistics.misses.load(Ordering::Relaxed)),
            ("waiters_joined", cache.waiters_joined),
            ("bytes_fetched", cache.bytes_fetched),
            ("index_answers", statistics.index_answers.load(Ordering::Relaxed)),
            ("index_requests", index.requests),
        ])
    }

    /// Whether the mirror is on its way out.
    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Finishes what is under way within `limit`: fills, the batch of index files, statistics.
    pub async fn stop(&self, limit: Duration) {
        self.stopping.store(true, Ordering::Relaxed);
        let cut_off = self.cache.drain(limit).await;
        if cut_off > 0 {
            log::warn!("{cut_off} fills were cut off by the shutdown; they begin anew when they are asked for");
        }
        self.index.shutdown().await;
        if let Err(error) = self.flush_statistics().and_then(|()| self.metadata.checkpoint()) {
            log::warn!("statistics could not be written: {error}");
        }
        if let Err(error) = self.flush_fetches() {
            log::error!("the last fetches could not be logged: {error}");
        }
        if let Err(error) = self.flush_wanted() {
            log::warn!("what clients asked for in vain last could not be written: {error}");
        }
    }
}

fn connection_limits(settings: &Settings) -> Limits {
    let fit = connections_that_fit();
    let proxies = settings.trusted_proxies.clone();
    Limits {
        connections: settings
            .limits
            .connections
            .map_or(fit, |connections| connections as u64),
        per_client: settings.limits.connections_per_client as u64,
        exempt: Box::new(move |peer| proxies.trusts(peer)),
    }
}

fn index_config(settings: &Settings) -> index_sync::Config {
    index_sync::Config {
        upstream: settings.upstream.sparse.clone().map(|base| SparseUpstream { base }),
        max_age: settings.sparse_max_age,
        look_ahead: settings.look_ahead,
        removal_grace: settings.removal_grace,
        ..index_sync::Config::default()
    }
}

/// The client for upstream. It asks nothing by itself.
pub fn upstream_client(settings: &Settings) -> Result<UpstreamHttp, StartError> {
    Ok(UpstreamHttp::start(client_config(settings))?)
}

/// Who asks, and how to reach the operator as far as it is known.
fn user_agent(settings: &Settings, contact: Option<&str>) -> String {
    let url = settings.public_url.as_ref();
    let site = url.map_or_else(|| "an unnamed mirror of crates.io".to_owned(), |url| format!("+{url}"));
    let contact = contact.map(|contact| format!("; {contact}")).unwrap_or_default();
    format!("mirror/{} ({site}{contact})", env!("CARGO_PKG_VERSION"))
}

fn client_config(settings: &Settings) -> upstream_http::Config {
    let mut config = upstream_http::Config::new(user_agent(settings, None));
    config.ca_file = settings.upstream.ca_file.clone();
    config.proxy = ProxyConfig {
        setting: settings.upstream.proxy.clone(),
        environment: EnvProxies::from_pairs(settings.environment.all().iter().cloned()),
    };
    config
}

fn trust_upstream(settings: &Settings, upstream: &UpstreamHttp, token: Option<&Token>) -> Result<(), StartError> {
    if let Some(base) = &settings.upstream.sparse {
        let url: UpstreamUrl = base.parse()?;
        upstream.trust(url.authority().clone(), token.cloned());
    }
    Ok(())
}

/// Begins to follow upstream's git repository, if there is one and the settings do not forbid it.
fn follow_upstream(
    settings: &Settings,
    index: &Index,
    upstream: &UpstreamHttp,
    token: Option<&Token>,
) -> Result<(), StartError> {
    let Some(url) = &settings.upstream.git else {
        return Ok(());
    };
    let parsed: UpstreamUrl = url.parse()?;
    upstream.trust(parsed.authority().clone(), token.cloned());
    let config = FollowConfig {
        url: url.clone(),
        when: match settings.follow {
            Follow::WhenWanted => index_sync::Follow::WhenWanted,
            Follow::Always => index_sync::Follow::Always,
            Follow::Never => index_sync::Follow::Never,
        },
        sync_interval: settings.sync_interval,
    };
    Ok(index.follow(config, upstream.clone())?)
}

fn open_cache(
    settings: &Settings,
    path: &Path,
    upstream: UpstreamHttp,
    events: mpsc::UnboundedSender<Event>,
) -> Result<DownloadCache, StartError> {
    let mut config = download_cache::Config::new(path);
    config.max_file_bytes = settings.max_file_bytes;
    config.min_free_bytes = settings.min_free_bytes;
    config.fills_per_client = settings.limits.fills_per_client;
    config.free_bytes = Arc::new(|path: &Path| free_bytes(path));
    config.memory_bytes = settings.cache.memory_bytes;
    // a receiver that is gone means that the mirror is ending: the next start adopts the file
    Ok(DownloadCache::open(config, upstream, move |event| {
        drop(events.send(event))
    })?)
}

fn kept_or_served(
    cache: DownloadCache,
    metadata: Arc<MetadataDb>,
    statistics: Arc<Statistics>,
) -> Arc<dyn Fn(&Checksum) -> bool + Send + Sync> {
    Arc::new(move |checksum| {
        statistics.was_served(checksum)
            || matches!(cache.kept(checksum), Ok(Some(_)))
            // when it cannot be known, the careful answer holds the change
            || metadata.was_served(checksum).unwrap_or(true)
    })
}

/// Where the socket for commands is.
pub fn control_socket(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Environment;

    #[tokio::test]
    async fn a_publisher_that_has_ended_is_trouble() {
        let dir = tempfile::tempdir().unwrap();
        let variables = [("MIRROR_UPSTREAM__SPARSE", "")];
        let settings = Settings::load(None, Environment::of(&variables), &[]).unwrap();
        let data_dir = DataDir::lock(&dir.path().join("data"), "the test").unwrap();
        let appliance = Appliance::open(settings, data_dir, mpsc::unbounded_channel().0).unwrap();
        assert!(appliance.trouble().is_empty(), "{:?}", appliance.trouble());
        appliance.index.shutdown().await;
        let trouble = appliance.trouble();
        assert!(trouble.len() == 1 && trouble[0].contains("publisher"), "{trouble:?}");
        appliance.stop(Duration::ZERO).await;
        assert_eq!(appliance.trouble(), ["it is shutting down"]);
    }
}
