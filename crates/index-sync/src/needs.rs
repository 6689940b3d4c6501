//! What a crate needs next, by its index file. A guess for asking ahead: wrong, it costs one request and no more.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use registry::{CrateName, IndexPath};
use semver::{Version, VersionReq};
use serde::Deserialize;

/// What somebody is thought to want of a crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) path: IndexPath,
    /// `None`: the newest version.
    pub(crate) req: Option<String>,
    pub(crate) features: Vec<String>,
    pub(crate) default_features: bool,
}

impl Want {
    /// What a client wants that asked for this file: nobody knows, so the newest version with its default features.
    pub(crate) fn of_client(path: &IndexPath) -> Self {
        Self {
            path: path.clone(),
            req: None,
            features: Vec::new(),
            default_features: true,
        }
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    vers: Cow<'a, str>,
    #[serde(default)]
    yanked: Option<bool>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    deps: Vec<Dependency>,
    #[serde(default)]
    features: HashMap<String, Vec<String>>,
    #[serde(default)]
    features2: Option<HashMap<String, Vec<String>>>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    req: String,
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    default_features: bool,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    package: Option<String>,
    #[serde(default)]
    registry: Option<String>,
}

/// The dependencies of the newest fitting version that is not yanked: normal and build ones, for every target, and optional
/// ones that its features switch on. Empty if there is none.
pub(crate) fn needs(file: &[u8], want: &Want) -> Vec<Want> {
    let Some(line) = newest(file, want.req.as_deref()) else {
        return Vec::new();
    };
    let Ok(line) = serde_json::from_slice::<Line>(line) else {
        return Vec::new();
    };
    let on = switched_on(&line, want);
    let wanted = line.deps.iter().filter(|dependency| {
        dependency.kind.as_deref() != Some("dev")
            && dependency.registry.is_none()
            && (!dependency.optional || on.contains(dependency.name.as_str()))
    });
    let wants = wanted.filter_map(|dependency| {
        let name: CrateName = dependency.package.as_deref().unwrap_or(&dependency.name).parse().ok()?;
        Some(Want {
            path: IndexPath::of(&name),
            req: Some(dependency.req.clone()),
            features: dependency.features.clone(),
            default_features: dependency.default_features,
        })
    });
    wants.collect()
}

fn newest<'a>(file: &'a [u8], req: Option<&str>) -> Option<&'a [u8]> {
    let req = match req {
        Some(req) => Some(VersionReq::parse(req).ok()?),
        None => None,
    };
    let fits = |version: &Version| req.as_ref().is_none_or(|req| req.matches(version));
    let lines = file.split(|byte| *byte == b'\n').filter_map(|raw| {
        let head: Head<'_> = serde_json::from_slice(raw).ok()?;
        let version = Version::parse(&head.vers).ok()?;
        (head.yanked != Some(true) && fits(&version)).then_some((version, raw))
    });
    let newest = lines.max_by(|(one, _), (other, _)| {
        let is_release = |version: &Version| version.pre.is_empty();
        let rank = |version: &Version| req.is_some() || is_release(version);
        rank(one).cmp(&rank(other)).then_with(|| one.cmp(other))
    });
    newest.map(|(_, raw)| raw)
}

/// The optional dependencies, by the names that the crate knows them by, that its features switch on.
fn switched_on<'a>(line: &'a Line, want: &'a Want) -> HashSet<&'a str> {
    let (mut on, mut seen) = (HashSet::new(), HashSet::new());
    let mut features: Vec<&str> = want.features.iter().map(String::as_str).collect();
    if want.default_features {
        features.push("default");
    }
    while let Some(feature) = features.pop() {
        if !seen.insert(feature) {
            continue;
        }
        let second = line.features2.as_ref().and_then(|more| more.get(feature));
        let enables = line.features.get(feature).into_iter().chain(second).flatten();
        let before = features.len();
        for enabled in enables {
            if let Some(dependency) = enabled.strip_prefix("dep:") {
                on.insert(dependency);
            } else if let Some((dependency, _)) = enabled.split_once('/') {
                // With a `?` it only adds to what is switched on already.
                if !dependency.ends_with('?') {
                    on.insert(dependency);
                }
            } else {
                features.push(enabled);
            }
        }
        // A feature that is not written down is an optional dependency of that name.
        if features.len() == before {
            on.insert(feature);
        }
    }
    on
}

