//! Writes every page with sample data into a directory, to be looked at: `cargo run -p site --example render -- DIRECTORY`.

use std::{error::Error, fs, path::Path, time::Duration};

use site::{
    CacheState, Chrome, CrateLine, Dependency, DependencyKind, Group, Help, Hit, Home, IndexState, Krate, Mode, Readme,
    Row, Search, Status, VersionLine,
};

const CONFIG: &str = "[source.crates-io]\nreplace-with = \"mirror\"\n\n[registries.mirror]\nindex = \"sparse+http://10.0.0.7:8080/index/\"\n";
const OLDER: &str =
    "[source.crates-io]\nreplace-with = \"mirror\"\n\n[source.mirror]\nregistry = \"http://10.0.0.7:8080/git/index\"\n";
const README: &str = include_str!("readme.md");

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: render DIRECTORY")?;
    let directory = Path::new(&directory);
    fs::create_dir_all(directory.join("assets"))?;
    for asset in site::assets() {
        fs::write(directory.join(asset.path.trim_start_matches('/')), asset.bytes)?;
    }
    for (name, html) in pages() {
        fs::write(directory.join(name), html)?;
    }
    Ok(())
}

fn pages() -> Vec<(&'static str, String)> {
    let chrome = chrome(Mode::Online);
    let not_kept = Krate {
        this_version: version(3, false),
        readme: Readme::None,
        licence: None,
        ..sample_crate()
    };
    let help = Help {
        chrome: chrome.clone(),
        config_toml: CONFIG.into(),
        older_config_toml: Some(OLDER.into()),
    };
    vec![
        ("home.html", site::home(&sample_home())),
        ("new.html", site::home(&first_minute())),
        ("search.html", site::search(&sample_search())),
        (
            "nothing.html",
            site::search(&Search {
                query: "nosuch".into(),
                total: 0,
                hits: Vec::new(),
                ..sample_search()
            }),
        ),
        ("krate.html", site::krate(&sample_crate())),
        ("not-kept.html", site::krate(&not_kept)),
        ("status.html", site::status(&sample_status())),
        ("help.html", site::help(&help)),
        (
            "not-found.html",
            site::not_found(&chrome, "There is no crate called “sered” in the index."),
        ),
        (
            "failed.html",
            site::failed(
                &chrome,
                502,
                "Upstream refused the connection; what is kept here is still served.",
            ),
        ),
    ]
}

fn chrome(mode: Mode) -> Chrome {
    Chrome {
        version: "0.1.0".into(),
        mode,
        base_url: "http://10.0.0.7:8080".into(),
    }
}

fn sample_home() -> Home {
    let line = |name: &str, version: &str, text: &str, seconds| CrateLine {
        name: name.into(),
        version: version.into(),
        description: Some(text.into()),
        kept_ago: Some(Duration::from_secs(seconds)),
    };
    Home {
        chrome: chrome(Mode::Fallback),
        config_toml: CONFIG.into(),
        index: IndexState {
            source: "crates.io, sparse".into(),
            files: 1_482,
            age: Some(Duration::from_secs(760)),
            last_error: Some(("connection refused by 203.0.113.7:443".into(), Duration::from_secs(95))),
            commit: Some("4f1c9a7730bd52e8a60f6c01d9e1b2a3c4d5e6f7".into()),
            pending: 3,
        },
        cache: CacheState {
            files: 2_310,
            bytes: 1_284_000_000,
            crates: 1_103,
            hits: 84_220,
            misses: 2_310,
            requests_spared: 251_904,
            bytes_fetched: 1_301_000_000,
            fills_running: 2,
            free_bytes: Some(38_400_000_000),
            max_bytes: Some(5_000_000_000),
        },
        recent: vec![
            line(
                "tokio",
                "1.54.0",
                "An event-driven, non-blocking I/O platform for writing asynchronous applications",
                4,
            ),
            line("serde_json", "1.0.150", "A JSON serialization file format", 48),
            line("rustls", "0.23.42", "A modern TLS library written in Rust", 190),
            line("windows_x86_64_msvc", "0.53.1", "Import lib for Windows", 200),
            line(
                "gix",
                "0.90.0",
                "Interact with git repositories just like git would",
                7_400,
            ),
            line(
                "askama",
                "0.16.1",
                "Type-safe, compiled Jinja-like templates for Rust",
                90_000,
            ),
        ],
        held: 1,
    }
}

fn first_minute() -> Home {
    let index = IndexState {
        source: "crates.io, sparse".into(),
        files: 0,
        age: None,
        last_error: None,
        commit: None,
        pending: 0,
    };
    Home {
        chrome: chrome(Mode::Online),
        index,
        cache: CacheState::default(),
        recent: Vec::new(),
        held: 0,
        ..sample_home()
    }
}

