use std::collections::BTreeMap;

use proptest::prelude::*;
use testkit::{BuiltCrate, CargoProject, CrateBuilder, Dependency, FakeUpstream};

use super::*;

/// An index in memory.
#[derive(Default)]
struct Index(BTreeMap<IndexPath, Vec<u8>>);

impl Index {
    fn of(crates: &[BuiltCrate]) -> Self {
        let mut index = Self::default();
        for krate in crates {
            let file = index.0.entry(IndexPath::of(&krate.name.parse().unwrap())).or_default();
            file.extend_from_slice(krate.index_line.as_bytes());
            file.push(b'\n');
        }
        index
    }

    fn close(&self, dependencies: Option<Dependencies>, specs: &[&str]) -> (Vec<String>, Vec<String>) {
        let mut closure = Closure::new(dependencies);
        for spec in specs {
            closure.add(spec.parse().unwrap());
        }
        let mut asked = HashSet::new();
        loop {
            let wanted = closure.wanted();
            if wanted.is_empty() {
                break;
            }
            for path in wanted {
                assert!(asked.insert(path.clone()), "{path} was asked for twice");
                let file = self.0.get(&path).cloned().map(Bytes::from);
                closure.give(path, Ok(file));
            }
        }
        let (files, problems) = closure.finish();
        let text = |problem: &Problem| problem.to_string();
        (
            files.iter().map(Selected::to_string).collect(),
            problems.iter().map(text).collect(),
        )
    }
}

fn with_deps() -> Option<Dependencies> {
    Some(Dependencies::default())
}

fn krate(name: &str, version: &str) -> CrateBuilder {
    CrateBuilder::new(name, version)
}

#[test]
fn without_dependencies_only_what_is_named_is_chosen() {
    let index = Index::of(&[
        krate("a", "1.0.0").dep("b", "1").build(),
        krate("a", "1.1.0").dep("b", "1").build(),
    ]);
    assert_eq!(index.close(None, &["a", "a@=1.0.0"]).0, ["a 1.0.0", "a 1.1.0"]);
}

#[test]
fn each_requirement_gets_its_newest_version_and_cycles_end() {
    let index = Index::of(&[
        krate("a", "1.0.0").dep("b", "^1").dep("c", "1").build(),
        krate("b", "1.0.0").build(),
        krate("b", "1.5.0")
            .dep_full(Dependency::new("a", "1").dev())
            .dep("c", "1")
            .build(),
        krate("b", "2.0.0").build(),
        krate("c", "1.0.0")
            .dep("b", "<1.5")
            .dep_full(Dependency::new("a", "1").build())
            .build(),
    ]);
    let (files, problems) = index.close(with_deps(), &["a"]);
    assert_eq!(files, ["a 1.0.0", "b 1.0.0", "b 1.5.0", "c 1.0.0"]);
    assert_eq!(problems, [""; 0]);
}

#[test]
fn optional_dependencies_come_with_the_features_that_somebody_asks_for() {
    let index = Index::of(&[
        krate("app", "1.0.0")
            .dep_full(Dependency::new("lib", "1").no_default_features().features(&["json"]))
            .dep_full(Dependency::new("extra", "1").optional())
            .build(),
        krate("lib", "1.0.0")
            .dep_full(Dependency::new("tls", "1").optional())
            .dep_full(Dependency::new("serde_json", "1").optional().rename("json-lib"))
            .dep_full(Dependency::new("log", "1"))
            .feature("default", &["tls"])
            .feature("json", &["dep:json-lib", "log/std"])
            .build(),
        krate("tls", "1.0.0").build(),
        krate("extra", "1.0.0").build(),
        krate("serde_json", "1.0.0").build(),
        krate("log", "1.0.0")
            .dep_full(Dependency::new("alloc", "1").optional())
            .feature("std", &["dep:alloc"])
            .build(),
        krate("alloc", "1.0.0").build(),
    ]);
    let expected = ["alloc 1.0.0", "app 1.0.0", "lib 1.0.0", "log 1.0.0", "serde_json 1.0.0"];
    assert_eq!(index.close(with_deps(), &["app"]).0, expected);
    let all = Dependencies {
        all_features: true,
        ..Dependencies::default()
    };
    assert!(index.close(Some(all), &["app"]).0.contains(&"extra 1.0.0".to_owned()));
    // asked for with its default features by somebody else, it needs more
    assert!(
        index
            .close(with_deps(), &["app", "lib"])
            .0
            .contains(&"tls 1.0.0".to_owned())
    );
}

