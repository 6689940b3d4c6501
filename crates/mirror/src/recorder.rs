//! Writes what is kept into the metadata database as fills end; statistics, the fetch log and what is wanted now and then.

use std::sync::Arc;
use std::time::Duration;

use download_cache::{Event, Wanted};
use metadata_db::{KeptFile, ManifestState, read_crate_file};
use registry::IndexPath;
use tokio::sync::mpsc;

use crate::appliance::Appliance;
use crate::clock::unix_now;
use crate::error::chain;
use crate::reconcile::{reconcile, renew_if_damaged};
use crate::scrubber::set_aside;

/// Takes the ends of fills until the sender is gone. The cache has logged each of them already.
pub async fn record_fills(appliance: Arc<Appliance>, mut events: mpsc::UnboundedReceiver<Event>) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Kept { wanted, size_bytes, .. } => {
                record(&appliance, wanted, size_bytes).await;
                appliance.budget.look();
            }
            Event::Bad { checksum } => drop(tokio::spawn(set_aside(Arc::clone(&appliance), checksum))),
            _ => {}
        }
    }
}

/// A file counts as kept only after the commit that holds its index line.
async fn record(appliance: &Arc<Appliance>, wanted: Wanted, size_bytes: u64) {
    let path = IndexPath::of(&wanted.name);
    if let Err(error) = appliance.index.committed(&path).await {
        log::warn!(
            "{wanted}: not recorded, its index line is not committed: {}",
            chain(&error)
        );
        return;
    }
    let what = wanted.to_string();
    let own = Arc::clone(appliance);
    let done = tokio::task::spawn_blocking(move || {
        let file = described(&own, &wanted, size_bytes);
        file.map_or(Ok(()), |file| own.metadata.record_kept(&file))
    });
    match done.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::warn!("{what}: kept, but not recorded for search: {}", chain(&error)),
        Err(panic) => log::error!("{what}: kept, but reading its manifest failed: {panic}"),
    }
}

/// The kept file with what its manifest says; `None` if it has gone meanwhile or the disk cannot be read.
pub fn described(appliance: &Appliance, wanted: &Wanted, size_bytes: u64) -> Option<KeptFile> {
    let file = appliance.cache.kept(&wanted.checksum).ok().flatten()?;
    let mut reader = BlobReader {
        file,
        position: 0,
        failure: None,
    };
    let manifest = read_crate_file(&mut reader, &wanted.name, &wanted.version);
    if let Some(error) = reader.failure {
        log::error!("{wanted}: the kept file cannot be read, it is not recorded: {error}");
        return None;
    }
    if let ManifestState::Unparsable(why) = &manifest {
        log::warn!("{wanted}: its manifest cannot be read, it is served all the same: {why}");
    }
    Some(KeptFile {
        name: wanted.name.clone(),
        version: wanted.version.clone(),
        checksum: wanted.checksum,
        size_bytes,
        kept_at: unix_now(),
        manifest,
    })
}

/// A kept file as a stream, in pieces.
struct BlobReader {
    file: download_cache::KeptFile,
    position: u64,
    /// What the disk said, which must not be taken for a fault of the crate file.
    failure: Option<std::io::Error>,
}

impl std::io::Read for BlobReader {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let piece = match self.file.read_at(self.position, out.len().min(64 << 10)) {
            Ok(piece) => piece,
            Err(error) => {
                let kind = error.kind();
                self.failure = Some(error);
                return Err(kind.into());
            }
        };
        out[..piece.len()].copy_from_slice(&piece);
        self.position += piece.len() as u64;
        Ok(piece.len())
    }
}

/// Writes statistics, the fetch log and what is wanted every few seconds until the mirror stops; mends the database if it turns out damaged.
pub async fn flush_now_and_then(appliance: Arc<Appliance>, mut stop: tokio::sync::watch::Receiver<bool>) {
    let every = Duration::from_secs(10);
    loop {
        let hurry = async {
            match &appliance.fetches {
                Some(book) => book.is_in_a_hurry().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = hurry => {}
            () = tokio::time::sleep(every) => {}
        }
        let own = Arc::clone(&appliance);
        let _ = tokio::task::spawn_blocking(move || flush_and_mend(&own)).await;
    }
}

fn flush_and_mend(appliance: &Arc<Appliance>) {
    if let Err(error) = appliance.flush_statistics() {
        let why = chain(&error);
        log::warn!("statistics could not be written, they are kept for the next time: {why}");
    }
    if let Err(error) = appliance.flush_fetches() {
        let why = chain(&error);
        log::error!("the fetch log could not be written, what it lacks is kept for the next time: {why}");
    }
    if let Err(error) = appliance.flush_wanted() {
        let why = chain(&error);
        log::warn!("what clients asked for in vain could not be written, it is kept for the next time: {why}");
    }
    if renew_if_damaged(appliance) {
        let own = Arc::clone(appliance);
        tokio::task::spawn_blocking(move || reconcile(&own));
    }
}
