//! The main job of issue 2: a real cargo builds a real project through the mirror with exactly what `/config.toml` gives, with the
//! same `Cargo.lock` as without it; again when upstream is gone and the registry forgotten; again offline after a restart. Search and
//! info with and without upstream, writes refused, yanked versions, downloads that come first, two cargos at once.

use std::path::Path;
use std::time::Duration;

use testkit::{
    CargoProject, CrateBuilder, Dependency, FakeUpstream, MirrorBuilder, MirrorProcess, ReservedPort, eventually, said,
    text_of, toolchains,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn mirror() -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
}

/// What a user does: paste what the mirror gives.
fn paste_config(project: CargoProject, mirror: &MirrorProcess) -> CargoProject {
    let config = mirror.get("/config.toml");
    assert_eq!(config.status, 200);
    project.config(&config.text())
}

/// Several crates, with everything that makes an index line long.
fn publish_everything(upstream: &FakeUpstream) {
    let crates = [
        CrateBuilder::new("app-core", "1.4.2")
            .description("the core of an application")
            .dep("under_score", "^0.2")
            .dep_full(Dependency::new("with-dash", "1").rename("dash").features(&["loud"]))
            .dep_full(Dependency::new("Capital-Name", "=3.0.0-beta.1"))
            .dep_full(Dependency::new("maybe", "1").optional())
            .dep_full(Dependency::new("generator", "1").build())
            .dep_full(Dependency::new("only-for-tests", "1").dev())
            .dep_full(Dependency::new("elsewhere", "1").target("cfg(target_os = \"none\")"))
            .feature("default", &["std"])
            .feature("std", &[])
            .feature("more", &["dep:maybe", "with-dash-loud"])
            .feature("with-dash-loud", &["dash/loud"])
            .file(
                "build.rs",
                b"fn main() { println!(\"cargo:rustc-env=MADE={}\", generator::made()); }\n",
            )
            .lib(
                "pub fn words() -> String {
                    #[cfg(feature = \"more\")] let maybe = maybe::WORD;
                    #[cfg(not(feature = \"more\"))] let maybe = \"\";
                    format!(\"{} {} {} {maybe} {}\", under_score::WORD, dash::word(), Capital_Name::WORD, env!(\"MADE\"))
                }",
            ),
        CrateBuilder::new("under_score", "0.2.9").lib("pub const WORD: &str = \"under\";"),
        CrateBuilder::new("under_score", "0.3.0").lib("compile_error!(\"not this one\");"),
        CrateBuilder::new("with-dash", "1.0.0+build.7")
            .feature("loud", &[])
            .lib("pub fn word() -> &'static str { if cfg!(feature = \"loud\") { \"DASH\" } else { \"dash\" } }"),
        CrateBuilder::new("Capital-Name", "3.0.0-beta.1")
            .lib("#![allow(non_snake_case)] pub const WORD: &str = \"Capital\";"),
        CrateBuilder::new("maybe", "1.0.1")
            .links("maybe-native")
            .rust_version("1.60")
            .lib("pub const WORD: &str = \"maybe\";"),
        CrateBuilder::new("generator", "1.0.0").lib("pub fn made() -> &'static str { \"made\" }"),
        CrateBuilder::new("only-for-tests", "1.0.0"),
        CrateBuilder::new("elsewhere", "1.0.0"),
        CrateBuilder::new("a", "1.0.0").lib("pub const WORD: &str = \"a\";"),
        CrateBuilder::new("ab", "1.0.0"),
        CrateBuilder::new("abc", "1.0.0"),
        CrateBuilder::new("app-core", "1.5.0").lib("compile_error!(\"yanked\");").yanked(),
    ];
    for krate in crates {
        upstream.add(&krate.build());
    }
}

fn real_project() -> CargoProject {
    CargoProject::new()
        .dependency_toml("app-core", "{ version = \"1\", features = [\"more\"] }")
        .dependency_toml("letters", "{ package = \"a\", version = \"1\" }")
        .dependency("ab", "1")
        .dependency("abc", "*")
        .main_rs("fn main() { println!(\"{} {}\", app_core::words(), letters::WORD); }")
}

const SAYS: &str = "under DASH Capital maybe made a\n";
const BUILT: [(&str, &str); 9] = [
    ("a", "1.0.0"),
    ("ab", "1.0.0"),
    ("abc", "1.0.0"),
    ("app-core", "1.4.2"),
    ("Capital-Name", "3.0.0-beta.1"),
    ("generator", "1.0.0"),
    ("maybe", "1.0.1"),
    ("under_score", "0.2.9"),
    ("with-dash", "1.0.0+build.7"),
];

/// Waits until every crate file that a build needs is in the database, which is when a search finds it.
fn wait_recorded(mirror: &MirrorProcess, files: u64) {
    let recorded = || (mirror.metric("kept_files") >= files).then_some(());
    eventually(PATIENCE, recorded).expect("what was fetched is recorded soon");
}

