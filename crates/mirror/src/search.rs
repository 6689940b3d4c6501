//! Search over what is kept, in crates.io's shape: for `cargo search`, the pages and `mirror search`.

use std::sync::Arc;

use index_sync::{PublishedTree, TreeFile};
use metadata_db::MetadataDb;
use registry::{CrateVersion, IndexFile, IndexPath};
use serde::Serialize;

use crate::appliance::Appliance;
use crate::error::ServeError;

/// A search as a client asks for it, whatever the client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchRequest {
    /// What to look for.
    pub query: String,
    /// From 1.
    pub page: u32,
    /// 1 to 100.
    pub per_page: u32,
}

impl SearchRequest {
    /// Reads `q`, `page` and `per_page`; what makes no sense is read as the default.
    pub fn from_query(query_string: &str) -> Self {
        let mut wanted = Self {
            query: String::new(),
            page: 1,
            per_page: 10,
        };
        for (name, value) in form_urlencoded::parse(query_string.as_bytes()) {
            match name.as_ref() {
                "q" => wanted.query = value.chars().take(256).collect(),
                "page" => wanted.page = value.parse().unwrap_or(1).clamp(1, 1_000_000),
                "per_page" => wanted.per_page = value.parse().unwrap_or(10).clamp(1, 100),
                _ => {}
            }
        }
        wanted
    }

    /// The query string that asks for another page of the same search.
    pub fn for_page(&self, page: u32) -> String {
        form_urlencoded::Serializer::new(String::new())
            .append_pair("q", &self.query)
            .append_pair("page", &page.to_string())
            .append_pair("per_page", &self.per_page.to_string())
            .finish()
    }
}

/// One page of results.
#[derive(Debug)]
pub struct Found {
    /// How many crates match.
    pub total: u64,
    /// The page this is.
    pub page: u32,
    /// How many results a page has.
    pub per_page: u32,
    /// The results, best first.
    pub crates: Vec<FoundCrate>,
}

/// One crate, with the fields of crates.io's API that a mirror knows.
#[derive(Debug, Clone, Serialize)]
pub struct FoundCrate {
    /// The same as the name, as upstream has it.
    pub id: String,
    /// The crate.
    pub name: String,
    /// From the newest kept version.
    pub description: Option<String>,
    /// From the newest kept version.
    pub keywords: Vec<String>,
    /// The highest version that the index lists and that is not yanked, pre-releases last.
    pub max_version: String,
    /// The same without pre-releases, if there is one.
    pub max_stable_version: Option<String>,
    /// The highest version that is kept here.
    pub kept_version: String,
    /// Downloads from this mirror.
    pub downloads: u64,
    /// Whether the query is this crate's name.
    pub exact_match: bool,
}

/// Searches on a thread where blocking is allowed.
pub async fn search(appliance: Arc<Appliance>, wanted: SearchRequest) -> Result<Found, ServeError> {
    let searching =
        tokio::task::spawn_blocking(move || search_now(&appliance.metadata, &appliance.index.tree(), &wanted));
    searching.await.map_err(|_| ServeError::Abandoned)?
}

/// Searches here and now.
pub fn search_now(metadata: &MetadataDb, tree: &PublishedTree, wanted: &SearchRequest) -> Result<Found, ServeError> {
    let found = metadata.search(&wanted.query, wanted.page, wanted.per_page)?;
    let crates = found.hits.into_iter().map(|hit| {
        let listed = newest_listed(tree, &IndexPath::of(&hit.name)).unwrap_or_default();
        let newest = hit.newest.to_string();
        FoundCrate {
            id: hit.name.to_string(),
            name: hit.name.to_string(),
            description: hit.description,
            keywords: hit.keywords,
            max_version: listed.any.unwrap_or_else(|| newest.clone()),
            max_stable_version: listed.stable,
            kept_version: newest,
            downloads: hit.served_count,
            exact_match: hit.exact_match,
        }
    });
    Ok(Found {
        total: found.total,
        page: found.page,
        per_page: found.per_page,
        crates: crates.collect(),
    })
}

#[derive(Debug, Default)]
struct Newest {
    any: Option<String>,
    stable: Option<String>,
}

/// The newest versions that the published index lists: not yanked if there is one, releases before pre-releases.
fn newest_listed(tree: &PublishedTree, path: &IndexPath) -> Option<Newest> {
    let blob = tree.read(&TreeFile::Index(path.clone())).ok()??;
    let file = IndexFile::parse_readable(&blob.bytes, path);
    let version = |vers: &str| vers.parse::<CrateVersion>().ok();
    let rank = |line: &&registry::IndexLine<'_>| {
        let version = version(&line.vers);
        (
            !line.yanked,
            version.as_ref().is_some_and(|version| !version.is_prerelease()),
            version,
        )
    };
    let best = file.lines().iter().max_by_key(rank)?;
    let any = best.vers.clone().into_owned();
    let stable = version(&best.vers)
        .is_some_and(|version| !version.is_prerelease())
        .then(|| any.clone());
    Some(Newest { any: Some(any), stable })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_query_string_is_read() {
        let read = SearchRequest::from_query;
        let plain = read("q=serde+json&per_page=5&page=2");
        assert_eq!((plain.query.as_str(), plain.page, plain.per_page), ("serde json", 2, 5));
        for odd in [
            "",
            "q",
            "q=%ff%00",
            "page=-1&per_page=0",
            "page=99999999999999&per_page=1e9",
            "q=a&q=b",
            "%=&&&",
        ] {
            let odd = read(odd);
            assert!(odd.page >= 1 && (1..=100).contains(&odd.per_page));
        }
        let long = format!("q={}", "x".repeat(1_000_000));
        assert_eq!(read(&long).query.len(), 256);
        assert_eq!(plain.for_page(3), "q=serde+json&page=3&per_page=5");
    }
}
