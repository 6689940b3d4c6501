//! Bundles across an air gap: a mirror outside exports, one in the office without any upstream imports, by the real commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use testkit::{
    BuiltCrate, CargoProject, CrateBuilder, FakeUpstream, MirrorBuilder, MirrorProcess, eventually, run_if_there, said,
    text_of,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn builder() -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
}

/// The mirror with internet, the stick, and the one without.
struct Scene {
    upstream: FakeUpstream,
    outside: MirrorProcess,
    office: MirrorProcess,
    stick: tempfile::TempDir,
}

/// Two that depend on each other, and one for later.
fn crates() -> Vec<BuiltCrate> {
    vec![
        CrateBuilder::new("last", "1.0.0")
            .lib("pub const WORD: &str = \"across\";")
            .build(),
        CrateBuilder::new("middle", "1.0.0")
            .dep("last", "1")
            .lib("pub use last::WORD;")
            .padding(300_000)
            .build(),
    ]
}

impl Scene {
    /// Outside has filled with the crates; the office is empty.
    fn new(crates: &[BuiltCrate]) -> Self {
        let upstream = FakeUpstream::start();
        for krate in crates {
            upstream.add(krate);
        }
        let outside = builder()
            .upstream(&upstream)
            .env("MIRROR_INDEX__SPARSE_MAX_AGE", "0s")
            .start();
        if !crates.is_empty() {
            outside.keep_all(crates);
        }
        Self {
            upstream,
            outside,
            office: builder().env("MIRROR_MODE", "offline").own_port().start(),
            stick: tempfile::tempdir().expect("the machine has room for a directory"),
        }
    }

    fn on_stick(&self, name: &str) -> String {
        self.stick.path().join(name).to_str().expect("it is plain").to_owned()
    }

    fn add(&self, krate: &BuiltCrate) {
        self.upstream.add(krate);
        self.outside.keep(krate);
    }

    fn export(&self, name: &str, args: &[&str]) -> String {
        let file = self.on_stick(name);
        ok(&self.outside, &[&["export", "-o", &file], args].concat())
    }

    fn import(&self, name: &str, args: &[&str]) -> String {
        let file = self.on_stick(name);
        ok(&self.office, &[&["import", &file], args].concat())
    }

    fn refused(&self, name: &str, args: &[&str]) -> String {
        let file = self.on_stick(name);
        refused(&self.office, &[&["import", &file], args].concat())
    }

    /// Exports, and trusts who signed.
    fn carried(&self, name: &str) {
        let told = self.export(name, &[]);
        self.import(name, &["--trust", &key_in(&told)]);
    }
}

fn ok(mirror: &MirrorProcess, args: &[&str]) -> String {
    let output = mirror.run(args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    text_of(&output).0
}

/// What a command says that fails with 1.
fn refused(mirror: &MirrorProcess, args: &[&str]) -> String {
    let output = mirror.run(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", said(&output));
    text_of(&output).1
}

fn key_in(told: &str) -> String {
    let key = told.split_whitespace().find(|word| word.starts_with("RW"));
    key.unwrap_or_else(|| panic!("there is no key in {told}")).to_owned()
}

fn id_in(told: &str) -> String {
    let mut words = told.lines().rev().flat_map(str::split_whitespace);
    let id = words.find(|word| word.trim_end_matches(',').len() == 32);
    id.unwrap_or_else(|| panic!("there is no id in {told}"))
        .trim_end_matches(',')
        .to_owned()
}

fn download(mirror: &MirrorProcess, krate: &BuiltCrate) -> u16 {
    let reply = mirror.get(&format!("/api/v1/crates/{}/{}/download", krate.name, krate.version));
    assert!(
        reply.status != 200 || reply.body == krate.bytes,
        "{} has other bytes",
        krate.name
    );
    reply.status
}

fn log_of(office: &MirrorProcess) -> Vec<String> {
    let text = ok(office, &["imports", "--json"]);
    let result = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        line["result"].as_str().expect("each row has a result").to_owned()
    };
    let mut results: Vec<String> = text.lines().map(result).collect();
    results.sort();
    results
}

/// Everything below a folder but what is of no bundle, for a comparison.
fn staged(office: &MirrorProcess) -> Vec<PathBuf> {
    let imports = fs::read_dir(office.data_dir().join("imports"));
    let entries = imports
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("the directory is ours").path());
    entries.filter(|path| !path.ends_with("LOCK")).collect()
}

