//! git judges: it clones and fetches from the log, checks each pack, and then the whole repository.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use git_smart_http::{Limits, PackLogWriter, Protocol, respond};
use tempfile::TempDir;

use crate::{
    http::{Sent, Server},
    support::Repo,
};

struct World {
    dir: TempDir,
    repo: Repo,
    log: PackLogWriter,
    server: Server,
}

/// None where there is no git.
fn world(commits: usize) -> Option<World> {
    if !has_git() {
        return None;
    }
    let dir = TempDir::new().unwrap();
    let (log, _) = PackLogWriter::open(&dir.path().join("pack-log")).unwrap();
    let server = Server::start(log.log());
    let mut world = World {
        dir,
        repo: Repo::default(),
        log,
        server,
    };
    for number in 0..300 {
        world.repo.set(
            &format!("{}/file-{number}", number % 10),
            &format!("line of {number}\n"),
        );
    }
    world.publish(commits);
    Some(world)
}

impl World {
    fn publish(&mut self, commits: usize) {
        self.log.put_off_sync();
        for _ in 0..commits {
            let number = self.repo.made.len();
            self.repo
                .set(&format!("{}/new-{number}", number % 10), &format!("new in {number}\n"));
            self.repo.set("1/file-1", &format!("changed by {number}\n"));
            self.repo.publish(&mut self.log);
        }
        self.log.sync().unwrap();
    }

    fn client(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A bare clone, like all of these; its one branch follows ours, whatever happens.
    fn clone(&self, name: &str, version: u8, more: &[&str]) -> PathBuf {
        let to = self.client(name);
        let protocol = format!("protocol.version={version}");
        let url = self.server.url();
        let arguments = [&["-c", &protocol, "clone", "-q", "--bare", "--no-local"], more, &[&url]].concat();
        git(self.dir.path(), &[&arguments[..], &[to.to_str().unwrap()]].concat());
        git(&to, &["config", "protocol.version", &version.to_string()]);
        git(
            &to,
            &["config", "remote.origin.fetch", "+refs/heads/master:refs/heads/master"],
        );
        self.check(&to);
        to
    }

    /// What the server sent for it.
    fn fetch(&self, client: &Path, more: &[&str]) -> Vec<Sent> {
        self.server.take_sent();
        git(client, &[&["fetch", "-q"], more, &["origin"]].concat());
        self.check(client);
        self.server.take_sent()
    }

    /// The client is sound, and has the published tree.
    fn check(&self, client: &Path) {
        assert_eq!(git(client, &["fsck", "--strict", "--no-dangling"]), "");
        let made = &self.repo.made.last().unwrap().commit;
        assert_eq!(
            git(client, &["rev-parse", "master", "master^{tree}"]),
            format!("{}\n{}\n", made.id, made.tree)
        );
    }

    fn history(&self, client: &Path) -> usize {
        git(client, &["rev-list", "--count", "master"]).trim().parse().unwrap()
    }
}

/// False, with a word, where there is no git.
pub fn has_git() -> bool {
    let there = Command::new("git")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !there {
        eprintln!("skipped: no git on PATH");
    }
    there
}

/// git away from the user's settings and from a repository around the tests.
pub fn quiet_git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    for name in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_CONFIG_GLOBAL",
        "GIT_PROTOCOL",
    ] {
        command.env_remove(name);
    }
    command
        .current_dir(dir)
        .env("HOME", dir)
        .env("XDG_CONFIG_HOME", dir)
        .env("GIT_CONFIG_NOSYSTEM", "1");
    command
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("no_proxy", "127.0.0.1")
        .env("NO_PROXY", "127.0.0.1");
    command
}

/// With strict checks, and bounded in time by git's own means.
fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = quiet_git(dir);
    command.args([
        "-c",
        "fetch.fsckObjects=true",
        "-c",
        "http.lowSpeedLimit=1",
        "-c",
        "http.lowSpeedTime=20",
    ]);
    command
        .args(["-c", "gc.auto=0", "-c", "maintenance.auto=false"])
        .args(arguments);
    command
}

