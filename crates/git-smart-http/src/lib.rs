#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod advertise;
mod answer;
mod emit;
mod error;
mod negotiate;
mod object;
mod pack_log;
pub mod pkt_line;
mod request;

pub use advertise::{advertise, ls_refs};
pub use answer::{Answer, respond};
pub use emit::PackStream;
pub use error::Error;
pub use negotiate::{Plan, negotiate};
pub use object::{Kind, ObjectId};
pub use pack_log::{Append, Commit, Deflated, Deflater, Object, PackLog, PackLogWriter, Recovered, View};
pub use request::{Acks, Caps, End, Fetch, INFINITE_DEPTH, Limits, LsRefs, Protocol, Request, SideBand, parse};
