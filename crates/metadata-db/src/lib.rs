#![doc = include_str!("../README.md")]

mod columns;
mod counters;
mod crate_file;
mod crate_page;
mod database;
mod decisions;
mod error;
mod fetch_log;
mod inflated;
mod kept_files;
mod manifest;
mod metadata;
mod migrate;
mod pins;
mod prefetch;
mod readers;
mod record;
mod renewable;
mod search;
mod upstream;

pub use counters::Served;
pub use crate_file::{MAX_ENTRIES, MAX_INFLATED_BYTES, MAX_MANIFEST_BYTES, MAX_README_BYTES, read_crate_file};
pub use crate_page::{CrateDetails, VersionDetails};
pub use database::sqlite_version;
pub use decisions::{DecisionKind, DecisionRow, DecisionsDb, to_registry};
pub use error::Error;
pub use fetch_log::{Fetch, FetchLog, Fetcher, MAX_AGENT_CHARS};
pub use kept_files::{KeptFile, KeptRow, Totals};
pub use manifest::{Dependency, DependencyKind, Manifest, ManifestState, Readme};
pub use metadata::{MetadataDb, OpenState, Opened};
pub use pins::{Pin, PinnedFile};
pub use prefetch::{PrefetchFailure, ScrubCursor};
pub use search::{Hit, MAX_PER_PAGE, SearchPage};
pub use upstream::UpstreamState;
