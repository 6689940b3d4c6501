//! What came by an import is served at once; that a search finds it takes longer, and is done beside everything else.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use registry::Checksum;

use crate::appliance::Appliance;
use crate::error::chain;
use crate::reconcile::adopt_taken_in;

/// Begins to read the manifests of files that were taken in, and to write them into the metadata database.
pub fn begin(appliance: &Arc<Appliance>, files: Vec<(Checksum, u64)>) {
    let own = Arc::clone(appliance);
    let task = tokio::task::spawn_blocking(move || record(&own, files));
    let mut recording = appliance
        .bundles
        .recording
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    *recording = Some(task);
}

/// Waits until the last that was begun is done: for a process that ends then.
pub async fn done(appliance: &Appliance) {
    let task = appliance
        .bundles
        .recording
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(task) = task
        && let Err(panic) = task.await
    {
        log::error!("recording what was imported failed: {panic}");
    }
}

fn record(appliance: &Appliance, mut files: Vec<(Checksum, u64)>) {
    let known: HashSet<Checksum> = match appliance.metadata.kept_checksums() {
        Ok(known) => known,
        Err(error) => {
            log::error!("what was imported is not recorded for search: {}", chain(&error));
            return;
        }
    };
    files.retain(|(checksum, _)| !known.contains(checksum));
    files.sort_unstable();
    match adopt_taken_in(appliance, &files) {
        Ok(recorded) => log::info!("{recorded} imported crate files are recorded for search"),
        Err(error) => log::error!("what was imported is not recorded for search: {}", chain(&*error)),
    }
    appliance.budget.look();
}
