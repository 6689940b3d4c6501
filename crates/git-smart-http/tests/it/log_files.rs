//! The files: what opening keeps, what is refused, and what reading finds.

use std::{fs, path::Path};

use git_smart_http::{
    Commit, Error, Kind, Limits, Object, ObjectId, PackLog, PackLogWriter, Protocol, Recovered, respond,
};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::{pack, support::Repo};

fn published(dir: &Path, commits: usize) -> (Repo, PackLogWriter) {
    let (mut log, recovered) = PackLogWriter::open(dir).unwrap();
    assert!(recovered.is_clean());
    let mut repo = Repo::default();
    for number in 0..commits {
        repo.set("aa/same", &format!("content {number}\n"));
        repo.set(&format!("bb/{number}"), "new\n");
        repo.publish(&mut log);
    }
    (repo, log)
}

fn ids(log: &PackLog) -> Vec<ObjectId> {
    log.view().commits().map(|commit| commit.id).collect()
}

/// A request for a commit, from nothing, and its answer; the pack is framed if `framed`.
fn clone(log: &PackLog, commit: ObjectId, framed: bool) -> Vec<std::io::Result<bytes::Bytes>> {
    let caps = if framed { " side-band-64k" } else { "" };
    let want = format!("want {commit}{caps}");
    let body = format!("{:04x}{want}00000009done\n", want.len() + 4);
    respond(&log.view(), Protocol::V0, body.as_bytes(), &Limits::default())
        .unwrap()
        .pieces()
        .collect()
}

fn whole(pieces: Vec<std::io::Result<bytes::Bytes>>) -> Vec<u8> {
    pieces.into_iter().flat_map(|piece| piece.unwrap()).collect()
}

