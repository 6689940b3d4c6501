//! `mirror prune`: by the running server, or here if none runs.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::own_appliance::with_own_appliance;
use super::progress::{OwnWatcher, done_by_server};
use super::{Ended, finish};
use crate::appliance::{Appliance, StartError};
use crate::budget::{Pruned, prune as prune_to};
use crate::control::{Reply, Request};
use crate::data_dir::check_format;
use crate::prefetch::{Watcher, over, size};
use crate::settings::Settings;

/// How often progress is told.
const SAY: Duration = Duration::from_millis(200);
/// There is nothing to shrink to.
pub const NO_BUDGET: &str =
    "cache.max_size is not set, so there is no budget to shrink to: --cache-max-size 20GB gives one";
/// The mirror would not do it by itself.
const OFFLINE: &str = "upstream may not be asked: what goes now cannot be fetched again until it may";

/// Shrinks the cache to `cache.max_size`, as this command has it or else the server.
pub fn prune(settings: Settings) -> Ended {
    check_format(&settings.data_dir)?;
    let max_bytes = settings.cache.max_bytes;
    let reply = match done_by_server(&settings, &Request::Prune { max_bytes })? {
        Some(reply) => reply,
        None => {
            let (max_bytes, own) = (max_bytes.ok_or(NO_BUDGET)?, OwnWatcher::new());
            let reply = with_own_appliance(settings, async |appliance: &Arc<Appliance>| {
                tokio::task::block_in_place(|| pruned(appliance, max_bytes, &own))
            });
            own.clear();
            reply?
        }
    };
    finish(&reply)
}

/// Shrinks the cache as an operator wants it, which is in offline mode too, until nobody wants it any more. Blocks.
pub fn pruned(appliance: &Appliance, max_bytes: u64, watcher: &impl Watcher) -> Result<Reply, StartError> {
    if appliance.is_offline() && appliance.metadata.totals()?.bytes > max_bytes {
        watcher.announce(OFFLINE.to_owned());
    }
    let said = Cell::new(None::<Instant>);
    let goes_on = |pruned: &Pruned| {
        if said.get().is_none_or(|said| said.elapsed() >= SAY) {
            watcher.say(words(pruned));
            said.set(Some(Instant::now()));
        }
        over(appliance, watcher).is_none()
    };
    let pruned = prune_to(appliance, max_bytes, &goes_on)?;
    let reply = match over(appliance, watcher) {
        Some(why) if pruned.is_over() => Reply::failed(format!("it was ended before its time: {why}")),
        // it was asked to keep a budget: that it could not is a failure, whatever went
        None if pruned.is_over() => Reply::failed("more is kept than may be"),
        _ => Reply::ok(""),
    };
    Ok(reply.with_report(pruned.to_string()))
}

fn words(pruned: &Pruned) -> String {
    let over = pruned.kept_bytes.saturating_sub(pruned.max_bytes);
    format!(
        "making room: {} files forgotten, {} of {} freed",
        pruned.files,
        size(pruned.bytes),
        size(pruned.bytes + over)
    )
}

#[cfg(test)]
mod tests {
    use metadata_db::{KeptFile, ManifestState};
    use registry::Checksum;
    use tokio::sync::mpsc;

    use super::*;
    use crate::commands::Job;
    use crate::data_dir::DataDir;
    use crate::settings::Environment;

    #[tokio::test]
    async fn an_abandoned_one_evicts_nothing_more_and_an_offline_one_warns_before() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::load(None, Environment::of(&[("MIRROR_MODE", "offline")]), &[]).unwrap();
        let data_dir = DataDir::lock(&dir.path().join("data"), "the test").unwrap();
        let appliance = Appliance::open(settings, data_dir, mpsc::unbounded_channel().0).unwrap();
        let file = KeptFile {
            name: "krate".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            checksum: Checksum::of(b"x"),
            size_bytes: 10,
            kept_at: 0,
            manifest: ManifestState::Unparsable("none".to_owned()),
        };
        appliance.metadata.record_kept(&file).unwrap();

        // nobody has ever asked how it goes
        let reply = pruned(&appliance, 0, &Job::default()).unwrap();
        assert!(
            !reply.ok && reply.message.contains("nobody asked any more"),
            "{reply:?}"
        );
        assert_eq!(appliance.metadata.totals().unwrap().files, 1);

        let job = Job::default();
        job.begin();
        let reply = pruned(&appliance, 0, &job).unwrap();
        assert!(reply.ok, "{reply:?}");
        assert_eq!(appliance.metadata.totals().unwrap().files, 0);
        let told = job.tell();
        assert!(told.message.starts_with("… making room: "), "{told:?}");
        assert_eq!(told.report.as_deref(), Some(OFFLINE));
        appliance.stop(Duration::ZERO).await;
    }
}
