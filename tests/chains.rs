//! A mirror whose upstream is not crates.io: another mirror, by either protocol, a registry that wants a token, and one with its own
//! way to name downloads. Real cargo at the end of each.

use std::path::Path;
use std::time::Duration;

use testkit::{
    BuiltCrate, CargoProject, CrateBuilder, FakeUpstream, Fault, GitUpstream, MirrorBuilder, MirrorProcess, Times,
    eventually, said,
};

const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN: &str = "Bearer secret-of-the-office";

fn builder() -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
}

/// A mirror that asks upstream for every request.
fn asking(sparse: &str) -> MirrorBuilder {
    builder()
        .upstream_sparse(sparse)
        .env("MIRROR_INDEX__SPARSE_MAX_AGE", "0s")
        .env("MIRROR_INDEX__REMOVAL_GRACE", "1s")
}

fn sparse_of(mirror: &MirrorProcess) -> String {
    format!("sparse+{}", mirror.url("/index/"))
}

/// Two crates, one of which needs the other; the inner one has a `+` in its version and the outer capital letters.
fn crates() -> [BuiltCrate; 2] {
    [
        CrateBuilder::new("Outer", "1.0.0")
            .dep("inner", "1")
            .lib("pub use inner::WORD;")
            .build(),
        CrateBuilder::new("inner", "1.0.0+meta")
            .lib("pub const WORD: &str = \"through it all\";")
            .build(),
    ]
}

fn project() -> CargoProject {
    CargoProject::new()
        .dependency("Outer", "1")
        .main_rs("fn main() { println!(\"{}\", Outer::WORD); }")
}

fn runs(project: &CargoProject) {
    assert_eq!(project.cargo_ok(&["run", "-q"]), "through it all\n");
}

/// How often crate files were asked for.
fn downloads(upstream: &FakeUpstream) -> usize {
    let requests = upstream.requests();
    let files = requests.iter().filter(|request| !request.path.starts_with("/index/"));
    files.count()
}

fn wait_until(mirror: &MirrorProcess, what: &str, mut done: impl FnMut() -> bool) {
    assert!(
        eventually(PATIENCE, || done().then_some(())).is_some(),
        "{what}\n{}",
        mirror.log()
    );
}

#[test]
fn a_mirror_behind_a_mirror_passes_everything_on() {
    let upstream = FakeUpstream::start();
    crates().iter().for_each(|krate| upstream.add(krate));
    let first = asking(&upstream.sparse_url()).start();
    let second = asking(&sparse_of(&first)).start();
    let project = project().use_mirror(&second);
    runs(&project);
    assert_eq!(downloads(&upstream), 2, "each crate file once");
    for path in [FakeUpstream::index_path("Outer"), FakeUpstream::index_path("inner")] {
        assert_eq!(second.get(&path).body, first.get(&path).body);
    }
    assert_eq!(second.kept_files().len(), 2);

    // news, a yank, a removal, a name that is not there
    upstream.add(&CrateBuilder::new("inner", "1.1.0").build());
    upstream.yank("inner", "1.1.0", true);
    let inner = FakeUpstream::index_path("inner");
    assert_eq!(Some(second.get(&inner).body), upstream.index_file("in/ne/inner"));
    upstream.remove_version("inner", "1.1.0");
    wait_until(&second, "the removal comes through", || {
        !second.get(&inner).text().contains("1.1.0")
    });
    assert_eq!(second.get(&FakeUpstream::index_path("nobody")).status, 404);
    assert_eq!(second.get("/api/v1/crates/inner/9.0.0/download").status, 404);

    // without the first, and without what is behind it
    upstream.go_down();
    project.forget_registry();
    project.forget_target();
    runs(&project);
    drop(first);
    project.forget_registry();
    project.forget_target();
    runs(&project);
}

#[test]
fn a_mirror_behind_a_mirror_by_git_builds_what_the_first_can() {
    let (files, git) = (FakeUpstream::start(), GitUpstream::start());
    let crates = crates();
    crates.iter().for_each(|krate| files.add(krate));
    git.commit_index(&format!("{}/dl", files.base_url()), &crates, 30);
    let first = builder().upstream_git(&git).own_port().start();
    let synced = first.run(&["sync"]);
    assert!(synced.status.success(), "{}\n{}", said(&synced), first.log());
    let second = builder()
        .own_port()
        .env("MIRROR_UPSTREAM__GIT", &first.url("/git/index"))
        .start();
    let synced = second.run(&["sync"]);
    assert!(synced.status.success(), "{}\n{}", said(&synced), second.log());
    // the address of crate files is the first mirror's, read out of its config.json
    for index in [format!("sparse+{}", second.url("/index/")), second.url("/git/index")] {
        runs(&project().use_index(&index));
    }
    assert_eq!(downloads(&files), 2, "{:?}", files.requests());
    assert_eq!((first.kept_files().len(), second.kept_files().len()), (2, 2));
}

