//! The real binary, run as its users run it.

mod collected;
mod settings;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

pub use settings::MirrorBuilder;

use crate::BuiltCrate;
use crate::http::{self, Exchange, Reply, Timing};
use crate::wait::eventually;
use collected::Collected;
use settings::Settings;

/// How long it may take to listen, and how long to end.
const START: Duration = Duration::from_secs(30);
const END: Duration = Duration::from_secs(60);
/// How long the pipes of an ended process may stay open, which only a child of its own could cause.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A running `mirror serve`. It is killed when this is dropped, and its log is printed if the test failed.
#[derive(Debug)]
pub struct MirrorProcess {
    settings: Settings,
    running: Running,
}

#[derive(Debug)]
struct Running {
    /// Behind a lock, so that a test can end the process while its threads talk to it.
    child: Mutex<Child>,
    stdout: Collected,
    stderr: Collected,
    authority: String,
}

impl MirrorProcess {
    /// Prepares a run of `binary`.
    pub fn builder(binary: &Path) -> MirrorBuilder {
        MirrorBuilder::new(binary)
    }

    fn start(settings: Settings) -> Self {
        let running = Running::start(&settings);
        Self { settings, running }
    }

    /// Starts it again with the same settings and data directory, after ending it if it still runs. The port is another
    /// one, and the log begins anew. For other settings on the same data: [`MirrorBuilder::data_dir`] and two processes.
    pub fn restart(&mut self) {
        if self.is_running() {
            self.terminate();
        }
        self.running = Running::start(&self.settings);
    }

    /// Runs another command of the same binary to its end, with the same data directory, upstream, environment and working directory, but
    /// without the arguments of `serve`. Panics if it takes more than two minutes.
    pub fn run(&self, args: &[&str]) -> Output {
        self.settings.run(args)
    }

    /// Runs a command as [`run`](Self::run) does, and kills it (SIGKILL) once it has run for `after`; `None` if it came to that.
    pub fn run_or_kill(&self, args: &[&str], after: Duration) -> Option<Output> {
        self.settings.run_or_kill(args, after)
    }

    /// The data directory. One on a disk of its own is seen through the running process.
    pub fn data_dir(&self) -> PathBuf {
        let path = self.settings.data_dir();
        if self.settings.has_own_disk() {
            let inside = path.strip_prefix("/").expect("temporary directories have whole paths");
            return PathBuf::from(format!("/proc/{}/root", self.id())).join(inside);
        }
        path
    }

    /// `ADDRESS:PORT` to connect to.
    pub fn authority(&self) -> &str {
        &self.running.authority
    }

