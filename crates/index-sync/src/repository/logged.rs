//! The pack log beside the repository: what git clients are served from.

use std::path::Path;
use std::time::Duration;

use super::Repository;
use crate::pack_log_writer::{PackLogKeeper, PackLogReader};
use crate::{CommitId, Error, Tip};

impl Repository {
    /// Keeps a pack log in `dir` in step with what is published, from which git clients are served. What is missing of it, or
    /// damaged, is made in the background. After a squash, the commits of the last `old_tips` stay known.
    ///
    /// A commit that a crash left in the log alone is published: somebody may have it already.
    pub fn keep_pack_log(&mut self, dir: &Path, old_tips: Duration) -> Result<(), Error> {
        let (keeper, ahead) = PackLogKeeper::open(dir, self.published.clone(), old_tips);
        self.pack_log = Some(keeper);
        if let Some(ahead) = ahead {
            self.publish_what_the_log_has(&ahead)?;
        }
        self.settle_pack_log();
        Ok(())
    }

    /// For serving git clients; none without [`Self::keep_pack_log`].
    pub(crate) fn pack_log(&self) -> Option<PackLogReader> {
        self.pack_log.as_ref().map(PackLogKeeper::reader)
    }

    pub(super) fn settle_pack_log(&self) {
        if let Some(keeper) = &self.pack_log {
            keeper.settle();
        }
    }

    /// The log's last commit, if it is whole and follows what is published.
    fn publish_what_the_log_has(&mut self, ahead: &git_smart_http::Commit) -> Result<(), Error> {
        let tip = self.published.tip()?;
        let commit = CommitId::from_bytes(ahead.id.0);
        let parent = ahead.parent.map(|parent| CommitId::from_bytes(parent.0));
        if parent != tip.as_ref().map(|tip| tip.commit) || !self.storage.contains(commit.into()) {
            return Ok(());
        }
        log::info!("commit {commit} was made but not published before the last end: it is now");
        self.move_branch(tip.as_ref(), commit)
    }

    /// Puts a commit whose objects are on disk into the log, before the branch moves to it.
    pub(super) fn append_to_pack_log(&self, from: Option<&Tip>, to: &Tip) -> Result<(), Error> {
        let Some(keeper) = &self.pack_log else { return Ok(()) };
        self.published.with_git_mut(|git| {
            keeper.append(git, from, to);
            Ok(())
        })
    }

    /// A commit that failed may be in the log.
    pub(super) fn repair_pack_log(&mut self) -> Result<(), Error> {
        let head = self.pack_log.as_ref().and_then(PackLogKeeper::head);
        let published = self.published.tip()?.map(|tip| *tip.commit.as_bytes());
        match head {
            Some(head) if Some(head.id.0) != published => self.publish_what_the_log_has(&head),
            _ => Ok(()),
        }
    }
}
