//! Following a git repository somewhere else: what is fetched, and how it is looked at before anybody relies on it.

mod completeness;
mod fetch_dir;
mod transport;

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::blocking_io::http::Transport;
use gix::remote::Direction;
use gix::remote::fetch::{Shallow, Status, Tags};
use tokio::runtime::Handle;
use tokio::sync::watch;
use upstream_http::{UpstreamHttp, UpstreamUrl};

use crate::published::{commit, object, open_git};
use crate::repository::{StagedPack, fetched_pack};
use crate::{CommitId, Error};
use fetch_dir::FetchDir;
pub(crate) use fetch_dir::remove as remove_fetch_dir;
use transport::{Deadline, GitHttp};

/// Of all of upstream's branches only this one is wanted; in the fetching repository it has a name of its own.
const REFSPEC: &str = "+refs/heads/master:refs/mirror/upstream";
/// How long upstream may take to send all that a fetch needs. A whole index comes in minutes even on a slow line; the time limit
/// of each single wait alone would let an upstream that sends a byte now and then hold a round for ever.
const LONGEST_FETCH: Duration = Duration::from_secs(3600);
/// Packs in the fetching repository and in the one behind it.
const SLOTS: u16 = 1024;

/// What a fetch brought; nothing of it is in `index.git` yet.
pub(crate) struct Fetched {
    /// Upstream's newest commit. It and its whole tree are in `pack` or in `index.git`.
    pub(crate) commit: CommitId,
    /// `None`: all of it was there before.
    pub(crate) pack: Option<StagedPack>,
    /// The commits whose parents are not there, one to a line.
    pub(crate) shallow: Vec<u8>,
    /// The pack's files are in it.
    _dir: FetchDir,
}

/// Ends fetches that are under way.
#[derive(Debug)]
pub(crate) struct Stop {
    flag: AtomicBool,
    news: watch::Sender<bool>,
}

impl Stop {
    pub(crate) fn new() -> Self {
        Self {
            flag: AtomicBool::new(false),
            news: watch::channel(false).0,
        }
    }

    pub(crate) fn now(&self) {
        self.flag.store(true, std::sync::atomic::Ordering::Relaxed);
        self.news.send_replace(true);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<bool> {
        self.news.subscribe()
    }
}

/// A git repository over http or https.
#[derive(Debug)]
pub(crate) struct UpstreamGit {
    http: UpstreamHttp,
    url: UpstreamUrl,
    runtime: Handle,
    longest: Duration,
    received: Arc<AtomicU64>,
}

impl UpstreamGit {
    /// `url`'s host is trusted with a private address, but gets no token by this.
    pub(crate) fn new(http: UpstreamHttp, url: &str, runtime: Handle) -> Result<Self, Error> {
        let url: UpstreamUrl = url.trim_end_matches('/').parse().map_err(Error::UpstreamAddress)?;
        http.trust(url.authority().clone(), None);
        Ok(Self {
            http,
            url,
            runtime,
            longest: LONGEST_FETCH,
            received: Arc::default(),
        })
    }

    /// Bytes that came in since the start.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Fetches upstream's newest commit, beside the repository in `git_dir` and not into it. `known` are commits of upstream
    /// whose whole trees are there; of their history nothing is relied on. Blocks; not for an async thread.
    pub(crate) fn fetch(&self, git_dir: &Path, known: &[CommitId], stop: &Stop) -> Result<Fetched, Error> {
        let dir = FetchDir::create(git_dir, known)?;
        let git = open_git(dir.path(), SLOTS)?;
        let status = self.receive(&git, known.is_empty(), stop)?;
        let pack = match status {
            Status::Change { write_pack_bundle, .. } => fetched_pack(write_pack_bundle, dir.path())?,
            Status::NoPackReceived { .. } => None,
        };
        drop(git);
        let git = open_git(dir.path(), SLOTS)?;
        let commit_id = dir.fetched()?;
        check(&git, commit_id, known)?;
        Ok(Fetched {
            commit: commit_id,
            pack,
            shallow: dir.shallow()?,
            _dir: dir,
        })
    }

    fn receive(&self, git: &gix::Repository, first: bool, stop: &Stop) -> Result<Status, Error> {
        let failed = || Error::git("fetch from upstream's repository");
        let url = gix::url::parse(self.url.to_string().as_str()).map_err(failed())?;
        let http = GitHttp::new(
            self.http.clone(),
            self.runtime.clone(),
            stop.subscribe(),
            Deadline::after(self.longest),
            Arc::clone(&self.received),
        );
        let remote = git
            .remote_at(url.clone())
            .map_err(failed())?
            .with_fetch_tags(Tags::None)
            .with_refspecs([REFSPEC], Direction::Fetch)
            .map_err(failed())?;
        let transport = Transport::new_http(http, url, Protocol::V2, false);
        let shallow = if first {
            Shallow::DepthAtRemote(NonZeroU32::MIN)
        } else {
            Shallow::NoChange
        };
        let outcome = remote
            .to_connection_with_transport(transport)
            .prepare_fetch(gix::progress::Discard, gix::remote::ref_map::Options::default())
            .map_err(failed())?
            .with_shallow(shallow)
            .receive(gix::progress::Discard, &stop.flag)
            .map_err(failed())?;
        Ok(outcome.status)
    }
}

/// Whether all of the commit's tree is there: gix sees to the pack, but not to what it refers to.
fn check(git: &gix::Repository, id: CommitId, known: &[CommitId]) -> Result<(), Error> {
    let tree = |id: CommitId| -> Result<_, Error> {
        let tree = commit(git, id.into())?.tree_id();
        Ok(tree.map_err(Error::git("read upstream's commit"))?.detach())
    };
    let known = known.iter().map(|id| tree(*id)).collect::<Result<Vec<_>, _>>()?;
    let new = tree(id)?;
    object(git, new)?;
    completeness::check(git, new, &known)
}

#[cfg(test)]
mod tests;
