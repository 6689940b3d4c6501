//! Crate files as clients get them: hits and misses, ranges and conditions, one fill for all who ask, every fault of an upstream,
//! redirects, limits, and names that are none (issue 2, "Crate files"; threats 2.1, U1 to U9, C7, C10).

#![expect(clippy::unwrap_used, reason = "a test may panic, also in what several tests share")]

mod answers;
mod faults;
mod limits;
mod listing;
mod names;
mod redirects;
mod sharing;

use std::path::Path;
use std::time::Duration;

use testkit::{BuiltCrate, CrateBuilder, FakeUpstream, MirrorBuilder, MirrorProcess, Reply, eventually};

/// Longer than anything here takes on a machine that does ten other things.
const SOON: Duration = Duration::from_secs(60);
/// More than the 64 KiB that wait for the comparison, so that its first bytes go out before the last ones have come.
const LARGE_BYTES: usize = 300_000;

fn builder(upstream: &FakeUpstream) -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror"))).upstream(upstream)
}

fn start(upstream: &FakeUpstream) -> MirrorProcess {
    builder(upstream).start()
}

fn download(name: &str, version: &str) -> String {
    format!("/api/v1/crates/{name}/{version}/download")
}

/// Publishes a crate of about this size.
fn publish(upstream: &FakeUpstream, name: &str, version: &str, size_bytes: usize) -> BuiltCrate {
    let krate = CrateBuilder::new(name, version).padding(size_bytes).build();
    upstream.add(&krate);
    krate
}

/// How often upstream was asked for any crate file.
fn crate_requests(upstream: &FakeUpstream) -> usize {
    let requests = upstream.requests();
    requests
        .iter()
        .filter(|request| request.path.starts_with("/dl/"))
        .count()
}

/// What cargo shows of an error.
fn detail(reply: &Reply) -> String {
    let json: serde_json::Value = serde_json::from_slice(&reply.body)
        .unwrap_or_else(|error| panic!("{error}: {} {}", reply.status, reply.text()));
    let detail = json["errors"][0]["detail"].as_str();
    detail.unwrap_or_else(|| panic!("no detail in {json}")).to_owned()
}

fn assert_whole(reply: &Reply, krate: &BuiltCrate) {
    assert_eq!((reply.status, reply.complete), (200, true), "{}", reply.text());
    assert!(reply.body == krate.bytes, "{} bytes that are wrong", reply.body.len());
}

/// Whether its file is on the mirror's disk under its checksum.
fn is_kept(mirror: &MirrorProcess, krate: &BuiltCrate) -> bool {
    let name = krate.checksum.to_hex();
    mirror.kept_files().iter().any(|file| file.ends_with(&name))
}

fn wait_until(what: &str, done: impl FnMut() -> bool) {
    let mut done = done;
    assert!(
        eventually(SOON, || done().then_some(())).is_some(),
        "not in time: {what}"
    );
}
