//! What the status page says of budget, rot, pins and upstream's changes of mind.

use std::sync::atomic::Ordering::Relaxed;

use site::{CacheState, Row};

use crate::appliance::Appliance;
use crate::commands::Dispute;
use crate::error::ServeError;

/// So many changes of mind are listed; after a broken upstream there may be thousands.
const MAX_DISPUTES: usize = 50;

/// The budget, and how far the kept files were hashed again.
pub fn care_rows(appliance: &Appliance, cache: &CacheState) -> Result<Vec<Row>, ServeError> {
    let (care, budget, scrubbed) = (&appliance.settings.cache, &appliance.budget, &appliance.scrubbed);
    let limit = care.max_bytes.map_or("none".to_owned(), |max| {
        let percent = cache.bytes.saturating_mul(100) / max.max(1);
        format!("{max} bytes, {percent} % of it used")
    });
    let evicted = format!(
        "{} files, {} bytes",
        budget.evicted_files.load(Relaxed),
        budget.evicted_bytes.load(Relaxed)
    );
    let round = match (care.scrub_interval, appliance.metadata.scrub_cursor()?) {
        (None, _) => "off".to_owned(),
        (Some(_), None) => "not begun".to_owned(),
        (Some(_), Some(at)) => {
            let since = site::date(u64::try_from(at.began_unix).unwrap_or_default());
            format!("{} % done of the round since {since}", u32::from(at.folder) * 100 / 256)
        }
    };
    Ok(vec![
        Row::new("Limit of kept bytes", limit).with_note("cache.max_size; what was used least lately goes first"),
        Row::new("Evicted since the start", evicted),
        Row::new("Hashed again", round).with_note("cache.scrub_interval"),
        Row::new(
            "Hashed again since the start",
            format!("{} files", scrubbed.files.load(Relaxed)),
        ),
        Row::new(
            "Bad files since the start",
            appliance.cache.stats().bad_files.to_string(),
        )
        .with_note("set aside in blobs/bad, never served"),
        Row::new("Of them fetched again", scrubbed.repaired.load(Relaxed).to_string()),
    ])
}

/// Removals and changed checksums, with what can be done about them.
pub fn dispute_rows(disputes: &[Dispute]) -> Vec<Row> {
    let row = |dispute: &Dispute| {
        let label = format!("{} {}", dispute.krate, dispute.version);
        Row::new(label, dispute.what.clone()).with_note(dispute.can.clone())
    };
    let mut rows: Vec<Row> = disputes.iter().take(MAX_DISPUTES).map(row).collect();
    if let Some(more) = disputes.len().checked_sub(MAX_DISPUTES).filter(|more| *more > 0) {
        rows.push(Row::new("And more", more.to_string()).with_note("mirror removed lists all"));
    }
    rows
}

/// Sets of files that no budget takes away.
pub fn pin_rows(appliance: &Appliance) -> Result<Vec<Row>, ServeError> {
    let pins = appliance.decisions.pins()?;
    let row = |pin: &metadata_db::Pin| {
        let since = site::date(u64::try_from(pin.pinned_at).unwrap_or_default());
        Row::new(pin.name.clone(), format!("{} files", pin.files.len())).with_note(format!("since {since}"))
    };
    Ok(pins.iter().map(row).collect())
}
