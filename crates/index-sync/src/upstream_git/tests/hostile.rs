//! Upstreams that want to harm us: what comes from them is refused, in bounded time and memory, and nothing of it stays.

use gix::ObjectId;
use gix::objs::Kind;

use super::hostile_server::{self, *};
use super::*;

const NO: ObjectId = ObjectId::null(gix::hash::Kind::Sha1);

/// A server whose index has one file, `a`, which `blob` is the name of; `entries` are the pack's, before the tree and the commit.
fn with_file(blob: ObjectId, entries: Vec<Vec<u8>>) -> Hostile {
    with_tree(&tree(&[("100644", "a", blob)]), entries)
}

/// The same with this tree.
fn with_tree(tree: &[u8], mut entries: Vec<Vec<u8>>) -> Hostile {
    let commit = commit_of(name(Kind::Tree, tree));
    entries.extend([whole(2, tree), whole(1, &commit)]);
    Hostile {
        more_refs: Vec::new(),
        tip: name(Kind::Commit, &commit),
        pack: pack_of(u32::try_from(entries.len()).unwrap(), &entries),
        pause: None,
    }
}

/// A server whose pack has these entries before an honest file.
fn beside_a_file(mut entries: Vec<Vec<u8>>) -> Hostile {
    entries.push(whole(3, b"one\n"));
    with_file(name(Kind::Blob, b"one\n"), entries)
}

