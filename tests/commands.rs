//! The commands of `mirror` as a shell sees them (issue 2, "The house"): help and exit codes, settings that cannot be used, one server
//! for each directory, `config`, `mode`, `refresh`, `evict`, `healthcheck`, `doctor`, and that a token is in no output and no log.

#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use testkit::{
    CrateBuilder, FakeUpstream, Fault, GitUpstream, MirrorBuilder, MirrorProcess, Times, git_ok, said, text_of,
};

fn mirror() -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
}

fn out(output: &Output) -> String {
    text_of(output).0
}

/// The exit code, and that there is nothing but one sentence on standard error.
fn one_sentence(output: &Output) -> (i32, String) {
    let (stdout, stderr) = text_of(output);
    assert_eq!(stdout, "", "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("mirror: "), "{stderr}");
    (output.status.code().unwrap(), stderr)
}

#[test]
fn every_command_helps_with_an_example() {
    let mirror = mirror();
    for command in [
        &[][..],
        &["serve"],
        &["config"],
        &["config", "show"],
        &["config", "client"],
        &["sync"],
        &["verify"],
        &["prune"],
        &["doctor"],
        &["healthcheck"],
        &["mode"],
        &["search"],
        &["refresh"],
        &["who"],
        &["prefetch"],
        &["check"],
        &["pin"],
        &["unpin"],
        &["pins"],
        &["evict"],
    ] {
        let help = mirror.run(&[command, &["--help"]].concat());
        let text = out(&help);
        assert_eq!(help.status.code(), Some(0), "{}", said(&help));
        assert!(
            text.contains("Example: ") && text.contains("mirror"),
            "{command:?}: {text}"
        );
        assert!(text.contains("--data-dir"), "{command:?}: {text}");
    }
    let version = mirror.run(&["--version"]);
    assert!(out(&version).starts_with("mirror 0."), "{}", said(&version));
}

#[test]
fn wrong_usage_is_2_and_says_what_is_right() {
    for args in [
        &[][..],
        &["frobnicate"],
        &["serve", "--frobnicate"],
        &["serve", "--offline", "--mode", "online"],
        &["config"],
        &["config", "client", "--git", "--old"],
        &["verify", "--repair", "--against-upstream"],
        &["prune", "--cache-max-size", "much"],
        &["mode", "sideways"],
        &["search"],
        &["search", "x", "--limit", "0"],
        &["search", "x", "--limit", "101"],
        &["refresh"],
        &["refresh", "../../etc/passwd"],
        &["who"],
        &["who", "../../etc/passwd"],
        &["evict"],
        &["evict", "not a name"],
        &["evict", "serde@not a version"],
    ] {
        let refused = mirror().run(args);
        let (stdout, stderr) = text_of(&refused);
        assert_eq!(refused.status.code(), Some(2), "{args:?}: {}", said(&refused));
        assert_eq!(stdout, "", "{args:?}");
        assert!(!stderr.trim().is_empty(), "{args:?}");
    }
}

#[test]
fn a_setting_that_cannot_be_used_is_named_with_its_value_and_its_source() {
    let variables = [
        ("MIRROR_LISTN", "127.0.0.1:1", "`listn`", "did you mean `listen`"),
        (
            "MIRROR_UPSTREAM__SPASE",
            "x",
            "`upstream.spase`",
            "did you mean `upstream.sparse`",
        ),
        ("MIRROR_LISTEN", "nowhere", "`listen` is `nowhere`", "127.0.0.1:8080"),
        ("PORT", "seven", "`listen` is `[::]:seven`", "127.0.0.1:8080"),
        (
            "MIRROR_PUBLIC_URL",
            "ftp://x",
            "`public_url` is `ftp://x`",
            "https://mirror.example",
        ),
        (
            "MIRROR_PUBLIC_URL",
            "http://a b",
            "`public_url` is `http://a b`",
            "https://mirror.example",
        ),
        (
            "MIRROR_TRUSTED_PROXIES",
            "router",
            "`trusted_proxies` is `router`",
            "10.0.0.0/8",
        ),
        ("MIRROR_ACCESS", "token", "`access` is `token`", "public"),
        (
            "MIRROR_MODE",
            "sideways",
            "`mode` is `sideways`",
            "online, fallback or offline",
        ),
        ("MIRROR_DATA_DIR", "", "`data_dir` is ``", "directory"),
        (
            "MIRROR_UPSTREAM__SPARSE",
            "http://x/",
            "`upstream.sparse` is `http://x/`",
            "crates.io",
        ),
        (
            "MIRROR_UPSTREAM__SPARSE",
            "sparse+http://x",
            "`upstream.sparse` is `sparse+http://x`",
            "slash",
        ),
        (
            "MIRROR_UPSTREAM__SPARSE",
            "sparse+ftp://x/",
            "`upstream.sparse` is `sparse+ftp://x/`",
            "crates.io",
        ),
        (
            "MIRROR_UPSTREAM__CA_FILE",
            "none.pem",
            "`upstream.ca_file` is `none.pem`",
            "No such file",
        ),
        (
            "MIRROR_UPSTREAM__CA_FILE",
            "/",
            "`upstream.ca_file` is `/`",
            "not a file",
        ),
        (
            "MIRROR_INDEX__SPARSE_MAX_AGE",
            "soon",
            "`index.sparse_max_age` is `soon`",
            "60s",
        ),
        (
            "MIRROR_INDEX__REMOVAL_GRACE",
            "-1s",
            "`index.removal_grace` is `-1s`",
            "15m",
        ),
        (
            "MIRROR_CACHE__MAX_FILE_SIZE",
            "big",
            "`cache.max_file_size` is `big`",
            "512MiB",
        ),
        ("MIRROR_CACHE__MIN_FREE", "9e99", "`cache.min_free` is `9e99`", "512MiB"),
    ];
    for (variable, value, named, hint) in variables {
        let refused = mirror().env(variable, value).run(&["serve"]);
        let (code, why) = one_sentence(&refused);
        assert_eq!(code, 2, "{why}");
        for part in [named, hint, &format!("the environment's {variable}")] {
            assert!(why.contains(part), "{variable}={value}: {part:?} is not in: {why}");
        }
    }
    let files = [
        (
            "publik_url = \"x\"",
            "`publik_url` in mirror.toml is not a setting; did you mean `public_url`?",
        ),
        (
            "[index]\nmax_age = \"5s\"",
            "`index.max_age` in mirror.toml is not a setting; did you mean",
        ),
        (
            "[cache]\nmin_free = \"much\"",
            "`cache.min_free` is `much` in mirror.toml",
        ),
        (
            "[index]\nsparse_max_age = 60",
            "`index.sparse_max_age` is `60` in mirror.toml",
        ),
        ("listen = ", "the settings file mirror.toml cannot be used"),
    ];
    for (toml, expected) in files {
        for command in [&["serve"][..], &["config", "show"], &["search", "x"]] {
            let refused = mirror().file("mirror.toml", toml).run(command);
            let (code, why) = one_sentence(&refused);
            assert_eq!(code, 2, "{why}");
            assert!(why.contains(expected), "{toml}: {why}");
        }
    }
    let (code, why) = one_sentence(&mirror().run(&["serve", "--config", "elsewhere.toml"]));
    assert!(
        code == 2 && why.contains("elsewhere.toml") && why.contains("no such file"),
        "{why}"
    );
    let (code, why) = one_sentence(&mirror().run(&["serve", "--public-url", "mirror.example"]));
    assert!(
        code == 2 && why.contains("`mirror.example` in the flag --public-url"),
        "{why}"
    );
}

#[test]
fn a_directory_that_cannot_be_used_is_named_with_its_source() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    for dir in [file.clone(), file.join("below")] {
        let refused = mirror().data_dir(&dir).run(&["serve", "--listen", "127.0.0.1:0"]);
        let (code, why) = one_sentence(&refused);
        assert_eq!(code, 2, "{why}");
        assert!(why.contains(&dir.display().to_string()), "{why}");
        assert!(why.contains("the environment's MIRROR_DATA_DIR"), "{why}");
    }
    let refused = mirror().run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", file.to_str().unwrap()]);
    assert!(one_sentence(&refused).1.contains("the flag --data-dir"));

    let newer = home.path().join("newer");
    std::fs::create_dir(&newer).unwrap();
    std::fs::write(newer.join("FORMAT"), "2\n").unwrap();
    for command in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["search", "x"],
        &["evict", "x"],
    ] {
        let (code, why) = one_sentence(&mirror().data_dir(&newer).run(command));
        assert!(
            code == 2 && why.contains("format 2") && why.contains("newer mirror"),
            "{why}"
        );
    }
    let left: Vec<_> = std::fs::read_dir(&newer).unwrap().collect();
    assert_eq!(left.len(), 1, "a newer directory is not touched: {left:?}");
}

