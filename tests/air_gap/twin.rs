//! The whole way without the internet: weeks of changes carried over, a bundle that got lost, and what heals it.

use serde_json::json;
use testkit::CrateBuilder;

use crate::sides::{
    Log, Outside, app_and_lib, builds, check, has_all, office, ok, project, refused, same_as_outside, text, visible,
};
use crate::tarball::Tarball;

#[test]
fn weeks_of_changes_come_across_and_a_lost_bundle_is_named_and_healed() {
    let first = app_and_lib("1.0.0", "first");
    let others = ["tool", "gone", "doomed", "swapped"].map(|name| CrateBuilder::new(name, "1.0.0").build());
    let bad = CrateBuilder::new("gone", "1.0.1").build();
    let mut crates = [&first[..], &others, &[bad]].concat();
    let outside = Outside::with(&crates);
    outside.keep(&crates);
    let one = outside.export("one.tar", &[]);

    let (office, mut log) = (office(), Log::default());
    ok(&office.run(&["import", text(&one), "--trust", &outside.key()]));
    let rows = log.grown(&office);
    assert_eq!(
        (rows.len(), &rows[0]["result"], &rows[0]["serial"]),
        (1, &json!("imported"), &json!(1))
    );
    same_as_outside(&outside.mirror, &office, &crates);
    builds(&office, "first");

    // the second week: news, a yank, a version and a whole crate that upstream removed
    let second = app_and_lib("1.1.0", "second");
    outside.files.yank("tool", "1.0.0", true);
    outside.files.remove_version("gone", "1.0.1");
    outside.files.remove_crate("doomed");
    // the same version with other bytes: the mirror outside holds to what it has
    let swapped = CrateBuilder::new("swapped", "1.0.0").lib("pub fn other() {}").build();
    outside.files.republish(&swapped);
    outside.publish(&second);
    outside.follow(&["tool", "gone", "doomed", "swapped"]);
    outside.keep(&second);
    let two = outside.export_since("two.tar", &one);
    // the third
    let third = app_and_lib("1.2.0", "third");
    outside.publish(&third);
    outside.keep(&third);
    let three = outside.export_since("three.tar", &two);
    crates.retain(|krate| krate.name != "doomed" && krate.version != "1.0.1");
    crates.extend([second, third].concat());

    // the second got lost
    let before = visible(&office, &crates);
    let said = refused(&office.run(&["import", text(&three)]));
    assert!(
        said.contains("continues serial 2") && said.contains("has serial 1"),
        "{said}"
    );
    assert!(said.contains("since your receipt"), "{said}");
    assert_eq!(visible(&office, &crates), before);
    let rows = log.grown(&office);
    assert_eq!(
        (rows.len(), &rows[0]["result"], &rows[0]["serial"]),
        (1, &json!("refused"), &json!(3))
    );
    assert!(
        rows[0]["why"].as_str().unwrap().contains("continues serial 2"),
        "{rows:?}"
    );

    // what has come back on the stick says what is there
    let receipt = outside.on_stick("one.tar.receipt");
    assert!(std::fs::metadata(&receipt).unwrap().len() <= 1024);
    let heals = outside.export_since("heals.tar", &receipt);
    ok(&office.run(&["import", text(&heals)]));
    assert_eq!(log.grown(&office)[0]["result"], json!("imported"));
    same_as_outside(&outside.mirror, &office, &crates);
    builds(&office, "third");
    assert!(office.get("/index/to/ol/tool").text().contains("\"yanked\":true"));
    assert!(!office.get("/index/go/ne/gone").text().contains("1.0.1"));
    for path in ["/index/do/om/doomed", "/api/v1/crates/gone/1.0.1/download"] {
        assert_eq!(office.get(path).status, 404, "{path}");
    }

    assert!(
        !office
            .get("/index/sw/ap/swapped")
            .text()
            .contains(&swapped.checksum.to_hex())
    );
    // what was decided outside is known in the office
    let decided = ok(&office.run(&["removed"]));
    for part in ["gone 1.0.1: removed upstream", "doomed", "swapped 1.0.0: held"] {
        assert!(decided.contains(part), "{part} is not in {decided}");
    }

    // the lost one turns up: too late
    let before = visible(&office, &crates);
    for late in [&two, &three] {
        let said = refused(&office.run(&["import", text(late)]));
        assert!(said.contains("--allow-rollback") && said.contains("older"), "{said}");
        assert_eq!(log.grown(&office)[0]["result"], json!("refused"));
    }
    for again in [&one, &heals] {
        assert!(ok(&office.run(&["import", text(again)])).contains("nothing to do"));
    }
    assert_eq!(visible(&office, &crates), before);
    // and it goes on from there
    let fourth = app_and_lib("1.3.0", "fourth");
    outside.publish(&fourth);
    outside.keep(&fourth);
    let four = outside.export_since("four.tar", &outside.on_stick("heals.tar.receipt"));
    ok(&office.run(&["import", text(&four)]));
    crates.extend(fourth);
    same_as_outside(&outside.mirror, &office, &crates);
    builds(&office, "fourth");
}

