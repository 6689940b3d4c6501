//! Who asks what, and what is said: each dialect's answer to the same histories.

use std::sync::Arc;

use git_smart_http::{Answer, Limits, ObjectId, PackLogWriter, Protocol, View, advertise, respond};
use tempfile::TempDir;

use crate::{pack, support::Repo};

/// Commits 0 to 5, a squash as commit 6, and commit 7 on top of it.
pub struct World {
    _dir: TempDir,
    repo: Repo,
    view: Arc<View>,
}

impl World {
    pub fn new() -> World {
        let dir = TempDir::new().unwrap();
        let (mut log, _) = PackLogWriter::open(dir.path()).unwrap();
        let mut repo = Repo::default();
        for number in 0..6 {
            repo.set(&format!("aa/{number}"), "one\n");
            repo.publish(&mut log);
        }
        repo.squash(&mut log);
        repo.set("aa/7", "one\n");
        repo.publish(&mut log);
        let view = log.log().view();
        World { _dir: dir, repo, view }
    }

    /// `C5` stands for commit 5, `X1` for one that nobody knows.
    pub fn named(&self, text: &str) -> String {
        let word = |word: &str| match (
            word.get(..1),
            word.get(1..).and_then(|number| number.parse::<usize>().ok()),
        ) {
            (Some("C"), Some(number)) => self.repo.id(number).to_string(),
            (Some("X"), Some(number)) => format!("{number:040x}"),
            _ => word.to_owned(),
        };
        text.split(' ').map(word).collect::<Vec<_>>().join(" ")
    }

    fn pkt(&self, line: &str) -> String {
        match line {
            "0000" | "0001" => line.to_owned(),
            _ => {
                let line = self.named(line);
                format!("{:04x}{line}\n", line.len() + 5)
            }
        }
    }

    pub fn body(&self, lines: &[&str]) -> String {
        lines.iter().map(|line| self.pkt(line)).collect()
    }

    pub fn ask(&self, protocol: Protocol, lines: &[&str]) -> Answer {
        respond(&self.view, protocol, self.body(lines).as_bytes(), &Limits::default()).unwrap()
    }

    /// The lines before the pack, and how many objects the pack has if one follows.
    pub fn hear(&self, protocol: Protocol, lines: &[&str]) -> (Vec<String>, Option<u32>) {
        let answer = self.ask(protocol, lines);
        let objects = answer.plan.as_ref().map(|plan| plan.objects());
        (pack::answer(&answer.head).0, objects)
    }

    #[track_caller]
    fn expect(&self, protocol: Protocol, lines: &[&str], said: &[&str], objects: Option<u32>) {
        let said: Vec<String> = said.iter().map(|line| self.named(line)).collect();
        assert_eq!(self.hear(protocol, lines), (said, objects), "{lines:?}");
    }
}

const DETAILED: &str = "want C5 multi_ack_detailed side-band-64k ofs-delta";
const NO_DONE: &str = "want C5 multi_ack_detailed no-done side-band-64k ofs-delta";

#[test]
fn v0_acknowledges_as_git_does() {
    let world = World::new();
    // A commit, its tree, and the folder and file that came with it.
    let cases: &[(&[&str], &[&str], Option<u32>)] = &[
        // libgit2: clone, update, update with several haves.
        (&[DETAILED, "0000", "done"], &["NAK"], Some(19)),
        (
            &[DETAILED, "0000", "have C4", "done"],
            &["ACK C4 common", "ACK C4"],
            Some(3),
        ),
        (
            &[DETAILED, "0000", "have C4", "have C3", "done"],
            &["ACK C4 common", "ACK C3 common", "ACK C3"],
            Some(3),
        ),
        // git: flushes, first without and then with something in common.
        (&[DETAILED, "0000", "have X1", "have X2", "0000"], &["NAK"], None),
        (&[DETAILED, "0000", "have X1", "done"], &["NAK"], Some(19)),
        (
            &[DETAILED, "0000", "have C4", "0000"],
            &["ACK C4 common", "ACK C4 ready", "NAK"],
            None,
        ),
        (
            &[DETAILED, "0000", "have C4", "have X1", "0000"],
            &["ACK C4 common", "ACK X1 ready", "NAK"],
            None,
        ),
        (
            &[NO_DONE, "0000", "have C4", "0000"],
            &["ACK C4 common", "ACK C4 ready", "NAK", "ACK C4"],
            Some(3),
        ),
        (&[NO_DONE, "0000", "have X1", "0000"], &["NAK"], None),
        // The older ways.
        (
            &["want C5 multi_ack", "0000", "have C4", "0000"],
            &["ACK C4 continue", "NAK"],
            None,
        ),
        (
            &["want C5 multi_ack", "0000", "have C4", "done"],
            &["ACK C4 continue", "ACK C4"],
            Some(3),
        ),
        (&["want C5", "0000", "have X1", "0000"], &["NAK"], None),
        (
            &["want C5", "0000", "have X1", "have C4", "have C3", "0000"],
            &["ACK C4"],
            None,
        ),
        (&["want C5", "0000", "have C4", "done"], &["ACK C4"], Some(3)),
        // Everything is there already.
        (
            &[DETAILED, "0000", "have C5", "done"],
            &["ACK C5 common", "ACK C5"],
            Some(0),
        ),
        // Nothing but wants.
        (&[DETAILED, "0000"], &[], None),
    ];
    for (lines, said, objects) in cases {
        for protocol in [Protocol::V0, Protocol::V1] {
            world.expect(protocol, lines, said, *objects);
        }
    }
}

