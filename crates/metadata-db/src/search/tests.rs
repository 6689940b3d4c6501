use proptest::prelude::*;
use registry::Checksum;

use super::*;
use crate::metadata::tests::{kept, manifest_of, scratch};
use crate::{KeptFile, ManifestState, Readme, Served};

fn described(name: &str, description: &str, keywords: &[&str], readme: &str) -> KeptFile {
    let mut file = kept(name, "1.0.0");
    let manifest = manifest_of(&mut file);
    manifest.description = Some(description.to_owned());
    manifest.keywords = keywords.iter().map(|&word| word.to_owned()).collect();
    manifest.readme = Some(Readme {
        path: "README.md".to_owned(),
        text: readme.to_owned(),
        cut: false,
    });
    file
}

fn library() -> (tempfile::TempDir, MetadataDb) {
    let (dir, db) = scratch();
    db.record_kept_all(&[
        described(
            "serde",
            "A generic serialization framework",
            &["serde", "no_std"],
            "Serde",
        ),
        described(
            "serde_json",
            "A JSON serialization file format",
            &["json", "serde"],
            "Serde JSON",
        ),
        described("serde-derive", "Macros", &[], "Derive"),
        described("json", "JSON implementation", &[], ""),
        described("aho", "Strings", &[], "Compared with serde and json, unicorn"),
        described(
            "winnow",
            "A parser, cooler than json",
            &[],
            "unicorn unicorn unicorn unicorn",
        ),
        described("pferd", "Ein schönes Tier 🦄", &["unicorn"], "日本語 の 説明"),
    ])
    .unwrap();
    (dir, db)
}

fn names(db: &MetadataDb, query: &str) -> Vec<String> {
    let page = db.search(query, 1, 100).unwrap();
    assert_eq!(page.total, page.hits.len() as u64, "{query}");
    assert!(!page.timed_out, "{query}");
    page.hits.iter().map(|hit| hit.name.to_string()).collect()
}

#[test]
fn the_exact_name_comes_first_then_prefixes_then_relevance() {
    let (_dir, db) = library();
    let found = names(&db, "serde");
    assert_eq!(found[0], "serde");
    assert_eq!(found[3..], ["aho"]);
    assert!(found[1..3].contains(&"serde_json".to_owned()) && found[1..3].contains(&"serde-derive".to_owned()));
    let found = names(&db, "json");
    assert_eq!(found[..2], ["json", "serde_json"]);
    assert_eq!(
        found[2..],
        ["winnow", "aho"],
        "the description weighs more than the README"
    );
    assert_eq!(
        names(&db, "unicorn")[0],
        "pferd",
        "a keyword weighs more than the README"
    );
}

#[test]
fn every_spelling_of_a_name_is_exact() {
    let (_dir, db) = library();
    for query in ["serde_json", "serde-json", "serde json", " SERDE  Json "] {
        let page = db.search(query, 1, 10).unwrap();
        assert_eq!(page.hits[0].name.as_str(), "serde_json", "{query}");
        assert!(page.hits[0].exact_match, "{query}");
        assert!(page.hits[1..].iter().all(|hit| !hit.exact_match));
    }
    assert_eq!(names(&db, "serdejson"), ["serde_json"]);
    assert_eq!(names(&db, "rde_js"), ["serde_json"]);
    assert_eq!(names(&db, "inno"), ["winnow"]);
}

#[test]
fn words_are_found_in_any_order_with_the_last_as_a_prefix() {
    let (_dir, db) = library();
    assert_eq!(names(&db, "format serializ"), ["serde_json"]);
    assert_eq!(names(&db, "serializ format"), Vec::<String>::new());
    assert_eq!(names(&db, "schones tier"), ["pferd"]);
    assert_eq!(names(&db, "説明"), ["pferd"]);
}

#[test]
fn operators_are_words_and_odd_characters_nothing() {
    let (_dir, db) = library();
    for nothing in [
        "\"",
        "*",
        "🦄",
        "\0",
        "%",
        "()",
        "'; DROP TABLE crates; --",
        "{name}:",
        "^^",
    ] {
        assert_eq!(names(&db, nothing), Vec::<String>::new(), "{nothing:?}");
    }
    assert_eq!(names(&db, "name:aho"), Vec::<String>::new());
    assert_eq!(names(&db, "serde NOT json"), Vec::<String>::new());
    assert_eq!(names(&db, "\"json\" \"implementation\""), ["json"]);
    assert_eq!(
        names(&db, "_"),
        ["serde-derive", "serde_json"],
        "it is part of these names"
    );
    for hostile in [
        "(".repeat(10_000),
        "a ".repeat(500_000),
        "NEAR(a b, 3)".to_owned(),
        "é".repeat(1 << 20),
    ] {
        db.search(&hostile, 1, 10).unwrap();
    }
}

