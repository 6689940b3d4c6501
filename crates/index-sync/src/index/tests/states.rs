//! States of the index as a bundle carries them, from one mirror to another.

use std::collections::BTreeMap;

use registry::{EditError, IndexEdit, Piece};

use super::*;
use crate::{BlobId, StateKind, TreeId};

pub(super) type Changes = Vec<Result<(IndexPath, IndexEdit), String>>;

/// A mirror without upstreams, whose index is what the test says.
pub(super) async fn mirror() -> Bench {
    let bench = Bench::with(|config| config.upstream = None).await;
    bench.publish_first().await;
    bench
}

pub(super) fn line_of(name: &str, vers: &str, seed: &str, yanked: bool) -> String {
    let cksum = Checksum::of(seed.as_bytes());
    format!(r#"{{"name":"{name}","vers":"{vers}","deps":[],"cksum":"{cksum}","features":{{}},"yanked":{yanked}}}"#)
        + "\n"
}

pub(super) fn line(name: &str, vers: &str) -> String {
    line_of(name, vers, &format!("{name} {vers}"), false)
}

impl Bench {
    /// Publishes these files, as a source of the mirror's would; an empty text takes one away.
    pub(super) async fn set(&self, name: &str, text: &str) {
        let entry = (!text.is_empty()).then(|| Arc::new(IndexEntry::new(text.to_owned())));
        self.index
            .inner
            .publisher
            .submit(&path(name), entry, None)
            .await
            .unwrap();
    }

    /// All that a bundle would carry between two states.
    pub(super) fn payload(&self, from: Option<TreeId>, to: TreeId) -> Changes {
        let tree = self.index.tree();
        let blob = |id: Option<BlobId>| id.map(|id| tree.blob(id).unwrap());
        let changes = tree.changes_between(from, to).unwrap().into_iter();
        let edit = |old: Option<Vec<u8>>, new: Option<Vec<u8>>| match new {
            None => IndexEdit::Removed,
            Some(new) => IndexEdit::between(old.as_deref(), &new),
        };
        changes
            .map(|file| Ok((file.path, edit(blob(file.old), blob(file.new)))))
            .collect()
    }

    pub(super) async fn export(&self) -> TreeId {
        self.index.state_of_published(None, None).await.unwrap()
    }

    pub(super) async fn stage(&self, base: Option<TreeId>, changes: Changes) -> TreeId {
        self.index.stage_state(base, changes.into_iter()).await.unwrap()
    }

    pub(super) fn files_in(&self, tree: &str) -> Vec<String> {
        let all = git_ok(&self.git_dir(), &["ls-tree", "-r", "--full-tree", tree]);
        let lines = all.lines().filter(|line| !line.ends_with("\tconfig.json"));
        lines.map(str::to_owned).collect()
    }

    pub(super) fn refs(&self) -> Vec<String> {
        let all = git_ok(&self.git_dir(), &["for-each-ref", "--format=%(refname)", "refs/mirror"]);
        all.lines().map(str::to_owned).collect()
    }

    pub(super) fn fsck(&self) {
        assert_eq!(git_ok(&self.git_dir(), &["fsck", "--strict", "--no-dangling"]), "");
    }
}

/// What `changed` differs in as it is put together by hand.
fn pieces(pieces: &[Piece], new: &str) -> IndexEdit {
    IndexEdit::Pieces {
        pieces: pieces.to_vec(),
        new: new.as_bytes().to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_come_to_the_same_tree() {
    let (outside, office) = (mirror().await, mirror().await);
    for n in 0..50 {
        let name = format!("krate{n}");
        outside
            .set(&name, &(line(&name, "1.0.0") + &line(&name, "1.1.0")))
            .await;
    }
    let first = outside.export().await;
    outside
        .index
        .keep_state(StateKind::Export, "one", first, "bundle one")
        .await
        .unwrap();
    assert_eq!(office.stage(None, outside.payload(None, first)).await, first);
    office
        .index
        .keep_state(StateKind::Import, "one", first, "bundle one")
        .await
        .unwrap();
    outside.set("krate7", "").await;
    outside.set("a", &line("a", "0.1.0")).await;
    let more = line("krate8", "1.0.0") + &line_of("krate8", "1.1.0", "krate8 1.1.0", true) + &line("krate8", "1.2.0");
    outside.set("krate8", &more).await;
    let second = outside.export().await;
    let payload = outside.payload(Some(first), second);
    assert_eq!(payload.len(), 3);
    assert_eq!(office.stage(Some(first), payload).await, second);
    assert_eq!(office.files_in(&second.to_string()), outside.files_in("master"));
    assert!(office.files_in("master").is_empty(), "nothing is published by that");
    assert_eq!(office.index.state(StateKind::Import, "one").unwrap(), Some(first));
    assert_eq!(office.index.state(StateKind::Import, "two").unwrap(), None);
    office.index.forget_state(StateKind::Import, "one").await.unwrap();
    assert_eq!(office.refs(), [format!("refs/mirror/staged/{second}")]);
    office.fsck();
    outside.fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_is_laid_over_what_was_selected_before() {
    let outside = mirror().await;
    for name in ["serde", "tokio", "rand", "syn"] {
        outside.set(name, &line(name, "1.0.0")).await;
    }
    let (index, only) = (&outside.index, |names: &[&str]| {
        Some(names.iter().map(|name| path(name)).collect())
    });
    let first = index.state_of_published(only(&["serde", "tokio"]), None).await.unwrap();
    outside
        .set("serde", &(line("serde", "1.0.0") + &line("serde", "1.0.1")))
        .await;
    outside.set("tokio", "").await;
    outside.set("syn", "").await;
    let names = only(&["tokio", "rand", "nowhere"]);
    let second = index.state_of_published(names, Some(first)).await.unwrap();
    let changed = index.tree().changes_between(Some(first), second).unwrap();
    let changed: Vec<_> = changed
        .iter()
        .map(|file| (file.path.file_name(), file.new.is_some()))
        .collect();
    assert_eq!(changed, [("rand", true), ("tokio", false)]);
    let serde = BlobId::of(line("serde", "1.0.0").as_bytes());
    assert!(
        outside
            .files_in(&second.to_string())
            .iter()
            .any(|line| line.contains(&serde.to_string()))
    );
    // What a site has come to by two such bundles, of which the first was for somebody else too.
    let site = index.state_laid_over(None, None, first).await.unwrap();
    assert_eq!(site, first);
    let other = index.state_of_published(only(&["serde"]), None).await.unwrap();
    let site = index.state_laid_over(Some(other), Some(first), second).await.unwrap();
    let names: Vec<_> = index.tree().changes_between(None, site).unwrap();
    let names: Vec<_> = names.iter().map(|file| file.path.file_name()).collect();
    assert_eq!(names, ["rand", "serde"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_do_not_fit_leave_nothing_behind() {
    let office = mirror().await;
    let whole = |name: &str| Ok((path(name), IndexEdit::whole(line(name, "1.0.0").as_bytes())));
    let base = office.stage(None, vec![whole("rand"), whole("serde")]).await;
    let copy = |offset, length| Piece::Copy { offset, length };
    let stage = |base: Option<TreeId>, changes: Changes| office.index.stage_state(base, changes.into_iter());
    let edit = |edit| vec![whole("a"), Ok((path("serde"), edit))];
    let refused = stage(Some(base), edit(pieces(&[copy(0, 10_000)], ""))).await;
    let fits = |error: &EditError| matches!(error, EditError::Copy { .. });
    assert!(matches!(&refused, Err(Error::Edit { path, source }) if path == "se/rd/serde" && fits(source)));
    let refused = stage(None, edit(pieces(&[copy(0, 1)], ""))).await;
    assert!(matches!(refused, Err(Error::Edit { .. })), "{refused:?}");
    for wrong in [vec![whole("serde"), whole("rand")], vec![whole("rand"), whole("rand")]] {
        let refused = stage(Some(base), wrong).await;
        assert!(matches!(refused, Err(Error::ChangeOrder { .. })), "{refused:?}");
    }
    let refused = stage(Some(base), vec![whole("a"), Err("the stick was pulled".to_owned())]).await;
    let Err(Error::Changes { source }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(source.to_string(), "the stick was pulled");
    let unknown = "1234567890123456789012345678901234567890".parse().unwrap();
    for refused in [
        stage(Some(unknown), vec![whole("a")]).await,
        stage(Some(unknown), Vec::new()).await,
    ] {
        assert!(matches!(refused, Err(Error::MissingObject { .. })), "{refused:?}");
    }
    assert_eq!(office.refs(), [format!("refs/mirror/staged/{base}")]);
    // A removal of what is not there is no change, and what is there already is none either.
    let same = vec![Ok((path("a"), IndexEdit::Removed)), whole("rand")];
    assert_eq!(office.stage(Some(base), same).await, base);
    assert_eq!(office.stage(Some(base), Vec::new()).await, base);
    office.fsck();
}

/// Of a large state never more than one piece is in memory: what was read before that is in git's hands.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_files_are_staged_in_bounded_memory() {
    const FILES: usize = 20_000;
    const FILE_BYTES: usize = 4_000;
    let office = mirror().await;
    let git_dir = office.git_dir();
    let mut names: Vec<_> = (0..FILES).map(|n| format!("krate{n:05}")).collect();
    names.sort_by_key(|name| path(name));
    let text = |name: &str| line(name, "1.0.0").repeat(FILE_BYTES / line(name, "1.0.0").len());
    let limit = crate::index::states::PIECE_BYTES / text("krate00000").len() + 1;
    let read = names.clone().into_iter().enumerate().map(move |(n, name)| {
        if n % 2_000 == 0 {
            let staged = git(
                &git_dir,
                &["ls-tree", "-r", "--name-only", "refs/mirror/staged/under-way"],
            );
            let staged = String::from_utf8(staged.stdout).unwrap().lines().count();
            assert!(n - staged <= limit, "{} files are in memory", n - staged);
        }
        Ok::<_, String>((path(&name), IndexEdit::whole(text(&name).as_bytes())))
    });
    let tree = office.index.stage_state(None, read).await.unwrap();
    let listed: BTreeMap<_, _> = office
        .files_in(&tree.to_string())
        .iter()
        .map(|line| {
            line.split_once('\t')
                .map(|(id, path)| (path.to_owned(), id.to_owned()))
                .unwrap()
        })
        .collect();
    assert_eq!(listed.len(), FILES);
    for name in ["krate00000", "krate10000", "krate19999"] {
        let id = BlobId::of(text(name).as_bytes());
        assert_eq!(listed[path(name).as_str()], format!("100644 blob {id}"));
    }
    office.fsck();
}
