//! Writes what is kept into the metadata database as fills end, and statistics now and then.

use std::sync::Arc;
use std::time::Duration;

use download_cache::{Event, Wanted};
use metadata_db::{KeptFile, ManifestState, read_crate_file};
use registry::IndexPath;
use tokio::sync::mpsc;

use crate::appliance::Appliance;
use crate::clock::unix_now;
use crate::error::chain;

/// Takes the ends of fills until the sender is gone. The cache has logged each of them already.
pub async fn record_fills(appliance: Arc<Appliance>, mut events: mpsc::UnboundedReceiver<Event>) {
    while let Some(event) = events.recv().await {
        if let Event::Kept { wanted, size_bytes, .. } = event {
            record(&appliance, wanted, size_bytes).await;
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

/// Writes statistics every few seconds until the mirror stops.
pub async fn flush_statistics(appliance: Arc<Appliance>, mut stop: tokio::sync::watch::Receiver<bool>) {
    let every = Duration::from_secs(10);
    while tokio::time::timeout(every, stop.wait_for(|stop| *stop)).await.is_err() {
        let own = Arc::clone(&appliance);
        let flushed = tokio::task::spawn_blocking(move || own.flush_statistics()).await;
        if let Ok(Err(error)) = flushed {
            log::warn!(
                "statistics could not be written, they are kept for the next time: {}",
                chain(&error)
            );
        }
    }
}
