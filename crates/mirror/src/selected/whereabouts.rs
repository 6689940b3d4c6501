//! Whether crate files are here.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use index_sync::Ask;
use metadata_db::DecisionKind;
use registry::{Checksum, IndexFile, IndexPath};
use selection::Selected;

use super::AT_ONCE;
use crate::appliance::{Appliance, StartError};
use crate::error::chain;

/// Whether a crate file is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// It is kept.
    Kept {
        /// Its checksum.
        checksum: Checksum,
        /// Its size.
        size_bytes: u64,
    },
    /// The index lists it; it is not kept.
    NotKept {
        /// Its checksum.
        checksum: Checksum,
    },
    /// The lockfile and the index do not agree.
    OtherChecksum {
        /// By the lockfile.
        locked: Checksum,
        /// By the index.
        listed: Checksum,
    },
    /// Upstream removed the version.
    Removed,
    /// The index does not list the version.
    NotListed,
    /// The index has no such crate, as far as it is here.
    NoSuchCrate,
    /// The index could not be asked.
    Unknown {
        /// What happened.
        why: String,
    },
}

/// A crate file that is named, and whether it is here.
#[derive(Debug, Clone)]
pub struct Found {
    /// The crate file.
    pub selected: Selected,
    /// Where it is.
    pub whereabouts: Whereabouts,
}

/// Where each of them is; nobody upstream is asked. In the order that was given.
pub async fn whereabouts(appliance: &Arc<Appliance>, files: Vec<Selected>) -> Result<Vec<Found>, StartError> {
    let removed: HashSet<(IndexPath, String)> = appliance
        .index
        .decided()
        .await?
        .into_iter()
        .filter(|(_, row)| row.kind == DecisionKind::Removed)
        .map(|(path, row)| (path, row.vers))
        .collect();
    let looked_up = stream::iter(files).map(async |selected| {
        let path = IndexPath::of(&selected.name);
        let whereabouts = match listed(appliance, &path, &selected).await {
            Ok(checksum) => look(appliance, &selected, checksum).await,
            Err(Whereabouts::NotListed | Whereabouts::NoSuchCrate)
                if removed.contains(&(path.clone(), selected.version.to_string())) =>
            {
                Whereabouts::Removed
            }
            Err(other) => other,
        };
        Found { selected, whereabouts }
    });
    Ok(looked_up.buffered(AT_ONCE).collect().await)
}

/// The checksum by the published index.
pub(super) async fn listed(
    appliance: &Appliance,
    path: &IndexPath,
    selected: &Selected,
) -> Result<Checksum, Whereabouts> {
    let file = appliance.index.file(path, Ask::Never).await;
    let file: Bytes = match file {
        Ok(Some(entry)) => entry.bytes.clone(),
        Ok(None) => return Err(Whereabouts::NoSuchCrate),
        Err(error) => return Err(Whereabouts::Unknown { why: chain(&error) }),
    };
    let lines = IndexFile::parse_readable(&file, path);
    let line = lines.find(selected.version.as_str());
    line.map(|line| line.checksum).ok_or(Whereabouts::NotListed)
}

async fn look(appliance: &Arc<Appliance>, selected: &Selected, listed: Checksum) -> Whereabouts {
    if let Some(locked) = selected.checksum.filter(|locked| *locked != listed) {
        return Whereabouts::OtherChecksum { locked, listed };
    }
    let own = Arc::clone(appliance);
    let kept = tokio::task::spawn_blocking(move || own.cache.kept(&listed));
    match kept.await {
        Ok(Ok(Some(kept))) => Whereabouts::Kept {
            checksum: listed,
            size_bytes: kept.size_bytes,
        },
        Ok(Ok(None)) => Whereabouts::NotKept { checksum: listed },
        Ok(Err(error)) => Whereabouts::Unknown { why: chain(&error) },
        Err(_) => Whereabouts::Unknown {
            why: "the look at the disk was abandoned".to_owned(),
        },
    }
}

impl std::fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kept { .. } => f.write_str("kept"),
            Self::NotKept { .. } => f.write_str("not kept"),
            Self::OtherChecksum { locked, listed } => {
                write!(f, "another checksum: {locked} in the lockfile, {listed} in the index")
            }
            Self::Removed => f.write_str("removed upstream"),
            Self::NotListed => f.write_str("the index does not list this version"),
            Self::NoSuchCrate => f.write_str("the index has no such crate"),
            Self::Unknown { why } => f.write_str(why),
        }
    }
}
