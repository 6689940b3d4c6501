//! The main jobs with the real crates.io (`just e2e-online`). Issue 2: a project of some 150 dependencies is built through the mirror,
//! then by an offline mirror and an empty `CARGO_HOME`, with the `Cargo.lock` that cargo makes without the mirror. Issue 5: three small
//! projects come across the air gap, and a week of changes after them. They need the internet and some minutes, so they run only where `MIRROR_E2E_ONLINE=1` is set.

#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

#[path = "air_gap/namespaces.rs"]
#[expect(dead_code, reason = "the disk is for the test `air_gap`")]
mod namespaces;
#[path = "air_gap/sides.rs"]
#[expect(dead_code, reason = "much of it is for the test `air_gap`")]
mod sides;

use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::{CargoProject, MirrorBuilder, MirrorProcess, eventually};

use sides::{both_ways, check, key_of, ok, refused, text};

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

/// Small projects: what each needs, in the first week and after the changes, and a `main` that uses it.
struct Small {
    name: &'static str,
    first: &'static [(&'static str, &'static str)],
    later: &'static [(&'static str, &'static str)],
    main: &'static str,
    says: &'static str,
}

const SMALL: [Small; 3] = [
    Small {
        name: "lists",
        first: &[("itertools", "=0.12.0"), ("either", "=1.9.0")],
        later: &[("itertools", "=0.12.1"), ("either", "=1.10.0")],
        main: "fn main() { println!(\"{}\", itertools::join([1, 2], \"+\")); }",
        says: "1+2\n",
    },
    Small {
        name: "numbers",
        first: &[("itoa", "=1.0.9"), ("ryu", "=1.0.15"), ("semver", "=1.0.20")],
        later: &[("itoa", "=1.0.11"), ("ryu", "=1.0.15"), ("semver", "=1.0.22")],
        main: "fn main() { println!(\"{} {}\", itoa::Buffer::new().format(7), semver::Version::new(1, 2, 3)); }",
        says: "7 1.2.3\n",
    },
    Small {
        name: "bytes",
        first: &[("memchr", "=2.7.1"), ("fastrand", "=2.0.1")],
        later: &[("memchr", "=2.7.2"), ("hex", "=0.4.3")],
        main: "fn main() { println!(\"{:?}\", memchr::memchr(b'c', b\"abc\")); }",
        says: "Some(2)\n",
    },
];

impl Small {
    fn project(&self, needs: &[(&str, &str)]) -> CargoProject {
        needs
            .iter()
            .fold(CargoProject::new(), |project, (name, req)| {
                project.dependency(name, req)
            })
            .main_rs(self.main)
            .time_limit(BUILD)
    }

    /// What it needs in this week; changes come in the second and stay.
    fn needs(&self, week: usize) -> &[(&'static str, &'static str)] {
        if week == 1 { self.first } else { self.later }
    }

    fn lockfile(&self, place: &Path, week: usize) -> PathBuf {
        place.join(format!("{}-{week}.lock", self.name))
    }
}

const OFFICE: &str = "an_office_behind_an_air_gap_builds_what_a_stick_brings_from_the_real_crates_io";

#[test]
fn an_office_behind_an_air_gap_builds_what_a_stick_brings_from_the_real_crates_io() {
    if let Some(place) = namespaces::place() {
        return inside(&place);
    }
    if variable("MIRROR_E2E_ONLINE").as_deref() != Some("1") {
        println!("skipped: it needs the internet; `just e2e-online` runs it");
        return;
    }
    let (data, stick) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let outside = mirror(data.path()).start();
    let cross = |week: usize| {
        std::fs::write(stick.path().join("week"), week.to_string()).unwrap();
        if !namespaces::without_a_network(OFFICE, stick.path()) {
            inside(stick.path());
        }
    };
    carry(&outside, stick.path(), 1, None);
    std::fs::write(stick.path().join("key"), key_of(&outside.data_dir())).unwrap();
    cross(1);
    // the second is lost, and the third continues it
    carry(&outside, stick.path(), 2, Some("bundle-1.tar"));
    carry(&outside, stick.path(), 3, Some("bundle-2.tar"));
    cross(3);
    carry(&outside, stick.path(), 4, Some("bundle-1.tar.receipt"));
    cross(4);
}

/// Locks the projects as they are in this week, and writes a bundle with all that they need.
fn carry(outside: &MirrorProcess, stick: &Path, week: usize, since: Option<&str>) {
    let bundle = stick.join(format!("bundle-{week}.tar"));
    let mut words = vec!["export".to_owned(), "-o".to_owned(), text(&bundle).to_owned()];
    for small in &SMALL {
        let project = paste_config(small.project(small.needs(week)), outside);
        project.cargo_ok(&["generate-lockfile"]);
        let lockfile = small.lockfile(stick, week);
        std::fs::write(&lockfile, project.lockfile()).unwrap();
        words.extend(["--lockfile".to_owned(), text(&lockfile).to_owned()]);
    }
    if let Some(since) = since {
        words.extend(["--since".to_owned(), text(&stick.join(since)).to_owned()]);
    }
    println!(
        "{}",
        ok(&outside.run(&words.iter().map(String::as_str).collect::<Vec<_>>()))
    );
    for small in &SMALL {
        assert_eq!(check(outside, &small.lockfile(stick, week))["ready"], true);
    }
}

/// In the office: what has come is imported, checked and built from an empty `CARGO_HOME`.
fn inside(stick: &Path) {
    let week: usize = std::fs::read_to_string(stick.join("week")).unwrap().parse().unwrap();
    let key = std::fs::read_to_string(stick.join("key")).unwrap();
    let office = sides::office_builder()
        .upstream_sparse("crates.io")
        .data_dir(&stick.join("office"))
        .start();
    let bundle = stick.join(format!("bundle-{week}.tar"));
    let import = ["import", text(&bundle)];
    if week == 3 {
        let said = refused(&office.run(&import));
        assert!(
            said.contains("continues serial 2") && said.contains("since your receipt"),
            "{said}"
        );
    } else {
        let trust: &[&str] = if week == 1 { &["--trust", &key] } else { &[] };
        println!("{}", ok(&office.run(&[&import[..], trust].concat())));
    }
    for small in &SMALL {
        let lockfile = small.lockfile(stick, week);
        let is_here = check(&office, &lockfile)["ready"] == true;
        assert_eq!(is_here, week != 3, "{}", small.name);
        for index in both_ways(&office) {
            let project = small.project(small.needs(week)).use_index(&index);
            std::fs::copy(&lockfile, project.path().join("Cargo.lock")).unwrap();
            let built = project.cargo(&["run", "-q", "--locked"]);
            assert_eq!(
                built.status.success(),
                is_here,
                "{} by {index}: {}",
                small.name,
                testkit::said(&built)
            );
            if is_here {
                assert_eq!(testkit::text_of(&built).0, small.says, "{} by {index}", small.name);
            }
        }
    }
}