#[test]
fn a_second_server_is_refused_at_once_and_the_first_serves_on() {
    let first = mirror().start();
    let second = first.run(&["serve", "--listen", "127.0.0.1:0"]);
    let (code, why) = one_sentence(&second);
    assert_eq!(code, 2, "{why}");
    assert!(why.contains("in use by another mirror"), "{why}");
    assert!(why.contains(&first.data_dir().display().to_string()), "{why}");
    assert_eq!(first.get("/readyz").status, 200);

    let dir = tempfile::tempdir().unwrap();
    let killed = mirror().data_dir(dir.path()).start();
    killed.kill9();
    let next = mirror().data_dir(dir.path()).start();
    assert_eq!(next.get("/readyz").status, 200, "a lock does not outlive its holder");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = mirror().run(&["serve", "--listen", &address]);
    let (code, why) = one_sentence(&refused);
    assert_eq!(code, 2, "{why}");
    assert!(
        why.contains(&format!("`listen` is `{address}` in the flag --listen")),
        "{why}"
    );
}

#[test]
fn config_show_names_every_source_and_can_be_saved() {
    let run = |args: &[&str]| {
        let shown = mirror()
            .file("mirror.toml", "log = \"warn\"\n[index]\nsparse_max_age = \"5s\"\n")
            .env("MIRROR_PUBLIC_URL", "http://mirror.test/rust")
            .env("MIRROR_UPSTREAM__TOKEN", "canary-token")
            .run(args);
        assert!(shown.status.success(), "{}", said(&shown));
        out(&shown)
    };
    let shown = run(&["config", "show", "--mode", "fallback"]);
    for (setting, source) in [
        ("log = \"warn\"", "mirror.toml"),
        ("sparse_max_age = \"5s\"", "mirror.toml"),
        (
            "public_url = \"http://mirror.test/rust\"",
            "the environment's MIRROR_PUBLIC_URL",
        ),
        ("mode = \"fallback\"", "the flag --mode"),
        ("min_free = \"512MiB\"", "the default"),
        ("token = \"…\"", "the environment's MIRROR_UPSTREAM__TOKEN"),
    ] {
        let line = shown.lines().find(|line| line.starts_with(setting));
        let line = line.unwrap_or_else(|| panic!("{setting} is not in\n{shown}"));
        assert!(line.ends_with(&format!("# {source}")), "{line}");
    }
    assert!(!shown.contains("canary"), "{shown}");
    let parsed: toml::Table = shown.parse().unwrap();
    assert_eq!(parsed["index"]["removal_grace"].as_str(), Some("15m"));
    let client = run(&["config", "client"]);
    let expected = "[source.crates-io]\nreplace-with = \"mirror\"\n\n\
                    [registries.mirror]\nindex = \"sparse+http://mirror.test/rust/index/\"\n";
    assert_eq!(client, expected);
    let by_git = "[source.crates-io]\nreplace-with = \"mirror\"\n\n\
                  [registries.mirror]\nindex = \"http://mirror.test/rust/git/index\"\n";
    assert_eq!(run(&["config", "client", "--git"]), by_git);
    let old = "[source.crates-io]\nreplace-with = \"mirror\"\n\n\
               [source.mirror]\nregistry = \"http://mirror.test/rust/git/index\"\n";
    assert_eq!(run(&["config", "client", "--old"]), old);
    let (plain, _) = text_of(&mirror().run(&["config", "client"]));
    assert!(plain.contains("\"sparse+http://127.0.0.1:8080/index/\""), "{plain}");
}

