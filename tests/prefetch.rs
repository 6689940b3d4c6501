//! `mirror prefetch`: what is chosen, fetched, told and tried again, by a running server and without one.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use testkit::{
    BuiltCrate, CargoProject, CrateBuilder, Dependency, FakeUpstream, Fault, GitUpstream, LoggedRequest, MirrorBuilder,
    MirrorProcess, Times, eventually, said, text_of,
};

const PATIENCE: Duration = Duration::from_secs(60);
const WAITS: &str = "a prefetch by command waits until another one is done";
const NOBODY: &str = "nobody asked any more how it goes";

fn mirror(upstream: &FakeUpstream) -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror"))).upstream(upstream)
}

/// An application, what it needs in two versions, and something else.
fn crates() -> Vec<BuiltCrate> {
    vec![
        CrateBuilder::new("app", "1.0.0").build(),
        CrateBuilder::new("app", "1.2.0")
            .dep("lib", "^1")
            .dep_full(Dependency::new("extra", "1").optional())
            .dep_full(Dependency::new("wind", "1").target("cfg(windows)"))
            .dep_full(Dependency::new("tester", "1").dev())
            .build(),
        CrateBuilder::new("lib", "1.0.0").build(),
        CrateBuilder::new("lib", "1.5.0")
            .dep_full(Dependency::new("maker", "2").build())
            .build(),
        CrateBuilder::new("maker", "2.0.1").padding(200_000).build(),
        CrateBuilder::new("extra", "1.0.0").build(),
        CrateBuilder::new("wind", "1.0.0").build(),
        CrateBuilder::new("tester", "1.0.0").build(),
    ]
}

fn upstream_with(crates: &[BuiltCrate]) -> FakeUpstream {
    let upstream = FakeUpstream::start();
    for krate in crates {
        upstream.add(krate);
    }
    upstream
}

fn downloads(upstream: &FakeUpstream) -> Vec<String> {
    downloads_in(&upstream.requests())
}

fn downloads_in(log: &[LoggedRequest]) -> Vec<String> {
    let mut paths: Vec<String> = log
        .iter()
        .filter_map(|request| Some(request.path.strip_prefix("/dl/")?.strip_suffix("/download")?.to_owned()))
        .collect();
    paths.sort();
    // with little kept, upstream is asked first how large some of them are
    paths.dedup();
    paths
}

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    text_of(output).0
}

fn failed(output: &Output) -> (String, String) {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    text_of(output)
}

/// A lockfile of a project with these dependencies, made by the real cargo.
fn lockfile(upstream: &FakeUpstream, dependencies: &[(&str, &str)]) -> (CargoProject, PathBuf) {
    let project = CargoProject::new();
    let project = dependencies
        .iter()
        .fold(project, |project, (name, req)| project.dependency(name, req));
    let project = project.use_index(&upstream.sparse_url());
    project.cargo_ok(&["generate-lockfile"]);
    upstream.clear_log();
    let path = project.path().join("Cargo.lock");
    (project, path)
}

#[test]
fn a_lockfile_is_fetched_and_builds_with_upstream_gone() {
    let upstream = upstream_with(&crates());
    let (project, lockfile) = lockfile(&upstream, &[("app", "1"), ("maker", "2")]);
    let mut mirror = mirror(&upstream).start();
    let args = ["prefetch", "--lockfile", lockfile.to_str().unwrap()];
    let dry = ok(&mirror.run(&[&args[..], &["--dry-run"]].concat()));
    assert!(
        dry.contains("0 kept") && dry.contains("4 to fetch") && dry.contains("to fetch: lib 1.5.0"),
        "{dry}"
    );
    assert_eq!(mirror.kept_files().len(), 0, "a dry run fetched something");
    assert!(
        dry.contains("4 to fetch, 2") && dry.contains(" KB\n"),
        "all of them were asked for: {dry}"
    );
    upstream.clear_log();

    let told = ok(&mirror.run(&args));
    assert!(
        told.contains("4 to fetch") && told.contains("4 crate files fetched, "),
        "{told}"
    );
    // what cargo locks for other targets is in the lockfile, what nobody switched on or only tests need is not
    let expected = ["app/1.2.0", "lib/1.5.0", "maker/2.0.1", "wind/1.0.0"];
    let fetched = downloads(&upstream);
    assert_eq!(fetched, expected);
    let again = ok(&mirror.run(&args));
    assert!(
        again.contains("none to fetch") && again.contains("0 crate files fetched"),
        "{again}"
    );
    assert_eq!(downloads(&upstream), fetched, "nothing is fetched twice");

    upstream.go_down();
    mirror.restart();
    let project = project.use_mirror(&mirror);
    project.forget_registry();
    project.cargo_ok(&["build", "--locked"]);
}