#[test]
fn a_version_without_a_feature_that_is_asked_for_is_passed_over() {
    let index = Index::of(&[
        krate("app", "1.0.0")
            .dep_full(Dependency::new("lib", "1").features(&["preview"]))
            .dep_full(Dependency::new("other", "1").features(&["unheard-of"]))
            .build(),
        krate("lib", "1.0.0").feature("preview", &[]).build(),
        krate("lib", "1.1.0")
            .dep_full(Dependency::new("preview", "1").optional())
            .build(),
        krate("lib", "1.2.0").build(),
        krate("preview", "1.0.0").build(),
        krate("other", "1.0.0").build(),
        krate("other", "1.1.0").build(),
    ]);
    let expected = ["app 1.0.0", "lib 1.1.0", "other 1.1.0", "preview 1.0.0"];
    assert_eq!(index.close(with_deps(), &["app"]).0, expected);
}

#[test]
fn dev_dependencies_are_those_of_the_roots_and_targets_leave_out() {
    let index = Index::of(&[
        krate("app", "1.0.0")
            .dep_full(Dependency::new("check", "1").dev())
            .dep_full(Dependency::new("win", "1").target("cfg(windows)"))
            .dep_full(Dependency::new("nix", "1").target("cfg(unix)"))
            .build(),
        krate("check", "1.0.0")
            .dep_full(Dependency::new("more", "1").dev())
            .build(),
        krate("win", "1.0.0")
            .dep("winlib", "1")
            .dep("shared", "1")
            .dep("nowhere", "1")
            .build(),
        krate("nix", "1.0.0").dep("shared", "1").build(),
        krate("shared", "1.0.0").dep("deeper", "1").build(),
        krate("deeper", "1.0.0").build(),
        krate("winlib", "1.0.0").build(),
    ]);
    let (files, problems) = index.close(with_deps(), &["app"]);
    assert_eq!(
        files,
        [
            "app 1.0.0",
            "deeper 1.0.0",
            "nix 1.0.0",
            "shared 1.0.0",
            "win 1.0.0",
            "winlib 1.0.0"
        ]
    );
    assert_eq!(problems.len(), 1, "{problems:?}");
    let options = Dependencies {
        dev: true,
        targets: vec!["x86_64-unknown-linux-musl".parse().unwrap()],
        ..Dependencies::default()
    };
    let (files, problems) = index.close(Some(options), &["app"]);
    // in whatever order it is met, what both want is chosen, and what the other target lacks is no trouble
    assert_eq!(
        files,
        ["app 1.0.0", "check 1.0.0", "deeper 1.0.0", "nix 1.0.0", "shared 1.0.0"]
    );
    assert_eq!(problems, [""; 0]);
}

