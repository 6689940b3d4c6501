//! The page that says how to use the mirror and what to expect of it.

use askama::Template;

use crate::{assets, chrome::Chrome};

/// What the help page shows.
#[derive(Debug, Clone)]
pub struct Help {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// The cargo configuration for this host, as `/config.toml` gives it; for cargo 1.68 and later.
    pub config_toml: String,
    /// The configuration for older cargo, if this mirror serves the index over git.
    pub older_config_toml: Option<String>,
}

#[derive(Template)]
#[template(path = "help.html")]
struct Page<'a> {
    chrome: &'a Chrome,
    query: &'a str,
    help: &'a Help,
}

/// The page at `/help`.
pub fn help(help: &Help) -> String {
    Page {
        chrome: &help.chrome,
        query: "",
        help,
    }
    .render()
    .expect("writing to a String cannot fail")
}
