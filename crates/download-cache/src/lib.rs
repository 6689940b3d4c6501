#![doc = include_str!("../README.md")]

mod blobs;
mod cache;
mod config;
mod disk;
mod error;
mod fill;
mod kept_file;
mod known;
mod memory;
mod open;
mod progress;
mod rate;
mod retry;
mod running;
mod slots;
mod stats;
mod table;
mod take_in;
mod temp_file;
mod verify;
mod waiter;

pub use cache::{CrateFile, DownloadCache, Eviction, evict_from};
pub use config::{Config, Event, FreeBytes, Wanted};
pub use disk::FaultHook;
pub use error::Error;
pub use kept_file::KeptFile;
pub use stats::Stats;
pub use verify::Verdict;
pub use waiter::Waiter;
