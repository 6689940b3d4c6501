//! The main job of issue 2 with the real crates.io (`just e2e-online`): a project of some 150 dependencies is built through the mirror,
//! then by an offline mirror and an empty `CARGO_HOME`, with the `Cargo.lock` that cargo makes without the mirror. It needs the internet
//! and some minutes, so it runs only where `MIRROR_E2E_ONLINE=1` is set.

use std::path::Path;
use std::time::Duration;

use testkit::{CargoProject, MirrorBuilder, MirrorProcess, eventually};

/// Two builds of everything on a slow machine.
const BUILD: Duration = Duration::from_secs(30 * 60);
const PATIENCE: Duration = Duration::from_secs(60);

/// What leads out of an office.
const WAY_OUT: [&str; 10] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "CARGO_HTTP_CAINFO",
];

#[expect(
    clippy::disallowed_methods,
    reason = "whether to go out, and the way there, are the developer's and no setting of the mirror"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn way_out() -> impl Iterator<Item = (&'static str, String)> {
    WAY_OUT.iter().filter_map(|name| Some((*name, variable(name)?)))
}

fn mirror(data: &Path) -> MirrorBuilder {
    let mirror = MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")));
    let mirror = mirror.upstream_sparse("crates.io").data_dir(data);
    way_out().fold(mirror, |mirror, (name, value)| mirror.env(name, &value))
}

/// With build scripts, C code, procedural macros, renames, many features and crates whose names have capitals.
fn project() -> CargoProject {
    let project = [
        ("actix-web", "\"4\""),
        ("tokio", "{ version = \"1\", features = [\"full\"] }"),
        ("serde", "{ version = \"1\", features = [\"derive\"] }"),
        ("serde_json", "\"1\""),
        ("clap", "{ version = \"4\", features = [\"derive\"] }"),
        ("rusqlite", "{ version = \"0.32\", features = [\"bundled\"] }"),
        ("re", "{ package = \"regex\", version = \"1\" }"),
        ("chrono", "\"0.4\""),
        ("uuid", "{ version = \"1\", features = [\"v4\"] }"),
        ("anyhow", "\"1\""),
        ("thiserror", "\"2\""),
        ("itertools", "\"0.13\""),
        ("Inflector", "\"0.11\""),
        ("semver", "{ version = \"1\", features = [\"serde\"] }"),
        (
            "tracing-subscriber",
            "{ version = \"0.3\", features = [\"env-filter\"] }",
        ),
    ]
    .into_iter()
    .fold(CargoProject::new(), |project, (name, toml)| {
        project.dependency_toml(name, toml)
    });
    let project = project
        .main_rs(
            "fn main() {\n    \
                 let words: Vec<&str> = re::Regex::new(\"[a-z]+\").unwrap().find_iter(\"a1b2c\").map(|m| m.as_str()).collect();\n    \
                 let db = rusqlite::Connection::open_in_memory().unwrap();\n    \
                 let two: i64 = db.query_row(\"SELECT 1 + 1\", [], |row| row.get(0)).unwrap();\n    \
                 println!(\"{}\", serde_json::json!({ \"words\": words, \"two\": two }));\n\
             }\n",
        )
        // symbols would be most of what is written, and show nothing
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .time_limit(BUILD);
    way_out().fold(project, |project, (name, value)| project.env(name, &value))
}

const SAYS: &str = "{\"two\":2,\"words\":[\"a\",\"b\",\"c\"]}\n";

fn paste_config(project: CargoProject, mirror: &MirrorProcess) -> CargoProject {
    project.config(&mirror.get("/config.toml").text())
}

#[test]
fn a_project_of_many_crates_builds_from_the_real_crates_io_and_then_without() {
    if variable("MIRROR_E2E_ONLINE").as_deref() != Some("1") {
        println!("skipped: it needs the internet and some minutes; `just e2e-online` runs it");
        return;
    }
    let direct = project();
    direct.cargo_ok(&["generate-lockfile"]);
    let data = tempfile::tempdir().unwrap();

    let online = mirror(data.path()).start();
    let through = paste_config(project(), &online);
    through.cargo_ok(&["generate-lockfile"]);
    assert_eq!(through.lockfile(), direct.lockfile(), "made at nearly the same time");
    let packages = through.lockfile().matches("[[package]]").count();
    println!("{packages} packages");
    assert!(packages >= 130, "{packages} packages");
    assert_eq!(through.cargo_ok(&["run", "-q", "--locked"]), SAYS);
    let fetched = online.metric("crate_misses");
    println!(
        "{fetched} crate files fetched, {} index requests",
        online.metric("upstream_index_requests")
    );
    let recorded = || (online.metric("kept_files") == fetched).then_some(());
    eventually(PATIENCE, recorded).expect("everything is recorded");
    assert!(online.terminate().success());

    let offline = mirror(data.path()).arg("--offline").start();
    let again = paste_config(project(), &offline);
    assert_eq!(
        again.cargo_ok(&["run", "-q"]),
        SAYS,
        "with an empty CARGO_HOME and no Cargo.lock"
    );
    assert_eq!(again.lockfile(), direct.lockfile());
    assert_eq!(offline.metric("upstream_index_requests"), 0);
    assert_eq!(offline.metric("crate_misses"), 0);
    let found = again.cargo_ok(&["search", "--registry", "mirror", "regex"]);
    assert!(found.starts_with("regex = \""), "{found}");
    let found = again.cargo_ok(&["info", "--registry", "mirror", "serde"]);
    assert!(found.starts_with("serde"), "{found}");
}
