//! The office's side of the air gap: what is asked for in vain is noted and listed (`mirror wanted`, `/wanted`), and what was imported
//! is in a log (`mirror imports`, `/imports`).

#![expect(clippy::unwrap_used, reason = "a test ends by it")]

use std::path::{Path, PathBuf};

use metadata_db::{
    DecisionKind, DecisionsDb, EndedImport, ImportCounts, ImportResult, ImportRow, ImportedBundle, SiteDecision,
};
use serde_json::{Value, json};
use testkit::{
    BuiltCrate, CargoProject, CrateBuilder, FakeUpstream, MirrorBuilder, MirrorProcess, Reply, said, text_of,
};

fn mirror() -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
}

fn ok(mirror: &MirrorProcess, args: &[&str]) -> String {
    let output = mirror.run(args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    text_of(&output).0
}

/// The lines that are not comments, without what stands behind them.
fn entries(list: &str) -> Vec<String> {
    let lines = list.lines().map(|line| line.split('#').next().unwrap().trim());
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn page(mirror: &MirrorProcess, path: &str) -> String {
    let reply = mirror.get(path);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    let head = mirror.request("HEAD", path, &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    reply.text()
}

fn is_a_miss(reply: &Reply, what: &str) {
    let text = reply.text();
    assert_eq!(reply.status, 404, "{text}");
    for part in [
        what,
        "not kept here",
        "mirror wanted",
        "mirror export --list wanted.txt",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

/// An office that has alpha, knows of beta and delta, and not of gamma; and a project on alpha and beta with its lockfile.
fn office() -> (Vec<BuiltCrate>, FakeUpstream, MirrorProcess, CargoProject) {
    let upstream = FakeUpstream::start();
    let mut crates: Vec<BuiltCrate> = ["alpha", "beta", "gamma"]
        .map(|name| CrateBuilder::new(name, "1.0.0").build())
        .into();
    crates.push(CrateBuilder::new("Delta", "0.3.1+build.5").build());
    for krate in &crates {
        upstream.add(krate);
    }
    let project = CargoProject::new().dependency("alpha", "1").dependency("beta", "1");
    let project = project.use_index(&upstream.sparse_url());
    project.cargo_ok(&["generate-lockfile"]);
    let mirror = mirror().upstream(&upstream).start();
    mirror.keep(&crates[0]);
    for path in ["/index/be/ta/beta", "/index/de/lt/delta"] {
        assert_eq!(mirror.get(path).status, 200);
    }
    let project = project.use_mirror(&mirror);
    project.forget_registry();
    (crates, upstream, mirror, project)
}

#[test]
fn what_a_build_lacks_is_noted_taken_outside_and_leaves_the_list_when_it_is_here() {
    let (crates, upstream, mut office, project) = office();
    assert!(entries(&ok(&office, &["wanted"])).is_empty(), "online nothing is noted");
    ok(&office, &["mode", "offline"]);
    let failed = project.cargo(&["fetch", "--locked"]);
    assert!(!failed.status.success());
    let told = text_of(&failed).1;
    assert!(
        told.contains("beta 1.0.0 is not kept here") && told.contains("mirror export --list wanted.txt"),
        "{told}"
    );
    is_a_miss(&office.get("/index/ga/mm/gamma"), "the index file of gamma");
    is_a_miss(&office.get("/index/ga/mm/gamma"), "the index file of gamma");
    is_a_miss(
        &office.get("/api/v1/crates/Delta/0.3.1+build.5/download"),
        "Delta 0.3.1+build.5",
    );
    // these are no names of crates
    for path in [
        "/index/se/rd/Serde",
        "/index/..%2fx",
        "/api/v1/crates/a%2fb/1.0.0/download",
        "/api/v1/crates/a/1/download",
    ] {
        assert_eq!(office.get(path).status, 404, "{path}");
    }
    let wanted = ["Delta 0.3.1+build.5", "beta 1.0.0", "gamma ?"];
    let list = ok(&office, &["wanted"]);
    assert_eq!(entries(&list), wanted, "{list}");
    let (slips, gamma) = (list.find("a slip of the pen").unwrap(), list.find("gamma").unwrap());
    assert!(
        slips < gamma && list.contains("asked for 2 times, last on 20"),
        "{list}"
    );

    // it is truth: still there after a start, the same by page, file and program, and without a server
    office.kill9();
    assert_eq!(entries(&ok(&office, &["wanted"])), wanted);
    office.restart();
    ok(&office, &["mode", "offline"]);
    let html = page(&office, "/wanted");
    assert!(html.contains("0.3.1+build.5") && html.contains("gamma") && html.contains("wanted.txt"));
    assert!(page(&office, "/status").contains("/wanted\""));
    let file = office.get("/wanted.txt");
    assert_eq!(file.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(entries(&file.text()), wanted);
    let told = json_of(&ok(&office, &["wanted", "--json"]));
    assert_eq!(told[2]["name"], json!("gamma"));
    assert_eq!((&told[2]["version"], &told[2]["count"]), (&json!(null), &json!(2)));
    assert_eq!(
        (&told[1]["name"], &told[1]["version"]),
        (&json!("beta"), &json!("1.0.0"))
    );
    assert_eq!(office.metric("wanted"), 3);

    let stick = office.data_dir().join("wanted.txt");
    let told = ok(&office, &["wanted", "-o", stick.to_str().unwrap()]);
    assert!(
        told.contains("wanted.txt is written") && told.contains("mirror export"),
        "{told}"
    );
    let outside = mirror().upstream(&upstream).start();
    // a name that nobody has stops nothing
    std::fs::write(&stick, format!("{list}gamma_typo ?\n")).unwrap();
    ok(&outside, &["prefetch", "--list", stick.to_str().unwrap()]);
    assert_eq!(outside.kept_files().len(), 3);
    let bundle = office.data_dir().join("week.tar");
    let (stick, bundle) = (stick.to_str().unwrap(), bundle.to_str().unwrap());
    let exported = outside.run(&["export", "-o", bundle, "--list", stick]);
    let told = said(&exported);
    assert!(
        exported.status.success() && told.contains("left out: gamma_typo: the index has no such crate"),
        "{told}"
    );

    // what came meanwhile is no longer wanted
    ok(&office, &["mode", "online"]);
    office.keep_all(&crates[1..3]);
    ok(&office, &["mode", "offline"]);
    assert_eq!(entries(&ok(&office, &["wanted"])), wanted[..1]);
    assert_eq!(office.metric("wanted"), 1);
    // it listens elsewhere since its start
    let project = project.use_mirror(&office);
    project.cargo_ok(&["fetch", "--locked"]);
}

#[test]
fn a_list_can_be_emptied_once_it_was_given() {
    let (_crates, _upstream, office, _project) = office();
    ok(&office, &["mode", "offline"]);
    let ask = || {
        assert_eq!(office.get("/index/ga/mm/gamma").status, 404);
        assert_eq!(office.get("/api/v1/crates/beta/1.0.0/download").status, 404);
    };
    ask();
    let nowhere = office.run(&["wanted", "--clear", "-o", "/proc/no/such/folder/wanted.txt"]);
    assert_eq!(nowhere.status.code(), Some(1), "{}", said(&nowhere));
    let output = office.run(&["wanted", "--clear"]);
    let (list, told) = text_of(&output);
    assert_eq!(entries(&list), ["beta 1.0.0", "gamma ?"], "what was not given stays");
    assert!(
        output.status.success() && told.contains("2 entries forgotten"),
        "{told}"
    );
    assert!(ok(&office, &["wanted"]).contains("Nothing is wanted"));
    assert!(page(&office, "/wanted").contains("Nothing is wanted"));
    ask();
    assert!(office.terminate().success());
    assert_eq!(entries(&ok(&office, &["wanted", "--clear"])), ["beta 1.0.0", "gamma ?"]);
    assert_eq!(json_of(&ok(&office, &["wanted", "--json"])), json!([]));
}

#[test]
fn a_mirror_without_an_upstream_notes_too_and_a_flood_stays_bounded() {
    let office = mirror().start();
    is_a_miss(&office.get("/index/se/rd/serde"), "the index file of serde");
    is_a_miss(&office.get("/api/v1/crates/serde/1.0.0/download"), "serde 1.0.0");
    assert_eq!(entries(&ok(&office, &["wanted"])), ["serde 1.0.0", "serde ?"]);
    for at in 0..300 {
        assert_eq!(
            office.get(&format!("/api/v1/crates/flood/1.0.{at}/download")).status,
            404
        );
    }
    assert_eq!(entries(&ok(&office, &["wanted"])).len(), 302);
    assert_eq!(office.metric("wanted_requests"), 302);
}

const SITE: &str = "00112233445566778899aabbccddeeff";

fn row(serial: u64, result: ImportResult) -> ImportRow {
    ImportRow {
        at: 86_400,
        bundle: Some(ImportedBundle {
            id: format!("{serial:032x}"),
            site: SITE.to_owned(),
            serial,
            part: 1,
            parts: 1,
        }),
        key_id: Some("0123456789ABCDEF".to_owned()),
        who: "carol <b>".to_owned(),
        result,
        why: (result == ImportResult::Refused).then(|| "the signature is wrong".to_owned()),
        counts: ImportCounts {
            crate_files: 3,
            new_versions: 4,
            ..ImportCounts::default()
        },
    }
}

/// As an import leaves it.
fn with_history(data_dir: PathBuf) {
    let decisions = DecisionsDb::open(&data_dir.join("decisions.db")).unwrap();
    let outside = SiteDecision {
        path: "se/rd/serde".parse().unwrap(),
        vers: "1.0.7".to_owned(),
        kind: DecisionKind::Removed,
        whole_crate: false,
        decided_at: 86_400,
        checksum: None,
        new_checksum: None,
    };
    let ended = row(7, ImportResult::Imported);
    let ended = EndedImport {
        row: &ended,
        decisions: Some(&[outside]),
    };
    decisions.end_import(&ended, []).unwrap();
    decisions.log_import(&row(8, ImportResult::Refused)).unwrap();
}

#[test]
fn the_log_of_imports_is_on_the_site_and_at_the_command_line() {
    let mut office = mirror().start();
    assert_eq!(ok(&office, &["imports"]), "nothing was imported\n");
    assert_eq!(ok(&office, &["imports", "--json"]), "");
    assert!(page(&office, "/imports").contains("Nothing was imported"));
    assert!(page(&office, "/status").contains("/imports\""));
    let lines = office.get("/imports.jsonl");
    assert_eq!((lines.status, lines.text()), (200, String::new()));
    assert!(office.terminate().success());
    with_history(office.data_dir());

    // without a server, and with one
    for running in [false, true] {
        if running {
            office.restart();
        }
        let text = ok(&office, &["imports"]);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), 2, "{text}");
        assert!(
            rows[0].starts_with("1970-01-02T00:00:00Z imported: serial 7 of site 0011"),
            "{text}"
        );
        assert!(
            rows[1].contains("refused: serial 8") && rows[1].ends_with("; the signature is wrong"),
            "{text}"
        );
        let lines = ok(&office, &["imports", "--json"]);
        let rows: Vec<Value> = lines.lines().map(json_of).collect();
        assert_eq!(
            (&rows[0]["result"], &rows[0]["new_versions"]),
            (&json!("imported"), &json!(4))
        );
        assert_eq!(
            (&rows[1]["why"], &rows[1]["site"]),
            (&json!("the signature is wrong"), &json!(SITE))
        );
        if running {
            assert_eq!(office.get("/imports.jsonl").text(), lines);
        }

        let removed = ok(&office, &["removed"]);
        assert!(
            removed.contains("serde 1.0.7: removed upstream and left out, on 1970-01-02"),
            "{removed}"
        );
        assert!(removed.contains(SITE), "{removed}");
        let told = json_of(&ok(&office, &["removed", "--json"]));
        assert_eq!((&told[0]["state"], &told[0]["site"]), (&json!("removed"), &json!(SITE)));
    }
    let html = page(&office, "/imports");
    for part in [
        "serial 7",
        "serial 8",
        "the signature is wrong",
        "carol &lt;b&gt;",
        "4 new",
    ] {
        assert!(html.contains(part), "{part:?} is not in {html}");
    }
    assert!(html.find("serial 8") < html.find("serial 7"), "the latest comes first");
    assert!(page(&office, "/status").contains("serial 7, 1970-01-02"));
    assert_eq!(office.metric("imports"), 1);
    assert_eq!(office.metric("imports_refused"), 1);
}
