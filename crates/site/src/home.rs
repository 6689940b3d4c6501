//! The front page: what this is, how to use it, and how it is doing.

use std::time::Duration;

use askama::Template;

use crate::{assets, chrome::Chrome, format, link};

/// What the front page shows.
#[derive(Debug, Clone)]
pub struct Home {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// The cargo configuration for this host, as `/config.toml` gives it.
    pub config_toml: String,
    /// The state of the index.
    pub index: IndexState,
    /// The state of the cache.
    pub cache: CacheState,
    /// What was kept last, latest first.
    pub recent: Vec<CrateLine>,
    /// How many changes from upstream wait for the operator.
    pub held: u64,
}

/// The state of the index.
#[derive(Debug, Clone)]
pub struct IndexState {
    /// Where it comes from, in words or as an address.
    pub source: String,
    /// How many index files (crates) are published.
    pub files: u64,
    /// How long ago upstream last gave a good answer.
    pub age: Option<Duration>,
    /// The last failure of upstream and how long ago it was; `None` once a good answer followed.
    pub last_error: Option<(String, Duration)>,
    /// The published commit, in hexadecimal.
    pub commit: Option<String>,
    /// How many files are served already and wait for the next commit.
    pub pending: u64,
}

/// The state of the cache.
#[derive(Debug, Clone, Default)]
pub struct CacheState {
    /// Crate files kept.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Different crates among them.
    pub crates: u64,
    /// Downloads answered from what was kept.
    pub hits: u64,
    /// Downloads that had to be fetched.
    pub misses: u64,
    /// Requests that upstream did not have to answer.
    pub requests_spared: u64,
    /// Bytes fetched from upstream.
    pub bytes_fetched: u64,
    /// Fills under way.
    pub fills_running: u64,
    /// Bytes free on the disk, if known.
    pub free_bytes: Option<u64>,
    /// The most that may be kept, in bytes, if there is a limit.
    pub max_bytes: Option<u64>,
}

/// One crate file that was kept lately.
#[derive(Debug, Clone)]
pub struct CrateLine {
    /// The crate.
    pub name: String,
    /// The version.
    pub version: String,
    /// What it says it is.
    pub description: Option<String>,
    /// How long ago it was kept.
    pub kept_ago: Option<Duration>,
}

impl CacheState {
    fn hit_percent(&self) -> u64 {
        format::percent(self.hits, self.hits.saturating_add(self.misses))
    }

    fn full_percent(&self) -> Option<u64> {
        self.max_bytes.map(|max| format::percent(self.bytes, max))
    }
}

#[derive(Template)]
#[template(path = "home.html")]
struct Page<'a> {
    chrome: &'a Chrome,
    home: &'a Home,
}

/// The page at `/`.
pub fn home(home: &Home) -> String {
    Page {
        chrome: &home.chrome,
        home,
    }
    .render()
    .expect("writing to a String cannot fail")
}
