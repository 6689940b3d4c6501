//! A prefetch and the budget: what is found counts as used, and what did not stay is told.

use std::sync::Arc;

use metadata_db::Served;
use selection::Selected;

use super::fetching::Fetched;
use super::plan::size;
use crate::appliance::{Appliance, StartError};
use crate::clock::unix_now;
use crate::selected::{Found, Whereabouts, whereabouts};

/// What is not here at the end, beside what could not be fetched.
#[derive(Debug, Default)]
pub struct Missing {
    /// One line each.
    pub named: Vec<String>,
    /// How many more went to keep the budget.
    pub unnamed: u64,
    /// What is to be said beside that.
    pub warning: Option<String>,
}

/// What was found counts as used now, without a download being counted: it must not be the first to go for what comes.
pub async fn count_as_used(appliance: &Arc<Appliance>, kept: &[Selected]) -> Result<(), StartError> {
    let now = Served {
        count: 0,
        last_unix: unix_now(),
    };
    let used: Vec<_> = kept.iter().filter_map(|file| Some((file.checksum?, now))).collect();
    let own = Arc::clone(appliance);
    tokio::task::spawn_blocking(move || own.metadata.add_served(&used)).await??;
    Ok(())
}

/// A warning for more bytes than the budget allows.
pub fn beyond_budget(appliance: &Appliance, bytes: u64) -> Option<String> {
    let max_bytes = appliance.settings.cache.max_bytes?;
    (bytes > max_bytes).then(|| {
        format!(
            "warning: {} is more than the {} of cache.max_size: what was used least goes again, unless it is pinned",
            size(bytes),
            size(max_bytes)
        )
    })
}

/// What of `planned` is not kept any more, though it was found or fetched.
pub async fn gone(
    appliance: &Arc<Appliance>,
    planned: Vec<Selected>,
    fetched: &Fetched,
) -> Result<Missing, StartError> {
    if fetched.is_given_up() {
        return Ok(Missing::default());
    }
    make_room(appliance).await?;
    let (mut missing, mut bytes) = (Missing::default(), 0);
    for Found { selected, whereabouts } in whereabouts(appliance, planned).await? {
        match whereabouts {
            Whereabouts::Kept { size_bytes, .. } => bytes += size_bytes,
            _ if fetched.has_failed(&selected) => {}
            Whereabouts::NotKept { .. } => missing.named.push(format!("{selected}: {}", why_gone(appliance))),
            other => missing.named.push(format!("{selected}: {other}")),
        }
    }
    missing.warning = beyond_budget(appliance, bytes);
    Ok(missing)
}

/// What would go within seconds goes now, so that the look at the end sees it.
pub async fn make_room(appliance: &Arc<Appliance>) -> Result<(), StartError> {
    if let Some(max_bytes) = appliance.settings.cache.max_bytes {
        let own = Arc::clone(appliance);
        let pruned = tokio::task::spawn_blocking(move || crate::budget::make_room(&own, max_bytes)).await??;
        if pruned.files > 0 {
            log::info!("made room: {pruned}");
        }
    }
    Ok(())
}

fn why_gone(appliance: &Appliance) -> &'static str {
    match appliance.settings.cache.max_bytes {
        Some(_) => "not kept any more: it went again to keep cache.max_size",
        None => "not kept any more",
    }
}
