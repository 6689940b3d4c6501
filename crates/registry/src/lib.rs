#![doc = include_str!("../README.md")]

mod checksum;
mod config_json;
mod error;
mod index_edit;
mod index_file;
mod index_path;
mod name;
mod published_lines;
mod version;

pub use checksum::Checksum;
pub use config_json::{DownloadTemplate, UpstreamConfig, mirror_config};
pub use error::Error;
pub use index_edit::{EditError, IndexEdit, Piece};
pub use index_file::{IndexFile, IndexLine, MAX_FILE_BYTES, MAX_LINE_BYTES};
pub use index_path::IndexPath;
pub use name::CrateName;
pub use published_lines::{Decision, Decisions, published_lines};
pub use version::CrateVersion;