#[test]
fn what_was_lost_in_the_office_comes_again_with_its_receipt() {
    let crates = app_and_lib("1.0.0", "first");
    let outside = Outside::with(&crates);
    outside.keep(&crates);
    let one = outside.export("one.tar", &[]);
    let office = office();
    ok(&office.run(&["import", text(&one), "--trust", &outside.key()]));
    let lost = office.kept_files().pop().unwrap();
    std::fs::remove_file(&lost).unwrap();
    let receipt = outside.on_stick("receipt");
    ok(&office.run(&["import", "--receipt", text(&receipt)]));
    let name = lost.file_name().unwrap().to_str().unwrap();
    let told = std::fs::read_to_string(&receipt).unwrap();
    assert!(told.contains(&format!("missing {name}\n")), "{told}");
    let again = outside.export_since("again.tar", &receipt);
    let carried = Tarball::read(&again)
        .0
        .iter()
        .filter(|member| member.name().starts_with("crates/"))
        .count();
    assert_eq!(carried, 1, "only what was lost goes again");
    ok(&office.run(&["import", text(&again)]));
    has_all(&office, &crates);
    builds(&office, "first");
}

#[test]
fn a_lockfile_goes_across_with_its_closure_and_check_says_the_same_on_both_sides() {
    let (old, new) = (app_and_lib("1.0.0", "old"), app_and_lib("1.1.0", "new"));
    let tool = CrateBuilder::new("tool", "1.0.0").build();
    let outside = Outside::with(&[&old[..], &new, &[tool]].concat());
    let by = |index: String| project().use_index(&index);
    let [sparse, _] = crate::sides::both_ways(&outside.mirror);
    let carried = by(sparse.clone());
    carried.cargo_ok(&["generate-lockfile"]);
    let left = by(sparse).dependency("tool", "1");
    left.cargo_ok(&["generate-lockfile"]);
    let locks = ["carried.lock", "left.lock"].map(|name| outside.on_stick(name));
    for (project, lock) in [&carried, &left].into_iter().zip(&locks) {
        std::fs::write(lock, project.lockfile()).unwrap();
    }
    let bundle = outside.export("one.tar", &["--lockfile", text(&locks[0])]);
    let said = locks.each_ref().map(|lock| check(&outside.mirror, lock));
    assert_eq!(
        said.each_ref().map(|said| &said["ready"]),
        [&json!(true), &json!(false)]
    );

    let office = office();
    let empty = check(&office, &locks[0]);
    assert_eq!((&empty["ready"], &empty["here"]), (&json!(false), &json!(0)));
    ok(&office.run(&["import", text(&bundle), "--trust", &outside.key()]));
    let here = locks.each_ref().map(|lock| check(&office, lock));
    assert_eq!(here[0], said[0]);
    assert_eq!(here[1]["ready"], json!(false));
    // nothing but what was locked went along
    assert_eq!(office.kept_files().len(), 2);
    for project in [carried, left] {
        let locked = project.lockfile();
        let project = project.use_mirror(&office);
        project.forget_registry();
        let fetched = project.cargo(&["fetch", "--locked"]);
        assert_eq!(fetched.status.success(), !locked.contains("name = \"tool\""));
    }
    // and what was asked for in vain goes on the list for the next stick
    let wanted = outside.on_stick("wanted.txt");
    ok(&office.run(&["wanted", "-o", text(&wanted)]));
    let next = outside.export("two.tar", &["--list", text(&wanted), "--since", text(&bundle)]);
    ok(&office.run(&["import", text(&next)]));
    assert_eq!(check(&office, &locks[1])["ready"], json!(true));
}
