//! What the pages show, gathered from the index, the cache and the database. Blocks.

mod air_gap;
mod keeping;
mod status;

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

pub use air_gap::{imports, wanted};
use index_sync::TreeFile;
use metadata_db::{DependencyKind, KeptRow, Manifest, ManifestState, VersionDetails};
use registry::{Checksum, CrateName, CrateVersion, IndexFile, IndexPath};
use site::{CacheState, Chrome, CrateLine, Home, IndexState, Krate, VersionLine};
pub use status::status;

use crate::appliance::Appliance;
use crate::client_config::{client_config, older_client_config};
use crate::clock::unix_now;
use crate::error::ServeError;
use crate::free_space::free_bytes;
use crate::search::{Found, SearchRequest};
use crate::settings::{Follow, Mode};

/// How many crates the front page lists as kept last.
const RECENT: u32 = 8;

/// How many versions a page lists, newest first; some crates have thousands.
const MAX_VERSIONS: usize = 500;

/// What surrounds every page, for a visitor who came by `base_url`.
pub fn chrome(appliance: &Appliance, base_url: &str) -> Chrome {
    let mode = match appliance.mode() {
        Mode::Online => site::Mode::Online,
        Mode::Fallback => site::Mode::Fallback,
        Mode::Offline => site::Mode::Offline,
    };
    Chrome {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode,
        base_url: base_url.to_owned(),
    }
}

/// The front page.
pub fn home(appliance: &Appliance, chrome: Chrome) -> Result<String, ServeError> {
    let recent = appliance.metadata.recently_kept(RECENT)?;
    let recent = recent.into_iter().map(|(row, description)| CrateLine {
        kept_ago: ago(row.kept_at),
        name: row.name.to_string(),
        version: row.version.to_string(),
        description,
    });
    let index = index_state(appliance);
    Ok(site::home(&Home {
        config_toml: client_config(&chrome.base_url),
        cache: cache_state(appliance)?,
        held: appliance.index.status().held,
        recent: recent.collect(),
        index,
        chrome,
    }))
}

/// The page that says how to use the mirror.
pub fn help(appliance: &Appliance, chrome: Chrome) -> String {
    let host = chrome.base_url.split("//").nth(1);
    let host = host.map(|rest| rest.split('/').next().unwrap_or_default());
    let served = serves_git(appliance) && appliance.git_client(host).is_ok();
    site::help(&site::Help {
        config_toml: client_config(&chrome.base_url),
        older_config_toml: served.then(|| older_client_config(&chrome.base_url)),
        chrome,
    })
}

/// Whether git clients get an index, at once or after they have waited for it.
fn serves_git(appliance: &Appliance) -> bool {
    let settings = &appliance.settings;
    let (git, sparse) = (&settings.upstream.git, &settings.upstream.sparse);
    let alone = appliance.mode() == Mode::Offline || git.is_none() && sparse.is_none();
    let follows = git.is_some() && settings.follow != Follow::Never;
    let synced = appliance.index.follow_status().is_some_and(|status| status.synced);
    alone || follows || synced || settings.serve_partial
}

fn ago(unix: i64) -> Option<Duration> {
    u64::try_from(unix_now() - unix).ok().map(Duration::from_secs)
}

fn index_state(appliance: &Appliance) -> IndexState {
    let status = appliance.index.status();
    let since = |time: SystemTime| time.elapsed().unwrap_or_default();
    // an error that a good answer followed is history
    let error = status
        .last_upstream_error
        .filter(|(at, _)| status.last_upstream_success.is_none_or(|good| good < *at));
    IndexState {
        source: appliance.upstream_name(),
        files: status.files,
        age: status.last_upstream_success.map(since),
        last_error: error.map(|(at, why)| (why, since(at))),
        commit: status.tip.map(|tip| tip.commit.to_string()),
        pending: status.pending as u64,
    }
}

fn cache_state(appliance: &Appliance) -> Result<CacheState, ServeError> {
    let (totals, counted) = (appliance.metadata.totals()?, appliance.all_time()?);
    Ok(CacheState {
        files: totals.files,
        bytes: totals.bytes,
        crates: totals.crates,
        hits: counted["hits"],
        misses: counted["misses"],
        requests_spared: counted["hits"]
            + counted["waiters_joined"]
            + counted["index_answers"].saturating_sub(counted["index_requests"]),
        bytes_fetched: counted["bytes_fetched"],
        fills_running: appliance.cache.stats().fills_running,
        free_bytes: free_bytes(appliance.data_dir()).ok(),
        max_bytes: appliance.settings.cache.max_bytes,
    })
}

/// The page of results.
pub fn search(chrome: Chrome, wanted: SearchRequest, found: Found) -> String {
    let hits = found.crates.into_iter().map(|found| site::Hit {
        name: found.name,
        version: found.kept_version,
        description: found.description,
        keywords: found.keywords,
        served: found.downloads,
    });
    site::search(&site::Search {
        chrome,
        query: wanted.query,
        page: u64::from(found.page),
        per_page: u64::from(found.per_page),
        total: found.total,
        hits: hits.collect(),
    })
}