#[test]
fn names_requirements_and_lists_without_a_server() {
    let upstream = upstream_with(&crates());
    let mirror = mirror(&upstream).file("list.txt", "# for the office\nextra 1.0.0\nwind = \"1\"\n");
    let told = ok(&mirror.run(&[
        "prefetch", "--crate", "app@<1.2", "--crate", "lib", "--list", "list.txt",
    ]));
    assert!(told.contains("4 crate files fetched"), "{told}");
    assert_eq!(
        downloads(&upstream),
        ["app/1.0.0", "extra/1.0.0", "lib/1.5.0", "wind/1.0.0"]
    );
    // and they count as kept at once: a search finds them
    assert!(ok(&mirror.run(&["search", "extra"])).starts_with("extra = \"1.0.0\""));

    upstream.add(&CrateBuilder::new("extra", "1.1.0").build());
    upstream.clear_log();
    let told = ok(&mirror
        .env("MIRROR_INDEX__SPARSE_MAX_AGE", "0s")
        .run(&["prefetch", "--latest"]));
    assert!(told.contains("2 crate files fetched"), "{told}");
    assert_eq!(downloads(&upstream), ["app/1.2.0", "extra/1.1.0"]);
}

#[test]
fn dependencies_come_along_as_they_are_asked_for() {
    let upstream = upstream_with(&crates());
    let mirror = mirror(&upstream).start();
    let run = |more: &[&str]| {
        upstream.clear_log();
        ok(&mirror.run(&[&["prefetch", "--crate", "app", "--with-deps"], more].concat()));
        downloads(&upstream)
    };
    assert_eq!(
        run(&["--target", "x86_64-unknown-linux-gnu"]),
        ["app/1.2.0", "lib/1.5.0", "maker/2.0.1"]
    );
    // cargo resolves for all targets, so the index files of the others are here too
    upstream.go_down();
    let project = CargoProject::new().dependency("app", "1").use_mirror(&mirror);
    project.cargo_ok(&["generate-lockfile"]);
    assert!(project.lockfile().contains("name = \"wind\""), "{}", project.lockfile());
    upstream.come_back();
    assert_eq!(run(&[]), ["wind/1.0.0"]);
    assert_eq!(run(&["--dev", "--optional"]), ["extra/1.0.0", "tester/1.0.0"]);
}

#[test]
fn what_cannot_be_had_is_listed_remembered_and_tried_again() {
    let upstream = upstream_with(&crates());
    upstream.add(
        &CrateBuilder::new("broken", "1.0.0")
            .dep("nowhere", "1")
            .dep("lib", "^9")
            .build(),
    );
    upstream.fault("/dl/lib/1.5.0/download", Fault::Status(404), Times::Always);
    let mirror = mirror(&upstream).start();
    let args = [
        "prefetch",
        "--crate",
        "app",
        "--crate",
        "lib",
        "--crate",
        "nobody",
        "--crate",
        "broken",
        "--with-deps",
    ];
    let (out, err) = failed(&mirror.run(&args));
    for part in [
        "missing: lib 1.5.0: ",
        "missing: nobody (newest): the index has no such crate",
        "missing: nowhere ^1 (wanted by broken 1.0.0): the index has no such crate",
        "missing: lib ^9 (wanted by broken 1.0.0): no version fits, the newest is 1.5.0",
    ] {
        assert!(out.contains(part), "{part} is not in {out}");
    }
    assert!(err.contains("4 crate files are missing"), "{err}");
    assert!(
        downloads(&upstream).contains(&"maker/2.0.1".to_owned()),
        "the others are fetched"
    );

    upstream.clear_faults();
    upstream.clear_log();
    // a failure answers for some seconds before upstream is asked again
    let retried = eventually(PATIENCE, || {
        let output = mirror.run(&["prefetch"]);
        output.status.success().then(|| text_of(&output).0)
    });
    assert!(retried.unwrap().contains("1 crate files fetched"));
    assert_eq!(downloads(&upstream), ["lib/1.5.0"]);
    assert!(ok(&mirror.run(&["prefetch"])).contains("nothing is left over"));
}