#[test]
fn a_project_builds_online_without_upstream_and_offline_with_one_lock_file() {
    let upstream = FakeUpstream::start();
    publish_everything(&upstream);
    let direct = real_project().use_index(&upstream.sparse_url());
    assert_eq!(direct.cargo_ok(&["run", "-q"]), SAYS);
    upstream.clear_log();

    let data = tempfile::tempdir().unwrap();
    let online = mirror().upstream(&upstream).data_dir(data.path()).start();
    let project = paste_config(real_project(), &online);
    assert_eq!(project.cargo_ok(&["run", "-q"]), SAYS);
    assert_eq!(project.lockfile(), direct.lockfile());
    for (name, version) in BUILT {
        let asked = upstream.count(&FakeUpstream::download_path(name, version));
        assert_eq!(asked, 1, "{name} {version} is fetched once");
    }
    assert_eq!(upstream.count(&FakeUpstream::download_path("elsewhere", "1.0.0")), 0);

    upstream.go_down();
    project.forget_registry();
    project.forget_target();
    assert_eq!(project.cargo_ok(&["run", "-q", "--locked"]), SAYS);
    std::fs::remove_file(project.path().join("Cargo.lock")).unwrap();
    project.forget_registry();
    assert_eq!(project.cargo_ok(&["run", "-q"]), SAYS);
    assert_eq!(project.lockfile(), direct.lockfile(), "resolved anew without upstream");
    assert!(online.terminate().success());

    upstream.come_back();
    upstream.clear_log();
    let offline = mirror()
        .upstream(&upstream)
        .data_dir(data.path())
        .arg("--offline")
        .start();
    let project = paste_config(project, &offline);
    project.forget_registry();
    project.forget_target();
    std::fs::remove_file(project.path().join("Cargo.lock")).unwrap();
    assert_eq!(project.cargo_ok(&["run", "-q"]), SAYS);
    assert_eq!(project.lockfile(), direct.lockfile());
    let asked: Vec<_> = upstream.requests().into_iter().map(|request| request.path).collect();
    assert!(asked.is_empty(), "an offline mirror asks nothing: {asked:?}");

    let missing = paste_config(CargoProject::new().dependency("elsewhere", "1"), &offline);
    let refused = missing.cargo(&["fetch"]);
    let (_, why) = text_of(&refused);
    assert!(!refused.status.success() && why.contains("elsewhere"), "{why}");
}

#[test]
fn search_and_info_work_with_and_without_upstream() {
    let upstream = FakeUpstream::start();
    publish_everything(&upstream);
    let mirror = mirror().upstream(&upstream).start();
    let project = paste_config(real_project(), &mirror);
    project.cargo_ok(&["fetch"]);
    wait_recorded(&mirror, BUILT.len() as u64);
    for upstream_is_there in [true, false] {
        if !upstream_is_there {
            upstream.go_down();
        }
        let found = project.cargo_ok(&["search", "--registry", "mirror", "application"]);
        assert!(found.starts_with("app-core = \"1.4.2\""), "{found}");
        assert!(found.contains("# the core of an application"), "{found}");
        let info = project.cargo_ok(&["info", "--registry", "mirror", "app-core"]);
        assert!(info.starts_with("app-core\nthe core of an application\n"), "{info}");
        assert!(info.contains("version: 1.4.2") && info.contains("+default"), "{info}");
        let nothing = project.cargo_ok(&["search", "--registry", "mirror", "no-such-thing"]);
        assert_eq!(nothing, "");
    }
}

#[test]
fn a_crate_file_may_be_the_first_thing_that_an_empty_mirror_is_asked() {
    let upstream = FakeUpstream::start();
    publish_everything(&upstream);
    let port = ReservedPort::new();
    let start = || {
        mirror()
            .upstream(&upstream)
            .arg("--listen")
            .arg(&port.authority())
            .start()
    };
    let first = start();
    let project = paste_config(real_project(), &first);
    project.cargo_ok(&["fetch"]);
    drop(first);
    // the index stays warm, the crate files go
    for dir in ["cache", "src"] {
        std::fs::remove_dir_all(project.cargo_home().join("registry").join(dir)).unwrap();
    }

    let empty = start();
    assert_eq!(empty.metric("index_files"), 0);
    assert_eq!(project.cargo_ok(&["run", "-q", "--locked"]), SAYS);
    assert_eq!(empty.metric("index_answers"), 0, "cargo used its own index");
    wait_recorded(&empty, BUILT.len() as u64);
}

