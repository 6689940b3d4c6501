//! `mirror search`: reads the database directly, beside a running server or without one.

use index_sync::PublishedTree;
use metadata_db::MetadataDb;
use serde_json::json;

use super::{Ended, say};
use crate::data_dir::check_format;
use crate::search::{Found, SearchRequest, search_now};
use crate::settings::Settings;

/// Prints what is found, as `cargo search` does.
pub fn search(settings: &Settings, query: &str, limit: u32, as_json: bool) -> Ended {
    check_format(&settings.data_dir)?;
    let metadata = MetadataDb::open_read_only(&settings.data_dir.join("mirror.db"))?;
    let tree = PublishedTree::open_read_only(&settings.data_dir.join("index.git"))?;
    let wanted = SearchRequest {
        query: query.to_owned(),
        page: 1,
        per_page: limit,
    };
    let found = search_now(&metadata, &tree, &wanted)?;
    if as_json {
        let json = json!({ "crates": found.crates, "meta": { "total": found.total } });
        return say(&escaped(&format!("{json:#}\n")));
    }
    say(&lines(&found))
}

fn lines(found: &Found) -> String {
    let named = |krate: &crate::search::FoundCrate| format!("{} = \"{}\"", krate.name, krate.max_version);
    let width = found.crates.iter().map(|krate| named(krate).len()).max().unwrap_or(0);
    let mut out = String::new();
    for krate in &found.crates {
        // what a crate says of itself may hold anything: no control character reaches the terminal
        let text: String = krate
            .description
            .iter()
            .flat_map(|text| text.chars())
            .map(harmless)
            .collect();
        let text: String = text
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .take(120)
            .collect();
        out.push_str(format!("{:width$}    # {text}", named(krate)).trim_end_matches([' ', '#']));
        out.push('\n');
    }
    let more = found.total.saturating_sub(found.crates.len() as u64);
    if found.crates.is_empty() {
        out.push_str("nothing that is kept here matches\n");
    } else if more > 0 {
        out.push_str(&format!("... and {more} crates more (use --limit N to see more)\n"));
    }
    out
}

fn harmless(c: char) -> char {
    if drives_terminal(c) { ' ' } else { c }
}

/// The same JSON: what a terminal would obey can only be inside strings, where it may as well be escaped.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if drives_terminal(c) && c != '\n' {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// Control characters, and those that turn the direction of text.
pub(super) fn drives_terminal(c: char) -> bool {
    let bidi = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || bidi
}
