//! Searching what is kept.

use std::time::Duration;

use registry::{CrateName, CrateVersion};
use rusqlite::{OptionalExtension, Transaction, named_params};

use crate::columns::{json, parsed, signed, to_json, unsigned};
use crate::{Error, Manifest, MetadataDb};

/// The most hits on one page.
pub const MAX_PER_PAGE: u32 = 100;
const MAX_QUERY_CHARS: usize = 256;
const MAX_TOKENS: usize = 16;
/// Of a README, so much can be searched; the rest would cost more than it finds.
const MAX_INDEXED_README_BYTES: usize = 64 << 10;
/// How long one attempt may keep a reader busy.
const TIME_LIMIT: Duration = Duration::from_millis(100);

/// One page of what a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchPage {
    /// How many crates match, on all pages.
    pub total: u64,
    /// The page this is, from 1, after clamping.
    pub page: u32,
    /// How many hits a page has, after clamping.
    pub per_page: u32,
    /// The best first.
    pub hits: Vec<Hit>,
    /// The query took too long: only names were looked at, or nothing.
    pub timed_out: bool,
}

/// One crate that a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// As the newest kept version spells it.
    pub name: CrateName,
    /// The highest kept version, releases before pre-releases.
    pub newest: CrateVersion,
    /// From that version's Cargo.toml.
    pub description: Option<String>,
    /// From that version's Cargo.toml.
    pub keywords: Vec<String>,
    /// How often all its versions together were served.
    pub served_count: u64,
    /// When the newest version was kept, in Unix seconds.
    pub updated: i64,
    /// The query is this crate's name; case, `-`, `_` and spaces do not matter.
    pub exact_match: bool,
}

/// What a query string asks for, after it was made harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Query {
    /// To compare canonical names with.
    name: String,
    /// In FTS5's language, every word quoted; `None` if there is no word.
    words: Option<String>,
}

impl Query {
    fn new(text: &str) -> Self {
        let text: String = text.trim().chars().take(MAX_QUERY_CHARS).collect();
        let name = text.split_whitespace().collect::<Vec<_>>().join("_");
        let mut tokens: Vec<&str> = text
            .split(|letter: char| !letter.is_alphanumeric())
            .filter(|token| !token.is_empty())
            .collect();
        tokens.truncate(MAX_TOKENS);
        // A prefix of one letter would match half of all words.
        let prefix = tokens.last().is_some_and(|last| last.chars().nth(1).is_some());
        let quoted: Vec<String> = tokens.iter().map(|token| format!("\"{token}\"")).collect();
        let words = (!quoted.is_empty()).then(|| quoted.join(" ") + if prefix { " *" } else { "" });
        Self {
            name: name.to_lowercase().replace('-', "_"),
            words,
        }
    }
}

/// Where a search looks besides names: once with ranks, and once without, to count.
#[derive(Debug, Clone, Copy)]
struct Texts {
    ranked: &'static str,
    counted: &'static str,
}

const BY_WORDS: Texts = Texts {
    ranked: "SELECT rowid AS id, bm25(crate_search, 10.0, 5.0, 3.0, 1.0) AS rank
        FROM crate_search WHERE crate_search MATCH :words",
    counted: "SELECT rowid AS id, NULL AS rank FROM crate_search WHERE crate_search MATCH :words",
};

const NO_TEXTS: &str = "SELECT NULL AS id, NULL AS rank WHERE :words IS NOT NULL AND 0";
const BY_NAME_ALONE: Texts = Texts {
    ranked: NO_TEXTS,
    counted: NO_TEXTS,
};

/// What the texts have, and the crates whose names have the query anywhere.
fn found_in(texts: &str) -> String {
    format!(
        "WITH texts AS MATERIALIZED ({texts}),
         found AS MATERIALIZED (
             SELECT id, rank FROM texts
             UNION ALL
             SELECT id, NULL FROM crates WHERE instr(canonical, :name) > 0 AND id NOT IN (SELECT id FROM texts)
         )"
    )
}

const BEST_FIRST: &str = "SELECT id FROM found JOIN crates USING (id)
    ORDER BY canonical = :name DESC, :name <> '' AND substr(canonical, 1, length(:name)) = :name DESC,
        rank IS NULL, rank, canonical
    LIMIT :limit OFFSET :offset";

impl MetadataDb {
    /// The crates that match `query`: the one of that name first, then names that begin with it, then by relevance over
    /// name, keywords, description and README. An empty query lists all by name.
    ///
    /// Any text is answered. It counts as words, all of which must occur (the last one as a prefix), and as part of a
    /// name; nothing in it is an operator. `page` counts from 1; `per_page` is at most [`MAX_PER_PAGE`].
    /// A search that takes longer than a tenth of a second is given up and names alone are looked at.
    pub fn search(&self, query: &str, page: u32, per_page: u32) -> Result<SearchPage, Error> {
        self.search_within(TIME_LIMIT, query, page, per_page)
    }

