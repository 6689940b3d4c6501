//! What an operator asks of the running server by hand, and how long work is begun there.

use std::collections::BTreeSet;
use std::sync::Arc;

use index_sync::Ask;
use metadata_db::{DecisionsDb, MetadataDb, Pin};
use registry::{Checksum, CrateName, CrateVersion, IndexFile, IndexPath};

use crate::appliance::{Appliance, StartError};
use crate::commands::{Jobs, NO_BUDGET, differences_text, pin_named, pruned, synced_text, verify_reply, words};
use crate::control::Reply;
use crate::data_dir::DataDir;
use crate::error::chain;
use crate::selected::Named;

/// Begins a round of following upstream's git repository, in the background.
pub fn sync(appliance: &Arc<Appliance>) -> Reply {
    if appliance.index.follow_status().is_none() {
        return Reply::failed("upstream.git is empty: there is no repository to sync from");
    }
    if appliance.sync_job.begin() {
        let own = Arc::clone(appliance);
        tokio::spawn(async move {
            let synced = own.index.sync_once(|status| own.sync_job.say(words(status))).await;
            let outcome: Result<String, StartError> = match synced {
                Ok(report) => {
                    let shared = Arc::clone(&own);
                    let text = tokio::task::spawn_blocking(move || synced_text(&shared, &report)).await;
                    text.unwrap_or_else(|panic| Err(panic.into()))
                }
                Err(error) => Err(error.into()),
            };
            own.sync_job
                .end(outcome.map_or_else(|error| Reply::failed(chain(&*error)), Reply::ok));
        });
    }
    Reply::ok("begun")
}

/// Begins to hash all that is kept, in the background.
pub fn verify(appliance: &Arc<Appliance>, repair: bool) -> Reply {
    if !appliance.verify_job.begin() {
        return Reply::failed("another verify is under way in the running server");
    }
    let own = Arc::clone(appliance);
    tokio::spawn(async move {
        let verified = crate::verify::verify(&own, repair, |words| own.verify_job.say(words)).await;
        let reply = verified.map_or_else(|error| Reply::failed(chain(&*error)), verify_reply);
        own.verify_job.end(reply);
    });
    Reply::ok("begun")
}

/// Begins to evict what is beyond the budget: the command's, else the one in force.
pub fn prune(appliance: &Arc<Appliance>, max_bytes: Option<u64>) -> Reply {
    let Some(max_bytes) = max_bytes.or(appliance.settings.cache.max_bytes) else {
        return Reply::failed(NO_BUDGET);
    };
    Jobs::begin(appliance, "a prune", move |appliance, job| async move {
        let pruning = tokio::task::spawn_blocking(move || pruned(&appliance, max_bytes, &*job));
        match pruning.await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => Reply::failed(chain(&*error)),
            Err(_) => Reply::failed("the eviction was abandoned"),
        }
    })
}

/// Begins to make what is named the set of that name.
pub fn pin(appliance: &Arc<Appliance>, name: String, named: Named) -> Reply {
    Jobs::begin(appliance, "a pin", move |appliance, job| async move {
        let pinned = pin_named(&appliance, &name, named, &*job).await;
        pinned.unwrap_or_else(|error| Reply::failed(chain(&*error)))
    })
}

/// Where the published index differs from the upstream commit that it has come to.
pub async fn verify_against_upstream(appliance: Arc<Appliance>) -> Reply {
    match tokio::task::spawn_blocking(move || differences_text(&appliance)).await {
        Ok(Ok(text)) => Reply::ok(text),
        Ok(Err(error)) => Reply::failed(chain(&*error)),
        Err(_) => Reply::failed("the comparison was abandoned"),
    }
}

/// Asks upstream for a crate's index file now.
pub async fn refresh(appliance: &Appliance, name: &CrateName) -> Reply {
    let path = IndexPath::of(name);
    match appliance.index.file(&path, Ask::Now).await {
        Ok(Some(entry)) => {
            let versions = IndexFile::parse_readable(&entry.bytes, &path).lines().len();
            Reply::ok(format!("{name}: up to date, {versions} versions"))
        }
        Ok(None) => Reply::failed(format!("{name}: upstream has no such crate")),
        Err(error) => Reply::failed(format!("{name}: {}", chain(&error))),
    }
}

