//! Writes what is kept into the metadata database: as fills end, and after a start for what the database does not know.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use download_cache::{Event, Verdict, Wanted};
use metadata_db::{KeptFile, ManifestState, read_crate_file};
use registry::{Checksum, IndexFile, IndexPath};
use tokio::sync::mpsc;

use crate::appliance::Appliance;
use crate::clock::unix_now;
use crate::error::chain;

/// How many files are recorded in one transaction while rebuilding.
const REBUILD_BATCH: usize = 200;

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
fn described(appliance: &Appliance, wanted: &Wanted, size_bytes: u64) -> Option<KeptFile> {
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

/// Makes the database agree with the disk: rows without a file go, files without a row are adopted if the published
/// index lists them and their hash is right. Blocks; runs beside everything else.
pub fn reconcile(appliance: &Appliance) {
    match try_reconcile(appliance) {
        Ok((0, 0)) => {}
        Ok((adopted, forgotten)) => {
            log::info!("metadata brought in line with the disk: {adopted} files adopted, {forgotten} forgotten");
        }
        Err(error) => log::error!(
            "metadata could not be brought in line with the disk: {}",
            chain(&*error)
        ),
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn try_reconcile(appliance: &Appliance) -> Result<(usize, usize), AnyError> {
    let recorded = appliance.metadata.kept_checksums()?;
    let mut on_disk = HashMap::new();
    appliance.cache.for_each_kept(|checksum, size_bytes| {
        on_disk.insert(checksum, size_bytes);
    })?;
    let mut forgotten = 0;
    for checksum in recorded.iter().filter(|checksum| !on_disk.contains_key(checksum)) {
        forgotten += usize::from(appliance.metadata.forget_kept(checksum)?);
    }
    on_disk.retain(|checksum, _| !recorded.contains(checksum));
    let adopted = if on_disk.is_empty() {
        0
    } else {
        adopt(appliance, &on_disk)?
    };
    Ok((adopted, forgotten))
}

fn adopt(appliance: &Appliance, unknown: &HashMap<Checksum, u64>) -> Result<usize, AnyError> {
    let mut adopted = HashSet::new();
    let mut batch = Vec::new();
    for wanted in listed(appliance, unknown)? {
        if appliance.stopping() {
            break;
        }
        match appliance.cache.verify(&wanted.checksum)? {
            Verdict::Good => {}
            Verdict::Bad { actual, .. } => {
                log::warn!("{wanted}: the file on disk has checksum {actual}; set aside");
                continue;
            }
            Verdict::Absent => continue,
        }
        if let Some(file) = described(appliance, &wanted, unknown[&wanted.checksum]) {
            adopted.insert(wanted.checksum);
            batch.push(file);
        }
        if batch.len() >= REBUILD_BATCH {
            appliance.metadata.record_kept_all(&std::mem::take(&mut batch))?;
        }
    }
    appliance.metadata.record_kept_all(&batch)?;
    let orphans = unknown.len() - adopted.len();
    if orphans > 0 {
        log::info!("{orphans} files in blobs/ are listed by no published index line; they stay and are not counted");
    }
    Ok(adopted.len())
}

/// The versions whose index lines name one of the checksums, by a walk over the whole published index.
fn listed(appliance: &Appliance, unknown: &HashMap<Checksum, u64>) -> Result<Vec<Wanted>, AnyError> {
    let tree = appliance.index.tree();
    let mut found = Vec::new();
    let mut paths = Vec::new();
    tree.for_each_file(|path, _| paths.push(path))?;
    for path in paths {
        let Some(blob) = tree.read(&index_sync::TreeFile::Index(path.clone()))? else {
            continue;
        };
        for line in IndexFile::parse_readable(&blob.bytes, &path).lines() {
            if unknown.contains_key(&line.checksum)
                && let (Ok(name), Ok(version)) = (line.name.parse(), line.vers.parse())
            {
                found.push(Wanted {
                    name,
                    version,
                    checksum: line.checksum,
                });
            }
        }
    }
    Ok(found)
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
