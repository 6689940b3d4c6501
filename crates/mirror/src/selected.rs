//! From what somebody names to crate files of the index, and whether they are here.

mod whereabouts;

use std::collections::{BTreeMap, HashMap};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use index_sync::Ask;
use registry::{CrateName, IndexPath};
use selection::{Closure, CrateSpec, Dependencies, Problem, Requirement, Selected, Trouble};
use serde::{Deserialize, Serialize};

use crate::appliance::{Appliance, StartError};
use crate::error::chain;
use whereabouts::listed;
pub use whereabouts::{Found, Whereabouts, whereabouts};

/// So many requests are under way upstream at once.
pub const AT_ONCE: usize = 8;

/// What somebody names.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Named {
    /// By lockfiles.
    pub locked: Vec<Selected>,
    /// By name.
    pub crates: Vec<CrateSpec>,
    /// The newest of every crate that is kept.
    pub latest: bool,
    /// Dependencies too.
    pub dependencies: Option<NamedDependencies>,
}

/// Which dependencies.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NamedDependencies {
    /// All features of what is named.
    pub optional: bool,
    /// Dev-dependencies of what is named.
    pub dev: bool,
    /// Only what one of these triples may want.
    pub targets: Vec<String>,
}

/// What somebody means.
#[derive(Debug)]
pub struct Gathered {
    /// The crate files, by name and version; without those of which nothing can be known.
    pub files: Vec<Selected>,
    /// What could not be found.
    pub problems: Vec<Problem>,
    /// Crates that there are not, of which it was said that they may not be.
    pub unknown: Vec<CrateName>,
    /// What nobody could be asked about, which is among the problems.
    pub unasked: Unasked,
}

/// What the index could not be asked about.
#[derive(Debug, Default)]
pub struct Unasked {
    /// Files of lockfiles, and why.
    pub locked: Vec<(Selected, String)>,
    /// What was named by name, without dependencies.
    pub crates: Vec<CrateSpec>,
    /// And what was named like that, of which an answer came.
    pub answered: Vec<CrateSpec>,
}

/// The crate files that are meant, by name and version, and what could not be found. `how` says whether upstream is asked for
/// index files; `say` hears how far it is.
pub async fn gather(
    appliance: &Appliance,
    named: Named,
    how: Ask,
    say: &(dyn Fn(String) + Sync),
) -> Result<Gathered, StartError> {
    let mut closure = Closure::new(named.dependencies.as_ref().map(dependencies).transpose()?);
    let newest = if named.latest {
        kept_crates(appliance)?
    } else {
        Vec::new()
    };
    let exactly = |krate: &Selected| CrateSpec {
        name: krate.name.clone(),
        requirement: Requirement::Exactly(krate.version.clone()),
    };
    let specs = named.crates.iter().cloned().chain(newest);
    specs.for_each(|spec| closure.add(spec));
    for krate in &named.locked {
        // a version that is listed here says enough; only for its dependencies, and for what is new, index files are read
        let path = IndexPath::of(&krate.name);
        if named.dependencies.is_some() || listed(appliance, &path, krate).await.is_err() {
            closure.add(exactly(krate));
        }
    }
    read_wanted(appliance, &mut closure, how, say).await;
    let (mut files, mut problems) = closure.finish();
    let unknown = take_unknown(&mut problems, &named.crates);
    add_locked(&mut files, &named.locked);
    // where a locked one is, is told of itself; only that nobody could be asked is not
    let is_locked = |problem: &Problem| {
        let wanted = |file: &Selected| problem.wanted == file.to_string();
        problem.by.is_none() && named.locked.iter().any(wanted)
    };
    problems.retain(|problem| matches!(problem.trouble, Trouble::NotAsked { .. }) || !is_locked(problem));
    let mut unasked = take_unasked(&mut files, &problems);
    if named.dependencies.is_none() {
        let reasons = reasons(&problems);
        (unasked.crates, unasked.answered) = named.crates.into_iter().partition(|spec| {
            let wanted = format!("{} {}", spec.name, spec.requirement);
            reasons.contains_key(wanted.as_str())
        });
    }
    Ok(Gathered {
        files,
        problems,
        unknown,
        unasked,
    })
}

