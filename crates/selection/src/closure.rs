//! From what somebody names to crate files, with their dependencies if that is wanted.

mod stepping_back;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use bytes::Bytes;
use registry::{CrateName, CrateVersion, IndexPath};

use crate::features::activated;
use crate::index_dependencies::{IndexDependencies, IndexDependency};
use crate::versions::{Listed, Versions};
use crate::{CrateSpec, Problem, Requirement, Selected, Target, Trouble};
use stepping_back::Asking;

/// Which dependencies are followed. Normal and build ones are, with the features that somebody asks for.
#[derive(Debug, Clone, Default)]
pub struct Dependencies {
    /// All features of the crates that were named, and so their optional dependencies, instead of the default ones.
    pub all_features: bool,
    /// The dev-dependencies of the crates that were named.
    pub dev: bool,
    /// Only what one of these targets may want; all if there is none. The index files of the rest are asked for all the same.
    pub targets: Vec<Target>,
}

/// The work of choosing. Whoever drives it gives the index files that [`wanted`](Self::wanted) names, until it names none.
#[derive(Debug)]
pub struct Closure {
    dependencies: Option<Dependencies>,
    needs: VecDeque<Need>,
    seen: HashSet<(Asked, Features)>,
    /// Those that wait for the index file of a crate, by its path.
    parked: HashMap<IndexPath, Vec<Need>>,
    files: HashMap<IndexPath, Result<Versions, Trouble>>,
    chosen: BTreeMap<(CrateName, CrateVersion), Chosen>,
    problems: Vec<Problem>,
    /// What is certainly needed is chosen: from here on it is what cargo may step back to.
    stepping_back: bool,
}

/// What is asked for, apart from features: whether it was named itself, whether its file is wanted, and the version to step
/// back to.
type Asked = (IndexPath, Requirement, bool, bool, Option<CrateVersion>);

#[derive(Debug)]
struct Need {
    name: CrateName,
    requirement: Requirement,
    features: Features,
    /// Who has it in a Cargo.toml; `None` for what was named itself.
    by: Option<String>,
    /// Whether its file is wanted. For other targets it is not, but cargo, which resolves for all of them, reads its index file.
    file: bool,
    /// An older version than the newest that fits.
    stepped_back: Option<CrateVersion>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Features {
    all: bool,
    named: BTreeSet<String>,
}

impl Features {
    /// Whether a version has them: cargo passes over one that lacks a feature which is asked for.
    fn are_in(&self, listed: &Listed) -> bool {
        let mut named = self
            .named
            .iter()
            .map(String::as_str)
            .filter(|name| *name != "default")
            .peekable();
        named.peek().is_none() || IndexDependencies::parse(&listed.raw).is_ok_and(|version| version.has_features(named))
    }
}

#[derive(Debug)]
struct Chosen {
    file: Selected,
    features: Features,
    /// Whether it was named itself.
    named: bool,
    /// Whether its file is wanted, and not its index file alone.
    wanted: bool,
    /// Whether its dependencies were followed with what is known of it.
    followed: bool,
    /// By what requirements it was chosen.
    asked: Vec<Asking>,
}

impl Closure {
    /// Chooses what is named, and with `dependencies` what that needs.
    pub fn new(dependencies: Option<Dependencies>) -> Self {
        Self {
            dependencies,
            needs: VecDeque::new(),
            seen: HashSet::new(),
            parked: HashMap::new(),
            files: HashMap::new(),
            chosen: BTreeMap::new(),
            problems: Vec::new(),
            stepping_back: false,
        }
    }

    /// Names a crate.
    pub fn add(&mut self, spec: CrateSpec) {
        let all = self.dependencies.as_ref().is_some_and(|options| options.all_features);
        self.need(Need {
            name: spec.name,
            requirement: spec.requirement,
            features: Features {
                all,
                named: BTreeSet::from(["default".to_owned()]),
            },
            by: None,
            file: true,
            stepped_back: None,
        });
    }

    /// The index files that are needed to go on, each named once. None: it is done.
    pub fn wanted(&mut self) -> Vec<IndexPath> {
        let mut wanted = Vec::new();
        while let Some(need) = self.next_need() {
            let path = IndexPath::of(&need.name);
            if self.files.contains_key(&path) {
                self.meet(need, &path);
                continue;
            }
            let parked = self.parked.entry(path.clone()).or_default();
            if parked.is_empty() {
                wanted.push(path);
            }
            parked.push(need);
        }
        wanted
    }

    fn next_need(&mut self) -> Option<Need> {
        if self.needs.is_empty()
            && self.parked.is_empty()
            && let Some(options) = self.dependencies.clone()
        {
            self.step_back(&options);
        }
        self.needs.pop_front()
    }

    /// Gives the index file at `path`: `None` if there is no such crate, an error in words if that cannot be known.
    pub fn give(&mut self, path: IndexPath, file: Result<Option<Bytes>, String>) {
        let versions = match file {
            Ok(Some(bytes)) => Ok(Versions::read(&path, &bytes)),
            Ok(None) => Err(Trouble::NoSuchCrate),
            Err(why) => Err(Trouble::NotAsked { why }),
        };
        self.needs.extend(self.parked.remove(&path).into_iter().flatten());
        self.files.insert(path, versions);
    }

    /// How many crate files are chosen so far.
    pub fn chosen(&self) -> usize {
        self.chosen.values().filter(|chosen| chosen.wanted).count()
    }

    /// What was chosen, by name and version, and what could not be.
    pub fn finish(self) -> (Vec<Selected>, Vec<Problem>) {
        let wanted = self.chosen.into_values().filter(|chosen| chosen.wanted);
        let files = wanted.map(|chosen| chosen.file);
        (files.collect(), self.problems)
    }

