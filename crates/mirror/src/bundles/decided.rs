//! Removals and holds, which travel with the index: the office does not serve what was removed outside, and knows why.

use bundle::{DecisionKind as Carried, OutsideDecision};
use metadata_db::{DecisionKind, DecisionRow, SiteDecision};
use registry::IndexPath;

use crate::appliance::{Appliance, StartError};

/// What this mirror has decided, as a bundle says it. What was accepted is published, and so is in the index.
pub fn in_force(appliance: &Appliance) -> Result<Vec<OutsideDecision>, StartError> {
    let rows = appliance.decisions.all()?;
    Ok(rows.into_iter().filter_map(|(path, row)| carried(path, row)).collect())
}

fn carried(path: IndexPath, row: DecisionRow) -> Option<OutsideDecision> {
    Some(OutsideDecision {
        path,
        kind: match row.kind {
            DecisionKind::Removed => Carried::Removed,
            DecisionKind::HeldChecksum => Carried::HeldChecksum,
            DecisionKind::HeldRemoval => Carried::HeldRemoval,
            DecisionKind::Kept => Carried::Kept,
            DecisionKind::Accepted => return None,
        },
        // a line that nobody could read is in no lockfile
        version: row.vers.parse().ok()?,
        whole_crate: row.whole_crate,
        decided_at: bundle::Time::from_unix(row.decided_at),
        checksum: row.checksum,
        new_checksum: row.new_checksum,
    })
}

/// The same, as the office remembers it.
pub fn of_site(decision: OutsideDecision) -> SiteDecision {
    SiteDecision {
        path: decision.path,
        vers: decision.version.to_string(),
        kind: match decision.kind {
            Carried::Removed => DecisionKind::Removed,
            Carried::HeldChecksum => DecisionKind::HeldChecksum,
            Carried::HeldRemoval => DecisionKind::HeldRemoval,
            Carried::Kept => DecisionKind::Kept,
        },
        whole_crate: decision.whole_crate,
        decided_at: i64::try_from(decision.decided_at.unix()).unwrap_or(i64::MAX),
        checksum: Some(decision.checksum),
        new_checksum: decision.new_checksum,
    }
}