fn damage(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_log_is_the_same_after_opening() {
    let dir = TempDir::new().unwrap();
    let (repo, log) = published(dir.path(), 4);
    let before = ids(&log.log());
    drop(log);
    let (log, recovered) = PackLogWriter::open(dir.path()).unwrap();
    assert_eq!((ids(&log.log()), recovered), (before, Recovered::default()));
    let view = log.log().view();
    assert_eq!(view.head(), Some(&repo.made[3].commit));
    let mut last = (0, 0);
    view.verify(|done, all| last = (done, all)).unwrap();
    assert_eq!(last, (view.payload_bytes(), view.payload_bytes()));
}

#[test]
fn a_commit_is_whole_or_not_there() {
    let dir = TempDir::new().unwrap();
    let (repo, mut log) = published(dir.path(), 2);
    let entries = dir.path().join("entries.1");
    let commit = |parent| Commit {
        id: ObjectId([7; 20]),
        tree: ObjectId([8; 20]),
        parent,
        time: 5,
    };
    let object = |byte, kind| Object {
        id: ObjectId([byte; 20]),
        kind,
        data: b"x",
    };

    let mut append = log.begin(commit(Some(repo.id(1)))).unwrap();
    append.push(object(7, Kind::Commit)).unwrap();
    let twice = append.push(object(7, Kind::Commit)).unwrap_err();
    assert!(matches!(twice, Error::CommitFirst { .. }), "{twice}");
    drop(append);
    assert_eq!(ids(&log.log()).len(), 2, "given up");

    let wrong = log.append(commit(Some(repo.id(0))), []).unwrap_err();
    assert!(
        matches!(wrong, Error::NotOnTop { head: Some(head), .. } if head == repo.id(1)),
        "{wrong}"
    );
    let again = log.append(repo.made[0].commit, []).unwrap_err();
    assert!(matches!(again, Error::AlreadyThere { .. }), "{again}");
    let empty = log.append(commit(None), []).unwrap_err();
    assert!(matches!(empty, Error::NoObjects { .. }), "{empty}");
    let tree = log.append(commit(None), [object(8, Kind::Tree)]).unwrap_err();
    assert!(matches!(tree, Error::CommitFirst { .. }), "{tree}");
    let unknown = log.append_snapshot(&ObjectId([9; 20]), []).unwrap_err();
    assert!(matches!(unknown, Error::UnknownCommit { .. }), "{unknown}");

    log.append(
        commit(Some(repo.id(1))),
        [object(7, Kind::Commit), object(8, Kind::Blob), object(8, Kind::Blob)],
    )
    .unwrap();
    drop(log);
    let (log, recovered) = PackLogWriter::open(dir.path()).unwrap();
    assert!(
        recovered.is_clean(),
        "what was given up left nothing in {entries:?}: {recovered:?}"
    );
    assert_eq!(ids(&log.log()).len(), 3);
    log.log().view().verify(|_, _| {}).unwrap();
}

#[test]
fn what_was_not_made_durable_is_not_there_after_a_crash() {
    let dir = TempDir::new().unwrap();
    let (mut repo, mut log) = published(dir.path(), 2);
    log.put_off_sync();
    let grow = |repo: &mut Repo, log: &mut PackLogWriter, name: &str| {
        repo.set(name, "more\n");
        repo.publish(log)
    };
    grow(&mut repo, &mut log, "cc/1");
    let head = grow(&mut repo, &mut log, "cc/2");
    assert_eq!(log.log().view().head().unwrap().id, head, "shown at once");
    pack::objects(&whole(clone(&log.log(), head, false))[8..]);
    drop(log);
    let (mut log, recovered) = PackLogWriter::open(dir.path()).unwrap();
    assert_eq!(ids(&log.log()).len(), 2);
    assert!(
        recovered.entries_bytes > 0 && recovered.index_bytes > 0 && recovered.commits_bytes == 0,
        "{recovered:?}"
    );

    repo.made.truncate(2);
    log.put_off_sync();
    grow(&mut repo, &mut log, "cc/3");
    grow(&mut repo, &mut log, "cc/4");
    log.sync().unwrap();
    grow(&mut repo, &mut log, "cc/5");
    drop(log);
    let (log, recovered) = PackLogWriter::open(dir.path()).unwrap();
    assert!(recovered.is_clean(), "{recovered:?}");
    assert_eq!(ids(&log.log()).len(), 5);
}

#[test]
fn what_a_rewrite_left_behind_goes_at_the_next_start() {
    let dir = TempDir::new().unwrap();
    let (_, log) = published(dir.path(), 2);
    let before = ids(&log.log());
    drop(log);
    for name in ["entries.2", "index.2", "commits.new"] {
        fs::write(dir.path().join(name), "half").unwrap();
    }
    let (log, recovered) = PackLogWriter::open(dir.path()).unwrap();
    assert_eq!((ids(&log.log()), recovered.is_clean()), (before, true));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn readers_keep_what_they_began_with() {
    let dir = TempDir::new().unwrap();
    let (mut repo, mut log) = published(dir.path(), 3);
    let (readers, before) = (log.log(), log.log().view());
    repo.set("cc/x", "x\n");
    repo.publish(&mut log);
    assert_eq!(before.head().unwrap().id, repo.id(2));
    assert_eq!(readers.view().head().unwrap().id, repo.id(3));
    drop(PackLogWriter::create(dir.path()).unwrap());
    before.verify(|_, _| {}).unwrap();
}

#[test]
fn a_snapshot_serves_clones_and_the_squashed_history_goes() {
    let dir = TempDir::new().unwrap();
    let (mut repo, mut log) = published(dir.path(), 6);
    assert_eq!(log.drop_before(i64::MAX).unwrap(), 0, "there is no later start");
    let root = repo.squash(&mut log);
    assert!(!log.log().view().root_is_whole());
    assert_eq!(log.drop_before(i64::MAX).unwrap(), 0, "the new root has no snapshot");
    let before = log.log().view().payload_bytes();
    repo.set("aa/same", "after\n");
    repo.publish(&mut log);
    repo.snapshot(&mut log, 6);
    assert!(log.log().view().root_is_whole());

    let (old_view, kept) = (log.log().view(), repo.made[4].commit.time);
    assert_eq!(log.drop_before(kept).unwrap(), 4);
    assert_eq!(log.drop_before(kept).unwrap(), 0, "nothing more to drop");
    assert!(log.log().view().payload_bytes() < before + log.log().view().snapshot_bytes());
    let expected: Vec<ObjectId> = (4..8).map(|number| repo.id(number)).collect();
    assert_eq!(ids(&log.log()), expected);
    let framed = whole(clone(&log.log(), repo.head(), true));
    let objects = pack::objects(&pack::answer(&framed).1.unwrap());
    assert_eq!(objects.len(), 2 + repo.made[6].tree.union(&repo.made[7].tree).count());
    let refused = whole(clone(&log.log(), repo.id(4), true));
    assert!(
        refused.starts_with(b"0049ERR upload-pack: not our ref"),
        "its start is gone"
    );
    old_view.verify(|_, _| {}).unwrap();

    drop(log);
    let (mut log, recovered) = PackLogWriter::open(dir.path()).unwrap();
    assert!(recovered.is_clean());
    assert_eq!(ids(&log.log()), expected);
    log.log().view().verify(|_, _| {}).unwrap();
    repo.set("aa/same", "content 1\n");
    repo.publish(&mut log);
    let names: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 3, "nothing is left behind: {names:?}");
    assert!(expected.contains(&root));
}

#[test]
fn another_version_says_that_it_has_to_be_rebuilt() {
    let dir = TempDir::new().unwrap();
    drop(published(dir.path(), 1));
    for (file, at) in [("commits", 8), ("commits", 0), ("index.1", 8), ("entries.1", 3)] {
        damage(&dir.path().join(file), at);
        let error = PackLogWriter::open(dir.path()).unwrap_err();
        assert!(
            matches!(error, Error::OtherVersion { .. }) && error.needs_rebuild(),
            "{file}: {error}"
        );
        damage(&dir.path().join(file), at);
    }
    let log = PackLogWriter::create(dir.path()).unwrap();
    assert_eq!(log.log().view().head(), None);
}

#[test]
fn a_damaged_index_is_found_at_the_start() {
    let dir = TempDir::new().unwrap();
    drop(published(dir.path(), 3));
    damage(&dir.path().join("index.1"), 100);
    let error = PackLogWriter::open(dir.path()).unwrap_err();
    assert!(
        matches!(error, Error::Damaged { .. }) && error.needs_rebuild(),
        "{error}"
    );
}

#[test]
fn damaged_payloads_never_make_a_whole_pack() {
    let dir = TempDir::new().unwrap();
    let (repo, log) = published(dir.path(), 3);
    let good = whole(clone(&log.log(), repo.head(), false));
    pack::objects(&good[8..]);
    assert!(!log.log().view().is_damaged());
    damage(&dir.path().join("entries.1"), 200);

    let framed = whole(clone(&log.log(), repo.head(), true));
    assert!(framed.ends_with(b"\x03the server cannot read its repository; try again later\n"));
    let mut plain = clone(&log.log(), repo.head(), false);
    plain.pop().unwrap().unwrap_err();
    assert!(log.log().view().is_damaged());
    let error = log.log().view().verify(|_, _| {}).unwrap_err();
    assert!(
        matches!(error, Error::Damaged { commit, .. } if commit == repo.id(0)),
        "{error}"
    );
}

#[test]
fn a_file_cut_under_a_reader_ends_its_pack_early() {
    let dir = TempDir::new().unwrap();
    let (repo, log) = published(dir.path(), 3);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(dir.path().join("entries.1"))
        .unwrap();
    file.set_len(300).unwrap();
    let framed = whole(clone(&log.log(), repo.head(), true));
    assert!(framed.ends_with(b"try again later\n"));
}

#[test]
fn a_large_object_goes_through_all_framings() {
    let dir = TempDir::new().unwrap();
    let (mut log, _) = PackLogWriter::open(dir.path()).unwrap();
    let mut repo = Repo::default();
    let noise = (0..300_000_u64).map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    repo.set("aa/large", &noise.collect::<String>());
    let head = repo.publish(&mut log);
    for (framing, most) in [("", 64 << 10), (" side-band", 1_000), (" side-band-64k", 65_520)] {
        let want = format!("want {head}{framing}");
        let body = format!("{:04x}{want}00000009done\n", want.len() + 4);
        let answer = respond(&log.log().view(), Protocol::V0, body.as_bytes(), &Limits::default()).unwrap();
        let pieces: Vec<_> = answer.pieces().map(Result::unwrap).collect();
        assert!(pieces.iter().all(|piece| piece.len() <= most), "{framing}");
        assert!(pieces.len() > 30, "{framing}");
        let all = pieces.concat();
        let pack = if framing.is_empty() {
            all[8..].to_vec()
        } else {
            pack::answer(&all).1.unwrap()
        };
        assert_eq!(pack::objects(&pack).len(), 4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cut_anywhere_the_log_ends_at_a_complete_commit(file in 0_usize..3, part in 0.0_f64..1.0) {
        let dir = TempDir::new().unwrap();
        let (mut repo, log) = published(dir.path(), 4);
        drop(log);
        let path = dir.path().join(["commits", "entries.1", "index.1"][file]);
        let length = fs::metadata(&path).unwrap().len();
        let left = (length as f64 * part) as u64;
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(left).unwrap();

        let (mut log, _) = PackLogWriter::open(dir.path()).unwrap();
        let kept = ids(&log.log());
        prop_assert!(kept.len() < 4);
        prop_assert!(kept.iter().zip(&repo.made).all(|(kept, made)| *kept == made.commit.id));
        log.log().view().verify(|_, _| {}).unwrap();
        // It goes on from there.
        repo.made.truncate(kept.len());
        repo.set("aa/again", "after the cut\n");
        let head = repo.publish(&mut log);
        let objects = pack::objects(&whole(clone(&log.log(), head, false))[8..]);
        prop_assert!(objects.len() > kept.len());
    }

    #[test]
    fn a_flipped_bit_never_makes_a_wrong_answer(file in 0_usize..3, at in 16_usize..100_000) {
        let dir = TempDir::new().unwrap();
        let (repo, log) = published(dir.path(), 4);
        drop(log);
        damage(&dir.path().join(["commits", "entries.1", "index.1"][file]), at);
        if let Ok((log, _)) = PackLogWriter::open(dir.path())
            && let Some(head) = log.log().view().head().map(|head| head.id)
        {
            let number = repo.made.iter().position(|made| made.commit.id == head).unwrap();
            let pieces = clone(&log.log(), head, false);
            let sound = log.log().view().verify(|_, _| {}).is_ok();
            prop_assert_eq!(pieces.iter().all(Result::is_ok), sound);
            if sound {
                let objects = pack::objects(&whole(pieces)[8..]);
                prop_assert!(objects.iter().filter(|(_, kind, _)| *kind == Kind::Commit).count() == number + 1);
            }
        }
    }
}