/// Who fetched a crate, by the log with what is not written down yet.
pub async fn who(appliance: Arc<Appliance>, name: CrateName, version: Option<CrateVersion>) -> Reply {
    let looking = tokio::task::spawn_blocking(move || {
        let book = appliance.fetches.as_ref();
        crate::fetch_log::who(appliance.data_dir(), book, &name, version.as_ref())
    });
    match looking.await {
        Ok(Ok(text)) => Reply::ok(text),
        Ok(Err(error)) => Reply::failed(chain(&*error)),
        Err(_) => Reply::failed("looking it up was abandoned"),
    }
}

/// Forgets the kept files of a crate, or of one version, in a running mirror.
pub async fn evict(appliance: Arc<Appliance>, name: CrateName, version: Option<CrateVersion>) -> Reply {
    let evicting = tokio::task::spawn_blocking(move || {
        let remove = |checksum: &Checksum| appliance.cache.evict(checksum);
        let reply = match appliance.decisions.pins() {
            Ok(pins) => forget(&appliance.metadata, &pins, remove, &name, version.as_ref()),
            Err(error) => Reply::failed(chain(&error)),
        };
        appliance.budget.look_again();
        reply
    });
    evicting
        .await
        .unwrap_or_else(|_| Reply::failed("the eviction was abandoned"))
}

/// The same in a data directory that no server has open. Nothing else in it is touched.
pub fn evict_stopped(
    data_dir: &DataDir,
    name: &CrateName,
    version: Option<&CrateVersion>,
) -> Result<Reply, StartError> {
    let decisions = data_dir.path().join("decisions.db");
    let mut pins = Vec::new();
    if decisions.is_file() {
        // a newer one means that a newer mirror was here: nothing is touched then
        pins = DecisionsDb::open(&decisions)?.pins()?;
    }
    let metadata = MetadataDb::open(&data_dir.path().join("mirror.db"))?.db;
    let remove = |checksum: &Checksum| download_cache::evict_from(data_dir.path(), checksum);
    Ok(forget(&metadata, &pins, remove, name, version))
}

fn forget(
    metadata: &MetadataDb,
    pins: &[Pin],
    remove: impl Fn(&Checksum) -> Result<Option<u64>, download_cache::Error>,
    name: &CrateName,
    version: Option<&CrateVersion>,
) -> Reply {
    let kept = match metadata.kept_versions(name) {
        Ok(kept) => kept,
        Err(error) => return Reply::failed(chain(&error)),
    };
    let (mut files, mut bytes, mut pinned_by) = (0, 0, BTreeSet::new());
    for row in kept
        .iter()
        .filter(|row| version.is_none_or(|version| *version == row.version))
    {
        let freed = remove(&row.checksum).map_err(|error| chain(&error));
        let forgotten = metadata.forget_kept(&row.checksum).map_err(|error| chain(&error));
        match freed.and_then(|freed| forgotten.map(|_| freed)) {
            Ok(freed) => {
                files += 1;
                bytes += freed.unwrap_or(0);
                pinned_by.extend(pins.iter().filter(|pin| has(pin, &row.checksum)).map(|pin| &*pin.name));
                log::info!("{} {}: evicted by command", row.name, row.version);
            }
            Err(why) => return Reply::failed(format!("{} {}: {why}", row.name, row.version)),
        }
    }
    let what = version.map_or_else(|| name.to_string(), |version| format!("{name} {version}"));
    let mut text = match files {
        0 => return Reply::failed(format!("{what}: no file of it is kept")),
        1 => format!("{what}: 1 file forgotten, {bytes} bytes freed"),
        _ => format!("{what}: {files} files forgotten, {bytes} bytes freed"),
    };
    if !pinned_by.is_empty() {
        let names: Vec<&str> = pinned_by.into_iter().collect();
        let names = names.join(", ");
        text.push_str(&format!(
            "; it was pinned by {names}, and still is: it stays when it is fetched again"
        ));
    }
    Reply::ok(text)
}

fn has(pin: &Pin, checksum: &Checksum) -> bool {
    pin.files.iter().any(|file| file.checksum == *checksum)
}