#[test]
fn the_settings_file_is_found_where_it_is_said_to_be() {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let path = home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("log = \"{}\"\n", name.replace('/', "-"))).unwrap();
        path.display().to_string()
    };
    let (flag, variable, platform) = (write("flag.toml"), write("variable.toml"), write("etc/mirror.toml"));
    let etc = home.path().join("etc").display().to_string();
    let shown = |mirror: MirrorBuilder, args: &[&str]| {
        let shown = out(&mirror.run(&[&["config", "show"], args].concat()));
        shown
            .lines()
            .find(|line| line.starts_with("log = "))
            .unwrap()
            .to_owned()
    };
    let expect = |line: String, log: &str, source: &str| {
        assert!(
            line.starts_with(&format!("log = \"{log}\"")) && line.ends_with(&format!("# {source}")),
            "{line}"
        );
    };
    let all = || {
        mirror()
            .env("MIRROR_CONFIG", &variable)
            .env("CONFIGURATION_DIRECTORY", &etc)
    };
    let here = |mirror: MirrorBuilder| mirror.file("mirror.toml", "log = \"here\"");
    expect(shown(here(all()), &["--config", &flag]), "flag.toml", &flag);
    expect(shown(here(all()), &[]), "variable.toml", &variable);
    let unit = || mirror().env("CONFIGURATION_DIRECTORY", &etc);
    expect(shown(here(unit()), &[]), "here", "mirror.toml");
    expect(shown(unit(), &[]), "etc-mirror.toml", &platform);
    expect(shown(mirror(), &[]), "info", "the default");
}

