//! After a start: makes the metadata database agree with the disk, which is the truth.

use std::collections::{HashMap, HashSet};

use download_cache::{Verdict, Wanted};
use index_sync::TreeFile;
use registry::{Checksum, IndexFile};

use crate::appliance::Appliance;
use crate::error::chain;
use crate::recorder::described;

/// How many files are recorded in one transaction.
const BATCH: usize = 200;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Rows without a file go, and so do those whose file has another size and so was damaged; files without a row are adopted if
/// the published index lists them and their hash is right. Blocks; runs beside everything else.
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

fn try_reconcile(appliance: &Appliance) -> Result<(usize, usize), AnyError> {
    let mut on_disk = HashMap::new();
    appliance.cache.for_each_kept(|checksum, size_bytes| {
        on_disk.insert(checksum, size_bytes);
    })?;
    let (mut lost, mut damaged) = (Vec::new(), Vec::new());
    let mut sound = HashSet::new();
    appliance
        .metadata
        .for_each_kept(|row| match on_disk.get(&row.checksum) {
            None => lost.push(row.checksum),
            Some(size) if *size != row.size_bytes => damaged.push(row.checksum),
            Some(_) => drop(sound.insert(row.checksum)),
        })?;
    for checksum in damaged {
        // sets it aside and says so
        if appliance.cache.verify(&checksum)? == Verdict::Good {
            sound.insert(checksum);
        } else {
            lost.push(checksum);
        }
    }
    let mut forgotten = 0;
    for checksum in &lost {
        forgotten += usize::from(appliance.metadata.forget_kept(checksum)?);
        on_disk.remove(checksum);
    }
    on_disk.retain(|checksum, _| !sound.contains(checksum));
    let adopted = if on_disk.is_empty() {
        0
    } else {
        adopt(appliance, &on_disk)?
    };
    Ok((adopted, forgotten))
}

fn adopt(appliance: &Appliance, unknown: &HashMap<Checksum, u64>) -> Result<usize, AnyError> {
    let listed = listed(appliance, unknown)?;
    let names: HashSet<Checksum> = listed.iter().map(|wanted| wanted.checksum).collect();
    let (mut adopted, mut batch) = (0, Vec::new());
    for wanted in listed {
        if appliance.stopping() {
            break;
        }
        // one that is wrong is set aside, which the cache says
        if appliance.cache.verify(&wanted.checksum)? != Verdict::Good {
            continue;
        }
        if let Some(file) = described(appliance, &wanted, unknown[&wanted.checksum]) {
            batch.push(file);
            adopted += 1;
        }
        if batch.len() >= BATCH {
            appliance.metadata.record_kept_all(&std::mem::take(&mut batch))?;
        }
    }
    appliance.metadata.record_kept_all(&batch)?;
    let orphans = unknown.len() - names.len();
    if orphans > 0 {
        log::info!("{orphans} files in blobs/ are listed by no published index line; they stay and are not counted");
    }
    Ok(adopted)
}

/// The versions whose index lines name one of the checksums, by a walk over the whole published index.
fn listed(appliance: &Appliance, unknown: &HashMap<Checksum, u64>) -> Result<Vec<Wanted>, AnyError> {
    let tree = appliance.index.tree();
    let (mut found, mut paths) = (Vec::new(), Vec::new());
    tree.for_each_file(|path, _| paths.push(path))?;
    for path in paths {
        let Some(blob) = tree.read(&TreeFile::Index(path.clone()))? else {
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