#[test]
fn what_cannot_be_had_is_told_and_the_rest_chosen() {
    let other = krate("app", "1.0.0")
        .dep("gone", "1")
        .dep("old", "3")
        .dep("withdrawn", "1")
        .dep("fine", "1")
        .build();
    let line = other.index_line.replace("\"deps\":[", "\"deps\":[{\"name\":\"far\",\"req\":\"1\",\"registry\":\"https://host/i\"},{\"name\":\"odd\",\"req\":\"one\"},");
    assert_ne!(line, other.index_line);
    let mut index = Index::of(&[
        krate("old", "1.2.0").build(),
        krate("withdrawn", "1.0.0").yanked().build(),
        krate("fine", "1.0.0").build(),
    ]);
    index.0.insert("3/a/app".parse().unwrap(), line.into_bytes());
    let (files, problems) = index.close(with_deps(), &["app", "app@7.0.0"]);
    assert_eq!(files, ["app 1.0.0", "fine 1.0.0"]);
    let expected = [
        "app 7.0.0: no version fits, the newest is 1.0.0",
        "far 1 (wanted by app 1.0.0): it comes from another registry, https://host/i",
        "odd one (wanted by app 1.0.0): `one` is neither",
        "gone ^1 (wanted by app 1.0.0): the index has no such crate",
        "old ^3 (wanted by app 1.0.0): no version fits, the newest is 1.2.0",
        "withdrawn ^1 (wanted by app 1.0.0): every version that fits was yanked",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for part in expected {
        assert!(
            problems.iter().any(|problem| problem.starts_with(part)),
            "{part} is not in {problems:#?}"
        );
    }
    let mut closure = Closure::new(None);
    closure.add("serde".parse().unwrap());
    let path = closure.wanted().remove(0);
    closure.give(path, Err("upstream is down".to_owned()));
    assert!(closure.wanted().is_empty());
    assert_eq!(closure.finish().1[0].to_string(), "serde (newest): upstream is down");
}

/// The reference: a real cargo. What it locks has to be in the set.
#[test]
fn everything_that_cargo_locks_is_chosen() {
    let crates = [
        krate("web", "1.3.0")
            .dep_full(Dependency::new("tls", "0.2").optional())
            .dep_full(Dependency::new("bytes-lib", ">=1, <1.6").rename("bytes"))
            .dep_full(Dependency::new("winlib", "1").target("cfg(windows)"))
            .dep_full(Dependency::new("maker", "1").build())
            .dep_full(Dependency::new("tester", "1").dev())
            .feature("default", &["secure"])
            .feature("secure", &["dep:tls", "bytes/std"])
            .build(),
        krate("web", "2.0.0-beta.1").dep("nothing", "1").build(),
        krate("tls", "0.2.0").build(),
        krate("tls", "0.2.9").dep("bytes-lib", "<1.5, >=1.1").build(),
        krate("tls", "0.3.0").build(),
        krate("bytes-lib", "1.1.0").feature("std", &[]).build(),
        krate("bytes-lib", "1.4.0")
            .dep_full(Dependency::new("alloc", "1").optional())
            .feature("std", &["alloc"])
            .build(),
        krate("bytes-lib", "1.5.2")
            .dep_full(Dependency::new("alloc", "1").optional())
            .feature("std", &["alloc"])
            .build(),
        krate("bytes-lib", "1.6.0").build(),
        krate("alloc", "1.0.0").build(),
        krate("alloc", "1.0.1").yanked().build(),
        krate("winlib", "1.0.0+api.5").build(),
        krate("maker", "1.7.0").dep("tls", "0.3").build(),
    ];
    let upstream = FakeUpstream::start();
    for krate in &crates {
        upstream.add(krate);
    }
    let project = CargoProject::new()
        .dependency("web", "1")
        .dependency_toml("tls2", "{ package = \"tls\", version = \"0.3\" }")
        .use_index(&upstream.sparse_url());
    project.cargo_ok(&["generate-lockfile"]);
    let locked = crate::Lockfile::parse(&project.lockfile(), &[]).unwrap();
    assert_eq!(locked.elsewhere.len(), 1, "the project itself");

    let (files, problems) = Index::of(&crates).close(with_deps(), &["web@1", "tls@0.3"]);
    assert_eq!(problems, [""; 0]);
    assert!(locked.crates.len() >= 7, "{locked:?}");
    for krate in &locked.crates {
        assert!(files.contains(&krate.to_string()), "{krate} is not in {files:?}");
        let built = crates
            .iter()
            .find(|built| built.name == krate.name.as_str() && built.version == krate.version.as_str());
        assert_eq!(krate.checksum, built.map(|built| built.checksum));
    }
    // cargo made do with one of them for both requirements; each has its newest here, and cargo might have taken an older
    // `tls` that takes the newest too
    let more: Vec<&String> = files
        .iter()
        .filter(|file| !locked.crates.iter().any(|krate| krate.to_string() == **file))
        .collect();
    assert_eq!(more, ["bytes-lib 1.5.2", "tls 0.2.0"]);
}

/// What a real cargo locks for one dependency, without the project itself.
fn locked_by_cargo(crates: &[BuiltCrate], name: &str, toml: &str) -> Vec<String> {
    let upstream = FakeUpstream::start();
    for krate in crates {
        upstream.add(krate);
    }
    let project = CargoProject::new()
        .dependency_toml(name, toml)
        .use_index(&upstream.sparse_url());
    project.cargo_ok(&["generate-lockfile"]);
    let locked = crate::Lockfile::parse(&project.lockfile(), &[]).unwrap();
    locked.crates.iter().map(ToString::to_string).collect()
}

#[test]
fn a_feature_for_a_dependency_that_may_be_off_locks_it() {
    let crates = [
        krate("top", "1.0.0").dep("bb-mid", "1").build(),
        krate("bb-mid", "1.0.0")
            .dep_full(Dependency::new("cc-opt", "1").optional())
            .dep_full(Dependency::new("dd-own", "1").optional())
            .dep_full(Dependency::new("ee-named", "1").optional())
            .dep_full(Dependency::new("ff-with", "1").optional())
            .feature("default", &["std"])
            .feature("std", &["cc-opt?/std", "ee-named?/std"])
            // asking `ee-named` for a feature in this way does not switch on the feature of this name
            .feature("ee-named", &["dep:ee-named", "dep:ff-with"])
            .feature("own", &["dd-own?/std"])
            .build(),
        krate("cc-opt", "1.0.0")
            .dep_full(Dependency::new("gg-std", "1").optional())
            .feature("std", &["dep:gg-std"])
            .build(),
        krate("dd-own", "1.0.0").feature("std", &[]).build(),
        krate("ee-named", "1.0.0").feature("std", &[]).build(),
        krate("ff-with", "1.0.0").build(),
        krate("gg-std", "1.0.0").build(),
    ];
    let locked = locked_by_cargo(&crates, "top", "\"1\"");
    let expected = [
        "bb-mid 1.0.0",
        "cc-opt 1.0.0",
        "ee-named 1.0.0",
        "gg-std 1.0.0",
        "top 1.0.0",
    ];
    assert_eq!(locked, expected);
    assert_eq!(Index::of(&crates).close(with_deps(), &["top"]), (locked, Vec::new()));
}

#[test]
fn what_cargo_steps_back_to_is_chosen_as_well() {
    let crates = [
        krate("aa-top", "1.0.0")
            .dep("bb-array", "0.14.4")
            .dep("mm-middle", "1")
            .build(),
        krate("mm-middle", "1.0.0").dep("zz-common", "0.1.5").build(),
        krate("zz-common", "0.1.4").dep("bb-array", "0.14.4").build(),
        krate("zz-common", "0.1.5")
            .dep("bb-array", "0.14.4")
            .dep("old-friend", "1")
            .build(),
        krate("zz-common", "0.1.6").dep("bb-array", "<0.14.9").build(),
        krate("zz-common", "0.1.7").dep("bb-array", "=0.14.7").build(),
        krate("bb-array", "0.14.7").build(),
        krate("bb-array", "0.14.9").build(),
        krate("bb-array", "0.15.0").build(),
        krate("old-friend", "1.0.0")
            .dep_full(Dependency::new("gone", "1").target("cfg(windows)"))
            .build(),
        krate("old-friend", "1.1.0").build(),
    ];
    let locked = locked_by_cargo(&crates, "aa-top", "\"1\"");
    let expected = [
        "aa-top 1.0.0",
        "bb-array 0.14.9",
        "mm-middle 1.0.0",
        "old-friend 1.1.0",
        "zz-common 0.1.5",
    ];
    assert_eq!(locked, expected);
    let (files, problems) = Index::of(&crates).close(with_deps(), &["aa-top"]);
    assert_eq!(problems, [""; 0]);
    for file in &locked {
        assert!(files.contains(file), "{file} is not in {files:?}");
    }
    let more: Vec<&String> = files.iter().filter(|file| !locked.contains(file)).collect();
    assert_eq!(more, ["bb-array 0.14.7", "zz-common 0.1.7"]);
}

#[test]
fn who_wants_too_new_a_version_is_stepped_back_from_too() {
    let crates = [
        krate("app", "1.0.0").dep("lexical", "1").dep("trace", "0.3").build(),
        krate("lexical", "1.0.0").dep("cfg", "=0.1.9").build(),
        krate("trace", "0.3.41").dep("cfg", "0.1").build(),
        krate("trace", "0.3.46").dep("cfg", "0.1.10").build(),
        krate("cfg", "0.1.9").build(),
        krate("cfg", "0.1.10").build(),
    ];
    let locked = locked_by_cargo(&crates, "app", "\"1\"");
    assert_eq!(locked, ["app 1.0.0", "cfg 0.1.9", "lexical 1.0.0", "trace 0.3.41"]);
    let (files, problems) = Index::of(&crates).close(with_deps(), &["app"]);
    assert_eq!(problems, [""; 0]);
    let expected = [
        "app 1.0.0",
        "cfg 0.1.10",
        "cfg 0.1.9",
        "lexical 1.0.0",
        "trace 0.3.41",
        "trace 0.3.46",
    ];
    assert_eq!(
        files.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        BTreeSet::from(expected)
    );
}

#[test]
fn in_a_large_set_nothing_is_stepped_back_to() {
    let mut index = Index::of(&[
        krate("app", "1.0.0").dep("array", "1").dep("common", "1").build(),
        krate("common", "1.0.0").build(),
        krate("common", "1.1.0").dep("array", "<1.5").build(),
        krate("array", "1.4.0").build(),
        krate("array", "1.5.0").build(),
    ]);
    let line = krate("many", "1.0.0").build().index_line;
    let names: Vec<String> = (0..stepping_back::MOST_CHOSEN).map(|at| format!("many{at}")).collect();
    for name in &names {
        let line = line.replace("\"many\"", &format!("\"{name}\""));
        index.0.insert(IndexPath::of(&name.parse().unwrap()), line.into_bytes());
    }
    let chosen = |many: &[String]| {
        let specs: Vec<&str> = many.iter().map(String::as_str).chain(["app"]).collect();
        index.close(with_deps(), &specs).0.len() - many.len()
    };
    assert_eq!((chosen(&names[..10]), chosen(&names)), (5, 4));
}

#[test]
fn an_older_version_that_cannot_be_had_is_no_trouble() {
    let crates = [
        krate("app", "1.0.0").dep("array", "1").dep("common", "1").build(),
        krate("common", "1.0.0").dep("gone", "1").build(),
        krate("common", "1.1.0").dep("array", "<1.5").build(),
        krate("array", "1.4.0").build(),
        krate("array", "1.5.0").build(),
    ];
    let expected = [
        "app 1.0.0",
        "array 1.4.0",
        "array 1.5.0",
        "common 1.0.0",
        "common 1.1.0",
    ];
    let expected = expected.map(str::to_owned).to_vec();
    let index = Index::of(&crates);
    assert_eq!(index.close(with_deps(), &["app"]), (expected, Vec::new()));
    // an exact version leaves nothing to step back to
    assert_eq!(index.close(with_deps(), &["common@=1.1.0", "array@1"]).0.len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any registry: every chosen version has for each of its dependencies the newest version that fits, or that is told.
    #[test]
    fn the_set_is_closed(registry in proptest::collection::vec(
        (0u8..6, 0u64..3, 0u64..3, proptest::collection::vec((0u8..7, 0u64..3), 0..3)), 1..12,
    )) {
        let mut there: BTreeMap<(u8, u64, u64), Vec<(u8, u64)>> = BTreeMap::new();
        for (name, major, minor, deps) in registry {
            there.insert((name, major, minor), deps);
        }
        let name = |name: u8| format!("krate{name}");
        let crates: Vec<BuiltCrate> = there
            .iter()
            .map(|((own, major, minor), deps)| {
                let built = krate(&name(*own), &format!("{major}.{minor}.0"));
                let mut deps = deps.clone();
                deps.sort();
                deps.dedup_by_key(|(name, _)| *name);
                deps.iter().fold(built, |built, (dep, major)| built.dep(&name(*dep), &format!("^{major}.0"))).build()
            })
            .collect();
        let root = name(there.keys().next().unwrap().0);
        let (files, problems) = Index::of(&crates).close(with_deps(), &[&root]);
        prop_assert!(!files.is_empty());
        for file in &files {
            let krate = crates.iter().find(|built| format!("{} {}", built.name, built.version) == *file).unwrap();
            let line: serde_json::Value = serde_json::from_str(&krate.index_line).unwrap();
            for dep in line["deps"].as_array().unwrap() {
                let (dep, req) = (dep["name"].as_str().unwrap(), dep["req"].as_str().unwrap());
                let req = semver::VersionReq::parse(req).unwrap();
                let newest = crates
                    .iter()
                    .filter(|built| built.name == dep)
                    .map(|built| semver::Version::parse(&built.version).unwrap())
                    .filter(|version| req.matches(version))
                    .max();
                match newest {
                    Some(version) => prop_assert!(files.contains(&format!("{dep} {version}")), "{} of {}", dep, file),
                    None => prop_assert!(problems.iter().any(|problem| problem.starts_with(dep)), "{} of {}", dep, file),
                }
            }
        }
    }
}
