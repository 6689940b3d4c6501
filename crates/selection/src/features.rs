//! Which optional dependencies a set of features brings into cargo's lock, and with which features.

use std::collections::{BTreeMap, BTreeSet};

use crate::index_dependencies::IndexDependencies;

/// What follows from the features of one version.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Activated<'a> {
    /// Optional dependencies that cargo locks, by the name in the Cargo.toml.
    pub dependencies: BTreeSet<&'a str>,
    /// Features of dependencies.
    pub passed_on: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

/// What `features` of a version bring. Features that it does not have bring nothing.
pub(crate) fn activated<'a>(version: &'a IndexDependencies, features: impl Iterator<Item = &'a str>) -> Activated<'a> {
    let mut found = Activated::default();
    let mut seen = BTreeSet::new();
    let mut waiting: Vec<&str> = features.collect();
    while let Some(feature) = waiting.pop() {
        if !seen.insert(feature) {
            continue;
        }
        let Some(values) = version.feature(feature) else {
            // an optional dependency that no feature names has a feature of its own name
            found.dependencies.insert(feature);
            continue;
        };
        for value in values {
            if let Some(name) = value.strip_prefix("dep:") {
                found.dependencies.insert(name);
            } else if let Some((name, feature)) = value.split_once('/') {
                // `name?/feature` as well: cargo sees whether somebody wants the dependency only after it is locked
                let weak = name.strip_suffix('?');
                let name = weak.unwrap_or(name);
                found.dependencies.insert(name);
                found.passed_on.entry(name).or_default().insert(feature);
                if weak.is_none() && version.feature(name).is_some() {
                    waiting.push(name);
                }
            } else {
                waiting.push(value);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version() -> IndexDependencies {
        IndexDependencies::parse(
            br#"{"deps":[],
                "features":{"default":["std","tls"],"std":["log/std"],"tls":["rustls"],"loop":["loop2"],"loop2":["loop"],"a":["b/f"],"b":["c"],"weak":["b?/f"]},
                "features2":{"json":["dep:serde_json","serde?/std"],"std":["alloc?/std"]}}"#,
        )
        .unwrap()
    }

    #[test]
    fn follows_features_through_both_tables_as_cargo_does() {
        let version = version();
        let default = activated(&version, ["default"].into_iter());
        assert_eq!(default.dependencies, BTreeSet::from(["alloc", "log", "rustls"]));
        assert_eq!(default.passed_on["log"], BTreeSet::from(["std"]));
        assert_eq!(default.passed_on["alloc"], BTreeSet::from(["std"]));

        let json = activated(&version, ["json", "loop"].into_iter());
        assert_eq!(json.dependencies, BTreeSet::from(["serde", "serde_json"]));
        assert_eq!(json.passed_on["serde"], BTreeSet::from(["std"]));

        // `b/f` switches on the feature `b` too, if there is one
        let a = activated(&version, ["a"].into_iter());
        assert_eq!(a.dependencies, BTreeSet::from(["b", "c"]));
        // `b?/f` does not
        let weak = activated(&version, ["weak"].into_iter());
        assert_eq!(weak.dependencies, BTreeSet::from(["b"]));
    }

    #[test]
    fn a_feature_that_is_not_there_is_an_optional_dependency_or_nothing() {
        assert_eq!(
            activated(&version(), ["serde"].into_iter()).dependencies,
            BTreeSet::from(["serde"])
        );
    }
}
