#![doc = include_str!("../README.md")]

mod absent_names;
mod backoff;
mod config;
mod durable;
mod entry;
mod error;
mod following;
mod freshness;
mod import_changes;
mod index;
mod memory;
mod merge;
mod needs;
mod object_id;
mod pack_log_writer;
mod published;
mod publisher;
mod report;
mod repository;
mod single_flight;
mod upstream_git;
mod upstream_sparse;

pub use config::{Ask, Config, IndexStatus, Listed, Mode, SparseUpstream};
pub use entry::IndexEntry;
pub use error::Error;
pub use following::{Follow, FollowConfig, FollowPhase, FollowStatus, SyncReport};
pub use import_changes::{Counted, ImportChanges};
pub use index::{Decided, Difference, Index};
pub use object_id::{BlobId, CommitId, TreeId};
pub use pack_log_writer::PackLogState;
pub use published::{FileChange, PublishedBlob, PublishedTree, Tip, TreeFile};
pub use repository::{Change, Repository, RepositoryLimits, StateKind, Upkeep};