#[test]
fn a_registry_that_wants_a_token_serves_those_who_have_none() {
    let (registry, elsewhere) = (FakeUpstream::start(), FakeUpstream::start());
    registry.require_token(Some(TOKEN));
    let crates = crates();
    crates.iter().for_each(|krate| registry.add(krate));
    // one of the files is on another host, to which the registry sends its clients
    elsewhere.serve_at("/bucket/inner", &crates[1].bytes);
    registry.fault(
        &FakeUpstream::download_path("inner", "1.0.0+meta"),
        Fault::Redirect(302, format!("{}/bucket/inner", elsewhere.base_url())),
        Times::Always,
    );
    let refused = asking(&registry.sparse_url()).start();
    let reply = refused.get(&FakeUpstream::index_path("inner"));
    assert!((500..600).contains(&reply.status), "{}", reply.status);
    assert!(reply.text().contains("401"), "{}", reply.text());
    drop(refused);

    let host = elsewhere.base_url();
    let mirror = asking(&registry.sparse_url())
        .env("MIRROR_UPSTREAM__TOKEN", TOKEN)
        .start();
    registry.clear_log();
    assert_eq!(mirror.get("/api/v1/crates/Outer/1.0.0/download").body, crates[0].bytes);
    let config = mirror.get("/index/config.json").text();
    assert!(!config.contains("auth-required"), "its own clients need none: {config}");
    let second = asking(&sparse_of(&mirror)).start();
    let reply = second.get(&FakeUpstream::index_path("inner"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let with_token = |request: &testkit::LoggedRequest| request.header("authorization") == Some(TOKEN);
    assert!(registry.requests().iter().all(with_token));
    // a redirect to a loopback address that nobody configured is not followed; wherever it led, the token stays home
    mirror.get("/api/v1/crates/inner/1.0.0+meta/download");
    assert!(!elsewhere.requests().iter().any(with_token), "{host} got the token");
    registry.clear_faults();
    runs(&project().use_mirror(&second));
    // with auth-required, the host that config.json itself names for downloads gets the token, as cargo does it
    let store = FakeUpstream::start();
    store.serve_at("/files/Outer-1.0.0", &crates[0].bytes);
    registry.set_dl(&format!("{}/files/{{crate}}-{{version}}", store.base_url()));
    let third = asking(&registry.sparse_url())
        .env("MIRROR_UPSTREAM__TOKEN", TOKEN)
        .start();
    assert_eq!(third.get("/api/v1/crates/Outer/1.0.0/download").body, crates[0].bytes);
    assert!(store.requests().iter().all(with_token) && !store.requests().is_empty());
    assert!(!mirror.log().contains("secret-of-the-office") && !second.log().contains("secret-of-the-office"));
}

#[test]
fn a_registry_names_its_downloads_as_it_likes() {
    let (registry, files) = (FakeUpstream::start(), FakeUpstream::start());
    let crates = crates();
    let template = "/store/{prefix}/{lowerprefix}/{crate}/{version}/{sha256-checksum}.crate";
    for krate in &crates {
        registry.add(krate);
        let (prefix, lower) = match krate.name.as_str() {
            "Outer" => ("Ou/te", "ou/te"),
            _ => ("in/ne", "in/ne"),
        };
        let path = format!(
            "/store/{prefix}/{lower}/{}/{}/{}.crate",
            krate.name, krate.version, krate.checksum
        );
        files.serve_at(&path, &krate.bytes);
    }
    registry.set_dl(&format!("{}{template}", files.base_url()));
    let first = asking(&registry.sparse_url())
        .env("MIRROR_UPSTREAM__TOKEN", TOKEN)
        .start();
    // behind it another one, which sees the first one's own plain way only
    let second = asking(&sparse_of(&first)).start();
    runs(&project().use_mirror(&second));
    assert_eq!(downloads(&files), 2);
    let got_token = |request: &testkit::LoggedRequest| request.header("authorization").is_some();
    assert!(!files.requests().iter().any(got_token), "config.json asks for none");
}