#[test]
fn the_path_that_a_user_walks_first() {
    let crates = crates();
    let scene = Scene::new(&crates);
    let told = scene.export("week-1.tar", &[]);
    assert!(told.contains("2 crate files") && told.contains("serial 1"), "{told}");
    assert!(told.contains("In the office: mirror import week-1.tar"), "{told}");
    assert!(
        told.contains("the index has only the 2 files") && told.contains("mirror sync"),
        "{told}"
    );
    let bundle = scene.on_stick("week-1.tar");

    // any Unix can read and check it
    let script = "mkdir out && tar xf \"$1\" -C out && cd out && sha256sum -c SHA256SUMS && ls crates | wc -l && cat MANIFEST.json";
    let unpacked = run_if_there("sh", &["-c", script, "sh", &bundle]).unwrap();
    assert!(unpacked.status.success(), "{}", said(&unpacked));
    assert!(
        text_of(&unpacked).0.contains("index/changes.gz: OK"),
        "{}",
        said(&unpacked)
    );

    // nobody is trusted yet, and nothing is visible
    let why = scene.refused("week-1.tar", &[]);
    assert!(why.contains("no key is trusted here yet"), "{why}");
    let key = key_in(&told);
    assert!(why.contains(&format!("--trust {key}")), "{why}");
    assert_eq!(scene.office.get("/index/mi/dd/middle").status, 404);

    let done = scene.import("week-1.tar", &["--trust", &key]);
    assert!(
        done.contains("2 crate files") && done.contains("new crates: 2: last, middle"),
        "{done}"
    );
    assert!(Path::new(&scene.on_stick("week-1.tar.receipt")).is_file(), "{done}");
    assert_eq!(log_of(&scene.office), ["imported", "refused"]);
    assert!(staged(&scene.office).is_empty());
    let recorded = eventually(PATIENCE, || (scene.office.metric("kept_files") == 2).then_some(()));
    assert!(
        recorded.is_some(),
        "a search finds what was imported: {}",
        scene.office.log()
    );

    // cargo builds by sparse and by git
    let by_git = scene.office.url("/git/index");
    for index in [format!("sparse+{}", scene.office.url("/index/")), by_git] {
        let project = CargoProject::new()
            .dependency("middle", "1")
            .main_rs("fn main() { println!(\"{}\", middle::WORD); }")
            .use_index(&index);
        assert_eq!(project.cargo_ok(&["run", "--quiet"]), "across\n", "{index}");
        let lockfile = project.path().join("Cargo.lock");
        ok(&scene.office, &["check", "--lockfile", lockfile.to_str().unwrap()]);
    }
    assert_eq!(
        scene
            .upstream
            .requests()
            .iter()
            .filter(|request| request.path.contains("/dl/"))
            .count(),
        2
    );
}