#[cfg(test)]
mod tests {
    use testkit::{CrateBuilder, Dependency as Dep};

    use super::*;

    fn path(name: &str) -> IndexPath {
        IndexPath::of(&name.parse().unwrap())
    }

    fn names(wants: &[Want]) -> Vec<String> {
        wants.iter().map(|want| want.path.file_name().to_owned()).collect()
    }

    fn of(crates: &[CrateBuilder], req: Option<&str>, features: &[&str], default_features: bool) -> Vec<Want> {
        let lines = crates.iter().map(|krate| krate.clone().build().index_line);
        let file = lines.collect::<Vec<_>>().join("\n");
        let want = Want {
            path: path("root"),
            req: req.map(str::to_owned),
            features: features.iter().map(|&feature| feature.to_owned()).collect(),
            default_features,
        };
        needs(file.as_bytes(), &want)
    }

    #[test]
    fn the_newest_fitting_version_that_is_not_yanked_counts() {
        let version = |vers: &str, needs: &str| CrateBuilder::new("root", vers).dep(needs, "^1");
        let file = [
            version("1.9.0", "one"),
            version("2.0.0", "two"),
            version("1.10.0", "ten"),
            version("2.1.0", "yanked").yanked(),
            version("3.0.0-rc.1", "rc"),
        ];
        assert_eq!(names(&of(&file, None, &[], true)), ["two"]);
        assert_eq!(names(&of(&file, Some("^1"), &[], true)), ["ten"]);
        assert_eq!(names(&of(&file, Some("=3.0.0-rc.1"), &[], true)), ["rc"]);
        assert_eq!(names(&of(&file, Some("^4"), &[], true)), [""; 0]);
        assert_eq!(names(&of(&file, Some("no requirement"), &[], true)), [""; 0]);
        let only = [version("1.0.0-rc.1", "rc")];
        assert_eq!(names(&of(&only, None, &[], true)), ["rc"], "better than nothing");
    }

    #[test]
    fn what_cargo_would_not_ask_for_is_not_wanted() {
        let krate = [CrateBuilder::new("root", "1.0.0")
            .dep_full(Dep::new("plain", "^1.2").features(&["loud"]).no_default_features())
            .dep_full(Dep::new("tests", "1").dev())
            .dep_full(Dep::new("script", "1").build())
            .dep_full(Dep::new("windows-only", "1").target("cfg(windows)"))
            .dep_full(Dep::new("real-name", "1").rename("alias"))
            .dep_full(Dep::new("never", "1").optional())
            .dep_full(Dep::new("by-default", "1").optional())
            .dep_full(Dep::new("implied", "1").optional())
            .dep_full(Dep::new("weak", "1").optional())
            .dep_full(Dep::new("by-request", "1").optional())
            .feature("default", &["std"])
            .feature("std", &["dep:by-default", "weak?/std", "std"])
            .feature("more", &["by-request/loud", "implied"])];
        let always = ["plain", "script", "windows-only", "real-name"];
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        let with = |more: &[&str]| sorted(always.iter().chain(more).map(|&name| name.to_owned()).collect());
        assert_eq!(sorted(names(&of(&krate, None, &[], true))), with(&["by-default"]));
        assert_eq!(sorted(names(&of(&krate, None, &[], false))), with(&[]));
        assert_eq!(
            sorted(names(&of(&krate, None, &["more"], false))),
            with(&["by-request", "implied"])
        );
        let wants = of(&krate, None, &[], false);
        let plain = wants.iter().find(|want| want.path == path("plain")).unwrap();
        assert_eq!(plain.req.as_deref(), Some("^1.2"));
        assert_eq!(
            (&plain.features[..], plain.default_features),
            (&["loud".to_owned()][..], false)
        );
    }

    #[test]
    fn what_cannot_be_read_needs_nothing() {
        for file in [
            &b""[..],
            b"\n\n",
            b"<html>",
            b"{\"vers\":\"1.0.0\",\"deps\":7}",
            b"{\"vers\":\"one\"}",
        ] {
            assert_eq!(needs(file, &Want::of_client(&path("root"))), []);
        }
    }
}
