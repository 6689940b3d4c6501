use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use registry::IndexPath;

use super::Inner;
use crate::Error;
use crate::freshness::Asked;
use crate::memory::locked;
use crate::upstream_sparse::Failure;

impl Inner {
    /// Runs `work` while no request to the sparse upstream for this file is under way, and nobody else's work on it.
    pub(super) async fn in_turn<T, F>(
        self: &Arc<Self>,
        path: &IndexPath,
        work: impl Fn() -> F + Send + Sync,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let outcome = Arc::new(Mutex::new(None));
        let had_turn = Arc::new(AtomicBool::new(false));
        while !had_turn.load(Ordering::Relaxed) {
            let start = || {
                let (work, outcome, had_turn) = (work(), Arc::clone(&outcome), Arc::clone(&had_turn));
                Ok(async move {
                    had_turn.store(true, Ordering::Relaxed);
                    let done = work.await;
                    let landing = done.as_ref().map(|_| ()).map_err(|failure| failure.why.clone().into());
                    *locked(&outcome) = Some(done);
                    landing
                })
            };
            let asked = Asked::File(path.clone());
            if let Ok(waiter) = self.flights.join_or_start(&self.runtime, asked, start) {
                // How the request of another ended is nothing to us.
                let _ = waiter.landed().await;
            }
        }
        let outcome = locked(&outcome).take();
        match outcome {
            Some(Ok(done)) => Ok(done),
            Some(Err(failure)) => Err(Error::Unavailable { why: failure.why }),
            None => Err(Error::Stopped),
        }
    }
}
