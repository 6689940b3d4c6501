//! Every page, with every field as hostile as it gets.

use std::{cell::Cell, time::Duration};

use crate::testing::{HOSTILE, assert_page};
use crate::*;

/// Makes strings that can be told apart in the page.
#[derive(Default)]
struct Marks(Cell<u32>);

impl Marks {
    fn next(&self) -> String {
        self.0.set(self.0.get() + 1);
        format!("{HOSTILE}mark{}end", self.0.get())
    }

    fn some(&self) -> Option<String> {
        Some(self.next())
    }

    fn list(&self) -> Vec<String> {
        vec![self.next(), self.next()]
    }

    /// Everything that was made is in the page, and as text.
    fn assert_shown(&self, html: &str) {
        assert_page(html);
        assert!(self.0.get() > 0);
        for n in 1..=self.0.get() {
            let escaped = format!(
                "&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;[2J&amp;amp;&lt;/title&gt;&lt;/textarea&gt;mark{n}end"
            );
            assert!(html.contains(&escaped), "mark {n} is not in {html}");
        }
    }
}

fn chrome(mode: Mode) -> Chrome {
    Chrome {
        version: "0.1.0".into(),
        mode,
        base_url: "http://127.0.0.1:8080/below".into(),
    }
}

fn hostile_version(marks: &Marks, checksum: String) -> VersionLine {
    VersionLine {
        version: marks.next(),
        size_bytes: Some(u64::MAX),
        kept: true,
        yanked: true,
        served: u64::MAX,
        checksum,
        kept_at: Some(u64::from(u32::MAX)),
        unparsable: marks.some(),
    }
}

fn hostile_crate(marks: &Marks) -> Krate {
    let mut listed = hostile_version(&Marks::default(), HOSTILE.repeat(3));
    listed.version = marks.next();
    let this_version = VersionLine {
        version: HOSTILE.into(),
        ..hostile_version(&Marks::default(), marks.next())
    };
    Krate {
        chrome: chrome(Mode::Online),
        name: marks.next(),
        version: marks.next(),
        description: marks.some(),
        licence: marks.some(),
        rust_version: marks.some(),
        edition: marks.some(),
        keywords: marks.list(),
        categories: marks.list(),
        authors: marks.list(),
        homepage: marks.some(),
        documentation: marks.some(),
        repository: marks.some(),
        links: marks.some(),
        readme: Readme::Plain {
            text: marks.next(),
            truncated: true,
        },
        features: vec![(marks.next(), marks.list()), (marks.next(), Vec::new())],
        dependencies: [DependencyKind::Normal, DependencyKind::Build, DependencyKind::Dev]
            .map(|kind| Dependency {
                name: marks.next(),
                req: marks.next(),
                kind,
                optional: true,
                target: marks.some(),
                features: marks.list(),
            })
            .into(),
        versions: vec![listed; 20],
        more_versions: 0,
        install: marks.next(),
        this_version: VersionLine {
            unparsable: marks.some(),
            ..this_version
        },
    }
}

fn hostile_home(marks: &Marks) -> Home {
    Home {
        chrome: Chrome {
            version: marks.next(),
            ..chrome(Mode::Fallback)
        },
        config_toml: marks.next(),
        index: IndexState {
            source: marks.next(),
            files: 1,
            age: Some(Duration::MAX),
            last_error: Some((marks.next(), Duration::ZERO)),
            commit: Some("<b>'\"".into()),
            pending: 1,
        },
        cache: CacheState {
            max_bytes: Some(0),
            free_bytes: Some(0),
            ..CacheState::default()
        },
        recent: vec![CrateLine {
            name: marks.next(),
            version: marks.next(),
            description: marks.some(),
            kept_ago: Some(Duration::ZERO),
        }],
        held: 2,
    }
}

#[test]
fn hostile_strings_on_the_front_page_are_text() {
    let marks = Marks::default();
    marks.assert_shown(&home(&hostile_home(&marks)));
}