#[test]
fn increments_follow_each_other_a_lost_one_is_named_and_a_receipt_heals_it() {
    let scene = Scene::new(&crates());
    let first = scene.export("1.tar", &[]);
    scene.import("1.tar", &["--trust", &key_in(&first)]);

    let more = CrateBuilder::new("more", "1.0.0").build();
    scene.add(&more);
    let second = scene.export("2.tar", &["--since", &scene.on_stick("1.tar")]);
    assert!(second.contains("1 crate files"), "{second}");
    let later = CrateBuilder::new("later", "1.0.0").build();
    scene.add(&later);
    scene.upstream.yank("last", "1.0.0", true);
    assert_eq!(scene.outside.get("/index/la/st/last").status, 200);
    let third = scene.export("3.tar", &["--since", &id_in(&second)]);
    assert!(third.contains("serial 3"), "{third}");
    let size = |name: &str| fs::metadata(scene.on_stick(name)).unwrap().len();
    assert!(size("2.tar") < size("1.tar") / 5, "an increment has only what is new");

    // the second one was lost on the way
    let why = scene.refused("3.tar", &[]);
    assert!(
        why.contains("continues serial 2") && why.contains("this mirror has serial 1: import 2 first"),
        "{why}"
    );
    assert_eq!(download(&scene.office, &later), 404);
    // the office says what it has, and gets exactly the rest
    let receipt = scene.on_stick("1.tar.receipt");
    let fourth = scene.export("4.tar", &["--since", &receipt]);
    assert!(fourth.contains("2 crate files"), "{fourth}");
    let done = scene.import("4.tar", &[]);
    assert!(
        done.contains("yanked: 1: last 1.0.0") && done.contains("new crates: 2"),
        "{done}"
    );
    assert_eq!(
        (download(&scene.office, &more), download(&scene.office, &later)),
        (200, 200)
    );
    assert!(scene.office.get("/index/la/st/last").text().contains("\"yanked\":true"));

    // what is older is not taken, what is here changes nothing
    assert!(scene.refused("3.tar", &[]).contains("it is older"));
    assert!(scene.import("4.tar", &[]).contains("nothing to do"));
    assert!(scene.import("1.tar", &[]).contains("nothing to do"));
    let forced = scene.refused("3.tar", &["--allow-rollback"]);
    assert!(forced.contains("continues serial 2"), "{forced}");
    let back = scene.import("1.tar", &["--allow-rollback"]);
    assert!(
        back.contains("no longer yanked: 1: last 1.0.0") && back.contains("crates removed: 2"),
        "{back}"
    );
    scene.import("4.tar", &[]);
    assert_eq!(download(&scene.office, &later), 200);
}

#[test]
fn a_receipt_that_does_not_fit_sends_all_crate_files_again() {
    let crates = crates();
    let scene = Scene::new(&crates);
    scene.carried("1.tar");
    // a file is lost in the office, which says so
    ok(&scene.office, &["evict", "middle"]);
    let receipt = scene.on_stick("office.receipt");
    let written = ok(&scene.office, &["import", "--receipt", &receipt]);
    assert!(written.contains("office.receipt"), "{written}");
    let text = fs::read_to_string(&receipt).unwrap();
    assert!(
        text.len() <= 1024 && text.contains(&format!("missing {}", crates[1].checksum)),
        "{text}"
    );
    let told = scene.export("2.tar", &["--since", &receipt]);
    assert!(
        told.contains("1 crate files that were lost there") && told.contains("1 crate files, 3"),
        "{told}"
    );
    scene.import("2.tar", &[]);
    assert_eq!(download(&scene.office, &crates[1]), 200);

    let other = text.replace("crates 1 ", "crates 7 ");
    fs::write(&receipt, other).unwrap();
    let told = scene.export("3.tar", &["--since", &receipt]);
    assert!(told.contains("all crate files go along again"), "{told}");
    // a receipt for another mirror is no receipt here
    let site = text.lines().find(|line| line.starts_with("site ")).unwrap();
    fs::write(&receipt, text.replace(site, &format!("site {}", "0".repeat(32)))).unwrap();
    let why = refused(
        &scene.outside,
        &["export", "-o", &scene.on_stick("4.tar"), "--since", &receipt],
    );
    assert!(why.contains("the receipt is for bundles of the mirror 00000"), "{why}");
    assert!(!Path::new(&scene.on_stick("4.tar")).exists());
}

#[test]
fn a_receipt_names_all_that_came_by_bundles_that_stand_alone() {
    let crates = crates();
    let scene = Scene::new(&crates);
    // each has what the other one has not
    let (one, other) = (scene.on_stick("one"), scene.on_stick("other"));
    fs::write(&one, "last =1.0.0\n").unwrap();
    fs::write(&other, "middle =1.0.0\n").unwrap();
    let first = scene.export("a.tar", &["--list", &one]);
    scene.import("a.tar", &["--trust", &key_in(&first)]);
    scene.export("lost.tar", &[]);
    scene.export("b.tar", &["--list", &other]);
    scene.import("b.tar", &[]);
    let receipt = scene.on_stick("b.tar.receipt");
    let text = fs::read_to_string(&receipt).unwrap();
    assert!(text.contains("\nserials 1,3\n") && text.contains("crates 2 "), "{text}");
    let more = CrateBuilder::new("more", "1.0.0").build();
    scene.add(&more);
    let told = scene.export("c.tar", &["--since", &receipt]);
    assert!(told.contains("1 crate files") && !told.contains("again"), "{told}");
    scene.import("c.tar", &[]);
    for krate in crates.iter().chain([&more]) {
        assert_eq!(download(&scene.office, krate), 200);
    }

    // one that was written before it named them says as much as then
    fs::write(&receipt, text.replace("serials 1,3\n", "")).unwrap();
    let told = scene.export("d.tar", &["--since", &receipt]);
    assert!(told.contains("all crate files go along again"), "{told}");
}

