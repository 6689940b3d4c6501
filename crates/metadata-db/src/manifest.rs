//! A Cargo.toml, and what of it is remembered.

use std::collections::BTreeMap;

use cargo_toml::{DependencyDetail, DepsSet, Inheritable, OptionalFile, Package};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// What could be read out of a crate file. It is served either way: its checksum is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestState {
    /// Its Cargo.toml and README.
    Read(Box<Manifest>),
    /// Nothing, and why: a fragment such as "`a-1.0.0/x` is a symlink".
    Unparsable(String),
}

/// What a crate's Cargo.toml and README say, as its publisher wrote it: links are not checked, texts not sanitised.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// One line about the crate.
    pub description: Option<String>,
    /// Up to five, for search.
    pub keywords: Vec<String>,
    /// Slugs such as `development-tools::testing`.
    pub categories: Vec<String>,
    /// An SPDX expression.
    pub license: Option<String>,
    /// The path of a licence of its own.
    pub license_file: Option<String>,
    /// Any text; not only http(s) addresses occur.
    pub homepage: Option<String>,
    /// Any text, as `homepage`.
    pub documentation: Option<String>,
    /// Any text, as `homepage`.
    pub repository: Option<String>,
    /// The native library it links.
    pub links: Option<String>,
    /// The oldest Rust it builds with.
    pub rust_version: Option<String>,
    /// `2015` if it names none.
    pub edition: String,
    /// Names, often with addresses.
    pub authors: Vec<String>,
    /// What each feature turns on.
    pub features: BTreeMap<String, Vec<String>>,
    /// Of all kinds and for all targets.
    pub dependencies: Vec<Dependency>,
    /// The crate file holds more than was looked at; the end of it may differ from what is said here.
    pub partial: bool,
    /// Its README, if it has one.
    #[serde(skip)]
    pub readme: Option<Readme>,
}

/// A README as it stands in the crate file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readme {
    /// Its path inside the crate, which tells its format.
    pub path: String,
    /// At most 512 KiB; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// It was longer.
    pub cut: bool,
}

/// One dependency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The name it is used by.
    pub name: String,
    /// The crate's own name, where it was renamed.
    pub package: Option<String>,
    /// The version requirement, such as `^1.0`.
    pub req: String,
    /// When it is needed.
    pub kind: DependencyKind,
    /// Only with a feature.
    pub optional: bool,
    /// With the crate's default features.
    pub default_features: bool,
    /// With these features too.
    pub features: Vec<String>,
    /// Only on this target or `cfg(…)`.
    pub target: Option<String>,
}

/// When a dependency is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DependencyKind {
    /// To build and use the crate.
    Normal,
    /// For its tests and examples.
    Dev,
    /// For its build script.
    Build,
}

impl DependencyKind {
    /// The word the index and the API use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Dev => "dev",
            Self::Build => "build",
        }
    }
}

/// A Cargo.toml that was read, and what it says about itself.
#[derive(Debug)]
pub(crate) struct CargoToml {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Where its README is to be found, in order of preference; lower case and from the crate's root.
    pub(crate) readme_paths: Vec<String>,
    pub(crate) manifest: Manifest,
}

/// The parser keeps nesting below 80 levels and dotted keys below 80 parts, so tables can be some 6,400 deep; this is
/// room for ten KiB of stack for each. It is address space and not memory until it is used.
const STACK_BYTES: usize = 64 << 20;

impl CargoToml {
    /// Reads a Cargo.toml on a thread of its own, so that neither depth nor a panic in the parser reaches the caller.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        std::thread::Builder::new()
            .name("cargo-toml".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || Self::parse_here(&bytes))
            .map_err(|cause| format!("no thread to read its Cargo.toml: {cause}"))?
            .join()
            .map_err(|_| "its Cargo.toml made the parser panic".to_owned())?
    }

    fn parse_here(bytes: &[u8]) -> Result<Self, String> {
        let read = cargo_toml::Manifest::<IgnoredAny>::from_slice_with_metadata(bytes).map_err(reason)?;
        let package = read.package.ok_or("its Cargo.toml has no `[package]`")?;
        let mut dependencies = Vec::new();
        let sections = [(
            None,
            &read.dependencies,
            &read.dev_dependencies,
            &read.build_dependencies,
        )];
        let targets = read.target.iter().map(|(target, of)| {
            (
                Some(target),
                &of.dependencies,
                &of.dev_dependencies,
                &of.build_dependencies,
            )
        });
        for (target, normal, dev, build) in sections.into_iter().chain(targets) {
            add_dependencies(&mut dependencies, target, DependencyKind::Normal, normal);
            add_dependencies(&mut dependencies, target, DependencyKind::Dev, dev);
            add_dependencies(&mut dependencies, target, DependencyKind::Build, build);
        }
        Ok(Self {
            name: package.name.clone(),
            version: inherited(&package.version).map_or_else(String::new, |version| version.to_string()),
            readme_paths: readme_paths(&package.readme),
            manifest: Manifest {
                features: read.features,
                dependencies,
                ..described(&package)
            },
        })
    }
}

/// The parser's own text would quote the line, which may be a megabyte long.
fn reason(cause: cargo_toml::Error) -> String {
    let cause = match cause {
        cargo_toml::Error::Parse(cause) => cause.message().to_owned(),
        other => other.to_string(),
    };
    format!("its Cargo.toml cannot be read: {cause}")
}

/// What the workspace would say is not in a crate file: cargo writes it out when it packs one.
fn inherited<T: Clone>(value: &Inheritable<T>) -> Option<T> {
    value.get().ok().cloned()
}

fn described(package: &Package<IgnoredAny>) -> Manifest {
    let text = |field: &Option<Inheritable<String>>| field.as_ref().and_then(inherited);
    Manifest {
        description: text(&package.description),
        keywords: inherited(&package.keywords).unwrap_or_default(),
        categories: inherited(&package.categories).unwrap_or_default(),
        license: text(&package.license),
        license_file: package
            .license_file
            .as_ref()
            .and_then(inherited)
            .map(|path| path.to_string_lossy().into_owned()),
        homepage: text(&package.homepage),
        documentation: text(&package.documentation),
        repository: text(&package.repository),
        links: package.links.clone(),
        rust_version: text(&package.rust_version),
        edition: inherited(&package.edition).unwrap_or_default().to_string(),
        authors: inherited(&package.authors).unwrap_or_default(),
        ..Manifest::default()
    }
}

fn add_dependencies(out: &mut Vec<Dependency>, target: Option<&String>, kind: DependencyKind, from: &DepsSet) {
    let plain = DependencyDetail::default();
    for (name, dependency) in from {
        let detail = dependency.detail().unwrap_or(&plain);
        out.push(Dependency {
            name: name.clone(),
            package: detail.package.clone().filter(|package| package != name),
            req: dependency
                .try_req()
                .map_or_else(|_| "*".to_owned(), ToString::to_string),
            kind,
            optional: detail.optional,
            default_features: detail.default_features,
            features: detail.features.clone(),
            target: target.cloned(),
        });
    }
}

fn readme_paths(readme: &Inheritable<OptionalFile>) -> Vec<String> {
    match readme.get() {
        Ok(OptionalFile::Path(path)) => {
            let path = path.to_string_lossy().to_ascii_lowercase();
            vec![path.strip_prefix("./").unwrap_or(&path).to_owned()]
        }
        Ok(OptionalFile::Flag(false)) => Vec::new(),
        Ok(OptionalFile::Flag(true)) | Err(_) => ["readme.md", "readme.txt", "readme"].map(str::to_owned).into(),
    }
}
