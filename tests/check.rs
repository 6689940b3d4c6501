//! `mirror check --lockfile`: will this build with upstream gone?

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use testkit::{
    BuiltCrate, CargoProject, CrateBuilder, FakeUpstream, MirrorBuilder, MirrorProcess, eventually, said, text_of,
};

fn mirror(upstream: &FakeUpstream) -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror"))).upstream(upstream)
}

fn upstream_with(crates: &[BuiltCrate]) -> FakeUpstream {
    let upstream = FakeUpstream::start();
    for krate in crates {
        upstream.add(krate);
    }
    upstream
}

/// A project on four crates and its lockfile, made by the real cargo.
fn scene() -> (Vec<BuiltCrate>, FakeUpstream, CargoProject, PathBuf) {
    let crates: Vec<BuiltCrate> = ["alpha", "beta", "gamma", "delta"]
        .map(|name| CrateBuilder::new(name, "1.0.0").build())
        .into();
    let upstream = upstream_with(&crates);
    let project = crates.iter().fold(CargoProject::new(), |project, krate| {
        project.dependency(&krate.name, "1")
    });
    let project = project.use_index(&upstream.sparse_url());
    project.cargo_ok(&["generate-lockfile"]);
    let lockfile = project.path().join("Cargo.lock");
    (crates, upstream, project, lockfile)
}

fn json_of(output: &Output) -> Value {
    serde_json::from_str(&text_of(output).0).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

#[test]
fn what_is_here_passes_and_builds_and_what_is_not_is_named() {
    let (crates, upstream, project, lockfile) = scene();
    let mut mirror = mirror(&upstream).start();
    let args = ["check", "--lockfile", lockfile.to_str().unwrap()];

    // nothing of it is known here: and nobody upstream is asked
    upstream.clear_log();
    let output = mirror.run(&args);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        text_of(&output).0.starts_with("0 of 4 crate files are here"),
        "{}",
        said(&output)
    );
    assert!(text_of(&output).0.contains("alpha 1.0.0: the index has no such crate"));
    assert!(upstream.requests().is_empty(), "a check asks nobody");

    mirror.keep_all(&crates[..3]);
    assert_eq!(mirror.get("/index/de/lt/delta").status, 200);
    let output = mirror.run(&args);
    let (out, err) = text_of(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        out.contains("3 of 4 crate files are here") && out.contains("delta 1.0.0: not kept"),
        "{out}"
    );
    assert!(err.contains("1 crate file would be missing"), "{err}");

    mirror.keep(&crates[3]);
    // with a server, and without one
    for running in [true, false] {
        if !running {
            mirror.terminate();
        }
        let output = mirror.run(&[&args[..], &["--json"]].concat());
        assert!(output.status.success(), "{}", said(&output));
        let expected = json!({ "ready": true, "crate_files": 4, "here": 4, "missing": [], "foreign": [] });
        assert_eq!(json_of(&output), expected);
    }
    upstream.go_down();
    mirror.restart();
    let project = project.use_mirror(&mirror);
    project.forget_registry();
    project.cargo_ok(&["fetch", "--locked"]);
}

