//! The real git.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::command;

const LIMIT: Duration = Duration::from_secs(300);

/// Runs git in `dir` with nobody's configuration, a fixed author and date, and no way to ask for a password.
pub fn git(dir: &Path, args: &[&str]) -> Output {
    let mut git = command::clean("git", dir);
    git.current_dir(dir).args(args);
    for (name, value) in [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_AUTHOR_NAME", "test"),
        ("GIT_AUTHOR_EMAIL", "test@example.com"),
        ("GIT_AUTHOR_DATE", "1700000000 +0000"),
        ("GIT_COMMITTER_NAME", "test"),
        ("GIT_COMMITTER_EMAIL", "test@example.com"),
        ("GIT_COMMITTER_DATE", "1700000000 +0000"),
    ] {
        git.env(name, value);
    }
    command::run(git, LIMIT)
}

/// The same, and gives what git printed, without the newline at its end. Panics with everything it said if it failed.
pub fn git_ok(dir: &Path, args: &[&str]) -> String {
    let output = git(dir, args);
    assert!(output.status.success(), "git {args:?}: {}", command::said(&output));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_the_same_everywhere() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let ids = dirs.each_ref().map(|dir| {
            git_ok(dir.path(), &["init", "-q", "-b", "master"]);
            std::fs::write(dir.path().join("a"), "a").unwrap();
            git_ok(dir.path(), &["add", "a"]);
            git_ok(dir.path(), &["commit", "-q", "-m", "a"]);
            git_ok(dir.path(), &["fsck", "--strict"]);
            git_ok(dir.path(), &["rev-parse", "HEAD"])
        });
        assert_eq!(ids[0], ids[1]);
        assert!(!git(dirs[0].path(), &["rev-parse", "nothing"]).status.success());
    }
}
