#![doc = include_str!("../README.md")]

mod chunked;
mod config;
mod credit;
mod error;
mod frames;
mod head;
mod http2_side;
mod io;
mod pace;
mod rewrite;
mod server;
mod sniff;
mod timer;
mod upgrade;

pub use config::{Config, Connections, Limits, client};
pub use error::Error;
#[doc(hidden)]
pub use rewrite::Rewriter;
pub use server::serve;