/// Gives `closure` the index files that it wants.
async fn read_wanted(appliance: &Appliance, closure: &mut Closure, how: Ask, say: &(dyn Fn(String) + Sync)) {
    let mut running = FuturesUnordered::new();
    let mut waiting = Vec::new();
    let mut read = 0;
    loop {
        waiting.extend(closure.wanted());
        while running.len() < AT_ONCE
            && let Some(path) = waiting.pop()
        {
            running.push(async {
                let file = appliance.index.file(&path, how).await;
                let file = file.map(|entry| entry.map(|entry| entry.bytes.clone()));
                (path, file.map_err(|error| chain(&error)))
            });
        }
        let Some((path, file)) = running.next().await else {
            break;
        };
        closure.give(path, file);
        read += 1;
        say(format!(
            "read {read} index files, {} crate files so far",
            closure.chosen()
        ));
    }
}

/// Takes out that there is no such crate, where it was said that there may be none.
fn take_unknown(problems: &mut Vec<Problem>, named: &[CrateSpec]) -> Vec<CrateName> {
    let may_be_none = |spec: &&CrateSpec| spec.requirement == Requirement::NewestIfAny;
    let wanted = |spec: &CrateSpec| (format!("{} {}", spec.name, spec.requirement), spec.name.clone());
    let guesses: HashMap<String, CrateName> = named.iter().filter(may_be_none).map(wanted).collect();
    let mut unknown = Vec::new();
    problems.retain(|problem| match guesses.get(&problem.wanted) {
        Some(name) if problem.trouble == Trouble::NoSuchCrate && problem.by.is_none() => {
            unknown.push(name.clone());
            false
        }
        _ => true,
    });
    unknown
}

/// Takes out what is named by a problem already: nobody knows whether the index has such a version.
fn take_unasked(files: &mut Vec<Selected>, problems: &[Problem]) -> Unasked {
    let reasons = reasons(problems);
    let mut unasked = Unasked::default();
    files.retain(|file| match reasons.get(file.to_string().as_str()) {
        Some(why) => {
            unasked.locked.push((file.clone(), (*why).clone()));
            false
        }
        None => true,
    });
    unasked
}

/// Why nobody could be asked, by what was wanted.
fn reasons(problems: &[Problem]) -> HashMap<&str, &String> {
    let reasons = problems.iter().filter_map(|problem| match &problem.trouble {
        Trouble::NotAsked { why } if problem.by.is_none() => Some((problem.wanted.as_str(), why)),
        _ => None,
    });
    reasons.collect()
}

fn dependencies(named: &NamedDependencies) -> Result<Dependencies, selection::Error> {
    let targets = named.targets.iter().map(|triple| triple.parse());
    Ok(Dependencies {
        all_features: named.optional,
        dev: named.dev,
        targets: targets.collect::<Result<_, _>>()?,
    })
}

fn kept_crates(appliance: &Appliance) -> Result<Vec<CrateSpec>, StartError> {
    let mut names: Vec<CrateName> = Vec::new();
    appliance.metadata.for_each_kept(|row| {
        if names.last().is_none_or(|last| last.canonical() != row.name.canonical()) {
            names.push(row.name);
        }
    })?;
    let newest = |name| CrateSpec {
        name,
        requirement: Requirement::Newest,
    };
    Ok(names.into_iter().map(newest).collect())
}

/// What a lockfile says counts for it, and is compared with the index; and what the index lacks is named all the same.
fn add_locked(files: &mut Vec<Selected>, locked: &[Selected]) {
    let key = |file: &Selected| (file.name.lowercase(), file.version.clone());
    let mut all: BTreeMap<_, _> = files.drain(..).map(|file| (key(&file), file)).collect();
    for file in locked {
        let known = all.entry(key(file)).or_insert_with(|| file.clone());
        known.checksum = file.checksum.or(known.checksum);
    }
    files.extend(all.into_values());
}
