//! Real sockets against a small app behind the acceptor.
#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

mod curl;
mod ending;
mod http1;
mod http2;
mod smuggling;
mod support;