#[test]
fn the_mode_is_shown_and_switched_until_the_next_start() {
    let upstream = FakeUpstream::start();
    upstream.add(&CrateBuilder::new("abcd", "1.0.0").build());
    let mut mirror = mirror().upstream(&upstream).start();
    assert_eq!(out(&mirror.run(&["mode"])), "online\n");
    for mode in ["offline", "fallback", "online", "offline"] {
        assert_eq!(out(&mirror.run(&["mode", mode])), format!("{mode}\n"));
        assert_eq!(out(&mirror.run(&["mode"])), format!("{mode}\n"));
        for page in ["/", "/status", "/help", "/search"] {
            let shown = mirror.get(page).text();
            let badge = format!("<span class=\"mode {mode}\">{mode}</span>");
            assert!(shown.contains(&badge), "{page} in mode {mode}: {shown}");
        }
    }
    assert_eq!(mirror.get("/index/ab/cd/abcd").status, 404);
    assert!(upstream.requests().is_empty());
    assert!(mirror.log().contains("mode switched to offline by command"));
    mirror.restart();
    assert_eq!(out(&mirror.run(&["mode"])), "online\n");
    assert_eq!(mirror.get("/index/ab/cd/abcd").status, 200);
}

#[test]
fn refresh_asks_now_and_says_what_came_of_it() {
    let upstream = FakeUpstream::start();
    let path = FakeUpstream::index_path("abcd");
    upstream.add(&CrateBuilder::new("abcd", "1.0.0").build());
    let mirror = mirror().upstream(&upstream).start();
    assert_eq!(out(&mirror.run(&["refresh", "abcd"])), "abcd: up to date, 1 versions\n");
    upstream.add(&CrateBuilder::new("abcd", "1.1.0").build());
    assert!(!mirror.get(&path).text().contains("1.1.0"), "it is not a minute old");
    assert_eq!(out(&mirror.run(&["refresh", "abcd"])), "abcd: up to date, 2 versions\n");
    assert!(mirror.get(&path).text().contains("1.1.0"));

    let (code, why) = one_sentence(&mirror.run(&["refresh", "nobody"]));
    assert!(code == 1 && why.contains("nobody: upstream has no such crate"), "{why}");
    upstream.fault(&path, Fault::Status(500), Times::Always);
    let (code, why) = one_sentence(&mirror.run(&["refresh", "abcd"]));
    assert!(
        code == 1 && why.contains("abcd: ") && why.contains("status 500"),
        "{why}"
    );
    assert_eq!(mirror.get(&path).status, 200);
    mirror.run(&["mode", "offline"]);
    let (code, why) = one_sentence(&mirror.run(&["refresh", "abcd"]));
    assert!(code == 1 && why.contains("offline"), "{why}");
}