    fn need(&mut self, need: Need) {
        let asked = (
            IndexPath::of(&need.name),
            need.requirement.clone(),
            need.by.is_none(),
            need.file,
            need.stepped_back.clone(),
        );
        if self.seen.insert((asked, need.features.clone())) {
            self.needs.push_back(need);
        }
    }

    fn meet(&mut self, need: Need, path: &IndexPath) {
        let stepped_back = need.stepped_back.clone().map(Requirement::Exactly);
        let requirement = stepped_back.as_ref().unwrap_or(&need.requirement);
        let found = match &self.files[path] {
            Ok(versions) => versions.choose(requirement, |listed| need.features.are_in(listed)),
            Err(trouble) => Err(trouble.clone()),
        };
        let listed = match found {
            Ok(listed) => listed,
            Err(_) if !need.file => return,
            Err(trouble) => {
                let wanted = format!("{} {}", need.name, need.requirement);
                return self.problem(wanted, need.by, trouble);
            }
        };
        let key = (path.crate_name(), listed.version.clone());
        let chosen = self.chosen.entry(key).or_insert_with(|| Chosen::new(listed));
        chosen.asked_by(&need);
        let news = chosen.learn(need.features, need.by.is_none(), need.file);
        if news && let Some(options) = &self.dependencies {
            let (needs, problems) = chosen.needs(&listed.raw, options);
            for need in needs {
                self.need(need);
            }
            for (wanted, by, trouble) in problems {
                self.problem(wanted, Some(by), trouble);
            }
        }
    }

    /// The same trouble with the same requirement is told once. What cargo only may step back to has none, but for not
    /// being known: where it does not work, cargo does not take it either.
    fn problem(&mut self, wanted: String, by: Option<String>, trouble: Trouble) {
        if self.stepping_back && !matches!(trouble, Trouble::NotAsked { .. }) {
            return;
        }
        let same = |known: &Problem| known.wanted == wanted && known.trouble == trouble;
        if !self.problems.iter().any(same) {
            self.problems.push(Problem { wanted, by, trouble });
        }
    }
}

impl Chosen {
    fn new(listed: &Listed) -> Self {
        Self {
            file: Selected {
                name: listed.name.clone(),
                version: listed.version.clone(),
                checksum: Some(listed.checksum),
            },
            features: Features::default(),
            named: false,
            wanted: false,
            followed: false,
            asked: Vec::new(),
        }
    }

    /// Takes more features; says whether anything is new, which it is the first time.
    fn learn(&mut self, features: Features, named: bool, wanted: bool) -> bool {
        let known = |chosen: &Self| {
            (
                chosen.features.all,
                chosen.features.named.len(),
                chosen.named,
                chosen.wanted,
            )
        };
        let before = known(self);
        self.features.all |= features.all;
        self.features.named.extend(features.named);
        self.named |= named;
        self.wanted |= wanted;
        !std::mem::replace(&mut self.followed, true) || before != known(self)
    }

    fn needs(&self, raw: &[u8], options: &Dependencies) -> (Vec<Need>, Vec<(String, String, Trouble)>) {
        let by = self.file.to_string();
        let version = match IndexDependencies::parse(raw) {
            Ok(version) => version,
            Err(why) => {
                let why = format!("its dependencies cannot be read: {why}");
                return (Vec::new(), vec![(by.clone(), by, Trouble::Unreadable { why })]);
            }
        };
        let named = self.features.named.iter().map(String::as_str);
        let all = version.feature_names().filter(|_| self.features.all);
        let active = activated(&version, named.chain(all));
        let (mut needs, mut problems) = (Vec::new(), Vec::new());
        let followed = version.deps.iter().filter(|dependency| {
            let on = !dependency.is_optional()
                || self.features.all
                || active.dependencies.contains(dependency.name.as_str());
            let dev = !dependency.is_dev() || (options.dev && self.named);
            on && dev
        });
        for dependency in followed {
            let passed_on = active.passed_on.get(dependency.name.as_str());
            let features = passed_on.into_iter().flatten().copied();
            let file = self.wanted && options.may_want(dependency);
            match need_of(dependency, features, &by, file) {
                Ok(need) => needs.push(need),
                Err(_) if !file => {}
                Err(trouble) => {
                    let wanted = format!("{} {}", dependency.crate_name(), dependency.req);
                    problems.push((wanted.escape_debug().to_string(), by.clone(), trouble));
                }
            }
        }
        (needs, problems)
    }
}

impl Dependencies {
    fn may_want(&self, dependency: &IndexDependency) -> bool {
        let wanted = |target: &str| self.targets.is_empty() || self.targets.iter().any(|own| own.may_want(target));
        dependency.target.as_deref().is_none_or(wanted)
    }
}

fn need_of<'a>(
    dependency: &'a IndexDependency,
    passed_on: impl Iterator<Item = &'a str>,
    by: &str,
    file: bool,
) -> Result<Need, Trouble> {
    let unreadable = |why: String| Trouble::Unreadable { why };
    if let Some(index) = &dependency.registry {
        let index = index.escape_debug().to_string();
        return Err(Trouble::OtherRegistry { index });
    }
    let default = dependency.wants_default_features().then_some("default");
    let named = dependency.features().chain(passed_on).chain(default);
    Ok(Need {
        name: dependency
            .crate_name()
            .parse()
            .map_err(|cause: registry::Error| unreadable(cause.to_string()))?,
        requirement: Requirement::fitting(&dependency.req).map_err(|cause| unreadable(cause.to_string()))?,
        features: Features {
            all: false,
            named: named.map(str::to_owned).collect(),
        },
        by: Some(by.to_owned()),
        file,
        stepped_back: None,
    })
}

#[cfg(test)]
mod tests;
