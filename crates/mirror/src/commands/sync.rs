//! `mirror sync` and `mirror verify --against-upstream`: by the running server, or here if none runs.

use std::sync::Arc;

use index_sync::{Difference, FollowPhase, FollowStatus};

use super::own_appliance::with_own_appliance;
use super::progress::{Bar, watch};
use super::{Ended, finish, say};
use crate::appliance::{Appliance, StartError};
use crate::control::{Reply, Request, ask};
use crate::data_dir::check_format;
use crate::settings::Settings;

/// One round, with a progress bar; ends by saying how many crate files are kept.
pub fn sync(settings: Settings) -> Ended {
    check_format(&settings.data_dir)?;
    let mut bar = Bar::new();
    let reply = match ask(&settings.data_dir, &Request::Sync)? {
        Some(begun) if !begun.ok => begun,
        Some(_) => watch(&settings, &mut bar, &Request::SyncProgress, |_, _| ())?,
        None => with_own_appliance(settings, async |appliance: &Arc<Appliance>| {
            let synced = appliance.index.sync_once(|status| bar.show(&words(status))).await;
            Ok(Reply::ok(synced_text(appliance, &synced?)?))
        })?,
    };
    bar.clear();
    finish(&reply)
}

/// What a round brought, and what it did not: a sync is of the index alone. Blocks.
pub fn synced_text(appliance: &Appliance, report: &index_sync::SyncReport) -> Result<String, StartError> {
    let (files, totals) = (appliance.index.status().files, appliance.metadata.totals()?);
    Ok(format!(
        "the index is up to date with upstream's commit {}: {files} crates, {} files changed upstream, {} bytes fetched in {:.1?}.\n\
         This was the index; {} crate files ({} bytes) are kept. Others are fetched when a build first asks for them, or ahead of it by `mirror prefetch`.",
        report.upstream, report.changed_files, report.received_bytes, report.took, totals.files, totals.bytes
    ))
}

/// What following is at, for people.
pub fn words(status: &FollowStatus) -> String {
    match status.phase {
        FollowPhase::Waiting | FollowPhase::Idle => "asking upstream".to_owned(),
        FollowPhase::Fetching { received_bytes } => format!("fetched {:.1} MB", received_bytes as f64 / 1e6),
        FollowPhase::Publishing { total: 0, .. } => "comparing with what is published".to_owned(),
        FollowPhase::Publishing { done, total } => format!("brought in {done} of {total} index files"),
    }
}

/// Names every index file in which the published index differs from the upstream commit that it has come to.
pub fn verify_against_upstream(settings: Settings) -> Ended {
    check_format(&settings.data_dir)?;
    let text = match ask(&settings.data_dir, &Request::VerifyAgainstUpstream)? {
        Some(reply) if reply.ok => reply.message,
        Some(reply) => return Err(reply.message.into()),
        None => with_own_appliance(settings, async |appliance: &Arc<Appliance>| differences_text(appliance))?,
    };
    say(&format!("{text}\n"))
}

/// The differences, one line each. Blocks.
pub fn differences_text(appliance: &Appliance) -> Result<String, StartError> {
    let differences = appliance.index.verify_against_upstream()?;
    if differences.is_empty() {
        return Ok("the published index differs from upstream's by config.json alone".to_owned());
    }
    let mut text = format!("{} index files differ from upstream's:", differences.len());
    for difference in &differences {
        text.push_str(&format!("\n  {}: {}", difference.path, in_words(difference)));
    }
    Ok(text)
}

fn in_words(difference: &Difference) -> String {
    match (&difference.upstream, &difference.published) {
        (Some(upstream), Some(published)) => format!("upstream has {upstream}, published is {published}"),
        (Some(upstream), None) => format!("upstream has {upstream}, it is not published"),
        (None, Some(published)) => format!("upstream does not have it, published is {published}"),
        (None, None) => "neither has it".to_owned(),
    }
}