#[test]
fn parts_come_in_any_order_one_stick_at_a_time() {
    let many: Vec<BuiltCrate> = (0..6)
        .map(|at| {
            CrateBuilder::new(&format!("krate-{at}"), "1.0.0")
                .padding(200_000)
                .build()
        })
        .collect();
    let scene = Scene::new(&many);
    let told = scene.export("big.tar", &["--split", "600KB"]);
    let key = key_in(&told);
    let parts: Vec<String> = (1..)
        .map(|part| format!("big.tar.{part:03}"))
        .take_while(|name| Path::new(&scene.on_stick(name)).exists())
        .collect();
    assert!(parts.len() >= 3, "{told}");
    for part in &parts {
        assert!(fs::metadata(scene.on_stick(part)).unwrap().len() <= 600_000, "{part}");
    }
    let (last, others) = parts.split_last().unwrap();
    let told = scene.import(last, &["--trust", &key]);
    assert!(told.contains("missing yet") && told.contains("parts 1, 2"), "{told}");
    for part in &others[1..] {
        scene.import(part, &[]);
        assert_eq!(
            download(&scene.office, &many[0]),
            404,
            "nothing is visible before all of it is"
        );
    }
    let done = scene.import(&others[0], &[]);
    assert!(done.contains("6 crate files"), "{done}");
    for krate in &many {
        assert_eq!(download(&scene.office, krate), 200);
    }
    let log = log_of(&scene.office);
    assert_eq!(log.iter().filter(|result| *result == "part").count(), parts.len() - 1);
    assert!(Path::new(&scene.on_stick("big.tar.receipt")).exists());

    let why = refused(
        &scene.outside,
        &["export", "-o", &scene.on_stick("small.tar"), "--split", "100KB"],
    );
    assert!(
        why.contains("crates/") && why.contains("parts may have 100000"),
        "{why}"
    );
    let left: Vec<_> = fs::read_dir(scene.stick.path()).unwrap().collect();
    assert_eq!(left.len(), parts.len() + 1, "nothing of it is left behind");
}

#[test]
fn a_stick_with_many_bundles_is_taken_in_their_order() {
    let scene = Scene::new(&crates());
    scene.carried("1.tar");
    scene.export("2.tar", &[]);
    for at in 3..5 {
        scene.add(&CrateBuilder::new(&format!("krate-{at}"), "1.0.0").build());
        let before = scene.on_stick(&format!("{}.tar", at - 1));
        scene.export(&format!("{at}.tar"), &["--since", &before]);
    }
    // names say nothing, a copy is no second bundle, and what is older keeps nothing from it
    let name = |name: &str| scene.on_stick(name);
    fs::rename(name("4.tar"), name("a.tar")).unwrap();
    fs::copy(name("3.tar"), name("3 copy.tar")).unwrap();
    let stick = scene.stick.path().to_str().unwrap().to_owned();
    let told = ok(&scene.office, &["import", &stick]);
    assert!(
        told.contains("1.tar: bundle") && told.contains("nothing to do"),
        "{told}"
    );
    assert!(
        told.find("(serial 3) is imported") < told.find("(serial 4) is imported"),
        "{told}"
    );
    assert_eq!(
        log_of(&scene.office),
        ["imported", "imported", "imported", "imported", "unchanged"]
    );

    scene.export("5.tar", &[]);
    scene.export("6.tar", &[]);
    scene.import("6.tar", &[]);
    scene.export("7.tar", &["--since", &name("6.tar")]);
    let output = scene.office.run(&["import", &name("5.tar"), &name("7.tar")]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        text_of(&output).0.contains("(serial 7) is imported"),
        "{}",
        said(&output)
    );
    assert!(
        text_of(&output).1.contains("5.tar: this bundle has serial 5"),
        "{}",
        said(&output)
    );
}

