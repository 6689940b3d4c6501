//! What a git client gets: the published index if it is whole, else the reason why not.

use std::time::Duration;

use git_smart_http::{ObjectId, PackLog, View};
use index_sync::{FollowPhase, PackLogState};
use std::sync::Arc;

use crate::appliance::Appliance;
use crate::settings::Mode;

/// A client that cannot be told anything meanwhile waits so long at most: cargo gives up after 30 s of silence.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether the index is whole now.
const LOOK: Duration = Duration::from_millis(100);

/// One moment of the published index, for one request.
#[derive(Debug, Clone)]
pub struct Serving {
    /// The objects of the published commits.
    pub view: Arc<View>,
}

impl Serving {
    /// The published commit.
    pub fn head(&self) -> Option<ObjectId> {
        self.view.head().map(|head| head.id)
    }
}

/// Why a git client gets nothing. Reads well behind git's "remote error:".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The published `config.json` names another address than the client's.
    #[error(
        "this mirror's git index names {named} as the address of its crate files, and you came by {came}: \
         set public_url to http://{came} and restart the mirror, or use the sparse index"
    )]
    OtherName {
        /// The address in the published `config.json`.
        named: String,
        /// The host that the client asked.
        came: String,
    },
    /// Only single files were asked for so far, and nothing brings the whole index.
    #[error(
        "this mirror has only the index files that were asked for, which would make cargo resolve wrongly in silence: \
         set upstream.git and index.follow = \"when-wanted\" to follow the whole index, or index.serve_partial = true to serve it \
         as it is; the sparse index works as it is"
    )]
    Partial,
    /// The whole index is on its way.
    #[error("the whole index is not here yet ({progress}); try again in a minute, the sparse index works meanwhile")]
    NotYet {
        /// How far it is.
        progress: String,
    },
    /// Too many others are being served.
    #[error("this mirror is sending its index to as many clients as it may; try again in a minute")]
    Busy,
}

impl Appliance {
    /// Whether a client that came by `host` may be served at all.
    pub fn git_client(&self, host: Option<&str>) -> Result<(), Refusal> {
        if self.settings.public_url.is_some() {
            return Ok(());
        }
        let named = self.settings.local_url();
        match host {
            Some(came) if !same_place(&named, came) => Err(Refusal::OtherName {
                named,
                came: came.chars().filter(|c| !c.is_control()).take(255).collect(),
            }),
            _ => Ok(()),
        }
    }

    /// What the client is served from; it waits a while for an index that is on its way.
    pub async fn git_view(&self, host: Option<&str>) -> Result<Serving, Refusal> {
        self.git_client(host)?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match self.git_view_now() {
                Err(Refusal::NotYet { .. }) if tokio::time::Instant::now() < deadline => tokio::time::sleep(LOOK).await,
                outcome => return outcome,
            }
        }
    }

    /// What can be served at this moment. Asking says that somebody wants the whole index.
    pub fn git_view_now(&self) -> Result<Serving, Refusal> {
        self.whole_index()?;
        match self.index.pack_log() {
            Some(PackLogState::Ready(log)) => served(&log),
            Some(PackLogState::Building { percent }) => Err(Refusal::NotYet {
                progress: format!("it is being prepared for git clients, {percent} %"),
            }),
            None => Err(Refusal::Partial),
        }
    }

    /// Whether what is published is the whole index, or may be served although it is not.
    fn whole_index(&self) -> Result<(), Refusal> {
        if self.mode() == Mode::Offline
            || self.settings.upstream.sparse.is_none() && self.settings.upstream.git.is_none()
        {
            return Ok(());
        }
        let follows = self.index.want_whole();
        match self.index.follow_status() {
            Some(status) if status.synced => Ok(()),
            _ if self.settings.serve_partial => Ok(()),
            Some(status) if follows => Err(Refusal::NotYet {
                progress: progress(&status),
            }),
            _ => Err(Refusal::Partial),
        }
    }

    /// The bounds on what one request may hold.
    pub fn git_limits(&self) -> git_smart_http::Limits {
        let git = &self.settings.git;
        git_smart_http::Limits {
            body_bytes: usize::try_from(git.max_request_bytes).unwrap_or(usize::MAX),
            wants: git.max_wants,
            haves: git.max_haves,
            ..git_smart_http::Limits::default()
        }
    }
}

fn served(log: &PackLog) -> Result<Serving, Refusal> {
    Ok(Serving { view: log.view() })
}

fn progress(status: &index_sync::FollowStatus) -> String {
    match status.phase {
        FollowPhase::Fetching { received_bytes } => format!("{} MB fetched", received_bytes / 1_000_000),
        FollowPhase::Publishing { done, total } if total > 0 => format!("{} % brought in", 100 * done / total),
        FollowPhase::Publishing { .. } => "it is being brought in".to_owned(),
        FollowPhase::Waiting | FollowPhase::Idle => match &status.last_error {
            Some((_, why)) => format!("its upstream does not answer: {why}"),
            None => "it is about to be fetched".to_owned(),
        },
    }
}

/// Whether a `Host` means the address that is named. git2-curl leaves the port out.
fn same_place(named: &str, came: &str) -> bool {
    let authority = named.split("//").nth(1).unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    authority.eq_ignore_ascii_case(came) || host.eq_ignore_ascii_case(came)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_with_and_without_a_port() {
        assert!(same_place("http://127.0.0.1:8080", "127.0.0.1:8080"));
        assert!(same_place("http://127.0.0.1:8080", "127.0.0.1"));
        assert!(same_place("http://[::1]:8080", "[::1]:8080") && same_place("http://[::1]:8080", "[::1]"));
        assert!(!same_place("http://127.0.0.1:8080", "mirror.office:8080"));
        assert!(!same_place("http://127.0.0.1:8080", "127.0.0.1:9"));
    }
}
