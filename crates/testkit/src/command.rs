//! Programs with a clean environment and an end in sight.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::wait::eventually;

/// A command that sees nothing of the developer's environment but `PATH`, with `home` as its home.
pub(crate) fn clean(program: impl AsRef<std::ffi::OsStr>, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("LC_ALL", "C");
    if let Some(path) = inherited("PATH") {
        command.env("PATH", path);
    }
    command
}

/// A variable of the test's own environment.
#[expect(
    clippy::disallowed_methods,
    reason = "settings are read elsewhere; this hands a variable on to a program under test"
)]
pub(crate) fn inherited(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// `unshare` with mounts of its own, as root or as one who may be root of a namespace.
pub(crate) const OWN_MOUNTS: [&str; 2] = ["--mount", "--map-root-user"];

/// Whether a program may be given a disk of its own here (a tmpfs in a mount namespace).
pub fn may_mount() -> bool {
    let script = ["sh", "-c", "mount -t tmpfs -o size=1m none \"$HOME\""];
    run_if_there("unshare", &[&OWN_MOUNTS[..], &script].concat()).is_some_and(|output| output.status.success())
}

/// Runs `command` to its end and collects what it says. Panics if it cannot be started or takes longer than `limit`.
pub(crate) fn run(command: Command, limit: Duration) -> Output {
    let shown = format!("{command:?}");
    run_or_kill(command, limit).unwrap_or_else(|stderr| {
        panic!(
            "{shown} had not ended after {limit:?}: {}",
            String::from_utf8_lossy(&stderr)
        )
    })
}

/// The same for one that is killed once `limit` is over; then gives what it had written to standard error.
pub(crate) fn run_or_kill(mut command: Command, limit: Duration) -> Result<Output, Vec<u8>> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let stdout = collect(child.stdout.take().expect("it is piped"));
    let stderr = collect(child.stderr.take().expect("it is piped"));
    let status = eventually(limit, || child.try_wait().expect("a child can be waited for"));
    if status.is_none() {
        child.kill().expect("a running child can be killed");
        child.wait().expect("a killed child ends");
    }
    // Its children may hold the pipes a little longer; that is no reason to hang.
    let [stdout, stderr] = [stdout, stderr].map(|bytes| bytes.recv_timeout(Duration::from_secs(10)));
    let (stdout, stderr) = (stdout.unwrap_or_default(), stderr.unwrap_or_default());
    match status {
        Some(status) => Ok(Output { status, stdout, stderr }),
        None => Err(stderr),
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is worth having; nobody listens any more if the send fails.
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// Runs a program of the machine with a clean environment and a temporary home; `None` if the machine does not have it. Panics if
/// it takes more than two minutes.
pub fn run_if_there(program: &str, args: &[&str]) -> Option<Output> {
    let dirs = inherited("PATH")?;
    let there = std::env::split_paths(&dirs).any(|dir| dir.join(program).is_file());
    there.then(|| {
        let home = tempfile::tempdir().expect("the machine has room for a directory");
        let mut command = clean(program, home.path());
        command.args(args).current_dir(home.path());
        run(command, Duration::from_secs(120))
    })
}

/// What a program said, for the message of a failed test.
pub fn said(output: &Output) -> String {
    format!(
        "{}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Standard output and standard error of a program, with marks where they are not UTF-8.
pub fn text_of(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = clean("sh", Path::new("/"));
        command.arg("-c").arg(script);
        command
    }

    #[test]
    fn output_and_status_come_back_and_the_environment_does_not_leak() {
        let output = run(shell("echo out; echo err >&2; env; exit 3"), Duration::from_secs(30));
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(output.stderr, b"err\n");
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(stdout.contains("HOME=/\n") && !stdout.contains("CARGO"), "{stdout}");
    }

    #[test]
    #[should_panic(expected = "had not ended after")]
    fn a_program_that_does_not_end_is_killed() {
        run(
            shell("echo stuck >&2; exec cat /dev/zero >/dev/null"),
            Duration::from_millis(50),
        );
    }

    #[test]
    fn one_that_may_be_killed_either_ends_or_is() {
        let ended = run_or_kill(shell("echo out"), Duration::from_secs(30)).unwrap();
        assert_eq!(ended.stdout, b"out\n");
        let stuck = shell("exec cat /dev/zero >/dev/null");
        assert!(run_or_kill(stuck, Duration::from_millis(50)).is_err());
    }
}