#[test]
fn only_whom_the_office_trusts_may_bring_something() {
    let scene = Scene::new(&crates());
    let told = scene.export("unsigned.tar", &["--unsigned"]);
    assert!(told.contains("not signed"), "{told}");
    assert!(scene.refused("unsigned.tar", &[]).contains("--allow-unsigned"));
    scene.import("unsigned.tar", &["--allow-unsigned"]);

    // from then on only that key counts
    let key = key_in(&scene.export("signed.tar", &[]));
    let listed = ok(&scene.outside, &["keys", "list"]);
    assert!(listed.contains(&format!("this mirror signs with {key}")), "{listed}");
    let trusted = ok(&scene.office, &["keys", "trust", &key]);
    assert!(trusted.contains("are taken from now on"), "{trusted}");
    assert!(ok(&scene.office, &["keys", "list"]).contains(&format!("trusted: {key}")));
    scene.export("unsigned-2.tar", &["--unsigned"]);
    let why = scene.refused("unsigned-2.tar", &["--allow-unsigned"]);
    assert!(why.contains("a key is trusted here"), "{why}");
    scene.import("signed.tar", &[]);

    // another signer, and another key with the same words
    let new = ok(&scene.outside, &["keys", "new", "--replace"]);
    scene.export("other.tar", &[]);
    let why = scene.refused("other.tar", &[]);
    assert!(
        why.contains(&format!("the only key that is trusted here is {key}")),
        "{why}"
    );
    assert!(
        scene
            .refused("other.tar", &["--trust", &key])
            .contains("--trust names another key")
    );
    scene.import("other.tar", &["--trust", &key_in(&new)]);
    assert_eq!(scene.refused("unsigned-2.tar", &[]).matches("not signed").count(), 1);
}

#[test]
fn a_damaged_bundle_is_refused_and_the_next_good_one_works() {
    let crates = crates();
    let scene = Scene::new(&crates);
    let key = key_in(&scene.export("good.tar", &[]));
    let good = fs::read(scene.on_stick("good.tar")).unwrap();
    let damaged = |name: &str, bytes: &[u8]| fs::write(scene.on_stick(name), bytes).unwrap();
    let mut flipped = good.clone();
    let at = good.len() - 30_000;
    flipped[at] ^= 1;
    damaged("flipped.tar", &flipped);
    damaged("cut.tar", &good[..good.len() / 2]);
    damaged("none.tar", b"hello");
    let checked = ok(&scene.office, &["import", "--check", &scene.on_stick("good.tar")]);
    assert!(
        checked.contains("not damaged: bundle") && checked.contains("2 crate files") && checked.contains(&key),
        "{checked}"
    );
    for (name, says) in [
        ("flipped.tar", "is damaged: its SHA-256 is"),
        ("cut.tar", "the file was cut off"),
        ("none.tar", "none.tar: "),
    ] {
        let why = scene.refused(name, &["--trust", &key]);
        assert!(why.contains(says), "{name}: {why}");
        let why = scene.refused(name, &["--check"]);
        assert!(why.contains(says), "{name}: {why}");
        assert_eq!(download(&scene.office, &crates[0]), 404);
    }
    let done = scene.import("good.tar", &[]);
    assert!(done.contains("2 crate files"), "{done}");
    assert_eq!(log_of(&scene.office), ["imported", "refused", "refused", "refused"]);
}

