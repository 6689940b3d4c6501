#![doc = include_str!("../README.md")]

mod cargo_project;
mod command;
mod curl;
mod git;
mod git_upstream;
pub mod http;
mod krate;
mod mirror_process;
mod port;
mod random;
mod sha256sum;
mod upstream;
mod wait;

pub use cargo_project::{CargoProject, cargo_available, toolchains};
pub use command::{may_mount, run_if_there, said, text_of};
pub use curl::curl;
pub use git::{git, git_ok};
pub use git_upstream::GitUpstream;
pub use http::{Exchange, Reply, Timing};
pub use krate::{BuiltCrate, CrateBuilder, Dependency};
pub use mirror_process::{MirrorBuilder, MirrorProcess};
pub use port::ReservedPort;
pub use random::{Random, number_from_environment};
pub use sha256sum::misnamed;
pub use upstream::{Effect, FakeUpstream, Fault, Gate, LoggedRequest, NamedFault, Times, Validators};
pub use wait::eventually;
