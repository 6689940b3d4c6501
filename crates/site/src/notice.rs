//! The pages for when there is nothing to show.

use askama::Template;

use crate::{assets, chrome::Chrome};

#[derive(Template)]
#[template(path = "notice.html")]
struct Page<'a> {
    chrome: &'a Chrome,
    query: &'a str,
    status: u16,
    title: &'a str,
    what: &'a str,
}

/// The page for an address that leads nowhere; `what` is a sentence that says what is not there.
pub fn not_found(chrome: &Chrome, what: &str) -> String {
    page(chrome, 404, "Not here", what)
}

/// The page for a request that failed with that HTTP status; `what` is a sentence a visitor can act on.
pub fn failed(chrome: &Chrome, status: u16, what: &str) -> String {
    let title = match status {
        400..=499 => "That did not work",
        502 | 504 => "Upstream did not answer",
        503 => "Not just now",
        _ => "Something went wrong here",
    };
    page(chrome, status, title, what)
}

fn page(chrome: &Chrome, status: u16, title: &str, what: &str) -> String {
    Page {
        chrome,
        query: "",
        status,
        title,
        what,
    }
    .render()
    .expect("writing to a String cannot fail")
}