async fn refused(hostile: Hostile) -> String {
    let fetching = tokio::time::timeout(Duration::from_secs(60), async { fetch(&hostile.start()).await });
    fetching.await.expect("it ends").unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_of_these_tests_can_be_fetched_from() {
    let hostile = beside_a_file(Vec::new());
    let tip = hostile.tip;
    assert_eq!(fetch(&hostile.start()).await.unwrap(), CommitId::from(tip));
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_are_not_true_are_refused() {
    let small = deflated(b"one\n");
    for size in [1 << 31, 1 << 32, 1 << 40, 1 << 62, u64::MAX >> 4] {
        let error = refused(beside_a_file(vec![[head(3, size), small.clone()].concat()])).await;
        assert!(error.contains("fetch from upstream's repository"), "{size}: {error}");
    }
    // A few bytes are announced, and a hundred megabytes come.
    let bomb = deflated(&vec![0; 100 << 20]);
    refused(beside_a_file(vec![[head(3, 5), bomb].concat()])).await;
    let (base, empty) = (whole(3, b"base\n"), Vec::new());
    for result in [1 << 31, 1 << 40, 1 << 62] {
        let lie = ofs_delta(base.len() as u64, &delta(5, result, &copy(5)));
        refused(beside_a_file(vec![base.clone(), lie])).await;
    }
    let lie = ofs_delta(base.len() as u64, &delta(1 << 40, 5, &copy(5)));
    refused(beside_a_file(vec![base, lie])).await;
    for count in [0, 2, 4, u32::MAX] {
        let mut hostile = beside_a_file(empty.clone());
        hostile.pack[8..12].copy_from_slice(&u32::to_be_bytes(count));
        refused(hostile).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deltas_that_grow_without_end_are_refused() {
    let base = vec![0; 1 << 20];
    let entry = whole(3, &base);
    let large = delta(1 << 20, 80 << 20, &copy(1 << 20).repeat(80));
    let bomb = ofs_delta(entry.len() as u64, &large);
    let error = refused(beside_a_file(vec![entry.clone(), bomb])).await;
    assert!(error.contains("too large") || error.contains("limit"), "{error}");
    // Each one twice as large as the one before.
    let (mut entries, mut size) = (vec![entry], 1_u64 << 20);
    for _ in 0..16 {
        let distance = entries.last().unwrap().len() as u64;
        let half = u32::try_from(size.min(1 << 23)).unwrap();
        let copies = usize::try_from(2 * size / u64::from(half)).unwrap();
        entries.push(ofs_delta(distance, &delta(size, size * 2, &copy(half).repeat(copies))));
        size *= 2;
    }
    refused(beside_a_file(entries)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_without_an_end_or_a_beginning_is_refused() {
    let text = delta(4, 4, &copy(4));
    let loops = [
        vec![ofs_delta(0, &text)],
        vec![ofs_delta(1 << 40, &text)],
        vec![ofs_delta(3, &text)],
        // To itself, and to one another: no content has such a name, so that these are bases that are missing, too.
        vec![ref_delta(name(Kind::Blob, b"one\n"), &text); 2],
        vec![ref_delta(NO, &text)],
        // A thin pack whose base was never sent.
        vec![ref_delta(name(Kind::Blob, b"never sent\n"), &delta(11, 4, &copy(4)))],
    ];
    for (number, entries) in loops.into_iter().enumerate() {
        let hostile = with_file(name(Kind::Blob, b"never sent either\n"), entries);
        let error = refused(hostile).await;
        assert!(!error.is_empty(), "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_not_whole_is_refused() {
    let missing_file = with_file(name(Kind::Blob, b"never sent\n"), Vec::new());
    assert!(refused(missing_file).await.contains("is not in the repository"));
    let mut missing_commit = beside_a_file(Vec::new());
    missing_commit.tip = name(Kind::Commit, b"never sent");
    refused(missing_commit).await;
    let mut other_trailer = beside_a_file(Vec::new());
    *other_trailer.pack.last_mut().unwrap() ^= 1;
    refused(other_trailer).await;
    let mut cut = beside_a_file(Vec::new());
    cut.pack.truncate(cut.pack.len() / 2);
    refused(cut).await;
    let mut blob_as_tip = beside_a_file(Vec::new());
    blob_as_tip.tip = name(Kind::Blob, b"one\n");
    refused(blob_as_tip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_ten_thousand_deltas_is_read_to_its_end() {
    let content = |number: u64| [&number.to_be_bytes()[..], b" and the same for all"].concat();
    let size = content(0).len() as u64;
    let mut entries = vec![whole(3, &content(0))];
    for number in 1..=10_000_u64 {
        let distance = entries.last().unwrap().len() as u64;
        let insert = [&[8][..], &number.to_be_bytes()].concat();
        // The rest, from the ninth byte on.
        let rest = [0b1001_0001, 8, u8::try_from(size - 8).unwrap()];
        entries.push(ofs_delta(distance, &delta(size, size, &[&insert[..], &rest].concat())));
    }
    let last = name(Kind::Blob, &content(10_000));
    let hostile = with_file(last, entries);
    let (upstream, dir) = (upstream_at(&hostile.start()), empty());
    let fetching = tokio::task::spawn_blocking(move || {
        let fetched = upstream.fetch(dir.path(), &[], &Stop::new())?;
        let git = open_git(&dir.path().join("mirror-fetch"), 64)?;
        let read = object(&git, last)?.data.clone();
        drop(fetched);
        Ok::<_, Error>(read)
    });
    let read = tokio::time::timeout(Duration::from_secs(60), fetching)
        .await
        .expect("it ends");
    assert_eq!(read.unwrap().unwrap(), content(10_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_could_not_be_checked_out_safely_is_refused() {
    let blob = name(Kind::Blob, b"one\n");
    let file = |name| ("100644", name, blob);
    let sub = tree(&[file("x")]);
    let folder = |of: &'static str| ("40000", of, name(Kind::Tree, &sub));
    let bad: [(&str, Vec<u8>); 9] = [
        ("twice", tree(&[file("a"), file("a")])),
        ("a file and a folder", tree(&[file("a"), file("a.b"), folder("a")])),
        ("git's own folder", tree(&[folder(".git")])),
        ("in capitals", tree(&[folder(".GIT")])),
        ("this folder", tree(&[folder(".")])),
        ("the one above", tree(&[folder("..")])),
        ("a path", tree(&[file("a/b")])),
        ("no name", tree(&[file("")])),
        ("half an entry", tree(&[file("a")])[..20].to_vec()),
    ];
    for (what, bad) in bad {
        let entries = || vec![whole(3, b"one\n"), whole(2, &sub)];
        let error = refused(with_tree(&bad, entries())).await;
        assert!(error.contains("tree"), "{what}: {error}");
        // As well when it is not at the top.
        let top = tree(&[("40000", "3", name(Kind::Tree, &bad))]);
        let below = [entries(), vec![whole(2, &bad)]].concat();
        assert!(refused(with_tree(&top, below)).await.contains("tree"), "{what}, below");
    }
    // A tree that is in itself cannot be made; one that is said to be a file, or the other way round, can.
    let wrong_kind = tree(&[("40000", "a", blob)]);
    refused(with_tree(&wrong_kind, vec![whole(3, b"one\n")])).await;
    for link in [("120000", "a", blob), ("160000", "a", NO)] {
        let error = refused(with_tree(&tree(&[link]), vec![whole(3, b"one\n")])).await;
        assert!(error.contains("a link or a repository"), "{error}");
    }
    let fine = tree(&[file("a"), ("100755", "c", blob)]);
    fetch(&with_tree(&fine, vec![whole(3, b"one\n")]).start())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_references_are_nobodys_business() {
    let odd = [
        "refs/heads/../../../x",
        "refs/heads/\u{1b}[2J",
        "refs/heads/a b",
        "HEAD",
        "/etc/passwd",
        "-",
    ];
    for name in odd {
        let mut hostile = beside_a_file(Vec::new());
        let tip = hostile.tip;
        hostile.more_refs = pkt(format!("{tip} {name}\n").as_bytes());
        match fetch(&hostile.start()).await {
            Ok(commit) => assert_eq!(commit, CommitId::from(tip)),
            // Or all of it is refused.
            Err(error) => assert!(error.contains("fetch from upstream's repository"), "{name}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_references_may_not_fill_the_memory() {
    let list = |count: usize| {
        let mut hostile = beside_a_file(Vec::new());
        let tip = hostile.tip;
        let line = |number| pkt(format!("{tip} refs/heads/{number:050}\n").as_bytes());
        hostile.more_refs = (0..count).flat_map(line).collect();
        hostile
    };
    fetch(&list(50_000).start()).await.unwrap();
    let error = refused(list(200_000)).await;
    assert!(error.contains("16 MiB"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_hash_is_refused_in_words() {
    let git = GitUpstream::start();
    std::fs::remove_dir_all(git.dir().join(".git")).unwrap();
    git_ok(&git.dir(), &["init", "-q", "-b", "master", "--object-format=sha256"]);
    git.commit(&[("1/a", Some("a\n"))]);
    let error = fetch(&git.url()).await.unwrap_err();
    assert!(error.contains("64 hexadecimal characters"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_never_ends_is_left_after_a_while() {
    let mut hostile = beside_a_file(vec![whole(3, &[1; 9_000])]);
    // Each wait is short; all of them would take minutes.
    hostile.pause = Some(Duration::from_millis(400));
    let (mut upstream, dir) = (upstream_at(&hostile.start()), empty());
    Arc::get_mut(&mut upstream).unwrap().longest = Duration::from_secs(2);
    let fetching = tokio::task::spawn_blocking(move || {
        let fetched = upstream.fetch(dir.path(), &[], &Stop::new()).map(|_| ());
        assert!(!dir.path().join("mirror-fetch").exists());
        with_sources(&fetched.unwrap_err())
    });
    let error = tokio::time::timeout(Duration::from_secs(20), fetching).await;
    let error = error.expect("it ends").unwrap();
    assert!(error.contains("within 2s"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_without_end_are_refused() {
    let nested = |depth: usize, places: usize| {
        let mut tree = tree(&[("100644", "a", name(Kind::Blob, b"one\n"))]);
        let mut entries = vec![whole(3, b"one\n")];
        for _ in 0..depth {
            entries.push(whole(2, &tree));
            let names: Vec<String> = (0..places).map(|place| format!("a{place}")).collect();
            let below = name(Kind::Tree, &tree);
            let folders: Vec<_> = names.iter().map(|name| ("40000", name.as_str(), below)).collect();
            tree = hostile_server::tree(&folders);
        }
        with_tree(&tree, entries)
    };
    fetch(&nested(20, 1).start()).await.unwrap();
    // Deeper than any stack.
    assert!(refused(nested(100_000, 1)).await.contains("below too many others"));
    // None of these is too deep by itself, but the second stands on the first, and that is met first.
    let file = tree(&[("100644", "a", name(Kind::Blob, b"one\n"))]);
    let tower = |ground: &[u8]| {
        let mut floors = vec![ground.to_vec()];
        for _ in 0..20 {
            let below = name(Kind::Tree, floors.last().unwrap());
            floors.push(tree(&[("40000", "a", below)]));
        }
        floors
    };
    let low = tower(&file);
    let high = tower(low.last().unwrap());
    let top = |floors: &[Vec<u8>]| name(Kind::Tree, floors.last().unwrap());
    let both = tree(&[("40000", "a", top(&low)), ("40000", "b", top(&high))]);
    let mut entries = vec![whole(3, b"one\n")];
    entries.extend(low.iter().chain(&high[1..]).map(|floor| whole(2, floor)));
    assert!(
        refused(with_tree(&both, entries))
            .await
            .contains("below too many others")
    );
    // A dozen objects with ten thousand million paths.
    assert!(refused(nested(10, 10)).await.contains("more files than any index"));
}