    /// The address of a path that begins with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.authority())
    }

    /// Gets a path. Panics with the log if there was no answer at all.
    pub fn get(&self, path: &str) -> Reply {
        self.request("GET", path, &[], b"")
    }

    /// Gets a path and tells how long it took. Panics as [`get`](Self::get) does.
    pub fn get_timed(&self, path: &str) -> (Reply, Timing) {
        let exchange = self.exchange("GET", path, &[], b"");
        self.or_log("GET", path, exchange.finish())
    }

    /// Sends any request, the path as it is given. Panics as [`get`](Self::get) does.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let reply = self.try_request(method, path, headers, body);
        self.or_log(method, path, reply)
    }

    /// Sends any request; an error if no answer came, for tests that end the process meanwhile.
    pub fn try_request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Reply> {
        http::request(self.authority(), method, path, headers, body)
    }

    /// Sends a request whose answer is read step by step. Panics if it cannot be sent.
    pub fn exchange(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Exchange {
        let exchange = Exchange::start(self.authority(), method, path, headers, body);
        self.or_log(method, path, exchange)
    }

    fn or_log<T>(&self, method: &str, path: &str, result: io::Result<T>) -> T {
        result.unwrap_or_else(|error| panic!("no answer to {method} {path}: {error}\n{}", self.log()))
    }

    /// The crate files in its data directory, by path, whether it runs or not; without those that were set aside as bad.
    pub fn kept_files(&self) -> Vec<PathBuf> {
        let entries = |dir: &Path| {
            let entries = std::fs::read_dir(dir).into_iter().flatten();
            entries.map(|entry| entry.expect("the directory is ours").path())
        };
        let folders = entries(&self.data_dir().join("blobs")).filter(|folder| !folder.ends_with("bad"));
        folders
            .flat_map(|folder| entries(&folder).collect::<Vec<_>>())
            .collect()
    }

    /// A figure of `/metrics`, without the prefix `mirror_` and, for counters, without `_total`. Panics if there is no such.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").text();
        let names = [format!("mirror_{name}"), format!("mirror_{name}_total")];
        let values = text.lines().filter_map(|line| line.split_once(' '));
        let value = values
            .filter(|(name, _)| names.iter().any(|wanted| wanted == name))
            .find_map(|(_, value)| value.parse().ok());
        value.unwrap_or_else(|| panic!("there is no metric {name} in\n{text}"))
    }

    /// Fetches a crate file through it as [`keep_all`](Self::keep_all) does.
    pub fn keep(&self, krate: &BuiltCrate) {
        self.keep_all(std::slice::from_ref(krate));
    }

    /// Fetches crate files that it does not keep yet, and waits until they count as kept, which is when a search finds them. Panics
    /// if other bytes come or it takes more than a minute.
    pub fn keep_all(&self, crates: &[BuiltCrate]) {
        let wanted = self.metric("kept_files") + crates.len() as u64;
        for krate in crates {
            let reply = self.get(&format!("/api/v1/crates/{}/{}/download", krate.name, krate.version));
            assert!(
                reply.body == krate.bytes,
                "{} {}: {}",
                krate.name,
                krate.version,
                reply.status
            );
        }
        let kept = eventually(END, || (self.metric("kept_files") >= wanted).then_some(()));
        assert!(kept.is_some(), "not all of them are recorded\n{}", self.log());
    }

    /// What it has written to standard error since it was started.
    pub fn log(&self) -> String {
        self.running.stderr.text()
    }

    /// What it has written to standard output since it was started.
    pub fn stdout(&self) -> String {
        self.running.stdout.text()
    }

    /// Waits until the log has `part`; `false` if it had not within `timeout`.
    pub fn wait_for_log(&self, part: &str, timeout: Duration) -> bool {
        let found = self
            .running
            .stderr
            .wait(timeout, |text| text.contains(part).then_some(()));
        found.is_some()
    }

    /// The process, for `/proc`.
    pub fn id(&self) -> u32 {
        self.running.child().id()
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.running.status().is_none()
    }

    /// Waits for it to end by itself; `None` if it did not within `timeout`.
    pub fn wait_end(&self, timeout: Duration) -> Option<ExitStatus> {
        let status = eventually(timeout, || self.running.status())?;
        self.running.wait_closed();
        Some(status)
    }

    /// Asks it to end (SIGTERM) and does not wait.
    pub fn ask_to_end(&self) {
        let mut child = self.running.child();
        // Only as long as it was not waited for is the id surely its own.
        if child.try_wait().expect("a child can be waited for").is_none() {
            kill_process(Pid::from_child(&child), Signal::TERM).expect("it is our child");
        }
    }

    /// Asks it to end and waits for that. Panics with the log if it takes more than a minute.
    pub fn terminate(&self) -> ExitStatus {
        self.ask_to_end();
        let status = self.wait_end(END);
        status.unwrap_or_else(|| panic!("it did not end within {END:?} of SIGTERM\n{}", self.log()))
    }

    /// Kills it as a power cut would (SIGKILL).
    pub fn kill9(&self) {
        self.running.kill();
    }

    /// Its resident memory in bytes, now. Linux only.
    pub fn rss_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory that it had, in bytes. Linux only.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, key: &str) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).expect("it runs, on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a running process has memory") << 10
    }
}

impl Running {
    fn start(settings: &Settings) -> Self {
        let mut child = settings.serve().spawn().expect("the binary was built");
        let stdout = Collected::of(child.stdout.take().expect("it is piped"));
        let stderr = Collected::of(child.stderr.take().expect("it is piped"));
        let mut running = Self {
            child: Mutex::new(child),
            stdout,
            stderr,
            authority: String::new(),
        };
        let listening = running.stdout.wait(START, listening_on);
        let Some(authority) = listening else {
            let status = running.status();
            running.kill();
            let log = running.stderr.text();
            panic!("it did not say that it listens (ended: {status:?})\n{log}");
        };
        running.authority = authority;
        running
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("a child can be waited for")
    }

    fn kill(&self) {
        let mut child = self.child();
        // It may have ended by itself.
        let _ = child.kill();
        child.wait().expect("a killed child ends");
        self.wait_closed();
    }

    fn wait_closed(&self) {
        self.stdout.wait_closed(LAST_WORDS);
        self.stderr.wait_closed(LAST_WORDS);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the log of the mirror\n{}", self.stderr.text());
        }
    }
}

/// The address of the line that says it, with loopback in the place of a wildcard.
fn listening_on(stdout: &str) -> Option<String> {
    let (line, _) = stdout.split_once('\n')?;
    let authority = line.trim().strip_prefix("listening on http://")?;
    let (address, port) = authority.rsplit_once(':')?;
    let address = match address {
        "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        other => other,
    };
    Some(format!("{address}:{port}"))
}

#[cfg(test)]
mod tests;