#[test]
fn no_more_than_eight_are_asked_for_at_once_and_a_killed_one_goes_on() {
    let crates: Vec<BuiltCrate> = (0..30)
        .map(|number| CrateBuilder::new(&format!("many-{number:02}"), "1.0.0").build())
        .collect();
    let upstream = upstream_with(&crates);
    let list: String = crates.iter().map(|krate| format!("{}\n", krate.name)).collect();
    let mut mirror = mirror(&upstream).file("all.txt", &list).start();
    // enough to estimate from, so that nothing is asked of upstream but the files themselves
    let others: Vec<BuiltCrate> = (0..32)
        .map(|number| CrateBuilder::new(&format!("other-{number:02}"), "1.0.0").build())
        .collect();
    others.iter().for_each(|krate| upstream.add(krate));
    mirror.keep_all(&others);
    upstream.clear_log();
    let args = ["prefetch", "--list", "all.txt"];
    let all = upstream.hold("/dl/");
    // twenty of them come, the others never do
    let held: Vec<_> = crates[20..]
        .iter()
        .map(|krate| upstream.hold(&FakeUpstream::download_path(&krate.name, "1.0.0")))
        .collect();
    let killed = std::thread::scope(|scope| {
        let running = scope.spawn(|| mirror.run(&args));
        assert!(all.wait_reached(8, PATIENCE), "{}", mirror.log());
        // nothing comes of waiting for a ninth
        assert!(!upstream.wait_for(|log| downloads_in(log).len() > 8, Duration::from_millis(500)));
        all.open();
        let most = eventually(PATIENCE, || (mirror.kept_files().len() == 32 + 20).then_some(()));
        assert!(
            most.is_some(),
            "{} of 52 are kept\n{}",
            mirror.kept_files().len(),
            mirror.log()
        );
        mirror.kill9();
        running.join().unwrap()
    });
    let (_, err) = failed(&killed);
    assert!(!err.is_empty());

    drop(held);
    upstream.clear_log();
    mirror.restart();
    let told = ok(&mirror.run(&args));
    assert!(
        told.contains("20 kept") && told.contains("10 crate files fetched"),
        "{told}"
    );
    assert_eq!(mirror.kept_files().len(), 32 + 30);
    assert_eq!(downloads(&upstream).len(), 10, "what was kept is not fetched again");
}

#[test]
fn the_server_stops_when_the_command_is_killed() {
    let crates: Vec<BuiltCrate> = (0..20)
        .map(|number| CrateBuilder::new(&format!("many-{number:02}"), "1.0.0").build())
        .collect();
    let upstream = upstream_with(&crates);
    let list: String = crates.iter().map(|krate| format!("{}\n", krate.name)).collect();
    let mirror = mirror(&upstream).file("all.txt", &list).start();
    let held = upstream.hold("/dl/");
    let killed = mirror.run_or_kill(&["prefetch", "--list", "all.txt"], Duration::from_secs(1));
    assert!(killed.is_none(), "{}", said(&killed.unwrap()));
    assert!(held.wait_reached(8, PATIENCE), "{}", mirror.log());
    let told = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ok(&mirror.run(&["prefetch", "--list", "all.txt"])));
        assert!(mirror.wait_for_log(WAITS, PATIENCE), "{}", mirror.log());
        assert!(mirror.wait_for_log(NOBODY, PATIENCE), "{}", mirror.log());
        held.open();
        waiting.join().unwrap()
    });
    assert!(told.contains("20 crate files"), "{told}");
    assert_eq!(mirror.kept_files().len(), 20);
}

#[test]
fn a_killed_one_ends_while_it_reads_index_files() {
    let crates = [
        CrateBuilder::new("app", "1.0.0").dep("slow", "1").build(),
        CrateBuilder::new("slow", "1.0.0").build(),
        CrateBuilder::new("other", "1.0.0").build(),
    ];
    let upstream = upstream_with(&crates);
    let mirror = mirror(&upstream).start();
    let held = upstream.hold(&FakeUpstream::index_path("slow"));
    let args = ["prefetch", "--crate", "app", "--with-deps"];
    let killed = mirror.run_or_kill(&args, Duration::from_secs(1));
    assert!(killed.is_none(), "{}", said(&killed.unwrap()));
    assert!(held.wait_reached(1, PATIENCE), "{}", mirror.log());
    let told = ok(&mirror.run(&["prefetch", "--crate", "other"]));
    assert!(told.contains("1 crate files fetched"), "{told}");
    assert!(mirror.log().contains(NOBODY), "{}", mirror.log());
    assert_eq!(downloads(&upstream), ["other/1.0.0"], "the first one went on");
    held.open();
}