fn said(arguments: &[&str], output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn git(dir: &Path, arguments: &[&str]) -> String {
    said(arguments, command(dir, arguments).output().unwrap())
}

pub fn git_with_input(dir: &Path, arguments: &[&str], input: &[u8]) -> String {
    let mut child = command(dir, arguments);
    let mut child = child
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    said(arguments, child.wait_with_output().unwrap())
}

fn objects(sent: &[Sent]) -> u32 {
    sent.iter().filter_map(|sent| sent.objects).sum()
}

#[test]
fn git_clones_and_updates() {
    let Some(mut world) = world(3) else { return };
    let clients = [0, 1, 2].map(|version| world.clone(&format!("v{version}"), version, &[]));
    for client in &clients {
        assert_eq!(world.history(client), 3);
        assert_eq!(objects(&world.fetch(client, &[])), 0, "nothing new, nothing sent");
    }
    for (commits, most) in [(1, 7), (100, 700)] {
        world.publish(commits);
        for client in &clients {
            let sent = world.fetch(client, &[]);
            assert!((4..=most).contains(&objects(&sent)), "{sent:?}");
            assert!(
                sent.iter().map(|sent| sent.bytes).sum::<usize>() < 1_500 + commits * 3_000,
                "{sent:?}"
            );
        }
    }
    assert!(clients.iter().all(|client| world.history(client) == 104));
}

#[test]
fn git_clones_shallow_deepens_and_gets_everything() {
    let Some(mut world) = world(8) else { return };
    let clients = [0, 1, 2].map(|version| world.clone(&format!("v{version}"), version, &["--depth", "1"]));
    world.publish(2);
    for client in &clients {
        assert_eq!(world.history(client), 1);
        let sent = world.fetch(client, &[]);
        assert!(objects(&sent) < 20, "{sent:?}");
        assert_eq!(world.history(client), 3);
        world.fetch(client, &["--deepen", "2"]);
        assert_eq!(world.history(client), 5);
        world.fetch(client, &["--depth", "2"]);
        assert_eq!(world.history(client), 2);
        world.fetch(client, &["--unshallow"]);
        assert_eq!(world.history(client), 10);
        assert_eq!(git(client, &["rev-parse", "--is-shallow-repository"]), "false\n");
    }
}

#[test]
fn git_crosses_a_squash() {
    let Some(mut world) = world(5) else { return };
    let kinds: [&[&str]; 2] = [&[], &["--depth", "1"]];
    let mut clients = Vec::new();
    for version in [0, 1, 2] {
        for (number, more) in kinds.iter().enumerate() {
            clients.push(world.clone(&format!("v{version}-{number}"), version, more));
        }
    }
    world.publish(3);
    world.repo.squash(&mut world.log);
    world.publish(1);
    let (before, after) = clients.split_at(3);
    for client in before {
        assert!(objects(&world.fetch(client, &[])) < 30, "only what changed");
    }
    world.repo.snapshot(&mut world.log, 8);
    assert_eq!(world.log.drop_before(world.repo.made[4].commit.time).unwrap(), 4);
    for client in after {
        assert!(objects(&world.fetch(client, &[])) < 30, "old tips stay known");
        assert_eq!(world.history(client), 2);
    }
    for version in [0, 1, 2] {
        let client = world.clone(&format!("late-v{version}"), version, &["--depth", "1"]);
        world.fetch(&client, &["--unshallow"]);
        assert_eq!(world.history(&client), 2);
        let client = world.clone(&format!("full-v{version}"), version, &[]);
        assert_eq!(world.history(&client), 2);
    }
}

#[test]
fn git_takes_what_comes_back() {
    let Some(mut world) = world(1) else { return };
    let shallow = world.clone("shallow", 2, &["--depth", "1"]);
    let full = world.clone("full", 0, &[]);
    let before = world.repo.files["2/file-2"].clone();
    for content in ["yanked\n", &before, "yanked\n", &before] {
        world.repo.set("2/file-2", content);
        world.publish(1);
    }
    let middle = world.clone("middle", 2, &["--depth", "1"]);
    world.repo.set("2/file-2", "yanked\n");
    world.publish(1);
    world.repo.set("2/file-2", &before);
    world.repo.snapshot(&mut world.log, 3);
    world.publish(1);
    for client in [&shallow, &full, &middle] {
        world.fetch(client, &[]);
    }
    world.clone("late", 1, &["--depth", "2"]);
    world.clone("later", 2, &[]);
}

#[test]
fn git_with_a_history_of_its_own_ends_in_a_whole_clone() {
    let Some(world) = world(4) else { return };
    let mut foreign = String::from("reset refs/heads/own\n");
    for number in 0..600 {
        let from = if number > 0 {
            format!("from :{number}\n")
        } else {
            String::new()
        };
        foreign += &format!(
            "commit refs/heads/own\nmark :{}\ncommitter a <a@localhost> {} +0000\ndata 2\nx\n{from}\n",
            number + 1,
            1_600_000_000 + number
        );
    }
    for version in [0, 1, 2] {
        let client = world.client(&format!("v{version}"));
        git(world.dir.path(), &["init", "-q", "--bare", client.to_str().unwrap()]);
        git_with_input(&client, &["fast-import", "--quiet"], foreign.as_bytes());
        git(&client, &["config", "protocol.version", &version.to_string()]);
        git(&client, &["remote", "add", "origin", &world.server.url()]);
        git(
            &client,
            &["config", "remote.origin.fetch", "+refs/heads/master:refs/heads/master"],
        );
        let sent = world.fetch(&client, &[]);
        assert!(objects(&sent) > 300 && sent.len() > 1, "{sent:?}");
        assert_eq!(world.history(&client), 4);
    }
}

#[test]
fn git_sends_large_requests_in_chunks_after_a_probe() {
    let Some(mut world) = world(40) else { return };
    let client = world.clone("client", 0, &[]);
    git(&client, &["config", "http.postBuffer", "200"]);
    world.publish(1);
    let sent = world.fetch(&client, &[]);
    assert!(
        sent.iter().any(|sent| sent.bytes == 0),
        "a probe was answered with nothing: {sent:?}"
    );
}

#[test]
fn index_pack_takes_each_plain_pack() {
    let Some(world) = world(6) else { return };
    let head = world.repo.head();
    let bare = world.client("bare");
    git(world.dir.path(), &["init", "-q", "--bare", bare.to_str().unwrap()]);
    for deepen in [None, Some(1)] {
        let want = format!("want {head}");
        let deepen = deepen.map(|depth| format!("000ddeepen {depth}\n")).unwrap_or_default();
        let body = format!("{:04x}{want}{deepen}00000009done\n", want.len() + 4);
        let answer = respond(
            &world.log.log().view(),
            Protocol::V0,
            body.as_bytes(),
            &Limits::default(),
        )
        .unwrap();
        let pack: Vec<u8> = answer.clone().pieces().skip(1).flat_map(Result::unwrap).collect();
        assert_eq!(
            answer.plan.unwrap().payload_bytes() < pack.len() as u64,
            deepen.is_empty()
        );
        // Without the boundary, a shallow pack's links cannot be followed.
        let strict: &[&str] = if deepen.is_empty() { &["--strict"] } else { &[] };
        git_with_input(&bare, &[&["index-pack", "--stdin"], strict].concat(), &pack);
    }
}
