//! The crate from outside: logs, conversations, random clients, and git itself.
#![allow(clippy::unwrap_used)]

mod conversations;
mod git_clients;
mod http;
mod log_files;
mod model;
mod oracle;
mod pack;
mod support;
