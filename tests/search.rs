//! Search over what is kept (issue 2, "Metadata and search"): the API in crates.io's shape and order, any query string, `mirror search`
//! with and without a server, a database that was deleted or damaged, a newer one, and crate files that cannot be parsed.
//! Rows W3, W4 and N7 of the threats; T1 and T3 as far as they show outside.

#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use testkit::{BuiltCrate, CrateBuilder, FakeUpstream, MirrorBuilder, MirrorProcess, eventually, said, text_of};

const PATIENCE: Duration = Duration::from_secs(60);

fn mirror() -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
}

/// A mirror that has kept these.
fn keeping(upstream: &FakeUpstream, crates: &[BuiltCrate]) -> MirrorProcess {
    for krate in crates {
        upstream.add(krate);
    }
    let mirror = mirror().upstream(upstream).start();
    mirror.keep_all(crates);
    mirror
}

fn search(mirror: &MirrorProcess, query: &str) -> Value {
    let reply = mirror.get(&format!("/api/v1/crates?{query}"));
    assert_eq!(reply.status, 200, "{query}: {}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/json"));
    serde_json::from_slice(&reply.body).unwrap()
}

fn names(found: &Value) -> Vec<&str> {
    let crates = found["crates"].as_array().unwrap();
    crates.iter().map(|krate| krate["name"].as_str().unwrap()).collect()
}

/// Crates for the word "json", the best first.
fn json_crates() -> Vec<BuiltCrate> {
    let crates = [
        CrateBuilder::new("json", "0.12.4").description("a parser"),
        CrateBuilder::new("JSON-tools", "1.0.0")
            .description("more of it")
            .keyword("json"),
        CrateBuilder::new("by-keyword", "1.0.0")
            .keyword("json")
            .description("other things"),
        CrateBuilder::new("by-description", "1.0.0").description("reads json among other formats"),
        CrateBuilder::new("by-readme", "1.0.0").readme("# Words\n\nSomewhere in a long text there is json.\n"),
        CrateBuilder::new("unrelated", "1.0.0").description("nothing of the kind"),
    ];
    crates.map(CrateBuilder::build).to_vec()
}

#[test]
fn the_api_has_the_shape_and_the_order_of_the_original() {
    let upstream = FakeUpstream::start();
    let mirror = keeping(&upstream, &json_crates());
    let found = search(&mirror, "q=json&per_page=10");
    assert_eq!(
        names(&found),
        ["json", "JSON-tools", "by-keyword", "by-description", "by-readme"]
    );
    assert_eq!(found["meta"]["total"], 5);
    assert_eq!(
        (&found["meta"]["next_page"], &found["meta"]["prev_page"]),
        (&Value::Null, &Value::Null)
    );
    let first = &found["crates"][0];
    assert_eq!(first["id"], "json");
    assert_eq!(first["max_version"], "0.12.4");
    assert_eq!(first["description"], "a parser");
    assert_eq!(first["exact_match"], true);
    assert_eq!(found["crates"][1]["exact_match"], false);
    assert_eq!(found["crates"][4]["description"], Value::Null);

    let exact = search(&mirror, "q=json_TOOLS");
    assert_eq!(
        (names(&exact)[0], &exact["crates"][0]["exact_match"]),
        ("JSON-tools", &Value::Bool(true))
    );
    assert_eq!(names(&search(&mirror, "q=formats+json")), ["by-description"]);
    assert_eq!(
        names(&search(&mirror, "q=pars")),
        ["json"],
        "the last word is a beginning"
    );
    assert_eq!(
        search(&mirror, "q=no-such-thing"),
        serde_json::json!({
            "crates": [], "meta": { "total": 0, "next_page": null, "prev_page": null }
        })
    );
    assert_eq!(search(&mirror, "")["meta"]["total"], 6, "no query is everything");

    let mut pages = Vec::new();
    let mut next = Some("?q=json&per_page=2".to_owned());
    while let Some(page) = next {
        let found = search(&mirror, page.trim_start_matches('?'));
        pages.push(names(&found).len());
        next = found["meta"]["next_page"].as_str().map(str::to_owned);
        assert_eq!(found["meta"]["prev_page"].is_string(), pages.len() > 1);
    }
    assert_eq!(pages, [2, 2, 1]);
}

