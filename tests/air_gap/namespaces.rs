//! A part of a test that runs in namespaces of its own: without any network but loopback, or with a small disk.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testkit::{run_if_there, said};

/// Where the part inside finds what the part outside has prepared.
const PLACE: &str = "MIRROR_TEST_PLACE";
const LOOPBACK: &str = "ip link set lo up";

/// Set for the part inside.
#[expect(
    clippy::disallowed_methods,
    reason = "it is no setting of the mirror: a test hands it to itself"
)]
pub fn place() -> Option<PathBuf> {
    std::env::var_os(PLACE).map(PathBuf::from)
}

/// Runs the test of this name again where there is only loopback, with `place` handed to it. `false`, with the reason on standard error, where the
/// machine does not allow it. Panics if that test fails.
pub fn without_a_network(test: &str, place: &Path) -> bool {
    again("--net", LOOPBACK, test, place)
}

/// The same where a disk of this size is mounted at `place`, which nobody else sees.
pub fn with_a_disk(size_bytes: u64, test: &str, place: &Path) -> bool {
    let mount = format!("mount -t tmpfs -o size={size_bytes} none \"${PLACE}\"");
    again("--mount", &mount, test, place)
}

fn again(namespace: &str, prepare: &str, test: &str, place: &Path) -> bool {
    let unshare = [namespace, "--map-root-user", "sh", "-c"];
    let trial = tempfile::tempdir().unwrap();
    let script = format!("{PLACE}='{}'; {prepare}", trial.path().display());
    let allowed = run_if_there("unshare", &[&unshare[..], &[&script]].concat());
    if !allowed.is_some_and(|output| output.status.success()) {
        eprintln!("skipped: `unshare {namespace}` and `{prepare}` are not to be had here");
        return false;
    }
    let script = format!("{prepare} && exec \"$0\" \"$@\"");
    let output: Output = Command::new("unshare")
        .args(unshare)
        .arg(script)
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(PLACE, place)
        .output()
        .unwrap();
    let told = said(&output);
    assert!(output.status.success() && told.contains("1 passed"), "inside: {told}");
    println!("inside: {told}");
    true
}
