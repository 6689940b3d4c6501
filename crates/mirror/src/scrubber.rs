//! Looks for rot before a build finds it: all kept files are hashed again within `cache.scrub_interval`, at a bounded pace.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use download_cache::{Verdict, Wanted};
use metadata_db::ScrubCursor;
use registry::Checksum;
use tokio::sync::watch;

use crate::appliance::{Appliance, StartError};
use crate::clock::unix_now;
use crate::error::chain;

pub mod lost;

/// A disk that fails is left alone for so long.
const AFTER_TROUBLE: Duration = Duration::from_secs(60);
/// Folders of `blobs/`.
const FOLDERS: i64 = 256;

/// What the scrubber has done since the start.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// Files that were hashed again.
    pub files: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Files that the disk could not read.
    pub unreadable: AtomicU64,
    /// Files that are recorded and were found missing in the background.
    pub missing: AtomicU64,
    /// Files with wrong bytes, found by whomever, or missing ones that were fetched again by themselves.
    pub repaired: AtomicU64,
    /// Set by who found files that are recorded and not there, which may be fetched again.
    pub found_lost: AtomicBool,
    /// Those that are being fetched again.
    healing: Mutex<HashSet<Checksum>>,
    /// Whether that is done: by a server, and not by a command, which repairs what it is told to.
    heals: AtomicBool,
}

/// Looks for rot, and heals what was found earlier and could not be then, until the mirror stops.
pub async fn scrub(appliance: Arc<Appliance>, stop: watch::Receiver<bool>) {
    appliance.scrubbed.heals.store(true, Relaxed);
    let healing = lost::heal_when_possible(Arc::clone(&appliance), stop.clone());
    tokio::join!(healing, go_round(appliance, stop));
}

/// Goes round the folders of `blobs/`: each has its share of the interval, so that a round takes that long however much is kept.
/// It goes on where the last process was. Returns at once if it is turned off.
async fn go_round(appliance: Arc<Appliance>, mut stop: watch::Receiver<bool>) {
    let Some(interval) = appliance.settings.cache.scrub_interval else {
        return;
    };
    while !*stop.borrow() {
        let own = Arc::clone(&appliance);
        let step = tokio::task::spawn_blocking(move || one_folder(&own, interval)).await;
        let step = step.unwrap_or_else(|panic| Err(panic.into()));
        let (pause, lost) = step.unwrap_or_else(|error| {
            log::error!("kept files cannot be looked through: {}", chain(&*error));
            (AFTER_TROUBLE, Vec::new())
        });
        lost::heal_all(&appliance, lost).await;
        if tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
    }
}

/// Hashes the folder that is next if its time has come, and says how long there is nothing to do, and which files it lacks. Blocks.
fn one_folder(appliance: &Appliance, interval: Duration) -> Result<(Duration, Vec<Wanted>), StartError> {
    let now = unix_now();
    let seconds = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX).max(1);
    let cursor = appliance.metadata.scrub_cursor()?.unwrap_or(ScrubCursor {
        folder: 0,
        began_unix: now,
    });
    // after a year in a drawer, or with a clock that was set back, a round is spread from here on
    let began_unix = if (0..=2 * seconds).contains(&(now - cursor.began_unix)) {
        cursor.began_unix
    } else {
        now - share(seconds, cursor.folder)
    };
    let due = began_unix + share(seconds, cursor.folder);
    if now < due {
        let pause = Duration::from_secs(u64::try_from(due - now).unwrap_or(1));
        return Ok((pause, Vec::new()));
    }
    let on_disk = hash_folder(appliance, cursor.folder)?;
    if appliance.stopping() {
        return Ok((Duration::ZERO, Vec::new()));
    }
    let lost = note_lost(appliance, cursor.folder, &on_disk)?;
    let next = match cursor.folder.checked_add(1) {
        Some(folder) => ScrubCursor { folder, began_unix },
        None => ScrubCursor {
            folder: 0,
            began_unix: now.max(began_unix + seconds),
        },
    };
    appliance.metadata.set_scrub_cursor(next)?;
    Ok((Duration::ZERO, lost))
}

/// When in a round a folder's turn is, in seconds.
fn share(seconds: i64, folder: u8) -> i64 {
    i64::try_from(i128::from(seconds) * i128::from(folder) / i128::from(FOLDERS)).unwrap_or(i64::MAX)
}

/// Says which files it met.
fn hash_folder(appliance: &Appliance, folder: u8) -> Result<HashSet<Checksum>, StartError> {
    let scrubbed = &appliance.scrubbed;
    let files = appliance.cache.checksums_in(folder)?;
    for &(checksum, size_bytes) in &files {
        if appliance.stopping() {
            break;
        }
        let began = Instant::now();
        // one that is wrong is set aside and told by the cache, and so comes to `set_aside`
        match appliance.cache.verify(&checksum) {
            Ok(Verdict::Absent) => continue,
            Ok(Verdict::Good | Verdict::Bad { .. }) => {}
            Err(error) => {
                scrubbed.unreadable.fetch_add(1, Relaxed);
                log::error!("{}: {}", name_of(appliance, &checksum), chain(&error));
            }
        }
        scrubbed.files.fetch_add(1, Relaxed);
        scrubbed.bytes.fetch_add(size_bytes, Relaxed);
        let time = Duration::from_secs_f64(size_bytes as f64 / appliance.settings.cache.scrub_rate as f64);
        std::thread::sleep(time.saturating_sub(began.elapsed()));
    }
    Ok(files.into_iter().map(|(checksum, _)| checksum).collect())
}

