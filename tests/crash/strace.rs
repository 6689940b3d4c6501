//! strace on a running mirror.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testkit::{MirrorProcess, eventually, run_if_there};

/// The system calls that change the disk.
pub const DISK_CALLS: [&str; 9] = [
    "openat",
    "pwrite64",
    "write",
    "fsync",
    "fdatasync",
    "rename",
    "unlink",
    "mkdir",
    "ftruncate",
];
const SOON: Duration = Duration::from_secs(60);

/// One that follows every thread of a process. It ends with that process.
pub struct Strace(Child);

impl Strace {
    /// Waits until it follows all threads; `None`, with the reason on standard error, where there is none or it may not follow others.
    pub fn on(mirror: &MirrorProcess, args: &[&str]) -> Option<Self> {
        if run_if_there("strace", &["--version"]).is_none() {
            eprintln!("skipped: there is no strace");
            return None;
        }
        let id = mirror.id();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-p", &id.to_string()]).args(args);
        let mut own = Self(strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        if own.follows(id) {
            return Some(own);
        }
        eprintln!("skipped: strace may not follow other processes here");
        None
    }

    fn follows(&mut self, id: u32) -> bool {
        let is_followed = |task: PathBuf| {
            let status = std::fs::read_to_string(task.join("status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        };
        let followed = eventually(SOON, || {
            let tasks = std::fs::read_dir(format!("/proc/{id}/task")).ok()?;
            let all = tasks.flatten().all(|task| is_followed(task.path()));
            let ended = self.0.try_wait().unwrap().is_some();
            (all || ended).then_some(all && !ended)
        });
        followed.expect("it follows or says that it may not")
    }

    /// For the end of a process that was followed.
    pub fn wait(mut self) {
        let ended = eventually(SOON, || self.0.try_wait().unwrap());
        assert!(ended.is_some(), "strace follows a process that has ended");
    }
}
