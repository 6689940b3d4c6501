//! The dependencies and features in an index line, as cargo reads them.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The newest `v` that cargo knows; it passes over lines with a newer one.
const NEWEST_SCHEMA: u64 = 2;

#[derive(Debug, Deserialize)]
struct Schema {
    #[serde(default)]
    v: Option<u64>,
}

/// Whether a cargo of today would choose this version. A line that says otherwise than by a number is none it reads.
pub(crate) fn cargo_knows(raw: &[u8]) -> bool {
    serde_json::from_slice::<Schema>(raw).is_ok_and(|line| line.v.unwrap_or(1) <= NEWEST_SCHEMA)
}

/// What a version depends on.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct IndexDependencies {
    #[serde(default)]
    pub deps: Vec<IndexDependency>,
    #[serde(default)]
    features: Option<BTreeMap<String, Vec<String>>>,
    /// Those with the newer syntax stand apart, so that an old cargo does not trip over them.
    #[serde(default)]
    features2: Option<BTreeMap<String, Vec<String>>>,
}

/// One dependency.
#[derive(Debug, Deserialize)]
pub(crate) struct IndexDependency {
    /// As the Cargo.toml calls it.
    pub name: String,
    pub req: String,
    #[serde(default)]
    features: Option<Vec<String>>,
    #[serde(default)]
    optional: Option<bool>,
    #[serde(default)]
    default_features: Option<bool>,
    #[serde(default)]
    pub target: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    pub registry: Option<String>,
    /// The crate, if the Cargo.toml calls it otherwise.
    #[serde(default)]
    package: Option<String>,
}

impl IndexDependencies {
    pub(crate) fn parse(raw: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(raw).map_err(|cause| cause.to_string())
    }

    /// What a feature switches on; `None` if there is no such feature.
    pub(crate) fn feature(&self, name: &str) -> Option<impl Iterator<Item = &str>> {
        let parts = [&self.features, &self.features2].map(|part| part.as_ref().and_then(|part| part.get(name)));
        let there = parts.iter().any(Option::is_some);
        there.then(|| parts.into_iter().flatten().flatten().map(String::as_str))
    }

    /// Whether it can be asked for these features: those it names, and its optional dependencies.
    pub(crate) fn has_features<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        let optional = |name: &str| self.deps.iter().any(|dep| dep.is_optional() && dep.name == name);
        names.all(|name| self.feature(name).is_some() || optional(name))
    }

    /// The names of all features.
    pub(crate) fn feature_names(&self) -> impl Iterator<Item = &str> {
        let parts = [&self.features, &self.features2];
        parts.into_iter().flatten().flat_map(BTreeMap::keys).map(String::as_str)
    }
}

impl IndexDependency {
    pub(crate) fn crate_name(&self) -> &str {
        self.package.as_deref().unwrap_or(&self.name)
    }

    pub(crate) fn is_dev(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }

    pub(crate) fn is_optional(&self) -> bool {
        self.optional.unwrap_or(false)
    }

    pub(crate) fn wants_default_features(&self) -> bool {
        self.default_features.unwrap_or(true)
    }

    pub(crate) fn features(&self) -> impl Iterator<Item = &str> {
        self.features.iter().flatten().map(String::as_str)
    }
}