#[test]
fn hostile_strings_on_the_search_page_are_text() {
    let marks = Marks::default();
    let hit = Hit {
        name: marks.next(),
        version: marks.next(),
        description: marks.some(),
        keywords: marks.list(),
        served: 1,
    };
    let view = Search {
        chrome: chrome(Mode::Online),
        query: marks.next(),
        page: 2,
        per_page: 1,
        total: 3,
        hits: vec![hit],
    };
    let html = search(&view);
    marks.assert_shown(&html);
    marks.assert_shown(
        &search(&Search {
            hits: Vec::new(),
            total: 0,
            ..view
        })
        .replacen("</h1>", &escaped_hit(), 1),
    );
}

/// What the page without hits leaves out.
fn escaped_hit() -> String {
    let once = "&quot;&#39;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;[2J&amp;amp;&lt;/title&gt;&lt;/textarea&gt;";
    (1..=5).map(|n| format!("{once}mark{n}end")).collect::<String>() + "</h1>"
}

#[test]
fn hostile_strings_on_a_crates_page_are_text() {
    let marks = Marks::default();
    let html = krate(&hostile_crate(&marks));
    marks.assert_shown(&html);
    assert!(!html.contains("href=\"javascript"));
}

#[test]
fn hostile_strings_on_the_pages_of_the_air_gap_are_text() {
    let marks = Marks::default();
    let line = |version| WantedLine {
        name: marks.next(),
        version,
        count: u64::MAX,
        last_unix: u64::from(u32::MAX),
    };
    marks.assert_shown(&wanted(&WantedPage {
        chrome: chrome(Mode::Offline),
        lines: vec![line(marks.some()), line(None)],
        more: u64::MAX,
    }));
    let marks = Marks::default();
    let line = |bundle| ImportLine {
        unix: u64::from(u32::MAX),
        result: marks.next(),
        why: marks.some(),
        bundle,
        who: marks.next(),
        key: marks.some(),
        crate_files: u64::MAX,
        crate_bytes: u64::MAX,
        index: marks.next(),
    };
    let bundle = ImportLineBundle {
        id: marks.next(),
        site: marks.next(),
        serial: u64::MAX,
        part: 2,
        parts: 3,
    };
    marks.assert_shown(&imports(&ImportsPage {
        chrome: chrome(Mode::Offline),
        lines: vec![line(Some(bundle)), line(None)],
        is_cut: true,
    }));
}

#[test]
fn hostile_strings_on_the_other_pages_are_text() {
    let marks = Marks::default();
    let rows = vec![Row::new(marks.next(), marks.next()).with_note(marks.next())];
    let groups = vec![Group {
        title: marks.next(),
        rows,
    }];
    marks.assert_shown(&status(&Status {
        chrome: chrome(Mode::Offline),
        groups,
    }));
    let marks = Marks::default();
    marks.assert_shown(&help(&Help {
        chrome: chrome(Mode::Online),
        config_toml: marks.next(),
        older_config_toml: marks.some(),
    }));
    let marks = Marks::default();
    marks.assert_shown(&not_found(&chrome(Mode::Online), &marks.next()));
    let marks = Marks::default();
    marks.assert_shown(&failed(&chrome(Mode::Online), 503, &marks.next()));
}

#[test]
fn links_stay_below_the_mirrors_own_path() {
    let html = krate(&hostile_crate(&Marks::default()));
    let inside = assert_page(&html);
    let paths = inside
        .iter()
        .flat_map(|element| [element.get("href"), element.get("src"), element.get("action")]);
    for path in paths.flatten().filter(|path| path.starts_with('/')) {
        assert!(path.starts_with("/below/"), "{path}");
        assert!(!path.contains(['<', '>', '\'', ' ']), "{path}");
    }
}

