#![doc = include_str!("../README.md")]

mod address;
mod body;
mod certificate;
mod client;
mod connect;
mod engine;
mod error;
mod head;
mod no_proxy;
mod probe;
mod proxy;
mod race;
mod redirect;
mod request;
mod stream;
mod tls;
mod trust;
mod tunnel;
mod url;

#[cfg(test)]
mod tests;

pub use address::{Blocked, blocked};
pub use body::Body;
pub use client::{Config, Description, UpstreamHttp};
pub use error::Error;
pub use head::Response;
pub use probe::Probe;
pub use proxy::{EnvProxies, Proxy, ProxyChoice, ProxyConfig};
pub use request::Request;
pub use tls::{Roots, check_ca_file};
pub use trust::Token;
pub use url::{Authority, UpstreamUrl};
