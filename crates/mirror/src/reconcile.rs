//! Beside a start: looks for damage in the databases, and makes the metadata database agree with the disk, which is the truth.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use download_cache::{Verdict, Wanted};
use index_sync::TreeFile;
use registry::{Checksum, IndexFile};

use crate::appliance::Appliance;
use crate::error::chain;
use crate::recorder::described;
use crate::scrubber::lost::{mark_lost, record_if_there};

/// How many files are recorded in one transaction.
const BATCH: usize = 200;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// What a start leaves for later, since it would take seconds: looks through the databases for damage, then reconciles. Blocks.
pub fn look_through(appliance: &Appliance) {
    // damage is noted by the database itself, and renewed below
    if let Err(error) = appliance.metadata.check() {
        log::error!("mirror.db: {}", chain(&error));
    }
    renew_if_damaged(appliance);
    if let Some(book) = &appliance.fetches
        && let Err(error) = book.look_through()
    {
        log::error!("fetch-log.db: {}", chain(&error));
    }
    reconcile(appliance);
}

/// Begins the metadata database anew if damage was met in it; says whether it did, and so whether to [`reconcile`]. Blocks.
pub fn renew_if_damaged(appliance: &Appliance) -> bool {
    match appliance.metadata.renew_if_damaged() {
        Ok(renewed) => renewed.is_some(),
        Err(error) => {
            log::error!("mirror.db is damaged and cannot be begun anew: {}", chain(&error));
            false
        }
    }
}

/// Rows without a file go, unless the file was damaged and set aside: those stay known as lost, and are fetched again if upstream
/// may be asked. Files without a row are adopted if the published index lists them and their hash is right. One at a time.
/// Blocks; runs beside everything else.
pub fn reconcile(appliance: &Appliance) {
    let _one_at_a_time = appliance.reconciling();
    match try_reconcile(appliance) {
        Ok((0, 0)) => {}
        Ok((adopted, forgotten)) => {
            log::info!("metadata brought in line with the disk: {adopted} files adopted, {forgotten} forgotten");
            // what was adopted counts from now on
            appliance.budget.look();
        }
        Err(error) => log::error!(
            "metadata could not be brought in line with the disk: {}",
            chain(&*error)
        ),
    }
}

/// Folder by folder, so that little is in memory at a time.
fn try_reconcile(appliance: &Appliance) -> Result<(usize, usize), AnyError> {
    let (mut unknown, mut forgotten, mut lost) = (Vec::new(), 0, 0);
    for folder in 0..=u8::MAX {
        if appliance.stopping() {
            return Ok((0, forgotten));
        }
        let (forgotten_here, lost_here) = compare(appliance, folder, &mut unknown)?;
        forgotten += forgotten_here;
        lost += lost_here;
    }
    if lost > 0 {
        log::error!("files that were damaged and of which no other copy is here: {lost}, `mirror verify` names them");
        appliance.scrubbed.found_lost.store(true, Relaxed);
    }
    unknown.sort_unstable_by_key(|(checksum, _)| *checksum);
    let adopted = if unknown.is_empty() {
        0
    } else {
        adopt(appliance, &unknown)?
    };
    Ok((adopted, forgotten))
}

/// Forgets rows of one folder of `blobs/` whose file is not there, or marks them as lost, and says how many of each; adds files
/// without a row to `unknown`.
fn compare(appliance: &Appliance, folder: u8, unknown: &mut Vec<(Checksum, u64)>) -> Result<(usize, usize), AnyError> {
    let mut on_disk: HashMap<Checksum, u64> = appliance.cache.checksums_in(folder)?.into_iter().collect();
    let mut rows = appliance.metadata.kept_in(folder)?;
    rows.dedup_by_key(|(checksum, _)| *checksum);
    let (mut forgotten, mut lost) = (0, 0);
    for (checksum, recorded) in rows {
        let is_there = match on_disk.remove(&checksum) {
            Some(size) if size == recorded => true,
            // sets aside what is wrong, and says so
            Some(_) => appliance.cache.verify(&checksum)? == Verdict::Good && record_if_there(appliance, &checksum)?,
            // perhaps it came after the folder was listed
            None => appliance.cache.kept(&checksum)?.is_some(),
        };
        if is_there {
            continue;
        }
        if recorded == 0 || appliance.cache.is_set_aside(&checksum) {
            mark_lost(appliance, &checksum)?;
            lost += 1;
        } else {
            forgotten += usize::from(appliance.metadata.forget_kept(&checksum)?);
        }
    }
    unknown.extend(on_disk);
    Ok((forgotten, lost))
}

/// Records files that were taken in just now, and so were hashed; in the order of their checksums. Gives how many the published
/// index lists. Blocks.
pub fn adopt_taken_in(appliance: &Appliance, files: &[(Checksum, u64)]) -> Result<usize, AnyError> {
    let _one_at_a_time = appliance.reconciling();
    match files.is_empty() {
        true => Ok(0),
        false => adopt_if(appliance, files, |_| Ok(true)),
    }
}

fn adopt(appliance: &Appliance, unknown: &[(Checksum, u64)]) -> Result<usize, AnyError> {
    // one that is wrong is set aside, which the cache says
    adopt_if(appliance, unknown, |checksum| {
        Ok(appliance.cache.verify(checksum)? == Verdict::Good)
    })
}

/// Records the unknown files, which are in the order of their checksums, that the published index lists and that are right.
fn adopt_if(
    appliance: &Appliance,
    unknown: &[(Checksum, u64)],
    is_right: impl Fn(&Checksum) -> Result<bool, AnyError>,
) -> Result<usize, AnyError> {
    let mut listed = vec![false; unknown.len()];
    let (mut adopted, mut batch) = (0, Vec::new());
    let finished = for_each_listed(appliance, unknown, |at, wanted| {
        listed[at] = true;
        if !is_right(&wanted.checksum)? {
            return Ok(());
        }
        if let Some(file) = described(appliance, &wanted, unknown[at].1) {
            batch.push(file);
            adopted += 1;
        }
        if batch.len() >= BATCH {
            appliance.metadata.record_kept_all(&std::mem::take(&mut batch))?;
        }
        Ok(())
    })?;
    appliance.metadata.record_kept_all(&batch)?;
    let orphans = listed.iter().filter(|listed| !**listed).count();
    if finished && orphans > 0 {
        log::info!("{orphans} files in blobs/ are listed by no published index line; they stay and are not counted");
    }
    Ok(adopted)
}

/// Walks over the whole published index, and calls back with the place of an unknown file and the version that a line lists it
/// as. `false` if the mirror stopped meanwhile.
fn for_each_listed(
    appliance: &Appliance,
    unknown: &[(Checksum, u64)],
    mut visit: impl FnMut(usize, Wanted) -> Result<(), AnyError>,
) -> Result<bool, AnyError> {
    let tree = appliance.index.tree();
    let mut paths = Vec::new();
    tree.for_each_file(|path, _| paths.push(path))?;
    for path in paths {
        if appliance.stopping() {
            return Ok(false);
        }
        let Some(blob) = tree.read(&TreeFile::Index(path.clone()))? else {
            continue;
        };
        for line in IndexFile::parse_readable(&blob.bytes, &path).lines() {
            let checksum = line.checksum;
            if let Ok(at) = unknown.binary_search_by_key(&checksum, |(checksum, _)| *checksum)
                && let (Ok(name), Ok(version)) = (line.name.parse(), line.vers.parse())
            {
                let wanted = Wanted {
                    name,
                    version,
                    checksum,
                };
                visit(at, wanted)?;
            }
        }
    }
    Ok(true)
}