/// The page of a crate: of `version`, else of its newest kept version, else of the newest that the index lists. `None` if
/// neither knows it.
pub fn krate(
    appliance: &Appliance,
    chrome: Chrome,
    name: &CrateName,
    version: Option<&CrateVersion>,
) -> Result<Option<String>, ServeError> {
    let details = appliance.metadata.crate_details(name)?;
    let shown = match version {
        Some(version) => appliance.metadata.version_details(name, version)?,
        None => details.as_ref().map(|details| details.newest.clone()),
    };
    // what is kept is found by any spelling, an index file only by its own
    let newest = details.as_ref().map(|details| details.newest.row.name.clone());
    let spelled = newest.unwrap_or_else(|| name.clone());
    let kept = details.map(|details| details.versions).unwrap_or_default();
    let mut versions = version_lines(appliance, &spelled, &kept)?;
    let wanted = version
        .map(ToString::to_string)
        .or_else(|| shown.as_ref().map(|shown| shown.row.version.to_string()));
    let this = match &wanted {
        Some(wanted) => versions.iter().find(|line| line.version == *wanted),
        None => versions.iter().find(|line| !line.yanked).or(versions.first()),
    };
    let Some(this) = this.cloned() else { return Ok(None) };
    let more_versions = versions.len().saturating_sub(MAX_VERSIONS);
    versions.truncate(MAX_VERSIONS);
    Ok(Some(site::krate(&page(
        chrome,
        spelled.to_string(),
        this,
        (versions, more_versions),
        shown,
    ))))
}

fn page(
    chrome: Chrome,
    name: String,
    this: VersionLine,
    (versions, more_versions): (Vec<VersionLine>, usize),
    shown: Option<VersionDetails>,
) -> Krate {
    let manifest = match shown.map(|shown| shown.manifest) {
        Some(ManifestState::Read(manifest)) => *manifest,
        _ => Manifest::default(),
    };
    let edition = Some(manifest.edition.clone()).filter(|edition| !edition.is_empty());
    Krate {
        chrome,
        install: format!("cargo add {name}@{}", this.version),
        name,
        version: this.version.clone(),
        readme: readme(&manifest),
        dependencies: manifest.dependencies.into_iter().map(dependency).collect(),
        description: manifest.description,
        licence: manifest.license.or(manifest.license_file),
        rust_version: manifest.rust_version,
        edition,
        keywords: manifest.keywords,
        categories: manifest.categories,
        authors: manifest.authors,
        homepage: manifest.homepage,
        documentation: manifest.documentation,
        repository: manifest.repository,
        links: manifest.links,
        features: manifest.features.into_iter().collect(),
        versions,
        more_versions,
        this_version: this,
    }
}

fn readme(manifest: &Manifest) -> site::Readme {
    let Some(readme) = &manifest.readme else {
        return site::Readme::None;
    };
    let path = readme.path.to_ascii_lowercase();
    if path.ends_with(".txt") || path.ends_with(".rst") || path.ends_with(".adoc") {
        site::Readme::Plain {
            text: readme.text.clone(),
            truncated: readme.cut,
        }
    } else {
        site::Readme::Markdown {
            text: readme.text.clone(),
            truncated: readme.cut,
        }
    }
}

fn dependency(dependency: metadata_db::Dependency) -> site::Dependency {
    site::Dependency {
        name: dependency.package.unwrap_or(dependency.name),
        req: dependency.req,
        kind: match dependency.kind {
            DependencyKind::Normal => site::DependencyKind::Normal,
            DependencyKind::Dev => site::DependencyKind::Dev,
            DependencyKind::Build => site::DependencyKind::Build,
        },
        optional: dependency.optional,
        target: dependency.target,
        features: dependency.features,
    }
}

/// All versions that the published index lists or that are kept, newest first.
fn version_lines(appliance: &Appliance, name: &CrateName, kept: &[KeptRow]) -> Result<Vec<VersionLine>, ServeError> {
    let path = IndexPath::of(name);
    let mut rows: HashMap<&str, &KeptRow> = kept.iter().map(|row| (row.version.as_str(), row)).collect();
    let blob = appliance.index.tree().read(&TreeFile::Index(path.clone()))?;
    let bytes = blob.map(|blob| blob.bytes).unwrap_or_default();
    let file = IndexFile::parse_readable(&bytes, &path);
    let mut lines: Vec<(Option<CrateVersion>, VersionLine)> = Vec::new();
    for line in file.lines() {
        let row = rows.remove(line.vers.as_ref());
        lines.push((
            line.vers.parse().ok(),
            version_line(&line.vers, line.checksum, line.yanked, row),
        ));
    }
    for row in rows.into_values() {
        lines.push((
            Some(row.version.clone()),
            version_line(row.version.as_str(), row.checksum, false, Some(row)),
        ));
    }
    lines.sort_by(|a, b| b.0.cmp(&a.0));
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}

fn version_line(version: &str, checksum: Checksum, yanked: bool, row: Option<&KeptRow>) -> VersionLine {
    VersionLine {
        version: version.to_owned(),
        size_bytes: row.map(|row| row.size_bytes),
        kept: row.is_some(),
        yanked,
        served: row.map_or(0, |row| row.served_count),
        checksum: checksum.to_hex(),
        kept_at: row.and_then(|row| u64::try_from(row.kept_at).ok()),
        unparsable: row.and_then(|row| row.unparsable.clone()),
    }
}
