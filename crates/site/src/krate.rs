//! The page of one crate, or of one version of it.

use askama::Template;

use crate::{assets, chrome::Chrome, format, link, readme};

/// What the page of a crate shows; most of it was read out of the crate file of `this_version`, if that is kept.
#[derive(Debug, Clone)]
pub struct Krate {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// The crate.
    pub name: String,
    /// The version this page is about.
    pub version: String,
    /// What it says it is.
    pub description: Option<String>,
    /// Its licence, an SPDX expression or the name of a file.
    pub licence: Option<String>,
    /// The oldest Rust it says it builds with.
    pub rust_version: Option<String>,
    /// Its edition.
    pub edition: Option<String>,
    /// Its keywords.
    pub keywords: Vec<String>,
    /// Its categories.
    pub categories: Vec<String>,
    /// Its authors, as it names them.
    pub authors: Vec<String>,
    /// Where it says its home is; becomes a link if it is one to the web.
    pub homepage: Option<String>,
    /// Where it says its documentation is.
    pub documentation: Option<String>,
    /// Where it says its source is.
    pub repository: Option<String>,
    /// The native library it links to.
    pub links: Option<String>,
    /// Its README.
    pub readme: Readme,
    /// Its features, each with what it turns on.
    pub features: Vec<(String, Vec<String>)>,
    /// What it depends on.
    pub dependencies: Vec<Dependency>,
    /// The versions the index lists, newest first.
    pub versions: Vec<VersionLine>,
    /// How many older ones there are beside those.
    pub more_versions: usize,
    /// What to type to depend on it, as in `cargo add serde@1.0.0`.
    pub install: String,
    /// The version this page is about.
    pub this_version: VersionLine,
}

/// A README as it was found in a crate file.
#[derive(Debug, Clone)]
pub enum Readme {
    /// There is none, or the crate file is not kept.
    None,
    /// Markdown.
    Markdown {
        /// As the author wrote it.
        text: String,
        /// There was more of it.
        truncated: bool,
    },
    /// Anything else; shown as it is.
    Plain {
        /// As the author wrote it.
        text: String,
        /// There was more of it.
        truncated: bool,
    },
}

/// When a dependency is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DependencyKind {
    /// To use the crate.
    Normal,
    /// To run its build script.
    Build,
    /// To test it.
    Dev,
}

/// One crate that another one depends on.
#[derive(Debug, Clone)]
pub struct Dependency {
    /// The crate's own name, not what it was renamed to.
    pub name: String,
    /// Which versions will do, as in `^1.0`.
    pub req: String,
    /// When it is needed.
    pub kind: DependencyKind,
    /// Only a feature turns it on.
    pub optional: bool,
    /// The platform it is limited to, as in `cfg(unix)`.
    pub target: Option<String>,
    /// The features of it that are asked for.
    pub features: Vec<String>,
}

/// One version that the index lists.
#[derive(Debug, Clone)]
pub struct VersionLine {
    /// The version.
    pub version: String,
    /// The size of the crate file, if known.
    pub size_bytes: Option<u64>,
    /// The crate file is kept here.
    pub kept: bool,
    /// The author withdrew it from new lock files.
    pub yanked: bool,
    /// How often it was served here.
    pub served: u64,
    /// The crate file's SHA-256 in hexadecimal.
    pub checksum: String,
    /// When it was kept, in seconds since 1970.
    pub kept_at: Option<u64>,
    /// Why the crate file's manifest could not be read, if it could not.
    pub unparsable: Option<String>,
}

/// Versions shown before the rest folds away.
const VERSIONS_SHOWN: usize = 12;

impl Krate {
    fn of_kind(&self, kind: DependencyKind) -> Vec<&Dependency> {
        self.dependencies
            .iter()
            .filter(|dependency| dependency.kind == kind)
            .collect()
    }

    fn dependency_groups(&self) -> Vec<(&'static str, Vec<&Dependency>)> {
        [
            ("To use it", DependencyKind::Normal),
            ("To build it", DependencyKind::Build),
            ("To test it", DependencyKind::Dev),
        ]
        .into_iter()
        .map(|(title, kind)| (title, self.of_kind(kind)))
        .filter(|(_, dependencies)| !dependencies.is_empty())
        .collect()
    }

    fn addresses(&self) -> Vec<Address<'_>> {
        [
            ("Homepage", &self.homepage),
            ("Documentation", &self.documentation),
            ("Repository", &self.repository),
        ]
        .into_iter()
        .filter_map(|(label, text)| {
            Some(Address {
                label,
                text: text.as_deref()?,
                target: link::web_address(text.as_deref()?),
            })
        })
        .collect()
    }

    fn versions_shown(&self) -> &[VersionLine] {
        &self.versions[..self.versions.len().min(VERSIONS_SHOWN)]
    }

    fn versions_folded(&self) -> &[VersionLine] {
        &self.versions[self.versions_shown().len()..]
    }

    fn is_folded_away(&self) -> bool {
        self.versions_folded().iter().any(|line| line.version == self.version)
    }
}

struct Address<'a> {
    label: &'static str,
    text: &'a str,
    target: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "krate.html")]
struct Page<'a> {
    chrome: &'a Chrome,
    query: &'a str,
    krate: &'a Krate,
    /// Already sanitised: the one string that the template does not escape.
    readme_html: Option<String>,
    truncated: bool,
}

/// The page at `/crates/{crate}` and at `/crates/{crate}/{version}`. A very large README takes far longer than all else, so call it where blocking is allowed.
pub fn krate(krate: &Krate) -> String {
    let (readme_html, truncated) = match &krate.readme {
        Readme::Markdown { text, truncated } => (
            Some(readme::sanitised(text)),
            *truncated || text.len() > readme::MAX_README_BYTES,
        ),
        Readme::Plain { truncated, .. } => (None, *truncated),
        Readme::None => (None, false),
    };
    Page {
        chrome: &krate.chrome,
        query: "",
        krate,
        readme_html,
        truncated,
    }
    .render()
    .expect("writing to a String cannot fail")
}