/// What is recorded and was not among the folder's files, deleted by hand for instance. It is told once, and tried each time.
fn note_lost(appliance: &Appliance, folder: u8, on_disk: &HashSet<Checksum>) -> Result<Vec<Wanted>, StartError> {
    let recorded = appliance.metadata.kept_rows_in(folder)?;
    let lost = lost::lost_among(appliance, recorded, on_disk)?;
    for row in lost.iter().filter(|row| row.size_bytes > 0) {
        appliance.scrubbed.missing.fetch_add(1, Relaxed);
        log::error!(
            "{} {}: it is recorded, but its file is not there",
            row.name,
            row.version
        );
        lost::mark_lost(appliance, &row.checksum)?;
    }
    Ok(lost.iter().map(lost::named).collect())
}

/// What a checksum is called, for people.
pub fn name_of(appliance: &Appliance, checksum: &Checksum) -> String {
    let found = lost::recorded(appliance, checksum).ok().flatten();
    found.map_or_else(|| checksum.to_string(), |wanted| wanted.to_string())
}

/// A kept file had wrong bytes and was set aside by the cache: in a server it stays known without its bytes, and is fetched again
/// as soon as upstream may be asked.
pub async fn set_aside(appliance: Arc<Appliance>, checksum: Checksum) {
    if !appliance.scrubbed.heals.load(Relaxed) {
        return;
    }
    let own = Arc::clone(&appliance);
    let marking = tokio::task::spawn_blocking(move || {
        lost::mark_lost(&own, &checksum)?;
        Ok::<_, StartError>(lost::recorded(&own, &checksum)?)
    });
    match marking.await.unwrap_or_else(|panic| Err(panic.into())) {
        Ok(Some(wanted)) => lost::heal(&appliance, &wanted, "was damaged").await,
        Ok(None) => {}
        Err(error) => log::warn!("bad file {checksum}: not noted as missing: {}", chain(&*error)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::data_dir::DataDir;
    use crate::settings::{Environment, Settings};

    #[test]
    fn a_round_is_spread_over_its_time() {
        assert_eq!(share(604_800, 0), 0);
        assert_eq!(share(604_800, 128), 302_400);
        assert_eq!(share(604_800, 255), 602_437);
        assert_eq!(share(1, 255), 0);
        assert!(share(i64::MAX, 255) > 0);
    }

    const INTERVAL: Duration = Duration::from_secs(256_000);

    /// Whether the folder that is next was hashed, and where the cursor is after that.
    fn step(appliance: &Appliance, folder: u8, began_unix: i64) -> (bool, ScrubCursor) {
        let cursor = ScrubCursor { folder, began_unix };
        appliance.metadata.set_scrub_cursor(cursor).unwrap();
        let (pause, _) = one_folder(appliance, INTERVAL).unwrap();
        (pause.is_zero(), appliance.metadata.scrub_cursor().unwrap().unwrap())
    }

    #[tokio::test]
    async fn it_goes_on_where_it_was_and_waits_for_each_folders_turn() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::load(None, Environment::of(&[("MIRROR_UPSTREAM__SPARSE", "")]), &[]).unwrap();
        let data_dir = DataDir::lock(&dir.path().join("data"), "the test").unwrap();
        let appliance = Appliance::open(settings, data_dir, mpsc::unbounded_channel().0).unwrap();
        assert!(one_folder(&appliance, INTERVAL).unwrap().0.is_zero());
        assert_eq!(appliance.metadata.scrub_cursor().unwrap().unwrap().folder, 1);

        let began = unix_now() - 4_500;
        let at = |folder| ScrubCursor {
            folder,
            began_unix: began,
        };
        assert_eq!(step(&appliance, 4, began), (true, at(5)));
        assert_eq!(step(&appliance, 5, began), (false, at(5)), "its turn is in 500 seconds");
        // behind by half a round, after a rest: it catches up
        assert!(step(&appliance, 5, unix_now() - 128_000).0);

        let began = unix_now() - 255_500;
        let (hashed, next) = step(&appliance, 255, began);
        assert!(
            hashed
                && next
                    == ScrubCursor {
                        folder: 0,
                        began_unix: began + 256_000
                    }
        );
        // after years, or with a clock that was wrong, the rest is spread from now on
        for odd in [0, unix_now() + 1_000_000] {
            let (hashed, next) = step(&appliance, 100, odd);
            assert!(hashed && next.folder == 101 && (unix_now() - 100_000 - next.began_unix).abs() < 60);
        }
    }
}
