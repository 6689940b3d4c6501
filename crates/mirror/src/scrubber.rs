//! Looks for rot before a build finds it: all kept files are hashed again within `cache.scrub_interval`, at a bounded pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use download_cache::{Verdict, Wanted};
use metadata_db::ScrubCursor;
use registry::Checksum;
use tokio::sync::watch;

use crate::appliance::{Appliance, StartError};
use crate::clock::unix_now;
use crate::error::chain;

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
    /// Files with wrong bytes, found by whomever, that were fetched again by themselves.
    pub repaired: AtomicU64,
    /// Whether that is done: by a server, and not by a command, which repairs what it is told to.
    heals: AtomicBool,
}

/// Goes round the folders of `blobs/` until the mirror stops: each has its share of the interval, so that a round takes that
/// long however much is kept. It goes on where the last process was. Returns at once if it is turned off.
pub async fn scrub(appliance: Arc<Appliance>, mut stop: watch::Receiver<bool>) {
    appliance.scrubbed.heals.store(true, Relaxed);
    let Some(interval) = appliance.settings.cache.scrub_interval else {
        return;
    };
    while !*stop.borrow() {
        let own = Arc::clone(&appliance);
        let step = tokio::task::spawn_blocking(move || one_folder(&own, interval)).await;
        let pause = step.unwrap_or_else(|panic| Err(panic.into())).unwrap_or_else(|error| {
            log::error!("kept files cannot be looked through: {}", chain(&*error));
            AFTER_TROUBLE
        });
        if tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
    }
}

/// Hashes the folder that is next if its time has come, and says how long there is nothing to do. Blocks.
fn one_folder(appliance: &Appliance, interval: Duration) -> Result<Duration, StartError> {
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
        return Ok(Duration::from_secs(u64::try_from(due - now).unwrap_or(1)));
    }
    hash_folder(appliance, cursor.folder)?;
    if appliance.stopping() {
        return Ok(Duration::ZERO);
    }
    let next = match cursor.folder.checked_add(1) {
        Some(folder) => ScrubCursor { folder, began_unix },
        None => ScrubCursor {
            folder: 0,
            began_unix: now.max(began_unix + seconds),
        },
    };
    appliance.metadata.set_scrub_cursor(next)?;
    Ok(Duration::ZERO)
}

/// When in a round a folder's turn is, in seconds.
fn share(seconds: i64, folder: u8) -> i64 {
    i64::try_from(i128::from(seconds) * i128::from(folder) / i128::from(FOLDERS)).unwrap_or(i64::MAX)
}

fn hash_folder(appliance: &Appliance, folder: u8) -> Result<(), StartError> {
    let scrubbed = &appliance.scrubbed;
    for (checksum, size_bytes) in appliance.cache.checksums_in(folder)? {
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
    Ok(())
}

/// What a checksum is called, for people.
pub fn name_of(appliance: &Appliance, checksum: &Checksum) -> String {
    let found = named(appliance, checksum).ok().flatten();
    found.map_or_else(|| checksum.to_string(), |wanted| wanted.to_string())
}

/// The recorded version that has this checksum. Blocks.
fn named(appliance: &Appliance, checksum: &Checksum) -> Result<Option<Wanted>, metadata_db::Error> {
    let rows = appliance.metadata.kept_rows_in(checksum.as_bytes()[0])?;
    let row = rows.into_iter().find(|row| row.checksum == *checksum);
    Ok(row.map(|row| Wanted {
        name: row.name,
        version: row.version,
        checksum: row.checksum,
    }))
}

/// A kept file had wrong bytes and was set aside by the cache: in a server it no longer counts as kept, and is fetched again if
/// upstream may be asked.
pub async fn set_aside(appliance: Arc<Appliance>, checksum: Checksum) {
    if !appliance.scrubbed.heals.load(Relaxed) {
        return;
    }
    let own = Arc::clone(&appliance);
    let forgetting = tokio::task::spawn_blocking(move || {
        let named = named(&own, &checksum)?;
        // a fill may have brought it back meanwhile
        if !matches!(own.cache.kept(&checksum), Ok(Some(_))) {
            own.metadata.forget_kept(&checksum)?;
        }
        Ok::<_, metadata_db::Error>(named)
    });
    let wanted = match forgetting.await {
        Ok(Ok(Some(wanted))) => wanted,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => return log::warn!("bad file {checksum}: not forgotten: {}", chain(&error)),
        Err(panic) => return log::error!("bad file {checksum}: not forgotten: {panic}"),
    };
    if appliance.is_offline() {
        log::error!("{wanted}: its file was damaged, and upstream is not to be asked for another");
        return;
    }
    match appliance.fetch_again(&wanted).await {
        Ok(()) => {
            appliance.scrubbed.repaired.fetch_add(1, Relaxed);
            log::info!("{wanted}: its file was damaged and is here anew");
        }
        Err(why) => log::error!("{wanted}: its file was damaged and cannot be had anew: {why}"),
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
        let pause = one_folder(appliance, INTERVAL).unwrap();
        (pause.is_zero(), appliance.metadata.scrub_cursor().unwrap().unwrap())
    }

    #[tokio::test]
    async fn it_goes_on_where_it_was_and_waits_for_each_folders_turn() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::load(None, Environment::of(&[("MIRROR_UPSTREAM__SPARSE", "")]), &[]).unwrap();
        let data_dir = DataDir::lock(&dir.path().join("data"), "the test").unwrap();
        let appliance = Appliance::open(settings, data_dir, mpsc::unbounded_channel().0).unwrap();
        assert!(one_folder(&appliance, INTERVAL).unwrap().is_zero());
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