#[test]
fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let crates = crates();
    let scene = Scene::new(&crates);
    let key = key_in(&scene.export("1.tar", &[]));
    let would = scene.import("1.tar", &["--trust", &key, "--dry-run"]);
    assert!(
        would.contains("new crates: 2: last, middle") && would.contains("2 crate files"),
        "{would}"
    );
    assert_eq!(download(&scene.office, &crates[0]), 404);
    assert!(log_of(&scene.office).is_empty() && staged(&scene.office).is_empty());
    assert!(ok(&scene.office, &["keys", "list"]).contains("no key is trusted here yet"));
    scene.import("1.tar", &["--trust", &key]);

    let dry = ok(
        &scene.outside,
        &["export", "--dry-run", "--since", &scene.on_stick("1.tar")],
    );
    assert!(
        dry.contains("0 crate files") && dry.contains("0 index files would go along"),
        "{dry}"
    );
    let next = scene.export("2.tar", &["--since", &scene.on_stick("1.tar")]);
    assert!(next.contains("serial 2"), "a dry run is no export: {next}");
}

#[test]
fn what_is_named_is_fetched_first_and_what_cannot_be_had_is_named() {
    let scene = Scene::new(&[]);
    for krate in &crates() {
        scene.upstream.add(krate);
    }
    let file = scene.on_stick("named.tar");
    let output = scene.outside.run(&[
        "export",
        "-o",
        &file,
        "--crate",
        "middle",
        "--crate",
        "nobody",
        "--with-deps",
    ]);
    let (out, err) = text_of(&output);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        out.contains("missing: nobody (newest): the index has no such crate"),
        "{out}"
    );
    assert!(err.contains("--allow-missing"), "{err}");
    assert!(
        fs::read_dir(scene.stick.path()).unwrap().next().is_none(),
        "no file is left behind"
    );

    let told = scene.export(
        "named.tar",
        &[
            "--crate",
            "middle",
            "--crate",
            "nobody",
            "--with-deps",
            "--allow-missing",
        ],
    );
    assert!(
        told.contains("2 crate files") && told.contains("left out: nobody"),
        "{told}"
    );
    assert!(refused(&scene.outside, &["export", "-o", &file]).contains("--force"));
    scene.import("named.tar", &["--trust", &key_in(&told)]);
    ok(&scene.outside, &["pin", "set", "--crate", "last"]);
    let told = scene.export("pinned.tar", &["--pinned", "set"]);
    assert!(told.contains("1 crate files"), "{told}");
    let why = refused(
        &scene.outside,
        &["export", "-o", &scene.on_stick("x.tar"), "--pinned", "nothing"],
    );
    assert!(why.contains("there is no such pin"), "{why}");
}

