//! What cargo may step back to. It wants one version for all requirements that are compatible: where `a` does not allow
//! `b 1.9`, which cargo has taken for somebody else, it may look for an older `a` that does.

use std::collections::HashSet;
use std::ops::Bound;

use registry::{CrateName, CrateVersion, IndexPath};
use semver::Version;

use super::{Chosen, Closure, Dependencies, Features, Need, need_of};
use crate::index_dependencies::IndexDependencies;
use crate::versions::{Listed, Versions};
use crate::{Requirement, Trouble};

/// With more versions than that nothing is stepped back to. Those are crates that have little to do with each other: nobody
/// locks them together, and to go through all that they dispute would take minutes.
pub(super) const MOST_CHOSEN: usize = 4096;

/// By what a version was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asking {
    requirement: Requirement,
    features: Features,
    by: Option<String>,
    file: bool,
}

impl Chosen {
    pub(super) fn asked_by(&mut self, need: &Need) {
        // what was named without a requirement, or as one version, is meant
        if !matches!(need.requirement, Requirement::Fitting(_)) {
            return;
        }
        let same = |known: &Asking| {
            known.requirement == need.requirement && known.features == need.features && known.file == need.file
        };
        if !self.asked.iter().any(same) {
            self.asked.push(Asking {
                requirement: need.requirement.clone(),
                features: need.features.clone(),
                by: need.by.clone(),
                file: need.file,
            });
        }
    }
}

impl Closure {
    /// Asks for what cargo may step back to with what is chosen so far.
    pub(super) fn step_back(&mut self, options: &Dependencies) {
        self.stepping_back = true;
        if self.chosen.len() > MOST_CHOSEN {
            return;
        }
        let disputed = self.disputed();
        if disputed.is_empty() {
            return;
        }
        let stepping = self.chosen.iter().filter(|(_, chosen)| !chosen.asked.is_empty());
        let older: Vec<Need> = stepping
            .flat_map(|((name, version), chosen)| self.steps_of(name, version, chosen, options, &disputed))
            .collect();
        for need in older {
            self.need(need);
        }
    }

    /// The crates of which several versions are chosen where cargo may want one.
    fn disputed(&self) -> HashSet<IndexPath> {
        let pairs = self.chosen.keys().zip(self.chosen.keys().skip(1));
        let alike =
            pairs.filter(|((one, older), (other, newer))| one == other && is_alike(older.semver(), newer.semver()));
        alike.map(|((name, _), _)| IndexPath::of(name)).collect()
    }

    /// What cargo may take instead of one chosen version.
    fn steps_of(
        &self,
        name: &CrateName,
        version: &CrateVersion,
        chosen: &Chosen,
        options: &Dependencies,
        disputed: &HashSet<IndexPath>,
    ) -> Vec<Need> {
        let Some(Ok(versions)) = self.files.get(&IndexPath::of(name)) else {
            return Vec::new();
        };
        let Some(listed) = versions.named(version) else {
            return Vec::new();
        };
        let mut steps = Vec::new();
        for wanted in chosen.needs(&listed.raw, options).0 {
            let path = IndexPath::of(&wanted.name);
            if !disputed.contains(&path) {
                continue;
            }
            for instead in self.in_the_way(&path, &wanted.requirement) {
                let older = |asking| {
                    Some(need(
                        listed,
                        asking,
                        self.older(versions, version, asking, &path, instead)?,
                    ))
                };
                steps.extend(chosen.asked.iter().filter_map(older));
            }
        }
        steps
    }

    /// The chosen versions of a crate that the requirement does not allow, where cargo wants one for both.
    fn in_the_way(&self, path: &IndexPath, requirement: &Requirement) -> Vec<&Version> {
        let (Some(own), Requirement::Fitting(req)) = (self.newest(path, requirement), requirement) else {
            return Vec::new();
        };
        let key = (path.crate_name(), own.clone());
        let same = |(other, _): &&(CrateName, CrateVersion)| *other == key.0;
        let behind = (Bound::Excluded(key.clone()), Bound::Unbounded);
        let newer = self.chosen.range(behind).map(|(key, _)| key).take_while(same);
        let older = self
            .chosen
            .range(..key.clone())
            .rev()
            .map(|(key, _)| key)
            .take_while(same);
        let others = newer.chain(older).map(|(_, version)| version.semver());
        others
            .filter(|other| is_alike(other, own.semver()) && !req.matches(other))
            .collect()
    }

    /// The newest version before `version` that is asked for and can do with `instead`.
    fn older(
        &self,
        versions: &Versions,
        version: &CrateVersion,
        asking: &Asking,
        depended_on: &IndexPath,
        instead: &Version,
    ) -> Option<CrateVersion> {
        let suits = |listed: &Listed| {
            listed.version < *version && asking.features.are_in(listed) && self.takes(listed, depended_on, instead)
        };
        versions.newest_that(&asking.requirement, suits)
    }

    /// Whether `listed` can be locked together with that version of that crate, as far as its own requirements say.
    fn takes(&self, listed: &Listed, depended_on: &IndexPath, instead: &Version) -> bool {
        let mut own = requirements(listed).into_iter().filter(|(path, _)| path == depended_on);
        own.all(|(path, requirement)| {
            let fits = matches!(&requirement, Requirement::Fitting(req) if req.matches(instead));
            fits || self
                .newest(&path, &requirement)
                .is_some_and(|newest| !is_alike(newest.semver(), instead))
        })
    }

    fn newest(&self, path: &IndexPath, requirement: &Requirement) -> Option<&CrateVersion> {
        let versions = self.files.get(path)?.as_ref().ok()?;
        versions
            .choose(requirement, |_| true)
            .ok()
            .map(|listed| &listed.version)
    }
}

fn need(listed: &Listed, asking: &Asking, version: CrateVersion) -> Need {
    Need {
        name: listed.name.clone(),
        requirement: asking.requirement.clone(),
        features: asking.features.clone(),
        by: asking.by.clone(),
        file: asking.file,
        stepped_back: Some(version),
    }
}

/// What a version wants of other crates, whether it is switched on or not.
fn requirements(listed: &Listed) -> Vec<(IndexPath, Requirement)> {
    let version = IndexDependencies::parse(&listed.raw).unwrap_or_default();
    let dependencies = version.deps.iter().filter(|dependency| !dependency.is_dev());
    let needs = dependencies.map(|dependency| need_of(dependency, std::iter::empty(), "", true));
    let readable = needs.filter_map(Result::<Need, Trouble>::ok);
    readable
        .map(|need| (IndexPath::of(&need.name), need.requirement))
        .collect()
}

/// Whether cargo takes only one of the two: those that a caret requirement would take for one another.
fn is_alike(one: &Version, other: &Version) -> bool {
    let line = |version: &Version| match (version.major, version.minor, version.patch) {
        (0, 0, patch) => (0, 0, patch),
        (0, minor, _) => (0, minor, 0),
        (major, _, _) => (major, 0, 0),
    };
    line(one) == line(other)
}