    fn search_within(&self, limit: Duration, query: &str, page: u32, per_page: u32) -> Result<SearchPage, Error> {
        let query = Query::new(query);
        let empty = SearchPage {
            page: page.max(1),
            per_page: per_page.clamp(1, MAX_PER_PAGE),
            ..SearchPage::default()
        };
        let attempt = |texts| {
            self.database()
                .read_within(limit, "search", |snapshot| find(snapshot, &query, texts, empty.clone()))
        };
        if query.words.is_none() {
            let timed_out = SearchPage {
                timed_out: true,
                ..empty.clone()
            };
            return Ok(attempt(BY_NAME_ALONE)?.unwrap_or(timed_out));
        }
        if let Some(found) = attempt(BY_WORDS)? {
            return Ok(found);
        }
        log::warn!("a search took too long; only names were looked at: {:?}", query.name);
        let names = attempt(BY_NAME_ALONE)?.unwrap_or(empty);
        Ok(SearchPage {
            timed_out: true,
            ..names
        })
    }
}

fn find(snapshot: &Transaction<'_>, query: &Query, texts: Texts, mut page: SearchPage) -> rusqlite::Result<SearchPage> {
    page.total = snapshot
        .prepare_cached(&format!("{} SELECT count(*) FROM found", found_in(texts.counted)))?
        .query_row(named_params! { ":name": query.name, ":words": query.words }, |row| {
            row.get(0).map(unsigned)
        })?;
    let offset = u64::from(page.page - 1) * u64::from(page.per_page);
    if offset >= page.total {
        return Ok(page);
    }
    let ids: Vec<i64> = snapshot
        .prepare_cached(&format!("{} {BEST_FIRST}", found_in(texts.ranked)))?
        .query_map(
            named_params! {
                ":name": query.name,
                ":words": query.words,
                ":limit": page.per_page,
                ":offset": signed(offset),
            },
            |row| row.get(0),
        )?
        .collect::<rusqlite::Result<_>>()?;
    page.hits = ids
        .into_iter()
        .map(|id| hit(snapshot, id, &query.name))
        .collect::<rusqlite::Result<_>>()?;
    Ok(page)
}

fn hit(snapshot: &Transaction<'_>, id: i64, wanted: &str) -> rusqlite::Result<Hit> {
    snapshot
        .prepare_cached(
            "SELECT name, newest_version, description, keywords, updated_at, canonical,
                 (SELECT coalesce(sum(served_count), 0) FROM kept_files JOIN served USING (checksum)
                  WHERE crate_id = crates.id)
             FROM crates WHERE id = ?1",
        )?
        .query_row([id], |row| {
            Ok(Hit {
                name: parsed(row, 0)?,
                newest: parsed(row, 1)?,
                description: row.get(2)?,
                keywords: json(row, 3)?,
                updated: row.get(4)?,
                exact_match: row.get::<_, String>(5)? == wanted,
                served_count: unsigned(row.get(6)?),
            })
        })
}

/// Writes the crate's row and search entry from its kept file `file_id`. The old entry must be gone.
pub(crate) fn index_crate(transaction: &Transaction<'_>, id: i64, file_id: i64) -> rusqlite::Result<()> {
    let texts: Option<(Manifest, Option<String>)> = transaction
        .prepare_cached("SELECT manifest, readme FROM crate_texts WHERE file_id = ?1")?
        .query_row([file_id], |row| Ok((json(row, 0)?, row.get(1)?)))
        .optional()?;
    let (manifest, readme) = texts.unwrap_or_default();
    transaction
        .prepare_cached(
            "UPDATE crates SET (name, newest_version, updated_at)
                 = (SELECT name, version, kept_at FROM kept_files WHERE kept_files.id = ?2),
                 description = ?3, keywords = ?4
             WHERE id = ?1",
        )?
        .execute((id, file_id, &manifest.description, to_json(&manifest.keywords)))?;
    let readme = readme.as_deref().map(|text| cut(text, MAX_INDEXED_README_BYTES));
    let keywords = [manifest.keywords, manifest.categories].concat().join(" ");
    transaction
        .prepare_cached(
            "INSERT INTO crate_search (rowid, name, keywords, description, readme)
             SELECT id, canonical || ' ' || replace(canonical, '_', ''), ?2, ?3, ?4 FROM crates WHERE id = ?1",
        )?
        .execute((id, keywords, manifest.description, readme))?;
    Ok(())
}

/// The beginning of `text`, at most `limit` bytes, whole characters.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests;