#[test]
fn v0_says_the_boundary_in_each_answer() {
    let world = World::new();
    let first: &[&str] = &[DETAILED, "deepen 1", "0000"];
    world.expect(Protocol::V0, first, &["shallow C5", "0000"], None);
    let done: &[&str] = &[DETAILED, "deepen 1", "0000", "done"];
    world.expect(Protocol::V0, done, &["shallow C5", "0000", "NAK"], Some(14));
    let unshallow: &[&str] = &[DETAILED, "shallow C5", "deepen 2147483647", "0000", "have C5", "done"];
    world.expect(
        Protocol::V0,
        unshallow,
        &["unshallow C5", "0000", "ACK C5 common", "ACK C5"],
        Some(16),
    );
}

#[test]
fn v2_acknowledges_as_git_does() {
    let world = World::new();
    let cases: &[(&[&str], &[&str], Option<u32>)] = &[
        (&["want C5", "done", "0000"], &["packfile"], Some(19)),
        (
            &["want C5", "have C4", "have X1", "0000"],
            &["acknowledgments", "ACK C4", "ready", "0001", "packfile"],
            Some(3),
        ),
        (
            &["want C5", "have X1", "0000"],
            &["acknowledgments", "NAK", "0000"],
            None,
        ),
        (&["want C5", "have C4", "done", "0000"], &["packfile"], Some(3)),
        (
            &["want C5", "have C4", "wait-for-done", "0000"],
            &["acknowledgments", "ACK C4", "0000"],
            None,
        ),
        (
            &["have C4", "wait-for-done", "0000"],
            &["acknowledgments", "ACK C4", "0000"],
            None,
        ),
        (&["have C4", "0000"], &[], None),
        (&["0000"], &[], None),
        // Shallow: gitoxide clones, updates, deepens, and gets everything.
        (
            &["deepen 1", "want C5", "done", "0000"],
            &["shallow-info", "shallow C5", "0001", "packfile"],
            Some(14),
        ),
        (
            &["shallow C4", "want C5", "have C4", "done", "0000"],
            &["shallow-info", "0001", "packfile"],
            Some(3),
        ),
        (
            &["shallow C4", "deepen 1", "want C5", "have C4", "done", "0000"],
            &["shallow-info", "shallow C5", "0001", "packfile"],
            Some(3),
        ),
        (
            &["shallow C4", "deepen 3", "want C5", "have C4", "done", "0000"],
            &["shallow-info", "shallow C3", "unshallow C4", "0001", "packfile"],
            Some(13 - 3 + 3),
        ),
        (
            &[
                "shallow C4",
                "deepen 2",
                "deepen-relative",
                "want C5",
                "have C4",
                "done",
                "0000",
            ],
            &["shallow-info", "shallow C2", "unshallow C4", "0001", "packfile"],
            Some(13 - 2 + 3),
        ),
        (
            &["shallow C4", "deepen 2147483647", "want C4", "have C4", "done", "0000"],
            &["shallow-info", "unshallow C4", "0001", "packfile"],
            Some(13),
        ),
        // Deeper than the history is.
        (
            &["deepen 50", "want C5", "done", "0000"],
            &["shallow-info", "0001", "packfile"],
            Some(19),
        ),
    ];
    for (arguments, said, objects) in cases {
        let lines = [&["command=fetch", "agent=git/2.47.3", "0001"], *arguments].concat();
        world.expect(Protocol::V2, &lines, said, *objects);
    }
}

#[test]
fn a_squash_is_crossed_from_where_the_client_is() {
    let world = World::new();
    let v2 = |lines: &[&str]| {
        world
            .hear(Protocol::V2, &[&["command=fetch", "0001"], lines].concat())
            .1
    };
    assert_eq!(
        v2(&["want C7", "have C5", "done", "0000"]),
        Some(1 + 4 - 1),
        "the new root, and what commit 7 brought"
    );
    assert_eq!(
        v2(&["want C7", "have C3", "done", "0000"]),
        Some(2 * 3 - 2 + 1 + 3),
        "not the commits in between"
    );
    assert_eq!(
        v2(&["want C5", "have C7", "done", "0000"]),
        Some(19),
        "of the old history it has nothing"
    );
    assert_eq!(
        v2(&["shallow C2", "want C7", "have C2", "done", "0000"]),
        Some(2 * 3 + 4)
    );
}

