use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::MirrorProcess;
use crate::{FakeUpstream, GitUpstream, ReservedPort, command};

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Settings of a run of the binary.
///
/// It gets `PATH`, a temporary home that is its working directory too, and what is said here; nothing else of the environment.
#[derive(Debug)]
pub struct MirrorBuilder(Settings);

#[derive(Debug)]
pub(super) struct Settings {
    binary: PathBuf,
    home: TempDir,
    data_dir: Option<PathBuf>,
    /// Empty means none: a test must never reach for the real one.
    upstream: String,
    upstream_git: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    open_files: Option<u32>,
    disk_bytes: Option<u64>,
    port: Option<ReservedPort>,
}

impl MirrorBuilder {
    pub(super) fn new(binary: &Path) -> Self {
        Self(Settings {
            binary: binary.to_owned(),
            home: tempfile::tempdir().expect("the machine has room for a directory"),
            data_dir: None,
            upstream: String::new(),
            upstream_git: String::new(),
            args: Vec::new(),
            env: Vec::new(),
            open_files: None,
            disk_bytes: None,
            port: None,
        })
    }

    /// Where it keeps its data. Without this it is a directory that goes when the process is dropped.
    pub fn data_dir(mut self, dir: &Path) -> Self {
        self.0.data_dir = Some(dir.to_owned());
        self
    }

    /// The upstream that it mirrors. Without this it has none.
    pub fn upstream(self, upstream: &FakeUpstream) -> Self {
        self.upstream_sparse(&upstream.sparse_url())
    }

    /// The upstream that it mirrors, by the value of `upstream.sparse`.
    pub fn upstream_sparse(mut self, url: &str) -> Self {
        url.clone_into(&mut self.0.upstream);
        self
    }

    /// The git upstream that it follows once somebody wants the whole index. Without this it has none.
    pub fn upstream_git(mut self, upstream: &GitUpstream) -> Self {
        self.0.upstream_git = upstream.url();
        self
    }

    /// Listens on a port that is chosen now and stays the same over restarts. A git index names its own address, so its clients
    /// are served only by a mirror that knows it.
    pub fn own_port(mut self) -> Self {
        self.0.port = Some(ReservedPort::new());
        self
    }

    /// One more argument of `serve`.
    pub fn arg(mut self, arg: &str) -> Self {
        self.0.args.push(arg.to_owned());
        self
    }

    /// A variable, for `serve` and other commands. `PORT` or `MIRROR_LISTEN` take the place of `--listen 127.0.0.1:0`, as does
    /// the argument `--listen`.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env.retain(|(other, _)| other != name);
        self.0.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// How many files and connections `serve` may have open at once (`ulimit -n`).
    pub fn open_files(mut self, limit: u32) -> Self {
        self.0.open_files = Some(limit);
        self
    }

    /// Gives `serve` a disk of this size for its data directory, which nobody else sees (a tmpfs in a mount namespace of its own) and which ends
    /// with it: see [`MirrorProcess::data_dir`]. Only where [`may_mount`](crate::may_mount).
    pub fn disk_bytes(mut self, size_bytes: u64) -> Self {
        self.0.disk_bytes = Some(size_bytes);
        self
    }

    /// A file in the working directory, such as `mirror.toml`.
    pub fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.0.home.path().join(name), text).expect("the directory is ours");
        self
    }

    /// Starts `serve` and waits until it listens. Panics with its log if it ends before or does not within 30 s.
    pub fn start(self) -> MirrorProcess {
        MirrorProcess::start(self.0)
    }

    /// Runs any command to its end without a server, `serve` included where it is to be refused. Panics if it takes more than
    /// two minutes.
    pub fn run(&self, args: &[&str]) -> Output {
        self.0.run(args)
    }
}

impl Settings {
    pub(super) fn has_own_disk(&self) -> bool {
        self.disk_bytes.is_some()
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        let in_home = || self.home.path().join("mirror-data");
        self.data_dir.clone().unwrap_or_else(in_home)
    }

    /// Settings go by the environment, which every command reads.
    fn command(&self) -> Command {
        self.environment(command::clean(&self.binary, self.home.path()))
    }

    /// A shell lowers its own limit and becomes the server, which so keeps the shell's process id.
    fn limited(&self, open_files: u32) -> Command {
        let mut command = self.environment(command::clean("sh", self.home.path()));
        let script = format!("ulimit -n {open_files} && exec \"$0\" \"$@\"");
        command.arg("-c").arg(script).arg(&self.binary);
        command
    }

    /// A shell mounts the disk and becomes the server, as above.
    fn on_small_disk(&self, size_bytes: u64) -> Command {
        fs::create_dir_all(self.data_dir()).expect("the directory is ours");
        let mut command = self.environment(command::clean("unshare", self.home.path()));
        let script = format!("mount -t tmpfs -o size={size_bytes} none \"$MIRROR_DATA_DIR\" && exec \"$0\" \"$@\"");
        command
            .args(command::OWN_MOUNTS)
            .args(["sh", "-c"])
            .arg(script)
            .arg(&self.binary);
        command
    }

    fn environment(&self, mut command: Command) -> Command {
        command
            .current_dir(self.home.path())
            .env("MIRROR_DATA_DIR", self.data_dir())
            .env("MIRROR_UPSTREAM__SPARSE", &self.upstream)
            .env("MIRROR_UPSTREAM__GIT", &self.upstream_git)
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(super) fn serve(&self) -> Command {
        let mut command = match (self.open_files, self.disk_bytes) {
            (Some(limit), _) => self.limited(limit),
            (_, Some(size_bytes)) => self.on_small_disk(size_bytes),
            _ => self.command(),
        };
        command.arg("serve");
        let named = |arg: &String| arg.starts_with("--listen");
        let in_env = |(name, _): &(String, String)| name == "PORT" || name == "MIRROR_LISTEN";
        if !self.args.iter().any(named) && !self.env.iter().any(in_env) {
            let own = self.port.as_ref().map(ReservedPort::authority);
            command.args(["--listen", own.as_deref().unwrap_or("127.0.0.1:0")]);
        }
        command.args(&self.args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(super) fn run(&self, args: &[&str]) -> Output {
        let mut command = self.command();
        command.args(args);
        command::run(command, LIMIT)
    }

    pub(super) fn run_or_kill(&self, args: &[&str], after: Duration) -> Option<Output> {
        let mut command = self.command();
        command.args(args);
        command::run_or_kill(command, after).ok()
    }
}