#[test]
fn removed_versions_and_other_checksums_are_told_apart() {
    let (crates, upstream, project, lockfile) = scene();
    let mirror = mirror(&upstream)
        .env("MIRROR_INDEX__SPARSE_MAX_AGE", "0s")
        .env("MIRROR_INDEX__REMOVAL_GRACE", "0s")
        .start();
    mirror.keep_all(&crates);
    upstream.add(&CrateBuilder::new("alpha", "2.0.0").build());
    upstream.remove_version("alpha", "1.0.0");
    let text = project
        .lockfile()
        .replace(&crates[1].checksum.to_hex(), &crates[0].checksum.to_hex());
    let gone = "\n[[package]]\nname = \"gamma\"\nversion = \"7.0.0\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n\n\
                [[package]]\nname = \"own\"\nversion = \"0.1.0\"\nsource = \"git+https://git.office.example/own#0123456789012345678901234567890123456789\"\n";
    std::fs::write(&lockfile, format!("{text}{gone}")).unwrap();

    let removed = eventually(std::time::Duration::from_secs(60), || {
        mirror.get("/index/al/ph/alpha");
        let output = mirror.run(&["check", "--json", "--lockfile", lockfile.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let told = json_of(&output);
        (told["missing"].as_array().unwrap().len() == 3).then_some(told)
    });
    let told = removed.expect("a removed version is left out at some time");
    assert_eq!(told["ready"], json!(false));
    assert_eq!(told["here"], json!(2));
    let why: Vec<(&str, &str)> = told["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["name"].as_str().unwrap(), entry["why"].as_str().unwrap()))
        .collect();
    assert_eq!(
        why,
        [
            ("alpha", "removed"),
            ("beta", "other-checksum"),
            ("gamma", "not-listed")
        ]
    );
    assert_eq!(told["missing"][1]["index_checksum"], json!(crates[1].checksum.to_hex()));
    assert_eq!(
        told["missing"][1]["locked_checksum"],
        json!(crates[0].checksum.to_hex())
    );
    assert!(
        told["foreign"][0]
            .as_str()
            .unwrap()
            .starts_with("own 0.1.0 from https://git.office.example/own")
    );
}

#[test]
fn a_large_lockfile_reaches_the_server() {
    let upstream = FakeUpstream::start();
    let mirror = mirror(&upstream).start();
    let dir = tempfile::tempdir().unwrap();
    let lockfile = dir.path().join("Cargo.lock");
    let package = |number| {
        format!(
            "[[package]]\nname = \"krate-{number}\"\nversion = \"1.0.0\"\n\
             source = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"{number:064x}\"\n\n"
        )
    };
    let text: String = (0..3000).map(package).collect();
    std::fs::write(&lockfile, format!("version = 4\n\n{text}")).unwrap();
    let output = mirror.run(&["check", "--lockfile", lockfile.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        text_of(&output).0.starts_with("0 of 3000 crate files are here"),
        "{}",
        said(&output)
    );
}

#[test]
fn what_comes_from_elsewhere_is_not_known_to_be_here() {
    let (crates, upstream, project, lockfile) = scene();
    let mirror = mirror(&upstream).start();
    mirror.keep_all(&crates);
    let args = ["check", "--lockfile", lockfile.to_str().unwrap()];
    assert!(mirror.run(&args).status.success());
    let own = project.lockfile();
    for source in [
        "git+https://git.office.example/own#0123456789012345678901234567890123456789",
        "registry+https://registry.office.example/index",
    ] {
        let package = format!("[[package]]\nname = \"own\"\nversion = \"0.1.0\"\nsource = \"{source}\"\n");
        std::fs::write(&lockfile, format!("{own}\n{package}")).unwrap();
        let output = mirror.run(&args);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let (out, err) = text_of(&output);
        assert!(
            out.starts_with("4 of 4 crate files are here")
                && out.contains("is not known here:\n  own 0.1.0 from https://"),
            "{out}"
        );
        assert!(err.contains("1 package comes from elsewhere"), "{err}");
        let told = json_of(&mirror.run(&[&args[..], &["--json"]].concat()));
        assert_eq!((&told["ready"], &told["here"]), (&json!(false), &json!(4)));
        assert_eq!(told["foreign"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_lockfile_without_any_package_is_none_and_one_without_crates_passes() {
    let upstream = FakeUpstream::start();
    let mirror = mirror(&upstream).file("empty.lock", "").file(
        "own.lock",
        "version = 4\n\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n",
    );
    let refused = mirror.run(&["check", "--lockfile", "empty.lock"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(text_of(&refused).1.contains("empty.lock: it names no package"));
    let passes = mirror.run(&["check", "--lockfile", "own.lock"]);
    assert!(passes.status.success(), "{}", said(&passes));
}

#[test]
fn without_a_lockfile_it_is_wrong_usage() {
    let upstream = FakeUpstream::start();
    let refused = mirror(&upstream).run(&["check"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    let refused = mirror(&upstream).run(&["check", "--lockfile", "none"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
}