#[test]
fn an_unknown_want_is_no_ref_of_ours() {
    let world = World::new();
    let said = world.named("ERR upload-pack: not our ref X9");
    for (protocol, lines) in [
        (Protocol::V0, &["want X9 side-band-64k", "0000", "done"][..]),
        (
            Protocol::V2,
            &["command=fetch", "0001", "want C5", "want X9", "done", "0000"],
        ),
    ] {
        assert_eq!(world.hear(protocol, lines), (vec![said.clone()], None));
    }
}

#[test]
fn six_hundred_foreign_haves_end_in_a_whole_clone() {
    let world = World::new();
    let haves: Vec<String> = (1..=600).map(|number| format!("have X{number}")).collect();
    let mut lines = vec![DETAILED, "0000"];
    lines.extend(haves.iter().map(String::as_str));
    lines.push("done");
    world.expect(Protocol::V0, &lines, &["NAK"], Some(19));
}

#[test]
fn waiting_is_shown_as_each_client_takes_it() {
    let world = World::new();
    let waits = |protocol, lines: &[&str]| world.ask(protocol, lines).plan.unwrap().keep_alive("waiting\n");
    assert_eq!(waits(Protocol::V0, &["want C5", "0000", "done"]), None);
    assert_eq!(
        waits(Protocol::V0, &[DETAILED, "0000", "done"]).unwrap(),
        "000d\x02waiting\n"
    );
    let quiet = ["command=fetch", "0001", "no-progress", "want C5", "done", "0000"];
    assert_eq!(waits(Protocol::V2, &quiet).unwrap(), "0005\x01");
}

#[test]
fn the_advertisement_names_head_and_branch() {
    let head = ObjectId::from_hex(b"29b674837426058e3be8da70737eb39e8414e134").unwrap();
    let v0 = advertise(Protocol::V0, Some(head), "mirror/0");
    let text = String::from_utf8_lossy(&v0);
    assert!(text.starts_with("001e# service=git-upload-pack\n0000"), "{text}");
    assert!(text.contains(&format!("{head} HEAD\0multi_ack ")), "{text}");
    assert!(
        text.contains(" symref=HEAD:refs/heads/master object-format=sha1 agent=mirror/0\n"),
        "{text}"
    );
    assert!(text.ends_with(&format!("003f{head} refs/heads/master\n0000")), "{text}");
    assert!(
        !text.contains("thin-pack") && !text.contains("filter"),
        "only what is done: {text}"
    );
    let v1 = advertise(Protocol::V1, Some(head), "mirror/0");
    assert!(
        v1.starts_with(b"001e# service=git-upload-pack\n0000000eversion 1\n"),
        "{v1:?}"
    );
    let v2 = advertise(Protocol::V2, Some(head), "mirror/0");
    assert_eq!(
        v2,
        "000eversion 2\n0013agent=mirror/0\n0013ls-refs=unborn\n0020fetch=shallow wait-for-done\n\
         0017object-format=sha1\n0000"
    );
}

#[test]
fn refs_are_listed_by_prefix() {
    let world = World::new();
    let ask = |lines: &[&str]| {
        world
            .hear(Protocol::V2, &[&["command=ls-refs", "0001"], lines].concat())
            .0
    };
    let head = world.named("C7 HEAD symref-target:refs/heads/master");
    let branch = world.named("C7 refs/heads/master");
    let end = "0000".to_owned();
    assert_eq!(
        ask(&["symrefs", "peel", "0000"]),
        [head.clone(), branch.clone(), end.clone()]
    );
    assert_eq!(
        ask(&["symrefs", "ref-prefix HEAD", "ref-prefix refs/tags/", "0000"]),
        [head, end.clone()]
    );
    assert_eq!(ask(&["ref-prefix refs/heads/", "0000"]), [branch, end.clone()]);
    assert_eq!(ask(&["ref-prefix refs/tags/", "0000"]), [end]);
}

#[test]
fn an_empty_log_is_an_empty_repository() {
    let dir = TempDir::new().unwrap();
    let (log, _) = PackLogWriter::open(dir.path()).unwrap();
    let view = log.log().view();
    let v0 = advertise(Protocol::V0, None, "mirror/0");
    let text = String::from_utf8_lossy(&v0);
    assert!(
        text.contains(&format!("{} capabilities^{{}}\0multi_ack ", "0".repeat(40))),
        "{text}"
    );
    assert!(
        text.ends_with(" agent=mirror/0\n0000") && !text.contains("symref"),
        "{text}"
    );
    let ask = |body: &[u8]| respond(&view, Protocol::V2, body, &Limits::default()).unwrap().head;
    assert_eq!(
        ask(b"0014command=ls-refs\n0001000bunborn\n000csymrefs\n0000"),
        "0030unborn HEAD symref-target:refs/heads/master\n0000"
    );
    assert_eq!(ask(b"0014command=ls-refs\n0001000csymrefs\n0000"), "0000");
    let want = format!("0012command=fetch\n00010032want {}\n0009done\n0000", "1".repeat(40));
    assert!(ask(want.as_bytes()).ends_with(b"not our ref 1111111111111111111111111111111111111111"));
}