#[test]
fn evict_forgets_with_and_without_a_server() {
    let upstream = FakeUpstream::start();
    let crates = ["1.0.0", "1.1.0", "2.0.0"].map(|version| CrateBuilder::new("abcd", version).padding(5000).build());
    for krate in &crates {
        upstream.add(krate);
    }
    let mirror = mirror().upstream(&upstream).start();
    mirror.keep_all(&crates);
    let size = |index: usize| crates[index].bytes.len();
    let gone = mirror.run(&["evict", "abcd@1.1.0"]);
    let expected = format!("abcd 1.1.0: 1 file forgotten, {} bytes freed\n", size(1));
    assert_eq!(out(&gone), expected, "{}", said(&gone));
    assert_eq!(mirror.metric("kept_files"), 2);
    let (code, why) = one_sentence(&mirror.run(&["evict", "abcd@1.1.0"]));
    assert!(code == 1 && why.contains("abcd 1.1.0: no file of it is kept"), "{why}");
    let path = FakeUpstream::download_path("abcd", "1.1.0");
    mirror.keep(&crates[1]);
    assert_eq!(upstream.count(&path), 2, "it is fetched again when it is wanted again");

    assert!(mirror.terminate().success());
    let tip = || git_ok(&mirror.data_dir().join("index.git"), &["rev-parse", "master"]);
    let published = tip();
    // other settings than the server's, as in a shell beside a service
    let gone = mirror_at(&mirror.data_dir())
        .env("MIRROR_PUBLIC_URL", "http://other.example")
        .run(&["evict", "abcd"]);
    assert_eq!(tip(), published, "what is published is not evict's business");
    let all = size(0) + size(1) + size(2);
    assert!(
        out(&gone).contains(&format!("abcd: 3 files forgotten, {all} bytes freed")),
        "{}",
        said(&gone)
    );
    assert_eq!(mirror.kept_files(), [] as [std::path::PathBuf; 0]);
    let nowhere = tempfile::tempdir().unwrap();
    let (code, why) = one_sentence(&mirror_at(&nowhere.path().join("none")).run(&["evict", "abcd"]));
    assert!(code == 1 && why.contains("nothing is kept there"), "{why}");
    assert!(!nowhere.path().join("none").exists(), "no directory is made");
}

fn mirror_at(data_dir: &Path) -> MirrorBuilder {
    mirror().data_dir(data_dir)
}

#[test]
fn commands_that_need_a_server_say_so() {
    let mirror = mirror().start();
    let ready = mirror.run(&["healthcheck"]);
    assert_eq!((ready.status.code(), out(&ready).as_str()), (Some(0), "ready\n"));
    let dir = mirror.data_dir().display().to_string();
    mirror.terminate();
    for command in [
        &["healthcheck"][..],
        &["mode"],
        &["mode", "offline"],
        &["refresh", "abcd"],
    ] {
        let (code, why) = one_sentence(&mirror.run(command));
        assert_eq!(code, 1, "{why}");
        assert!(why.contains("no server is running on") && why.contains(&dir), "{why}");
    }
}

#[test]
fn a_server_that_was_killed_counts_as_none() {
    let mirror = mirror().start();
    mirror.kill9();
    let (code, why) = one_sentence(&mirror.run(&["healthcheck"]));
    assert!(code == 1 && why.contains("no server is running"), "{why}");
}

#[test]
fn a_moved_directory_is_not_healthy() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let mirror = mirror().data_dir(&dir).start();
    std::fs::rename(&dir, home.path().join("elsewhere")).unwrap();
    let ready = mirror.get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("moved or replaced"), "{}", ready.text());
    assert_eq!(mirror.get("/healthz").status, 200, "it is alive all the same");
}

#[test]
fn doctor_reports_what_is_well_and_what_is_not() {
    let upstream = FakeUpstream::start();
    upstream.add(&CrateBuilder::new("itoa", "1.0.0").build());
    let mirror = mirror().upstream(&upstream).start();
    let well = mirror.run(&["doctor"]);
    let report = out(&well);
    assert!(well.status.success(), "{}", said(&well));
    for part in [
        "no problem found",
        &upstream.base_url(),
        "resolves to",
        "127.0.0.1",
        "route",
        "root certificates",
        "one real fetch",
        "checksum right",
        "file system",
        "SQLite",
        "running                  ready",
    ] {
        assert!(report.contains(part), "{part:?} is not in\n{report}");
    }

    upstream.replace_crate_bytes("itoa", "1.0.0", b"something else");
    let wrong = mirror.run(&["doctor"]);
    assert_eq!(wrong.status.code(), Some(1), "{}", said(&wrong));
    assert!(
        out(&wrong).contains("PROBLEM: itoa 1.0.0 from 127.0.0.1"),
        "{}",
        out(&wrong)
    );

    upstream.go_down();
    mirror.terminate();
    let down = mirror.run(&["doctor"]);
    let report = out(&down);
    assert_eq!(down.status.code(), Some(1), "{}", said(&down));
    assert!(
        report.contains("PROBLEM: ") && report.contains("problems found"),
        "{report}"
    );
    assert!(report.contains("running                  no"), "{report}");
}