#[test]
fn the_version_shown_is_the_newest_that_the_index_lists() {
    let upstream = FakeUpstream::start();
    let old = CrateBuilder::new("abcd", "1.0.0").description("old").build();
    upstream.add(&old);
    for (version, yanked) in [
        ("1.10.0", false),
        ("1.9.0", false),
        ("2.0.0", true),
        ("2.1.0-beta.1", false),
    ] {
        let krate = CrateBuilder::new("abcd", version);
        upstream.add(&if yanked { krate.yanked() } else { krate }.build());
    }
    let mirror = mirror().upstream(&upstream).start();
    mirror.keep(&old);
    let found = search(&mirror, "q=abcd");
    assert_eq!(found["crates"][0]["max_version"], "1.10.0");
    assert_eq!(found["crates"][0]["max_stable_version"], "1.10.0");
    assert_eq!(found["crates"][0]["description"], "old");
}

#[test]
fn any_query_string_is_answered() {
    let upstream = FakeUpstream::start();
    let mirror = keeping(&upstream, &json_crates());
    let brackets = format!("q={}", "(".repeat(10_000));
    let long = format!("q={}", "x".repeat(20_000));
    let words = format!("q={}", "json+".repeat(3_000));
    for query in [
        "q=",
        "q",
        "&",
        "=",
        "%",
        "?",
        "q=%",
        "q=%zz",
        "q=%00",
        "q=json%00",
        "q=%ff%fe",
        "q=%F0%9F%A6%80",
        "q=%22",
        "q=%22json",
        "q=%22%22%22",
        "q='",
        "q=%27%3B+DROP+TABLE+crates%3B--",
        "q=*",
        "q=json*",
        "q=*json",
        "q=AND",
        "q=json+AND",
        "q=NOT",
        "q=json+NOT+tools",
        "q=NEAR(",
        "q=NEAR(json+tools%2C5)",
        "q=name:json",
        "q=description:",
        "q=%7Bname+readme%7D:json",
        "q=-json",
        "q=%5Ejson",
        "q=%2Bjson",
        "q=json-tools",
        "q=a.b.c",
        "q=%25",
        "q=_",
        "q=..%2F..",
        "q=%0d%0aSet-Cookie:x",
        "q=json&page=0",
        "q=json&page=-1",
        "q=json&page=99999999999999",
        "q=json&page=18446744073709551616",
        "q=json&page=x",
        "q=json&per_page=0",
        "q=json&per_page=1e9",
        "q=json&per_page=4294967297",
        "q=json&sort=name;drop",
        "q=json&q=tools",
        "q[]=json",
        &brackets,
        &long,
        &words,
    ] {
        for path in ["/api/v1/crates", "/search"] {
            let reply = mirror.get(&format!("{path}?{query}"));
            assert_eq!(reply.status, 200, "{path}?{query:.60}: {}", reply.text());
            assert!(reply.header("set-cookie").is_none());
            assert!(reply.body.len() < 100_000, "{query:.60}");
        }
    }
    // no address at all, by RFC 3986: HTTP has a status for that
    for query in [
        "q=\"",
        "q={json}",
        "q=<json>",
        "q=`json`",
        "q=json|tools",
        "q=\\",
        "q=\u{e9}",
        "q=#",
    ] {
        let reply = mirror.get(&format!("/api/v1/crates?{query}"));
        assert!(matches!(reply.status, 200 | 400), "{query}: {}", reply.status);
    }
    let huge = format!("/api/v1/crates?q={}", "x".repeat(1 << 20));
    if let Ok(reply) = mirror.try_request("GET", &huge, &[], b"") {
        assert!((400..500).contains(&reply.status), "{}", reply.status);
    }
    assert_eq!(names(&search(&mirror, "q=json"))[0], "json");
    let log = mirror.log();
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
}