#[test]
fn a_query_is_cut_to_its_first_words() {
    let many = "w ".repeat(200);
    let query = Query::new(&many);
    assert_eq!(query.words.unwrap().matches("\"w\"").count(), MAX_TOKENS);
    assert_eq!(Query::new(&"x".repeat(1000)).name.len(), MAX_QUERY_CHARS);
    assert_eq!(Query::new("a").words.unwrap(), "\"a\"");
    assert_eq!(Query::new("b \"ab").words.unwrap(), "\"b\" \"ab\" *");
}

#[test]
fn pages_are_clamped_and_an_empty_query_lists_all_by_name() {
    let (_dir, db) = library();
    let all = ["aho", "json", "pferd", "serde", "serde-derive", "serde_json", "winnow"];
    assert_eq!(names(&db, ""), all);
    assert_eq!(names(&db, " \t"), all);
    let mut paged = Vec::new();
    for page in 1..=4 {
        let found = db.search("", page, 2).unwrap();
        assert_eq!((found.total, found.page, found.per_page), (7, page, 2));
        paged.extend(found.hits.into_iter().map(|hit| hit.name.to_string()));
    }
    assert_eq!(paged, all);
    let clamped = db.search("", 0, 0).unwrap();
    assert_eq!((clamped.page, clamped.per_page, clamped.hits.len()), (1, 1, 1));
    let clamped = db.search("serde", u32::MAX, u32::MAX).unwrap();
    assert_eq!(
        (clamped.total, clamped.per_page, clamped.hits.len()),
        (4, MAX_PER_PAGE, 0)
    );
}

#[test]
fn a_hit_says_what_a_list_shows() {
    let (_dir, db) = library();
    db.record_kept(&kept("serde", "0.9.0")).unwrap();
    let served = Served { count: 3, last_unix: 9 };
    for vers in ["1.0.0", "0.9.0"] {
        let checksum = Checksum::of(format!("serde {vers}").as_bytes());
        db.add_served(&[(checksum, served)]).unwrap();
    }
    let hit = db.search("serde", 1, 1).unwrap().hits.remove(0);
    assert_eq!(hit.newest.as_str(), "1.0.0");
    assert_eq!(hit.description.as_deref(), Some("A generic serialization framework"));
    assert_eq!(hit.keywords, ["serde", "no_std"]);
    assert_eq!((hit.served_count, hit.updated), (6, 1000));
}

#[test]
fn a_crate_that_cannot_be_read_is_found_by_its_name() {
    let (_dir, db) = library();
    let mut file = kept("hostile", "1.0.0");
    file.manifest = ManifestState::Unparsable("bomb".to_owned());
    db.record_kept(&file).unwrap();
    let hit = db.search("hostile", 1, 1).unwrap().hits.remove(0);
    assert_eq!((hit.description, hit.keywords.len()), (None, 0));
}

#[test]
fn a_search_without_time_is_answered_and_says_so() {
    let (_dir, db) = scratch();
    let many: Vec<_> = (0..300)
        .map(|at| described(&format!("c{at}"), "word", &[], ""))
        .collect();
    db.record_kept_all(&many).unwrap();
    for query in ["word", "c1", "", "!"] {
        let page = db.search_within(Duration::ZERO, query, 1, 10).unwrap();
        assert!(page.timed_out, "{query:?}");
    }
    assert_eq!(
        db.search("word", 1, 10).unwrap().total,
        300,
        "the readers are as good as before"
    );
}

proptest! {
    #[test]
    fn any_query_is_answered(query in any::<String>(), page: u32, per_page: u32) {
        thread_local!(static LIBRARY: (tempfile::TempDir, MetadataDb) = library());
        LIBRARY.with(|(_dir, db)| {
            let found = db.search(&query, page, per_page).unwrap();
            prop_assert!(found.hits.len() as u64 <= found.total);
            Ok(())
        })?;
    }

    #[test]
    fn any_query_of_awkward_parts_is_answered(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("\""), Just("\"\""), Just("*"), Just("AND"), Just("NEAR("), Just("name:"), Just("-x"), Just("^"),
                Just("("), Just(")"), Just("{a b}:"), Just("+"), Just("\0"), Just("🦄"), Just("%"), Just("_"), Just(" "),
                Just("e\u{301}"), Just("\u{301}"), Just("Ⅷ"), Just("²"), Just("\u{202e}"), Just("serde"),
            ],
            0..24,
        ),
    ) {
        thread_local!(static LIBRARY: (tempfile::TempDir, MetadataDb) = library());
        LIBRARY.with(|(_dir, db)| db.search(&parts.concat(), 1, 10).map(|_| ())).unwrap();
    }
}
