//! `mirror pin`, `mirror unpin` and `mirror pins`: named sets that stay, by a running server or without one.

use std::path::Path;
use std::time::Duration;

use testkit::{CargoProject, CrateBuilder, FakeUpstream, MirrorBuilder, MirrorProcess, said, text_of};

fn mirror(upstream: &FakeUpstream) -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror"))).upstream(upstream)
}

fn ok(mirror: &MirrorProcess, args: &[&str]) -> String {
    let output = mirror.run(args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    text_of(&output).0
}

#[test]
fn a_set_is_pinned_listed_replaced_and_let_go() {
    let upstream = FakeUpstream::start();
    let crates: Vec<_> = [("alpha", "1.0.0"), ("alpha", "1.1.0"), ("beta", "2.0.0")]
        .map(|(name, version)| CrateBuilder::new(name, version).build())
        .into();
    for krate in &crates {
        upstream.add(krate);
    }
    let project = CargoProject::new()
        .dependency("alpha", "1")
        .use_index(&upstream.sparse_url());
    project.cargo_ok(&["generate-lockfile"]);
    let lockfile = project.path().join("Cargo.lock");
    let mut mirror = mirror(&upstream).start();
    assert_eq!(ok(&mirror, &["pins"]), "nothing is pinned\n");

    let told = ok(
        &mirror,
        &[
            "pin",
            "office",
            "--lockfile",
            lockfile.to_str().unwrap(),
            "--crate",
            "beta@^2",
        ],
    );
    assert!(
        told.starts_with("office: 2 crate files pinned, 0 of them kept"),
        "{told}"
    );
    assert!(told.contains("mirror prefetch"), "{told}");
    mirror.keep(&crates[1]);
    let told = ok(&mirror, &["pins"]);
    assert!(told.starts_with("office: 2 crate files, 1 of them kept ("), "{told}");

    // it is truth: still there after a start, and reachable without a server
    mirror.terminate();
    assert_eq!(ok(&mirror, &["pins"]), told);
    let replaced = ok(&mirror, &["pin", "office", "--crate", "alpha@1.0.0"]);
    assert!(
        replaced.starts_with("office: 1 crate files pinned, 0 of them kept"),
        "{replaced}"
    );
    ok(&mirror, &["pin", "ci", "--crate", "alpha"]);
    mirror.restart();
    let told = ok(&mirror, &["pins"]);
    let lines: Vec<&str> = told.lines().collect();
    assert!(
        lines[0].starts_with("ci: 1 crate files, 1 of them kept") && lines[1].starts_with("office: 1 "),
        "{told}"
    );

    ok(&mirror, &["unpin", "office"]);
    let again = mirror.run(&["unpin", "office"]);
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    assert!(text_of(&again).1.contains("there is no such pin"));
    assert!(!ok(&mirror, &["pins"]).contains("office"));
}

#[test]
fn a_pin_that_fails_leaves_the_set_as_it_was() {
    let upstream = FakeUpstream::start();
    for name in ["alpha", "beta", "gamma"] {
        upstream.add(&CrateBuilder::new(name, "1.0.0").build());
    }
    let mirror = mirror(&upstream).start();
    let refused = |args: &[&str]| {
        let output = mirror.run(args);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        text_of(&output)
    };
    let slip = [
        "pin", "office", "--crate", "alpha", "--crate", "nobody", "--crate", "alpha@^3",
    ];
    let (out, err) = refused(&slip);
    assert!(
        out.contains("cannot be pinned: nobody (newest): the index has no such crate"),
        "{out}"
    );
    assert!(
        out.contains("cannot be pinned: alpha ^3: no version fits, the newest is 1.0.0"),
        "{out}"
    );
    assert!(
        err.contains("office: 2 of what was named cannot be pinned: no such set was made"),
        "{err}"
    );
    assert_eq!(ok(&mirror, &["pins"]), "nothing is pinned\n");

    ok(&mirror, &["pin", "office", "--crate", "alpha", "--crate", "beta"]);
    let before = ok(&mirror, &["pins"]);
    assert!(before.starts_with("office: 2 crate files"), "{before}");
    let stays = "the set stays as it was, with 2 crate files";
    assert!(refused(&slip).1.contains(stays));
    let own = mirror.data_dir().join("own.lock");
    std::fs::write(
        &own,
        "version = 4\n\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n",
    )
    .unwrap();
    let (_, err) = refused(&["pin", "office", "--lockfile", own.to_str().unwrap()]);
    assert!(
        err.contains("no crate of crates.io was named") && err.contains(stays),
        "{err}"
    );
    upstream.go_down();
    let (out, err) = refused(&["pin", "office", "--crate", "gamma"]);
    assert!(
        out.contains("cannot be pinned: gamma") && err.contains(stays),
        "{out}{err}"
    );
    assert_eq!(ok(&mirror, &["pins"]), before);
}

#[test]
fn a_killed_one_ends_and_pins_nothing() {
    let upstream = FakeUpstream::start();
    for name in ["alpha", "slow"] {
        upstream.add(&CrateBuilder::new(name, "1.0.0").build());
    }
    let mirror = mirror(&upstream).start();
    let held = upstream.hold(&FakeUpstream::index_path("slow"));
    let args = ["pin", "office", "--crate", "alpha", "--crate", "slow"];
    let killed = mirror.run_or_kill(&args, Duration::from_secs(1));
    assert!(killed.is_none(), "{}", said(&killed.unwrap()));
    let ended = "a pin by command has ended: it was ended before its time: nobody asked any more how it goes";
    assert!(mirror.wait_for_log(ended, Duration::from_secs(60)), "{}", mirror.log());
    held.open();
    assert_eq!(ok(&mirror, &["pins"]), "nothing is pinned\n");

    // another one is told how far it is, by the server as without one
    mirror.terminate();
    let alone = mirror.run(&args);
    let (told, progress) = text_of(&alone);
    assert!(told.starts_with("office: 2 crate files pinned"), "{}", said(&alone));
    assert!(progress.contains("read 1 index files"), "{progress}");
}

#[test]
fn a_pinned_file_is_evicted_when_it_is_asked_for_and_it_is_said() {
    let upstream = FakeUpstream::start();
    let krate = CrateBuilder::new("alpha", "1.0.0").build();
    upstream.add(&krate);
    let mirror = mirror(&upstream).start();
    ok(&mirror, &["pin", "office", "--crate", "alpha"]);
    ok(&mirror, &["pin", "ci", "--crate", "alpha"]);
    // with a server, and without one
    for running in [true, false] {
        mirror.keep(&krate);
        if !running {
            mirror.terminate();
        }
        let told = ok(&mirror, &["evict", "alpha"]);
        assert!(
            told.contains("1 file forgotten") && told.contains("it was pinned by ci, office"),
            "{told}"
        );
        assert_eq!(mirror.kept_files().len(), 0);
    }
    assert!(ok(&mirror, &["pins"]).starts_with("ci: 1 crate files, 0 of them kept"));
}

#[test]
fn wrong_usage_is_refused() {
    let upstream = FakeUpstream::start();
    let mirror = mirror(&upstream);
    for args in [
        &["pin"][..],
        &["pin", ""],
        &["pin", "a\nb", "--crate", "alpha"],
        &["pin", "x"],
        &["unpin"],
    ] {
        let refused = mirror.run(args);
        assert_eq!(refused.status.code(), Some(2), "{args:?}: {}", said(&refused));
    }
}