#[test]
fn mirror_search_prints_the_same_with_and_without_a_server() {
    let upstream = FakeUpstream::start();
    let mirror = keeping(&upstream, &json_crates());
    let expected = "json = \"0.12.4\"             # a parser\n\
                    JSON-tools = \"1.0.0\"        # more of it\n\
                    by-keyword = \"1.0.0\"        # other things\n\
                    by-description = \"1.0.0\"    # reads json among other formats\n\
                    by-readme = \"1.0.0\"\n";
    let api = search(&mirror, "q=json");
    for running in [true, false] {
        if !running {
            assert!(mirror.terminate().success());
        }
        let run = |args: &[&str]| {
            let output = mirror.run(args);
            assert!(output.status.success(), "{}", said(&output));
            text_of(&output).0
        };
        assert_eq!(run(&["search", "json"]), expected);
        let limited = run(&["search", "json", "--limit", "1"]);
        assert!(limited.starts_with("json = \"0.12.4\"    # a parser\n"), "{limited}");
        assert!(
            limited.ends_with("... and 4 crates more (use --limit N to see more)\n"),
            "{limited}"
        );
        assert_eq!(run(&["search", "formats", "json"]).lines().count(), 1);
        assert_eq!(run(&["search", "no-such-thing"]), "nothing that is kept here matches\n");
        let json: Value = serde_json::from_str(&run(&["search", "json", "--json"])).unwrap();
        assert_eq!(names(&json), names(&api));
        assert_eq!(json["meta"]["total"], 5);
    }
}

#[test]
fn mirror_search_on_an_empty_place_says_so() {
    let refused = mirror().run(&["search", "json"]);
    let (stdout, stderr) = text_of(&refused);
    assert_eq!((refused.status.code(), stdout.as_str()), (Some(1), ""));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let empty = mirror().start();
    assert_eq!(
        text_of(&empty.run(&["search", "json"])).0,
        "nothing that is kept here matches\n"
    );
}

#[test]
fn what_a_crate_says_of_itself_cannot_drive_a_terminal() {
    let upstream = FakeUpstream::start();
    let hostile = "evil\u{1b}[2J\u{1b}]0;title\u{7} \u{9b}31m \u{202e}txet\u{2066} line\nnext\r\u{8}\u{0}end";
    let manifest = format!(
        "[package]\nname = \"hostile\"\nversion = \"1.0.0\"\nedition = \"2021\"\ndescription = {}\n",
        {
            let escaped: String = hostile.chars().map(|c| format!("\\u{:04X}", u32::from(c))).collect();
            format!("\"{escaped}\"")
        }
    );
    let krate = CrateBuilder::new("hostile", "1.0.0")
        .file("Cargo.toml", manifest.as_bytes())
        .build();
    let mirror = keeping(&upstream, &[krate]);
    let (stdout, _) = text_of(&mirror.run(&["search", "hostile"]));
    assert_eq!(stdout.lines().count(), 1, "{stdout:?}");
    assert!(stdout.contains("evil") && stdout.contains("end"), "{stdout:?}");
    let bad = |c: char| {
        (c.is_control() && c != '\n')
            || ('\u{202a}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    assert!(!stdout.contains(bad), "{stdout:?}");
    let (json, _) = text_of(&mirror.run(&["search", "hostile", "--json"]));
    assert!(!json.contains(bad), "{json:?}");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["crates"][0]["description"], hostile, "and it is still the same");
    let log = mirror.log();
    assert!(!log.contains('\u{1b}') && !log.contains('\u{9b}'), "{log:?}");
}

#[test]
fn a_database_that_was_lost_or_damaged_is_made_anew() {
    let upstream = FakeUpstream::start();
    let crates = json_crates();
    let mut mirror = keeping(&upstream, &crates);
    let before = search(&mirror, "q=json");
    upstream.go_down();
    let database = mirror.data_dir().join("mirror.db");
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("deleted", |database| std::fs::remove_file(database).unwrap()),
        ("not a database", |database| {
            std::fs::write(database, "this is a text\n".repeat(1000)).unwrap()
        }),
        ("empty", |database| std::fs::write(database, "").unwrap()),
        ("cut short", |database| {
            let bytes = std::fs::read(database).unwrap();
            std::fs::write(database, &bytes[..bytes.len() / 3]).unwrap();
        }),
        ("zeros in the middle", |database| {
            let mut bytes = std::fs::read(database).unwrap();
            bytes[2048..].fill(0);
            std::fs::write(database, bytes).unwrap();
        }),
        ("other bytes in the middle", |database| {
            let mut bytes = std::fs::read(database).unwrap();
            for at in (5000..bytes.len()).step_by(7) {
                bytes[at] ^= 0x55;
            }
            std::fs::write(database, bytes).unwrap();
        }),
    ];
    for (how, damage) in damages {
        assert!(mirror.terminate().success(), "{how}");
        damage(&database);
        mirror.restart();
        assert_eq!(mirror.get("/readyz").status, 200, "{how}");
        for krate in &crates {
            let path = format!("/api/v1/crates/{}/{}/download", krate.name, krate.version);
            assert_eq!(mirror.get(&path).body, krate.bytes, "{how}");
        }
        let found = eventually(PATIENCE, || {
            Some(search(&mirror, "q=json")).filter(|found| found["meta"]["total"] == 5)
        });
        let found = found.unwrap_or_else(|| panic!("{how}\n{}", mirror.log()));
        assert_eq!(names(&found), names(&before), "{how}");
        assert_eq!(found["crates"][3]["description"], before["crates"][3]["description"]);
        let all = eventually(PATIENCE, || {
            (mirror.metric("kept_files") == crates.len() as u64).then_some(())
        });
        assert!(all.is_some(), "{how}");
    }
}