#[test]
fn doctor_tells_of_the_git_upstream_and_minds_it_only_if_it_is_needed() {
    let git = GitUpstream::start();
    git.commit_index("http://127.0.0.1:9/dl", &[], 1);
    let doctor = |follow: &str| {
        let mirror = mirror().upstream_git(&git).env("MIRROR_INDEX__FOLLOW", follow);
        let ran = mirror.run(&["doctor"]);
        let report = out(&ran);
        let of_git = report.split("\nUpstream over git\n").nth(1);
        (
            ran.status.code(),
            of_git.unwrap_or_else(|| panic!("{report}")).to_owned(),
        )
    };
    let (code, well) = doctor("always");
    assert_eq!(code, Some(0), "{well}");
    for part in [&git.url(), "resolves to", "127.0.0.1", "route", "status 200", "always"] {
        assert!(well.contains(part), "{part:?} is not in\n{well}");
    }
    assert_eq!(git.posts(), 0, "nothing is fetched");

    git.refuse(true);
    let (code, fact) = doctor("when-wanted");
    assert_eq!(code, Some(0), "{fact}");
    assert!(fact.contains("none that can be used: status 503"), "{fact}");
    let (code, problem) = doctor("always");
    assert_eq!(code, Some(1), "{problem}");
    assert!(problem.contains("PROBLEM: status 503"), "{problem}");
}

#[test]
fn doctor_works_without_upstream_and_on_an_empty_disk() {
    let report = mirror().run(&["doctor"]);
    assert!(report.status.success(), "{}", said(&report));
    assert!(out(&report).contains("not there yet"), "{}", out(&report));
    assert!(out(&report).contains("none (from the environment's MIRROR_UPSTREAM__SPARSE)"));
}

#[test]
fn doctor_asks_nobody_in_offline_mode() {
    let (upstream, git) = (FakeUpstream::start(), GitUpstream::start());
    git.refuse(true);
    let offline = mirror()
        .upstream(&upstream)
        .upstream_git(&git)
        .env("MIRROR_INDEX__FOLLOW", "always")
        .env("MIRROR_MODE", "offline")
        .run(&["doctor"]);
    let report = out(&offline);
    assert!(offline.status.success(), "{}", said(&offline));
    assert!(
        report.contains("nobody: the mode is offline (from the environment's MIRROR_MODE)"),
        "{report}"
    );
    assert!(!report.contains("PROBLEM") && !report.contains("route"), "{report}");
    assert_eq!(upstream.requests().len(), 0);
}