#[test]
fn two_at_once_are_done_one_after_the_other_and_each_hears_of_its_own() {
    let upstream = upstream_with(&crates());
    let mirror = mirror(&upstream).start();
    let held = upstream.hold(&FakeUpstream::download_path("app", "1.2.0"));
    let [first, second] = std::thread::scope(|scope| {
        let first = scope.spawn(|| ok(&mirror.run(&["prefetch", "--crate", "app"])));
        assert!(held.wait_reached(1, PATIENCE), "{}", mirror.log());
        let second = scope.spawn(|| mirror.run(&["prefetch", "--crate", "wind", "--crate", "extra"]));
        assert!(mirror.wait_for_log(WAITS, PATIENCE), "{}", mirror.log());
        held.open();
        [first.join().unwrap(), ok(&second.join().unwrap())]
    });
    assert!(first.contains("1 crate files fetched"), "{first}");
    assert!(second.contains("2 crate files fetched"), "{second}");
}

/// Crates of 100 KB and some each.
fn large(upstream: &FakeUpstream, names: &[&str]) -> Vec<BuiltCrate> {
    let build = |name: &&str| {
        let krate = CrateBuilder::new(name, "1.0.0").padding(100_000).build();
        upstream.add(&krate);
        krate
    };
    names.iter().map(build).collect()
}

fn with_budget(upstream: &FakeUpstream, max_size: &str) -> MirrorProcess {
    let mirror = mirror(upstream).env("MIRROR_CACHE__MIN_AGE", "0s");
    mirror.env("MIRROR_CACHE__MAX_SIZE", max_size).start()
}

#[test]
fn what_is_beyond_the_budget_is_warned_of_and_named_at_the_end() {
    let upstream = FakeUpstream::start();
    let names = ["aa", "bb", "cc", "dd", "ee", "ff"];
    large(&upstream, &names);
    let mirror = with_budget(&upstream, "350000");
    let args: Vec<&str> = names.iter().flat_map(|name| ["--crate", *name]).collect();
    let warning = "is more than the 350.0 KB of cache.max_size";
    let dry = ok(&mirror.run(&[&["prefetch", "--dry-run"], &args[..]].concat()));
    assert!(dry.contains(warning), "{dry}");
    let (out, err) = failed(&mirror.run(&[&["prefetch"], &args[..]].concat()));
    assert!(out.contains(warning), "{out}");
    assert!(out.contains("to keep cache.max_size"), "{out}");
    let gone = out.lines().filter(|line| line.starts_with("  missing: ")).count();
    assert_eq!(gone + mirror.kept_files().len(), names.len(), "{out}");
    assert!(
        gone >= 3 && err.contains(&format!("{gone} crate files are missing")),
        "{err}"
    );
}

#[test]
fn all_of_upstream_beyond_the_budget_is_counted_at_the_end() {
    let (upstream, git) = (FakeUpstream::start(), GitUpstream::start());
    let crates = large(&upstream, &["aa", "bb", "cc", "dd", "ee", "ff"]);
    git.commit_index(&format!("{}/dl", upstream.base_url()), &crates, 0);
    let mirror = mirror(&upstream)
        .upstream_git(&git)
        .own_port()
        .env("MIRROR_CACHE__MIN_AGE", "0s")
        .env("MIRROR_CACHE__MAX_SIZE", "350000")
        .start();
    let args = ["prefetch", "--all", "--contact", "admin@office.example"];
    let (out, err) = failed(&mirror.run(&args));
    assert!(out.contains("is more than the 350.0 KB of cache.max_size"), "{out}");
    assert!(out.contains("not kept any more"), "{out}");
    let gone = crates.len() - mirror.kept_files().len();
    assert!(
        gone >= 3 && err.contains(&format!("{gone} crate files are missing")),
        "{err}"
    );
}

