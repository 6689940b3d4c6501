//! The page that lists what a search found.

use askama::Template;

use crate::{assets, chrome::Chrome, format, link};

/// What the search page shows.
#[derive(Debug, Clone)]
pub struct Search {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// What was asked for, as the visitor typed it; empty lists everything kept.
    pub query: String,
    /// The page shown, from 1.
    pub page: u64,
    /// Hits on a page.
    pub per_page: u64,
    /// Hits on all pages.
    pub total: u64,
    /// The hits of this page, best first.
    pub hits: Vec<Hit>,
}

/// One crate that was found.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The crate.
    pub name: String,
    /// The newest version kept.
    pub version: String,
    /// What it says it is.
    pub description: Option<String>,
    /// Its keywords.
    pub keywords: Vec<String>,
    /// How often its crate files were served here.
    pub served: u64,
}

impl Search {
    fn last_page(&self) -> u64 {
        self.total.div_ceil(self.per_page.max(1)).max(1)
    }

    fn page_path(&self, page: u64) -> String {
        format!(
            "/search?q={}&page={page}&per_page={}",
            link::encoded(&self.query),
            self.per_page
        )
    }

    fn previous(&self) -> Option<String> {
        (self.page > 1 && self.total > 0).then(|| self.page_path((self.page - 1).min(self.last_page())))
    }

    fn next(&self) -> Option<String> {
        (self.page < self.last_page()).then(|| self.page_path(self.page + 1))
    }

    /// `21–40 of 1 234 crates`.
    fn range(&self) -> String {
        let first = self
            .page
            .saturating_sub(1)
            .saturating_mul(self.per_page)
            .saturating_add(1);
        let last = first.saturating_add(self.hits.len() as u64).saturating_sub(1);
        let total = format::count(self.total, "crate", "crates");
        if first == 1 && last == self.total {
            return total;
        }
        format!("{}–{} of {total}", format::number(first), format::number(last))
    }

    /// The query, if it could be the name of a crate.
    fn crate_name(&self) -> Option<&str> {
        let name = self.query.trim();
        name.parse::<registry::CrateName>().is_ok().then_some(name)
    }
}

#[derive(Template)]
#[template(path = "search.html")]
struct Page<'a> {
    chrome: &'a Chrome,
    query: &'a str,
    search: &'a Search,
}

/// The page at `/search`.
pub fn search(search: &Search) -> String {
    Page {
        chrome: &search.chrome,
        query: &search.query,
        search,
    }
    .render()
    .expect("writing to a String cannot fail")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chrome::Mode;

    fn of(page: u64, total: u64, hits: usize) -> Search {
        let hit = Hit {
            name: "serde".into(),
            version: "1.0.0".into(),
            description: None,
            keywords: Vec::new(),
            served: 0,
        };
        Search {
            chrome: Chrome {
                version: "1".into(),
                mode: Mode::Online,
                base_url: String::new(),
            },
            query: "a b&page=9".into(),
            page,
            per_page: 20,
            total,
            hits: vec![hit; hits],
        }
    }

    #[test]
    fn paging_keeps_the_query_in_one_piece() {
        let html = search(&of(2, 50, 20));
        assert!(
            html.contains("/search?q=a%20b%26page%3D9&amp;page=1&amp;per_page=20\""),
            "{html}"
        );
        assert!(
            html.contains("/search?q=a%20b%26page%3D9&amp;page=3&amp;per_page=20\""),
            "{html}"
        );
        assert_eq!(of(2, 50, 20).range().replace('\u{A0}', " "), "21–40 of 50 crates");
    }

    #[test]
    fn the_first_and_the_last_page_end_there() {
        assert_eq!((of(1, 50, 20).previous(), of(3, 50, 10).next()), (None, None));
        assert!(of(1, 50, 20).next().is_some());
        assert_eq!(of(1, 1, 1).range().replace('\u{A0}', " "), "1 crate");
    }

    #[test]
    fn absurd_numbers_are_harmless() {
        let mut view = of(u64::MAX, u64::MAX, 0);
        view.per_page = 0;
        search(&view);
        view = of(0, 3, 3);
        search(&view);
        view = of(9, 3, 0);
        assert!(
            search(&view).contains("page=1&amp;"),
            "leads back to the last page there is"
        );
    }

    #[test]
    fn nothing_found_says_where_was_searched() {
        let mut view = of(1, 0, 0);
        assert!(!search(&view).contains("/crates/"), "no crate can have that name");
        view.query = "tokio".into();
        view.page = 2;
        let html = search(&view);
        assert!(!html.contains("aria-label=\"Pages\""), "nothing has no pages");
        assert!(html.contains("kept here"));
        assert!(html.contains("href=\"/crates/tokio\""));
    }
}
