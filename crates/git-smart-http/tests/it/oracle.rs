//! The same requests to `git upload-pack`: what is said before a pack has to be the same, line by line.

use std::{io::Write, path::Path, process::Stdio};

use git_smart_http::Protocol;

use crate::{
    conversations::World,
    git_clients::{git, git_with_input, has_git, quiet_git},
};

/// No parent follows its child: git takes note of parents, and then acknowledges them as it happens to (not at all in
/// v2, twice as the first one in v0).
const HAVES: [&[&str]; 7] = [
    &[],
    &["have C4"],
    &["have C4", "have C2"],
    &["have X1"],
    &["have C4", "have X1"],
    &["have X1", "have C2", "have X2"],
    &["have C5"],
];
const DEPTHS: [&[&str]; 8] = [
    &[],
    &["deepen 1"],
    &["deepen 3"],
    &["deepen 9"],
    &["shallow C4"],
    &["shallow C4", "deepen 1"],
    &["shallow C4", "deepen 3"],
    &["shallow C4", "deepen 2147483647"],
];

/// A repository with the same commits, `C5` and `C7` being branches.
fn repository(world: &World, dir: &Path) {
    git(dir, &["init", "-q", "--bare", "."]);
    git(dir, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
    for (want, branch) in [("want C5", "old"), ("want C7", "master")] {
        let answer = world.ask(Protocol::V0, &[want, "0000", "done"]);
        let pack: Vec<u8> = answer.plan.unwrap().stream().flat_map(Result::unwrap).collect();
        git_with_input(dir, &["index-pack", "--stdin", "--strict"], &pack);
        let id = world.named(want.strip_prefix("want ").unwrap());
        git(dir, &["update-ref", &format!("refs/heads/{branch}"), &id]);
    }
}

/// What git says before the pack, and whether a pack follows.
fn git_says(dir: &Path, protocol: Protocol, body: &str) -> (Vec<String>, bool) {
    let mut command = quiet_git(dir);
    command.args(["upload-pack", "--stateless-rpc", "--timeout=20", "."]);
    if protocol == Protocol::V2 {
        command.env("GIT_PROTOCOL", "version=2");
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap().stdout;

    let (mut lines, mut rest) = (Vec::new(), &output[..]);
    while !rest.is_empty() {
        let length = std::str::from_utf8(&rest[..4])
            .ok()
            .and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let Some(length) = length else { return (lines, true) };
        let data = rest.get(4..length).unwrap_or_default();
        match (length, data.first()) {
            (0..4, _) => lines.push(format!("{length:04x}")),
            (_, Some(1..=3)) => return (lines, true),
            _ => lines.push(String::from_utf8_lossy(data).trim_end().to_owned()),
        }
        rest = &rest[length.max(4)..];
    }
    (lines, false)
}

/// Whether git would stop asking when this client has something in common with it, as we always do: git wants to see
/// each wanted commit's history end in what the client has, which a boundary or a squash in between prevents.
fn git_is_ready(lines: &[&str]) -> bool {
    let cut = lines
        .iter()
        .any(|line| line.starts_with("shallow") || ["deepen 1", "deepen 3"].contains(line));
    !cut && !lines.contains(&"want C7") && !lines.contains(&"want C3")
}

fn compare(world: &World, dir: &Path, protocol: Protocol, lines: &[&str]) {
    let any = |start: &str| lines.iter().any(|line| line.starts_with(start));
    // A client that says `done` decides itself, but in v0 our readiness may have shown before.
    let decided = any("wait-for-done") || any("done") && !(protocol == Protocol::V0 && any("have X"));
    // Waiting with nothing to ask for: git sends a pack of nothing.
    let idle = any("wait-for-done") && !any("want") && !any("have");
    if idle || any("have C") && !decided && !git_is_ready(lines) {
        return;
    }
    let (said, objects) = world.hear(protocol, lines);
    let git = git_says(dir, protocol, &world.body(lines));
    assert_eq!(
        (said, objects.is_some()),
        git,
        "{protocol:?} {lines:?}: ours, and git's"
    );
}

#[test]
fn git_says_the_same_with_v0() {
    if !has_git() {
        return;
    }
    let (world, dir) = (World::new(), tempfile::TempDir::new().unwrap());
    repository(&world, dir.path());
    let wants = [
        "want C5",
        "want C5 multi_ack side-band",
        "want C5 multi_ack_detailed side-band-64k ofs-delta",
        "want C5 multi_ack_detailed no-done side-band-64k ofs-delta",
    ];
    let ends: [&[&str]; 2] = [&["0000"], &["done"]];
    for want in wants {
        for depth in DEPTHS {
            compare(&world, dir.path(), Protocol::V0, &[&[want], depth, &["0000"]].concat());
            for haves in HAVES {
                for end in ends {
                    let lines = [&[want], depth, &["0000"], haves, end].concat();
                    compare(&world, dir.path(), Protocol::V0, &lines);
                }
            }
        }
    }
}

#[test]
fn git_says_the_same_with_v2() {
    if !has_git() {
        return;
    }
    let (world, dir) = (World::new(), tempfile::TempDir::new().unwrap());
    repository(&world, dir.path());
    let ends: [&[&str]; 3] = [&["0000"], &["done", "0000"], &["wait-for-done", "0000"]];
    let wants: [&[&str]; 3] = [&["want C5"], &["want C7", "want C3"], &[]];
    for want in wants {
        for depth in DEPTHS {
            for haves in HAVES {
                for end in ends {
                    let lines = [&["command=fetch", "agent=git/2.47.3", "0001"], want, depth, haves, end].concat();
                    compare(&world, dir.path(), Protocol::V2, &lines);
                }
            }
        }
    }
}