#[test]
fn only_web_addresses_become_links() {
    let view = Krate {
        homepage: Some("https://serde.rs/".into()),
        documentation: Some("javascript:alert(1)".into()),
        repository: Some("file:///etc/passwd".into()),
        ..hostile_crate(&Marks::default())
    };
    let html = krate(&view);
    assert!(
        html.contains("<a href=\"https://serde.rs/\" rel=\"nofollow noopener noreferrer\"><bdi>serde.rs</bdi></a>")
    );
    assert!(html.contains("<bdi>javascript:alert(1)</bdi>"));
    assert!(html.contains("<bdi>file:///etc/passwd</bdi>"));
}

#[test]
fn a_readme_has_the_outline_to_itself() {
    let text = "# Title\n\n<h1 id=main>Other</h1>\n\n[a](#title)\n\n<p id=readme>x</p>\n";
    let view = Krate {
        readme: Readme::Markdown {
            text: text.into(),
            truncated: false,
        },
        ..hostile_crate(&Marks::default())
    };
    let html = krate(&view);
    assert_page(&html);
    assert!(html.contains("<h3 id=\"user-content-title\">Title</h3>"), "{html}");
    assert!(html.contains("href=\"#user-content-title\""));
}

#[test]
fn a_page_says_what_is_missing() {
    let bare = VersionLine {
        version: "1.0.0".into(),
        size_bytes: None,
        kept: false,
        yanked: false,
        served: 0,
        checksum: "ab".repeat(32),
        kept_at: None,
        unparsable: None,
    };
    let view = Krate {
        chrome: chrome(Mode::Offline),
        name: "serde".into(),
        version: "1.0.0".into(),
        description: None,
        licence: None,
        rust_version: None,
        edition: None,
        keywords: Vec::new(),
        categories: Vec::new(),
        authors: Vec::new(),
        homepage: None,
        documentation: None,
        repository: None,
        links: None,
        readme: Readme::None,
        features: Vec::new(),
        dependencies: Vec::new(),
        versions: vec![bare.clone()],
        more_versions: 0,
        install: "cargo add serde@1.0.0".into(),
        this_version: bare.clone(),
    };
    let offline = krate(&view);
    assert_page(&offline);
    assert!(offline.contains("the mirror is offline") && !offline.contains("/download\""));
    let online = krate(&Krate {
        chrome: chrome(Mode::Online),
        ..view.clone()
    });
    assert!(online.contains("fetched when a build first asks") && online.contains("/serde/1.0.0/download\""));
    let kept = VersionLine { kept: true, ..bare };
    let without_readme = krate(&Krate {
        this_version: kept,
        ..view
    });
    assert!(without_readme.contains("This version has no README."));
}

#[test]
fn the_version_shown_is_not_folded_away() {
    let mut view = hostile_crate(&Marks::default());
    assert!(krate(&view).contains("<details><summary>8 older"));
    view.versions[19].version = view.version.clone();
    let html = krate(&view);
    assert_page(&html);
    assert!(html.contains("<details open><summary>8 older"));
    assert_eq!(html.matches("aria-current=\"page\"").count(), 1);
}

#[test]
fn the_mode_and_the_version_are_on_every_page() {
    for (mode, name) in [
        (Mode::Online, "online"),
        (Mode::Fallback, "fallback"),
        (Mode::Offline, "offline"),
    ] {
        let html = not_found(
            &Chrome {
                version: "9.8.7".into(),
                ..chrome(mode)
            },
            "x",
        );
        assert!(html.contains(&format!("<span class=\"mode {name}\">{name}</span>")));
        assert!(html.contains("mirror 9.8.7"));
    }
}

#[test]
fn a_cut_readme_is_said_to_be_cut() {
    let said = "The README is longer than this";
    let with = |readme| {
        krate(&Krate {
            readme,
            ..hostile_crate(&Marks::default())
        })
        .contains(said)
    };
    assert!(with(Readme::Markdown {
        text: "x".into(),
        truncated: true
    }));
    assert!(with(Readme::Markdown {
        text: "word ".repeat(MAX_README_BYTES / 5 + 1),
        truncated: false
    }));
    assert!(!with(Readme::Markdown {
        text: "x".into(),
        truncated: false
    }));
    assert!(!with(Readme::None));
}
