//! What could not be brought, remembered from one prefetch to the next.

use std::collections::HashSet;

use metadata_db::PrefetchFailure;
use selection::Selected;

use crate::appliance::{Appliance, StartError};
use crate::clock::unix_now;
use crate::selected::{Found, Named, Whereabouts};

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
        ..Named::default()
    })
}

/// Writes down what nobody could be asked about, for the next time, and forgets what is here by now.
pub fn remember(appliance: &Appliance, found: &[Found], unasked: Vec<(Selected, String)>) -> Result<(), StartError> {
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
    // without a checksum it is one that is tried again: it is written down already, or came from a very old lockfile
    let unasked = unasked.into_iter().filter_map(|(file, why)| {
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
