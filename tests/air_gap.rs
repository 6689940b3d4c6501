//! Proofs across the air gap (issue 5): the whole way offline, an office with no route out, bundles that were tampered with, and bad luck.
//! `bundles` tests what each command says, the crate `bundle` each bit of the format; here the whole program is judged by git, sqlite, `sha256sum` and cargo.
//!
//! `MIRROR_AIR_GAP_KILLS` is how often something is killed (10; `just soak-air-gap` says 100), `MIRROR_AIR_GAP_SEED` repeats a run.

#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

#[path = "air_gap/flips.rs"]
mod flips;
#[path = "air_gap/full_disk.rs"]
mod full_disk;
#[path = "air_gap/hostile.rs"]
mod hostile;
#[path = "air_gap/kills.rs"]
mod kills;
#[path = "air_gap/namespaces.rs"]
mod namespaces;
#[path = "air_gap/no_route.rs"]
mod no_route;
#[path = "crash/oracles.rs"]
#[expect(dead_code, reason = "some of it is for the test `crash`")]
mod oracles;
#[path = "air_gap/sides.rs"]
mod sides;
#[path = "crash/strace.rs"]
mod strace;
#[path = "air_gap/tarball.rs"]
mod tarball;
#[path = "air_gap/twin.rs"]
mod twin;
