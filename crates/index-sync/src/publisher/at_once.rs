//! Commits that wait for nothing.

use std::sync::Arc;

use registry::IndexPath;

use super::{Publisher, with_upstream};
use crate::memory::locked;
use crate::repository::RawChange;
use crate::{CommitId, Error};

impl Publisher {
    /// Has all committed that waits now, and waits for that. After a failure it is still tried again.
    pub(crate) async fn flush(&self) -> Result<(), Error> {
        let mut progress = self.desk.progress.subscribe();
        let last = locked(&self.desk.work).memory.changes();
        loop {
            progress.borrow_and_update();
            {
                let mut work = locked(&self.desk.work);
                if work.memory.waiting_up_to(last) == 0 {
                    return Ok(());
                }
                work.hurry = true;
            }
            self.desk.wake.notify_all();
            if progress.borrow().ended {
                return Err(Error::Stopped);
            }
            progress.changed().await.map_err(|_| Error::Stopped)?;
            if let Some(why) = progress.borrow_and_update().failed.clone() {
                return Err(Error::NotCommitted { why });
            }
        }
    }

    /// Commits these files, whose content is in the repository, all at once. None of them may wait for a commit.
    pub(crate) async fn publish_at_once(
        &self,
        raw: Vec<RawChange>,
        message: String,
        time_unix: i64,
    ) -> Result<Option<CommitId>, Error> {
        let desk = Arc::clone(&self.desk);
        self.with_repository(move |repository| {
            let message = match repository.upstream()? {
                Some(upstream) => with_upstream(&message, upstream),
                None => format!("{message}\n"),
            };
            let commit = repository.commit_raw(&[], &raw, &message, time_unix)?;
            let paths: Vec<IndexPath> = raw.iter().filter_map(|change| change.path.parse().ok()).collect();
            locked(&desk.work).memory.replaced(paths.iter());
            Ok(commit)
        })
        .await
    }
}