#[test]
fn a_token_is_in_no_output_no_log_and_no_file() {
    const CANARY: &str = "canary-0123456789";
    let upstream = FakeUpstream::start();
    upstream.require_token(Some(CANARY));
    let krate = CrateBuilder::new("itoa", "1.0.0").build();
    upstream.add(&krate);
    upstream.add(&CrateBuilder::new("broken", "1.0.0").build());
    upstream.fault(
        &FakeUpstream::download_path("broken", "1.0.0"),
        Fault::Status(404),
        Times::Always,
    );
    upstream.fault(&FakeUpstream::index_path("other"), Fault::Json403, Times::Always);
    let mirror = mirror()
        .upstream(&upstream)
        .env("MIRROR_UPSTREAM__TOKEN", CANARY)
        .env("RUST_LOG", "trace")
        .start();
    mirror.keep(&krate);
    let sent = upstream.requests();
    assert!(
        sent.iter()
            .all(|request| request.header("authorization") == Some(CANARY))
    );
    let mut said_by_it = String::new();
    for path in [
        "/",
        "/status",
        "/help",
        "/metrics",
        "/readyz",
        "/config.toml",
        "/index/config.json",
        "/index/it/oa/itoa",
        "/index/ot/he/other",
        "/api/v1/crates?q=itoa",
        "/api/v1/crates/broken/1.0.0/download",
        "/crates/itoa",
    ] {
        let reply = mirror.get(path);
        said_by_it.push_str(&format!("{path}: {:?}\n{}\n", reply.headers, reply.text()));
    }
    for command in [
        &["config", "show"][..],
        &["config", "client"],
        &["doctor"],
        &["refresh", "other"],
        &["refresh", "itoa"],
        &["search", "itoa"],
        &["mode"],
    ] {
        said_by_it.push_str(&said(&mirror.run(command)));
    }
    assert!(mirror.terminate().success());
    said_by_it.push_str(&mirror.log());
    said_by_it.push_str(&mirror.stdout());
    for line in said_by_it.lines() {
        assert!(!line.contains(CANARY), "{line}");
    }
    for file in files_below(&mirror.data_dir()) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(CANARY.len()).any(|part| part == CANARY.as_bytes());
        assert!(!found, "{}", file.display());
    }
}

fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let below = dirs.iter().flat_map(|dir| files_below(dir));
    files.into_iter().filter(|path| path.is_file()).chain(below).collect()
}

#[test]
fn the_password_of_a_proxy_is_shown_nowhere() {
    const CANARY: &str = "canary-0123456789";
    let upstream = FakeUpstream::start();
    // a proxy that refuses everybody, in both forms in which a proxy is asked
    for asked in ["http://mirror.test/", "mirror.test:443"] {
        upstream.fault(asked, Fault::Status(407), Times::Always);
    }
    let proxy = format!("http://user:{CANARY}@{}", upstream.authority());
    for (variable, base) in [
        ("MIRROR_UPSTREAM__PROXY", "sparse+http://mirror.test/index/"),
        ("MIRROR_UPSTREAM__PROXY", "sparse+https://mirror.test/index/"),
        ("HTTPS_PROXY", "sparse+https://mirror.test/index/"),
        ("http_proxy", "sparse+http://mirror.test/index/"),
    ] {
        let mirror = mirror()
            .upstream_sparse(base)
            .env(variable, &proxy)
            .env("RUST_LOG", "trace")
            .start();
        let mut said_by_it = String::new();
        for path in [
            "/index/ab/cd/abcd",
            "/api/v1/crates/abcd/1.0.0/download",
            "/",
            "/status",
            "/metrics",
        ] {
            said_by_it.push_str(&mirror.get(path).text());
        }
        for command in [&["config", "show"][..], &["doctor"], &["refresh", "abcd"]] {
            said_by_it.push_str(&said(&mirror.run(command)));
        }
        assert!(mirror.terminate().success());
        said_by_it.push_str(&mirror.log());
        assert!(
            said_by_it.contains(&upstream.authority()),
            "it is the proxy that refuses"
        );
        for line in said_by_it.lines() {
            assert!(!line.contains(CANARY), "{variable} {base}: {line}");
        }
        let odd = "http://user:canary-9@[";
        let refused = self::mirror().env("MIRROR_UPSTREAM__PROXY", odd).run(&["doctor"]);
        assert!(!said(&refused).contains("canary-9"), "{}", said(&refused));
    }
}

#[test]
fn a_token_that_cannot_be_used_is_not_shown_either() {
    let file = |text: &str| mirror().file("token", text).env("MIRROR_UPSTREAM__TOKEN_FILE", "token");
    for run in [
        mirror().env("MIRROR_UPSTREAM__TOKEN", "canary\u{e9}").run(&["serve"]),
        mirror().env("MIRROR_UPSTREAM__TOKEN", "canary\nx").run(&["serve"]),
        file("canary\nx").run(&["serve"]),
        file("").run(&["serve"]),
        mirror().env("MIRROR_UPSTREAM__TOKEN_FILE", "absent").run(&["serve"]),
    ] {
        let (code, why) = one_sentence(&run);
        assert!(code == 2 && why.contains("upstream.token"), "{why}");
        assert!(!why.contains("canary"), "{why}");
    }
}