#[test]
fn a_database_of_a_newer_mirror_is_refused_untouched() {
    for name in ["mirror.db", "decisions.db"] {
        let upstream = FakeUpstream::start();
        let mirror = keeping(&upstream, &json_crates()[..1]);
        assert!(mirror.terminate().success());
        let file = mirror.data_dir().join(name);
        let mut bytes = std::fs::read(&file).unwrap();
        assert!(bytes.starts_with(b"SQLite format 3\0"), "{name}");
        // user_version, by SQLite's file format
        bytes[60..64].copy_from_slice(&9999_u32.to_be_bytes());
        std::fs::write(&file, &bytes).unwrap();
        let refused = mirror.run(&["serve", "--listen", "127.0.0.1:0"]);
        let (stdout, stderr) = text_of(&refused);
        assert!(matches!(refused.status.code(), Some(1 | 2)), "{stderr}");
        assert_eq!(stdout, "", "it never listened");
        let last = stderr.lines().last().unwrap_or_default();
        assert!(last.contains("9999") && last.contains(name), "{stderr}");
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "{name} is untouched");
    }
}

/// Other bytes under the name and version of a crate, with the right checksum in the index.
fn with_bytes(name: &str, bytes: &[u8]) -> BuiltCrate {
    let built = CrateBuilder::new(name, "1.0.0").build();
    let checksum = registry::Checksum::of(bytes);
    BuiltCrate {
        index_line: built.index_line.replace(&built.checksum.to_hex(), &checksum.to_hex()),
        bytes: bytes.to_vec(),
        checksum,
        ..built
    }
}

#[test]
fn a_crate_file_that_cannot_be_parsed_is_served_marked_and_found() {
    let upstream = FakeUpstream::start();
    let whole = CrateBuilder::new("whole", "1.0.0").build().bytes;
    let big = vec![b'#'; 3 << 20];
    let built = |name: &str, manifest: &[u8]| CrateBuilder::new(name, "1.0.0").file("Cargo.toml", manifest).build();
    let crates = [
        with_bytes("not-gzip", b"this is no crate file at all"),
        with_bytes("cut-gzip", &whole[..whole.len() / 2]),
        with_bytes("other-crate", &whole),
        with_bytes("one-byte", b"\x1f"),
        built("no-toml", b"this is = = no toml"),
        built("deep-toml", format!("x = {}", "[".repeat(100_000)).as_bytes()),
        built("big-toml", &big),
        built("binary-toml", &[0, 159, 146, 150]),
    ];
    let mut mirror = keeping(&upstream, &crates);
    for round in ["fresh", "restarted", "rebuilt"] {
        match round {
            "restarted" => mirror.restart(),
            "rebuilt" => {
                mirror.terminate();
                std::fs::remove_file(mirror.data_dir().join("mirror.db")).unwrap();
                mirror.restart();
            }
            _ => {}
        }
        for krate in &crates {
            let name = &krate.name;
            let path = format!("/api/v1/crates/{name}/1.0.0/download");
            assert_eq!(mirror.get(&path).body, krate.bytes, "{name} {round}");
            let marked = || {
                mirror
                    .get(&format!("/crates/{name}"))
                    .text()
                    .contains("Unreadable:")
                    .then_some(())
            };
            eventually(PATIENCE, marked).unwrap_or_else(|| panic!("{name} {round}\n{}", mirror.log()));
            assert_eq!(names(&search(&mirror, &format!("q={name}")))[0], name, "{round}");
        }
    }
}
