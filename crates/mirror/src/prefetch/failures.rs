//! What could not be brought, remembered from one prefetch to the next.

use std::collections::HashSet;

use metadata_db::PrefetchFailure;
use selection::{CrateSpec, Selected};

use crate::appliance::{Appliance, StartError};
use crate::clock::unix_now;
use crate::selected::{Found, Named, Unasked, Whereabouts};

/// Crates that were named without a version, or without its checksum, while nobody could be asked about them.
const UNASKED_FACT: &str = "prefetch-unasked";

/// As of now: the versions, whatever their checksum has become.
pub fn before(appliance: &Appliance) -> Result<Named, StartError> {
    let failures = appliance.metadata.prefetch_failures()?.into_iter();
    let locked = failures.map(|failure| Selected {
        name: failure.name,
        version: failure.version,
        checksum: None,
    });
    Ok(Named {
        locked: locked.collect(),
        crates: unasked_before(appliance)?,
        ..Named::default()
    })
}

fn unasked_before(appliance: &Appliance) -> Result<Vec<CrateSpec>, StartError> {
    let fact = appliance.metadata.fact(UNASKED_FACT)?;
    // what cannot be read is of another version of this program, and worth no trouble
    Ok(fact
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default())
}

/// Writes down what nobody could be asked about, for the next time, and forgets what is here by now.
pub fn remember(appliance: &Appliance, found: &[Found], unasked: Unasked) -> Result<(), StartError> {
    let before = appliance.metadata.prefetch_failures()?.into_iter();
    let before: HashSet<_> = before
        .map(|failure| (failure.name.canonical(), failure.version))
        .collect();
    for Found { selected, whereabouts } in found {
        let is_here = matches!(whereabouts, Whereabouts::Kept { .. });
        if is_here && before.contains(&(selected.name.canonical(), selected.version.clone())) {
            appliance
                .metadata
                .clear_prefetch_failure(&selected.name, &selected.version)?;
        }
    }
    remember_crates(appliance, unasked.crates, &unasked.answered)?;
    // without a checksum it is one that is tried again: it is written down already, or came from a very old lockfile
    let unasked = unasked.locked.into_iter().filter_map(|(file, why)| {
        Some(PrefetchFailure {
            checksum: file.checksum?,
            name: file.name,
            version: file.version,
            why,
            failed_at: unix_now(),
        })
    });
    appliance
        .metadata
        .record_prefetch_failures(&unasked.collect::<Vec<_>>())?;
    Ok(())
}

fn remember_crates(appliance: &Appliance, unasked: Vec<CrateSpec>, answered: &[CrateSpec]) -> Result<(), StartError> {
    let before = unasked_before(appliance)?;
    let mut now: Vec<CrateSpec> = before.iter().filter(|spec| !answered.contains(spec)).cloned().collect();
    for spec in unasked {
        if !now.contains(&spec) {
            now.push(spec);
        }
    }
    if now != before {
        appliance.metadata.set_fact(UNASKED_FACT, &serde_json::to_vec(&now)?)?;
    }
    Ok(())
}
