//! Where the next crate file to fetch comes from: a list, or the whole published index crate by crate.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use index_sync::TreeFile;
use registry::{Checksum, IndexFile, IndexPath};
use selection::Selected;

use super::Watcher;
use super::afterwards::beyond_budget;
use super::basis::{Basis, SAMPLE};
use crate::appliance::{Appliance, StartError};

/// How often a walk over the whole index says how far it is, in crates.
const SAY_EVERY: usize = 1000;
/// What is to be fetched, one after the other.
#[derive(Debug)]
pub struct Source {
    next: VecDeque<Selected>,
    crates: VecDeque<IndexPath>,
}

/// What a walk over the whole index counted.
#[derive(Debug, Default)]
pub struct Count {
    crates: u64,
    files: u64,
    /// Those that are not kept.
    pub to_fetch: u64,
    /// Some of these, from all over the index.
    sample: Vec<Selected>,
}

impl Source {
    /// A list.
    pub fn listed(files: Vec<Selected>) -> Self {
        Self {
            next: files.into(),
            crates: VecDeque::new(),
        }
    }

    /// Every version in the published index, and how many they are.
    pub async fn whole(appliance: &Arc<Appliance>, watcher: &impl Watcher) -> Result<(Self, Count), StartError> {
        let own = Arc::clone(appliance);
        let listing = tokio::task::spawn_blocking(move || -> Result<_, StartError> {
            let mut crates = VecDeque::new();
            own.index.tree().for_each_file(|path, _| crates.push_back(path))?;
            Ok((crates, Arc::new(own.metadata.kept_checksums()?)))
        });
        let (crates, kept) = listing.await??;
        let mut count = Count::default();
        let stride = crates.len().div_ceil(SAMPLE).max(1);
        for (at, path) in crates.iter().enumerate() {
            if at % SAY_EVERY == 0 {
                watcher.say(format!(
                    "counted {} files of {at} of {} crates",
                    count.files,
                    crates.len()
                ));
            }
            let (own, path, known) = (Arc::clone(appliance), path.clone(), Arc::clone(&kept));
            let (files, mut wanted) = tokio::task::spawn_blocking(move || count_in(&own, &path, &known)).await??;
            count.crates += 1;
            count.files += files;
            count.to_fetch += wanted.len() as u64;
            if at % stride == 0 && !wanted.is_empty() {
                // any version, since the newest ones are the largest
                count.sample.push(wanted.swap_remove(at % wanted.len()));
            }
        }
        let source = Self {
            next: VecDeque::new(),
            crates,
        };
        Ok((source, count))
    }

    /// The next one; `None`: that was all.
    pub async fn next(&mut self, appliance: &Arc<Appliance>) -> Result<Option<Selected>, StartError> {
        loop {
            if let Some(file) = self.next.pop_front() {
                return Ok(Some(file));
            }
            let Some(path) = self.crates.pop_front() else {
                return Ok(None);
            };
            let own = Arc::clone(appliance);
            self.next = tokio::task::spawn_blocking(move || not_kept(&own, &path))
                .await??
                .into();
        }
    }
}

impl Count {
    /// For people, with an estimate of bytes.
    pub async fn in_words(&self, appliance: &Appliance) -> Result<String, StartError> {
        let basis = Basis::of(appliance, &self.sample).await?;
        let mut words = format!(
            "{} crate files of {} crates: {} kept, {}",
            self.files,
            self.crates,
            self.files - self.to_fetch,
            basis.to_fetch(self.to_fetch)
        );
        let kept_bytes = appliance.metadata.totals()?.bytes;
        let bytes = basis.bytes(self.to_fetch).map(|bytes| bytes.saturating_add(kept_bytes));
        if let Some(warning) = bytes.and_then(|bytes| beyond_budget(appliance, bytes)) {
            words.push_str(&format!("\n{warning}"));
        }
        Ok(words)
    }
}

fn count_in(
    appliance: &Appliance,
    path: &IndexPath,
    kept: &HashSet<Checksum>,
) -> Result<(u64, Vec<Selected>), StartError> {
    let mut files = versions(appliance, path)?;
    let all = files.len() as u64;
    files.retain(|file| file.checksum.is_none_or(|checksum| !kept.contains(&checksum)));
    Ok((all, files))
}

fn not_kept(appliance: &Appliance, path: &IndexPath) -> Result<Vec<Selected>, StartError> {
    let mut files = versions(appliance, path)?;
    let is_kept = |file: &Selected| {
        file.checksum
            .is_some_and(|checksum| matches!(appliance.cache.kept(&checksum), Ok(Some(_))))
    };
    files.retain(|file| !is_kept(file));
    Ok(files)
}

/// Every version that can be read; of two lines for one version the last counts.
fn versions(appliance: &Appliance, path: &IndexPath) -> Result<Vec<Selected>, StartError> {
    let Some(blob) = appliance.index.tree().read(&TreeFile::Index(path.clone()))? else {
        return Ok(Vec::new());
    };
    let file = IndexFile::parse_readable(&blob.bytes, path);
    let mut seen = HashSet::new();
    let lines = file.lines().iter().rev().filter(|line| seen.insert(line.vers.as_ref()));
    let files = lines.filter_map(|line| {
        Some(Selected {
            name: line.name.parse().ok()?,
            version: line.vers.parse().ok()?,
            checksum: Some(line.checksum),
        })
    });
    Ok(files.collect())
}