fn sample_search() -> Search {
    let hit = |name: &str, version: &str, text: &str, keywords: &[&str], served| Hit {
        name: name.into(),
        version: version.into(),
        description: Some(text.into()),
        keywords: keywords.iter().map(|word| (*word).to_owned()).collect(),
        served,
    };
    Search {
        chrome: chrome(Mode::Online),
        query: "json".into(),
        page: 2,
        per_page: 4,
        total: 23,
        hits: vec![
            hit(
                "serde_json",
                "1.0.150",
                "A JSON serialization file format",
                &["json", "serde", "serialization"],
                18_204,
            ),
            hit(
                "json5",
                "1.3.0",
                "A Rust JSON5 serializer and deserializer which speaks Serde.",
                &["json5", "parser"],
                12,
            ),
            hit(
                "simd-json",
                "0.17.0",
                "High performance JSON parser based on a port of simdjson, with a description that goes on for a while so that one can see how lines break on a telephone",
                &["json", "simd", "parsing"],
                1,
            ),
            hit(
                "jsonwebtoken",
                "10.1.0",
                "Create and decode JWTs in a strongly typed way.",
                &[],
                0,
            ),
        ],
    }
}

fn version(n: u64, kept: bool) -> VersionLine {
    VersionLine {
        version: format!("1.0.{n}"),
        size_bytes: kept.then_some(80_000 + n * 317),
        kept,
        yanked: n % 5 == 2,
        served: if kept { n * n * 91 } else { 0 },
        checksum: format!(
            "{:064x}",
            u128::from(n + 7).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        ),
        kept_at: kept.then_some(1_786_000_000 + n * 86_400),
        unparsable: None,
    }
}

fn sample_crate() -> Krate {
    let dependency = |name: &str, req: &str, kind, target: Option<&str>, features: &[&str]| Dependency {
        name: name.into(),
        req: req.into(),
        kind,
        optional: name.starts_with("serde_d"),
        target: target.map(str::to_owned),
        features: features.iter().map(|feature| (*feature).to_owned()).collect(),
    };
    Krate {
        chrome: chrome(Mode::Online),
        name: "serde".into(),
        version: "1.0.19".into(),
        description: Some("A generic serialization/deserialization framework".into()),
        licence: Some("MIT OR Apache-2.0".into()),
        rust_version: Some("1.56".into()),
        edition: Some("2021".into()),
        keywords: vec!["serde".into(), "serialization".into(), "no_std".into()],
        categories: vec!["encoding".into(), "no-std".into()],
        authors: vec!["Erick Tryzelaar".into(), "David Tolnay".into()],
        homepage: Some("https://serde.rs".into()),
        documentation: Some("javascript:alert(1)".into()),
        repository: Some("https://github.com/serde-rs/serde".into()),
        links: None,
        readme: Readme::Markdown {
            text: README.into(),
            truncated: false,
        },
        features: vec![
            ("default".into(), vec!["std".into()]),
            ("derive".into(), vec!["serde_derive".into()]),
            ("rc".into(), Vec::new()),
        ],
        dependencies: vec![
            dependency(
                "serde_core",
                "=1.0.19",
                DependencyKind::Normal,
                None,
                &["result", "alloc"],
            ),
            dependency("serde_derive", "^1", DependencyKind::Normal, None, &[]),
            dependency("libc", "^0.2.150", DependencyKind::Normal, Some("cfg(unix)"), &[]),
            dependency("rustc_version", "^0.4", DependencyKind::Build, None, &[]),
            dependency("trybuild", "^1.0.108", DependencyKind::Dev, None, &["diff"]),
        ],
        versions: (0..20).rev().map(|n| version(n, n % 3 == 1)).collect(),
        more_versions: 0,
        install: "cargo add serde@1.0.19".into(),
        this_version: version(19, true),
    }
}

fn sample_status() -> Status {
    Status {
        chrome: chrome(Mode::Offline),
        groups: vec![
            Group {
                title: "Index".into(),
                rows: vec![
                    Row::new("Source", "crates.io, sparse"),
                    Row::new("Crates published", "1 482"),
                    Row::new("Published commit", "4f1c9a7730bd52e8a60f6c01d9e1b2a3c4d5e6f7"),
                    Row::new("Last error", "none").with_note("Nothing failed since the last good answer."),
                ],
            },
            Group {
                title: "Cache".into(),
                rows: vec![
                    Row::new("Crate files", "2 310"),
                    Row::new("Size", "1.3 GB").with_note("26 % of the 5.0 GB it may use"),
                    Row::new("Served from here", "84 220 of 86 530"),
                ],
            },
            Group {
                title: "Process".into(),
                rows: vec![Row::new("Running for", "3 days"), Row::new("Version", "0.1.0")],
            },
        ],
    }
}
