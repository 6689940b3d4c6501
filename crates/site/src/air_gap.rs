//! The pages about what crosses the air gap: what is wanted, and what was imported.

use askama::Template;

use crate::{assets, chrome::Chrome, format};

/// What the page of wanted crates shows.
#[derive(Debug, Clone)]
pub struct WantedPage {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// The lines, in order.
    pub lines: Vec<WantedLine>,
    /// How many more there are.
    pub more: u64,
}

/// Something that was asked for in vain.
#[derive(Debug, Clone)]
pub struct WantedLine {
    /// The crate.
    pub name: String,
    /// The version; `None` if not even the crate's index file is here.
    pub version: Option<String>,
    /// How often it was asked for.
    pub count: u64,
    /// When last, in Unix seconds.
    pub last_unix: u64,
}

/// What the page of imports shows.
#[derive(Debug, Clone)]
pub struct ImportsPage {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// The latest first.
    pub lines: Vec<ImportLine>,
    /// Whether there are older ones.
    pub is_cut: bool,
}

/// One row of the log of imports.
#[derive(Debug, Clone)]
pub struct ImportLine {
    /// When, in Unix seconds.
    pub unix: u64,
    /// What came of it, in one word.
    pub result: String,
    /// Why, where that needs saying.
    pub why: Option<String>,
    /// Which bundle; loose files have none.
    pub bundle: Option<ImportLineBundle>,
    /// The user who gave the command.
    pub who: String,
    /// The key it was signed with.
    pub key: Option<String>,
    /// Crate files that were taken.
    pub crate_files: u64,
    /// Their bytes.
    pub crate_bytes: u64,
    /// What it did to the index, in words; empty if nothing.
    pub index: String,
}

/// The bundle of a row.
#[derive(Debug, Clone)]
pub struct ImportLineBundle {
    /// Its id.
    pub id: String,
    /// Its site's id.
    pub site: String,
    /// Its serial.
    pub serial: u64,
    /// Which part, from 1.
    pub part: u32,
    /// Of how many.
    pub parts: u32,
}

impl ImportLine {
    /// How the result is coloured.
    fn tag(&self) -> &'static str {
        match self.result.as_str() {
            "imported" | "files" => "good",
            "refused" => "bad",
            _ => "warn",
        }
    }
}

#[derive(Template)]
#[template(path = "wanted.html")]
struct Wanted<'a> {
    chrome: &'a Chrome,
    query: &'a str,
    wanted: &'a WantedPage,
}

#[derive(Template)]
#[template(path = "imports.html")]
struct Imports<'a> {
    chrome: &'a Chrome,
    query: &'a str,
    imports: &'a ImportsPage,
}

/// The page at `/wanted`.
pub fn wanted(wanted: &WantedPage) -> String {
    Wanted {
        chrome: &wanted.chrome,
        query: "",
        wanted,
    }
    .render()
    .expect("writing to a String cannot fail")
}

/// The page at `/imports`.
pub fn imports(imports: &ImportsPage) -> String {
    Imports {
        chrome: &imports.chrome,
        query: "",
        imports,
    }
    .render()
    .expect("writing to a String cannot fail")
}
