//! Files that are recorded and not there, by rot or by hand: they stay known until another copy is here or they are evicted.
//! Their rows have a size of 0, which no crate file has, so that no total counts what is not there.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use download_cache::Wanted;
use futures_util::{StreamExt, stream};
use metadata_db::{KeptFile, KeptRow};
use registry::Checksum;
use tokio::sync::watch;

use crate::appliance::{Appliance, StartError};
use crate::error::chain;
use crate::recorder::described;

/// How soon a switch of the mode is noticed.
const LOOK: Duration = Duration::from_secs(1);
/// Files that are fetched again at once.
const AT_ONCE: usize = 8;

/// What is recorded of a file.
pub fn named(row: &KeptRow) -> Wanted {
    Wanted {
        name: row.name.clone(),
        version: row.version.clone(),
        checksum: row.checksum,
    }
}

/// The rows of this checksum. Blocks.
fn rows_of(appliance: &Appliance, checksum: &Checksum) -> Result<Vec<KeptRow>, metadata_db::Error> {
    let mut rows = appliance.metadata.kept_rows_in(checksum.as_bytes()[0])?;
    rows.retain(|row| row.checksum == *checksum);
    Ok(rows)
}

/// The version that is recorded with this checksum. Blocks.
pub fn recorded(appliance: &Appliance, checksum: &Checksum) -> Result<Option<Wanted>, metadata_db::Error> {
    Ok(rows_of(appliance, checksum)?.first().map(named))
}

/// Those of `rows` whose file is neither among `on_disk`, which was listed before, nor there by now, and that are recorded still:
/// they were not evicted meanwhile. Blocks.
pub fn lost_among(
    appliance: &Appliance,
    rows: Vec<KeptRow>,
    on_disk: &HashSet<Checksum>,
) -> Result<Vec<KeptRow>, StartError> {
    let mut lost = Vec::new();
    for row in rows.into_iter().filter(|row| !on_disk.contains(&row.checksum)) {
        if appliance.cache.kept(&row.checksum)?.is_some() {
            continue;
        }
        let still = appliance.metadata.kept_file(&row.name, &row.version)?;
        if still.is_some_and(|still| still.checksum == row.checksum) {
            lost.push(row);
        }
    }
    Ok(lost)
}

/// Takes the size out of the rows of a file that is not there; what else is known of it stays. Blocks.
pub fn mark_lost(appliance: &Appliance, checksum: &Checksum) -> Result<(), StartError> {
    if appliance.cache.kept(checksum)?.is_some() {
        return Ok(());
    }
    let sized = rows_of(appliance, checksum)?
        .into_iter()
        .filter(|row| row.size_bytes > 0);
    for row in sized {
        let Some(details) = appliance.metadata.version_details(&row.name, &row.version)? else {
            continue;
        };
        appliance.metadata.record_kept(&KeptFile {
            name: row.name,
            version: row.version,
            checksum: row.checksum,
            size_bytes: 0,
            kept_at: row.kept_at,
            manifest: details.manifest,
        })?;
    }
    // a fill may have brought it, and recorded it, before its row was rewritten
    record_if_there(appliance, checksum).map(drop)
}

/// Records a file anew whose rows do not say its size, if it is there; says whether it is. Blocks.
pub fn record_if_there(appliance: &Appliance, checksum: &Checksum) -> Result<bool, StartError> {
    let Some(kept) = appliance.cache.kept(checksum)? else {
        return Ok(false);
    };
    for row in rows_of(appliance, checksum)? {
        if row.size_bytes != kept.size_bytes
            && let Some(file) = described(appliance, &named(&row), kept.size_bytes)
        {
            appliance.metadata.record_kept(&file)?;
        }
    }
    Ok(true)
}

/// Fetches lost files again when the mode allows it: after a switch from offline, and when a look through the files found some.
pub async fn heal_when_possible(appliance: Arc<Appliance>, mut stop: watch::Receiver<bool>) {
    let mut was_offline = false;
    while tokio::time::timeout(LOOK, stop.wait_for(|stop| *stop)).await.is_err() {
        if appliance.is_offline() {
            was_offline = true;
        } else if appliance.scrubbed.found_lost.swap(false, Relaxed) || was_offline {
            was_offline = false;
            let own = Arc::clone(&appliance);
            let listed = tokio::task::spawn_blocking(move || all_lost(&own)).await;
            match listed.unwrap_or_else(|panic| Err(panic.into())) {
                Ok(lost) => heal_all(&appliance, lost).await,
                Err(error) => log::error!("lost files cannot be listed: {}", chain(&*error)),
            }
        }
    }
}

/// All that is recorded without a size, and is not there.
fn all_lost(appliance: &Appliance) -> Result<Vec<Wanted>, StartError> {
    let mut lost = Vec::new();
    for folder in 0..=u8::MAX {
        let sizes = appliance.metadata.kept_in(folder)?;
        for (checksum, _) in sizes.into_iter().filter(|(_, size)| *size == 0) {
            if !record_if_there(appliance, &checksum)? {
                lost.extend(recorded(appliance, &checksum)?);
            }
        }
    }
    Ok(lost)
}

/// Fetches files again, some at a time.
pub async fn heal_all(appliance: &Appliance, lost: Vec<Wanted>) {
    let heal_one = async |wanted: Wanted| heal(appliance, &wanted, "was damaged or missing").await;
    stream::iter(lost)
        .map(heal_one)
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
}

/// Fetches a file again, unless somebody does so already or upstream must not be asked; the log hears what came of it.
pub async fn heal(appliance: &Appliance, wanted: &Wanted, what: &str) {
    let Some(_turn) = Turn::take(&appliance.scrubbed.healing, wanted.checksum) else {
        return;
    };
    if appliance.stopping() {
        return;
    }
    if appliance.is_offline() {
        log::error!("{wanted}: its file {what}, and upstream is not to be asked for another");
        return;
    }
    match appliance.fetch_again(wanted).await {
        Ok(()) => {
            appliance.scrubbed.repaired.fetch_add(1, Relaxed);
            log::info!("{wanted}: its file {what} and is here anew");
        }
        Err(why) => log::error!("{wanted}: its file {what} and cannot be had anew: {why}"),
    }
}

/// While this is there, nobody else heals the file.
struct Turn<'a> {
    healing: &'a Mutex<HashSet<Checksum>>,
    checksum: Checksum,
}

impl<'a> Turn<'a> {
    fn take(healing: &'a Mutex<HashSet<Checksum>>, checksum: Checksum) -> Option<Self> {
        let is_free = healing.lock().unwrap_or_else(PoisonError::into_inner).insert(checksum);
        is_free.then_some(Self { healing, checksum })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut healing = self.healing.lock().unwrap_or_else(PoisonError::into_inner);
        healing.remove(&self.checksum);
    }
}