#[test]
fn it_works_without_a_server_on_either_side() {
    let crates = crates();
    let mut scene = Scene::new(&crates);
    scene.outside.terminate();
    scene.office.terminate();
    let key = key_in(&scene.export("1.tar", &[]));
    let done = scene.import("1.tar", &["--trust", &key]);
    assert!(done.contains("is imported"), "{done}");
    scene.office.restart();
    assert_eq!(download(&scene.office, &crates[1]), 200);
    assert_eq!(scene.office.metric("kept_files"), 2, "recorded by the command itself");

    // an office where nothing ever ran
    let fresh = builder().env("MIRROR_MODE", "offline");
    let output = fresh.run(&["import", &scene.on_stick("1.tar"), "--trust", &key]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(download(&fresh.start(), &crates[1]), 200);
}

#[test]
fn one_import_at_a_time_and_a_killed_one_is_taken_up_again() {
    let many: Vec<BuiltCrate> = (0..20)
        .map(|at| {
            CrateBuilder::new(&format!("krate-{at}"), "1.0.0")
                .padding(500_000)
                .build()
        })
        .collect();
    let scene = Scene::new(&many);
    let key = key_in(&scene.export("1.tar", &[]));
    ok(&scene.office, &["keys", "trust", &key]);
    let file = scene.on_stick("1.tar");
    for millis in [1, 20, 60, 120] {
        let killed = scene
            .office
            .run_or_kill(&["import", &file], Duration::from_millis(millis));
        let visible: Vec<bool> = many.iter().map(|krate| download(&scene.office, krate) == 200).collect();
        match killed {
            Some(output) => {
                assert!(output.status.success(), "{}", said(&output));
                assert!(visible.iter().all(|visible| *visible));
            }
            // the server may have had it all when the command died, and publish it between two questions: all of it then
            None => assert!(visible.is_sorted(), "{visible:?}"),
        }
    }
    scene.import("1.tar", &[]);
    for krate in &many {
        assert_eq!(download(&scene.office, krate), 200);
    }
    let lock = fs::File::open(scene.office.data_dir().join("imports/LOCK")).unwrap();
    lock.lock().unwrap();
    let why = scene.refused("1.tar", &[]);
    assert!(why.contains("another `mirror import` is under way"), "{why}");
}

#[test]
fn loose_crate_files_are_compared_with_the_index() {
    let crates = crates();
    let scene = Scene::new(&crates);
    scene.carried("1.tar");
    ok(&scene.office, &["evict", "last"]);
    assert_eq!(download(&scene.office, &crates[0]), 404);
    let folder = scene.stick.path().join("loose");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("last-1.0.0.crate"), &crates[0].bytes).unwrap();
    fs::write(folder.join("middle-1.0.0.crate"), &crates[0].bytes).unwrap();
    fs::write(folder.join("stranger-1.0.0.crate"), &crates[1].bytes).unwrap();
    let told = scene.import("loose", &[]);
    assert!(
        told.contains("1 crate files") && told.contains("2 were left out"),
        "{told}"
    );
    assert!(
        told.contains("stranger-1.0.0.crate: the index here does not list it"),
        "{told}"
    );
    assert!(
        told.contains("middle-1.0.0.crate: it is not the file that the index means"),
        "{told}"
    );
    assert_eq!(download(&scene.office, &crates[0]), 200);
    assert!(log_of(&scene.office).contains(&"files".to_owned()));

    let only = scene.on_stick("loose/stranger-1.0.0.crate");
    let output: Output = scene.office.run(&["import", &only]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(text_of(&output).1.contains("nothing was imported"));
    assert!(staged(&scene.office).is_empty());
}

/// A crate as the real cargo packs it.
fn packed_by_cargo(name: &str) -> BuiltCrate {
    let model = CrateBuilder::new(name, "1.0.0").build();
    let project = CargoProject::new();
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2021\"\nlicense = \"MIT\"\ndescription = \"packed\"\n\n[workspace]\n"
    );
    fs::write(project.path().join("Cargo.toml"), manifest).expect("the directory is ours");
    fs::rename(project.path().join("src/main.rs"), project.path().join("src/lib.rs")).expect("the directory is ours");
    project.cargo_ok(&["package", "--no-verify", "--allow-dirty", "--offline"]);
    let file = project.path().join(format!("../target/package/{name}-1.0.0.crate"));
    let bytes = fs::read(&file).expect("the directory is ours");
    let checksum = registry::Checksum::of(&bytes);
    BuiltCrate {
        index_line: model.index_line.replace(&model.checksum.to_hex(), &checksum.to_hex()),
        bytes,
        checksum,
        ..model
    }
}

#[test]
fn vendored_sources_are_made_into_crate_files_or_put_on_the_list() {
    let ours = CrateBuilder::new("ours", "1.0.0").build();
    let all = [packed_by_cargo("theirs"), ours];
    let scene = Scene::new(&all);
    scene.carried("1.tar");
    let project = CargoProject::new()
        .dependency("ours", "1")
        .dependency("theirs", "1")
        .use_mirror(&scene.outside);
    let vendor = scene.on_stick("vendor");
    project.cargo_ok(&["vendor", "--respect-source-config", &vendor]);
    // what is here already needs nothing
    let again = refused(&scene.office, &["import", &vendor]);
    assert!(again.contains("nothing was imported"), "{again}");

    for krate in &all {
        ok(&scene.office, &["evict", &krate.name]);
    }
    let told = scene.import("vendor", &[]);
    assert!(
        told.contains("1 crate files") && told.contains("1 were left out"),
        "{told}"
    );
    assert_eq!(download(&scene.office, &all[0]), 200);
    // the other one was not packed as cargo packs
    assert!(
        told.contains("ours 1.0.0: its .crate file cannot be made again"),
        "{told}"
    );
    let wanted = ok(&scene.office, &["wanted"]);
    assert!(wanted.contains("ours 1.0.0") && !wanted.contains("theirs"), "{wanted}");
}