#[test]
fn what_is_found_is_not_the_first_to_go_for_what_is_fetched() {
    let upstream = FakeUpstream::start();
    let crates = large(&upstream, &["aa", "bb", "cc", "dd"]);
    let mirror = with_budget(&upstream, "350000");
    crates[..3].iter().for_each(|krate| mirror.keep(krate));
    // last use is remembered in seconds
    let later = unix_now() + 2;
    assert!(eventually(PATIENCE, || (unix_now() >= later).then_some(())).is_some());
    let downloads = mirror.metric("crate_hits") + mirror.metric("crate_misses");
    let told = ok(&mirror.run(&["prefetch", "--crate", "aa", "--crate", "dd"]));
    assert!(
        told.contains("1 kept") && told.contains("1 crate files fetched"),
        "{told}"
    );
    assert!(!told.contains("warning"), "{told}");
    assert_eq!(mirror.metric("evicted_files"), 1);
    assert_eq!(
        mirror.metric("crate_hits") + mirror.metric("crate_misses"),
        downloads,
        "nobody downloaded it"
    );
}

fn unix_now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("the clock is past 1970")
        .as_secs()
}

#[test]
fn all_of_upstream_wants_a_contact_and_says_first_how_much_it_is() {
    let crates = crates();
    let (upstream, git) = (upstream_with(&crates), GitUpstream::start());
    git.commit_index(&format!("{}/dl", upstream.base_url()), &crates, 0);
    let mirror = mirror(&upstream).upstream_git(&git).own_port().start();
    mirror.keep(&crates[0]);
    let refused = mirror.run(&["prefetch", "--all"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(text_of(&refused).1.contains("--contact"), "{}", said(&refused));

    let args = ["prefetch", "--all", "--contact", "admin@office.example"];
    let dry = ok(&mirror.run(&[&args[..], &["--dry-run"]].concat()));
    assert!(
        dry.contains("8 crate files of 6 crates: 1 kept, 7 to fetch, about ")
            && dry.contains("of them that upstream was asked for"),
        "{dry}"
    );
    upstream.clear_log();
    let told = ok(&mirror.run(&args));
    assert!(told.contains("7 crate files fetched"), "{told}");
    assert_eq!(downloads(&upstream).len(), 7);
    let agents: Vec<String> = upstream
        .requests()
        .iter()
        .filter(|request| request.path.starts_with("/dl/"))
        .map(|request| request.header("user-agent").unwrap().to_owned())
        .collect();
    assert!(
        agents.iter().all(|agent| agent.contains("admin@office.example")),
        "{agents:?}"
    );
    // afterwards nobody is named any more
    upstream.add(&CrateBuilder::new("later", "1.0.0").build());
    upstream.clear_log();
    ok(&mirror.run(&["refresh", "later"]));
    let requests = upstream.requests();
    assert!(
        !requests[0].header("user-agent").unwrap().contains("admin@"),
        "{requests:?}"
    );
}

#[test]
fn who_wants_dependencies_wants_the_whole_index() {
    let crates = crates();
    let (upstream, git) = (upstream_with(&crates), GitUpstream::start());
    git.commit_index(&format!("{}/dl", upstream.base_url()), &crates, 10);
    // with single files to ask for, it need not wait for the whole index; without, it does
    for single_files in [true, false] {
        let mirror = MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
            .upstream_git(&git)
            .own_port();
        let mirror = if single_files {
            mirror.upstream(&upstream)
        } else {
            mirror
        };
        let mirror = mirror.start();
        if single_files {
            let dry = ok(&mirror.run(&["prefetch", "--crate", "app", "--with-deps", "--dry-run"]));
            assert!(dry.contains("4 to fetch"), "{dry}");
            assert!(!mirror.log().contains("the whole index is wanted"), "{}", mirror.log());
        }
        let told = ok(&mirror.run(&["prefetch", "--crate", "app", "--with-deps"]));
        assert!(told.contains("4 crate files fetched"), "{told}");
        assert!(
            mirror.wait_for_log("the whole index has come", PATIENCE),
            "{}",
            mirror.log()
        );
    }
}

#[test]
fn without_upstream_git_there_is_no_all_and_odd_words_are_refused() {
    let upstream = upstream_with(&crates());
    let mirror = mirror(&upstream)
        .file("bad.txt", "app\nwhat is this\n")
        .file("bad.lock", "<html>");
    let (_, err) = failed(&mirror.run(&["prefetch", "--all", "--contact", "https://office.example/"]));
    assert!(err.contains("upstream.git is empty"), "{err}");
    for (args, part) in [
        (["--list", "bad.txt"], "bad.txt: line 2: "),
        (["--lockfile", "bad.lock"], "bad.lock: it is not a Cargo.lock"),
        (["--lockfile", "none.lock"], "none.lock cannot be read"),
    ] {
        let (_, err) = failed(&mirror.run(&[&["prefetch"], &args[..]].concat()));
        assert!(err.contains(part), "{err}");
    }
    for args in [
        &["--crate", "app@one"][..],
        &["--dev"],
        &["--with-deps", "--target", "linux"],
        &["--all", "--contact", "me"],
        &["--all", "--contact", "a@b", "--crate", "app"],
    ] {
        let refused = mirror.run(&[&["prefetch"], args].concat());
        assert_eq!(refused.status.code(), Some(2), "{args:?}: {}", said(&refused));
    }
    assert!(downloads(&upstream).is_empty());
}

#[test]
fn what_nobody_could_be_asked_about_is_named_once_and_tried_again() {
    let upstream = upstream_with(&crates());
    let (_project, lockfile) = lockfile(&upstream, &[("app", "1"), ("maker", "2")]);
    let mirror = mirror(&upstream).start();
    let args = ["prefetch", "--lockfile", lockfile.to_str().unwrap()];
    upstream.go_down();
    let dry = mirror.run(&[&args[..], &["--dry-run"]].concat());
    assert!(failed(&dry).1.contains("4 of what was named"), "{}", said(&dry));
    let left_over = mirror.run(&["prefetch"]);
    assert!(
        ok(&left_over).contains("nothing is left over"),
        "a dry run remembers nothing"
    );

    for args in [&args[..], &["prefetch"]] {
        let (out, err) = failed(&mirror.run(args));
        assert!(err.contains("4 crate files are missing"), "{args:?}: {out}{err}");
        assert_eq!(out.matches("missing: lib 1.5.0: ").count(), 1, "{out}");
        assert!(!out.contains("no such crate"), "nobody can know that: {out}");
    }
    upstream.come_back();
    // a failure answers for some seconds before upstream is asked again
    let retried = eventually(PATIENCE, || {
        let output = mirror.run(&["prefetch"]);
        output.status.success().then_some(())
    });
    assert!(retried.is_some(), "{}", mirror.log());
    assert_eq!(mirror.kept_files().len(), 4);
    assert!(ok(&mirror.run(&["prefetch"])).contains("nothing is left over"));
}

#[test]
fn names_that_nobody_could_be_asked_about_are_tried_again() {
    let upstream = upstream_with(&crates());
    let mirror = mirror(&upstream).start();
    upstream.go_down();
    let (out, err) = failed(&mirror.run(&[
        "prefetch",
        "--crate",
        "app@<1.2",
        "--crate",
        "lib@1.0.0",
        "--crate",
        "maker",
    ]));
    assert!(err.contains("3 crate files are missing"), "{out}{err}");
    upstream.come_back();
    let retried = eventually(PATIENCE, || {
        let output = mirror.run(&["prefetch"]);
        output.status.success().then_some(())
    });
    assert!(retried.is_some(), "{}", mirror.log());
    assert_eq!(downloads(&upstream), ["app/1.0.0", "lib/1.0.0", "maker/2.0.1"]);
    assert!(ok(&mirror.run(&["prefetch"])).contains("nothing is left over"));
}

#[test]
fn what_failed_and_came_by_itself_is_not_left_over() {
    let crates = crates();
    let upstream = upstream_with(&crates);
    upstream.fault("/dl/lib/1.5.0/download", Fault::Status(404), Times::Always);
    let mirror = mirror(&upstream).start();
    failed(&mirror.run(&["prefetch", "--crate", "lib"]));
    upstream.clear_faults();
    let came = eventually(PATIENCE, || {
        let reply = mirror.get("/api/v1/crates/lib/1.5.0/download");
        (reply.status == 200).then_some(())
    });
    assert!(came.is_some(), "{}", mirror.log());
    ok(&mirror.run(&["prefetch"]));
    assert!(ok(&mirror.run(&["prefetch"])).contains("nothing is left over"));
}
