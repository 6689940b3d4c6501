//! Real sockets against a small app behind the acceptor.
#![allow(clippy::unwrap_used)]

mod curl;
mod ending;
mod http1;
mod http2;
mod smuggling;
mod support;
