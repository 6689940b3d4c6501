//! The long form of how the mirror is doing.

use askama::Template;

use crate::{assets, chrome::Chrome};

/// What the status page shows.
#[derive(Debug, Clone)]
pub struct Status {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// The tables, in order.
    pub groups: Vec<Group>,
}

/// One table of the status page.
#[derive(Debug, Clone)]
pub struct Group {
    /// What the table is about.
    pub title: String,
    /// Its rows, in order.
    pub rows: Vec<Row>,
}

/// One fact, ready to be read.
#[derive(Debug, Clone)]
pub struct Row {
    /// What it is.
    pub label: String,
    /// How much, when, or which.
    pub value: String,
    /// What it means or what to do about it; may be empty.
    pub note: String,
}

impl Row {
    /// A row without a note.
    pub fn new(label: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            value: value.into(),
            note: String::new(),
        }
    }

    /// The same with a note.
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

#[derive(Template)]
#[template(path = "status.html")]
struct Page<'a> {
    chrome: &'a Chrome,
    query: &'a str,
    status: &'a Status,
}

/// The page at `/status`.
pub fn status(status: &Status) -> String {
    Page {
        chrome: &status.chrome,
        query: "",
        status,
    }
    .render()
    .expect("writing to a String cannot fail")
}