#[test]
fn writes_are_refused_in_words() {
    let upstream = FakeUpstream::start();
    publish_everything(&upstream);
    let mirror = mirror().upstream(&upstream).start();
    let project = paste_config(CargoProject::new().dependency("ab", "1"), &mirror);
    let token = ["--registry", "mirror", "--token", "anything"];
    for command in [
        &["publish", "--allow-dirty", "--no-verify"][..],
        &["yank", "ab@1.0.0"],
        &["yank", "--undo", "ab@1.0.0"],
        &["owner", "--add", "somebody", "ab"],
        &["owner", "--remove", "somebody", "ab"],
    ] {
        let refused = project.cargo(&[command, &token].concat());
        let (_, why) = text_of(&refused);
        assert!(!refused.status.success(), "{command:?}");
        assert!(
            why.contains("this is a read-only mirror of crates.io"),
            "{command:?}: {why}"
        );
    }
    let asked = upstream.requests();
    assert!(asked.iter().all(|request| request.method == "GET"));
}

#[test]
fn a_version_that_was_yanked_meanwhile_still_builds_where_a_lock_names_it() {
    let upstream = FakeUpstream::start();
    upstream.add(&CrateBuilder::new("abcd", "1.0.0").build());
    upstream.add(&CrateBuilder::new("abcd", "1.1.0").build());
    let mirror = mirror()
        .upstream(&upstream)
        .env("MIRROR_INDEX__SPARSE_MAX_AGE", "0s")
        .start();
    let project = paste_config(CargoProject::new().dependency("abcd", "1"), &mirror);
    project.cargo_ok(&["fetch"]);
    upstream.yank("abcd", "1.1.0", true);
    project.forget_registry();
    project.cargo_ok(&["build", "--locked"]);
    let newcomer = paste_config(CargoProject::new().dependency("abcd", "1"), &mirror);
    newcomer.cargo_ok(&["fetch"]);
    assert!(
        newcomer.lockfile().contains("version = \"1.0.0\""),
        "{}",
        newcomer.lockfile()
    );
}

#[test]
fn two_cargos_at_once_cost_upstream_as_much_as_one() {
    let upstream = FakeUpstream::start();
    publish_everything(&upstream);
    let mirror = mirror().upstream(&upstream).start();
    let projects = [(); 2].map(|()| paste_config(real_project(), &mirror));
    std::thread::scope(|scope| {
        for project in &projects {
            scope.spawn(|| assert_eq!(project.cargo_ok(&["run", "-q"]), SAYS));
        }
    });
    let mut paths: Vec<_> = upstream.requests().into_iter().map(|request| request.path).collect();
    paths.sort();
    let asked = paths.len();
    paths.dedup();
    assert_eq!(paths.len(), asked, "something was asked for twice");
}

#[test]
fn a_nightly_cargo_builds_as_well() {
    let Some(nightly) = toolchains().into_iter().find(|name| name.starts_with("nightly-")) else {
        println!("skipped: rustup has no nightly toolchain");
        return;
    };
    let upstream = FakeUpstream::start();
    publish_everything(&upstream);
    let mirror = mirror().upstream(&upstream).start();
    let project = paste_config(real_project(), &mirror);
    let built = project.cargo(&[&format!("+{nightly}"), "run", "-q"]);
    assert_eq!(text_of(&built).0, SAYS, "{}", said(&built));
    upstream.go_down();
    project.forget_registry();
    project.forget_target();
    let again = project.cargo(&[&format!("+{nightly}"), "run", "-q", "--locked"]);
    assert_eq!(text_of(&again).0, SAYS, "{}", said(&again));
}

#[test]
fn the_other_commands_of_cargo_work_too() {
    let upstream = FakeUpstream::start();
    publish_everything(&upstream);
    let tool = CrateBuilder::new("tool", "1.0.0").dep("a", "1");
    upstream.add(
        &tool
            .file("src/main.rs", b"fn main() { println!(\"tool {}\", a::WORD); }")
            .build(),
    );
    let mirror = mirror()
        .upstream(&upstream)
        .env("MIRROR_INDEX__SPARSE_MAX_AGE", "0s")
        .start();
    let project = paste_config(CargoProject::new().dependency("abc", "1"), &mirror);
    project.cargo_ok(&["add", "app-core", "--features", "more"]);
    project.cargo_ok(&["tree"]);
    assert!(project.lockfile().contains("name = \"app-core\"\nversion = \"1.4.2\""));
    upstream.add(&CrateBuilder::new("abc", "1.0.1").build());
    project.cargo_ok(&["update", "abc"]);
    assert!(project.lockfile().contains("name = \"abc\"\nversion = \"1.0.1\""));
    project.cargo_ok(&["vendor", "-q", "--respect-source-config"]);
    assert!(project.path().join("vendor/under_score/src/lib.rs").is_file());
    let root = project.path().join("installed");
    project.cargo_ok(&["install", "-q", "tool", "--root", root.to_str().unwrap()]);
    let ran = std::process::Command::new(root.join("bin/tool")).output().unwrap();
    assert_eq!(text_of(&ran).0, "tool a\n");
    let misspelt = paste_config(CargoProject::new().dependency("app_core", "1"), &mirror);
    let (_, why) = text_of(&misspelt.cargo(&["fetch"]));
    assert!(
        why.contains("app-core"),
        "cargo finds the right spelling by itself: {why}"
    );
}
