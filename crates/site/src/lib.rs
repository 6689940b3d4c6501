#![doc = include_str!("../README.md")]

mod air_gap;
mod assets;
mod chrome;
mod escape;
mod format;
mod help;
mod home;
mod krate;
mod link;
mod notice;
#[cfg(test)]
mod pages_tests;
mod raw_html;
mod readme;
mod search;
mod status;
#[cfg(test)]
mod testing;

pub use air_gap::{ImportLine, ImportLineBundle, ImportsPage, WantedLine, WantedPage, imports, wanted};
pub use assets::{Asset, CONTENT_SECURITY_POLICY, assets};
pub use chrome::{Chrome, Mode};
pub use format::{date, date_time};
pub use help::{Help, help};
pub use home::{CacheState, CrateLine, Home, IndexState, home};
pub use krate::{Dependency, DependencyKind, Krate, Readme, VersionLine, krate};
pub use notice::{failed, not_found};
pub use readme::MAX_README_BYTES;
pub use search::{Hit, Search, search};
pub use status::{Group, Row, Status, status};
