//! Packs that were replaced by others and stay a while for readers: which, since when, and the replacement under way.
//!
//! The list is a file in the repository, `mirror-retired`, so that a restart neither relies on a pack that will go
//! nor removes one that is needed.

use std::collections::VecDeque;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::storage::{pack_bytes, packs_on_disk, remove_pack};
use crate::durable::replace_file;
use crate::{CommitId, Error};

const FILE: &str = "mirror-retired";
const MERGED: &str = "merged";
const SQUASHED: &str = "squashed";

/// A pack that nothing published needs any more.
pub(crate) struct RetiredPack {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    since_unix: u64,
    /// All its objects are in another pack: whoever misses it finds them there.
    merged: bool,
}

/// One pack takes the place of others. Written down before it happens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Replacement {
    /// The pack that has all that is needed of the old ones.
    pub(crate) new: String,
    /// The commit that must be published for that to be true; none if the new pack has all objects of the old ones.
    pub(crate) root: Option<CommitId>,
    /// The packs that are retired by it.
    pub(crate) old: Vec<String>,
}

/// The packs that were replaced, the oldest first.
#[derive(Default)]
pub(crate) struct RetiredPacks {
    pub(crate) packs: VecDeque<RetiredPack>,
    under_way: Option<Replacement>,
}

impl RetiredPacks {
    /// Reads the list, and ends a replacement that was cut short one way or the other: `tip` is what is published.
    pub(crate) fn load(dir: &Path, tip: Option<CommitId>, now: SystemTime) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            text => text.map_err(Error::io("read", &path))?,
        };
        let damaged = |line: &str| Error::Damaged {
            path: dir.to_owned(),
            why: format!("{FILE} has an unreadable line: {line}"),
        };
        let on_disk = packs_on_disk(dir)?;
        let mut list = Self::default();
        for line in text.lines() {
            match Line::parse(line).ok_or_else(|| damaged(line))? {
                Line::UnderWay(replacement) => list.under_way = Some(replacement),
                Line::Retired {
                    since_unix,
                    name,
                    merged,
                } if on_disk.contains(&name) => {
                    let bytes = pack_bytes(dir, &name)?;
                    list.packs.push_back(RetiredPack {
                        name,
                        bytes,
                        since_unix,
                        merged,
                    });
                }
                Line::Retired { .. } => {}
            }
        }
        list.settle(dir, &on_disk, tip, now)?;
        Ok(list)
    }

    fn settle(&mut self, dir: &Path, on_disk: &[String], tip: Option<CommitId>, now: SystemTime) -> Result<(), Error> {
        let Some(replacement) = &self.under_way else {
            return Ok(());
        };
        let placed = on_disk.contains(&replacement.new);
        let in_force = replacement.root.is_none_or(|root| tip == Some(root));
        log::info!(
            "ending the replacement of {} packs that was cut short",
            replacement.old.len()
        );
        if placed && in_force {
            return self.finish(dir, now);
        }
        if placed {
            // Copies of what the old packs have, and a root commit that was never published.
            remove_pack(dir, &replacement.new)?;
        }
        self.under_way = None;
        self.save(dir)
    }

    /// Writes down what is about to happen.
    pub(crate) fn begin(&mut self, dir: &Path, replacement: Replacement) -> Result<(), Error> {
        // The same objects in the same order make the same pack: one that was retired may come back.
        self.packs.retain(|pack| pack.name != replacement.new);
        self.under_way = Some(replacement);
        self.save(dir)
    }

    /// It has happened: the old packs are retired from `now` on.
    pub(crate) fn finish(&mut self, dir: &Path, now: SystemTime) -> Result<(), Error> {
        let Some(replacement) = self.under_way.take() else {
            return Ok(());
        };
        let merged = replacement.root.is_none();
        let on_disk = packs_on_disk(dir)?;
        for name in replacement.old.into_iter().filter(|name| on_disk.contains(name)) {
            let bytes = pack_bytes(dir, &name)?;
            self.packs.push_back(RetiredPack {
                name,
                bytes,
                since_unix: unix(now),
                merged,
            });
        }
        self.save(dir)
    }

    /// Takes a pack off the list: it is relied on again.
    pub(crate) fn reinstate(&mut self, dir: &Path, name: &str) -> Result<(), Error> {
        if !self.contains(name) {
            return Ok(());
        }
        self.packs.retain(|pack| pack.name != name);
        self.save(dir)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.packs.iter().any(|pack| pack.name == name)
    }

    /// What they take on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.packs.iter().map(|pack| pack.bytes).sum()
    }

    /// Removes what has been retired for that long. Gives how many packs.
    pub(crate) fn remove_due(&mut self, dir: &Path, now: SystemTime, after: Duration) -> Result<usize, Error> {
        self.remove_while(dir, |list| list.packs.iter().position(|pack| pack.is_due(now, after)))
    }

    /// Removes packs before their time until what is left `fits`: from the oldest on, and first those that were
    /// merged, which nobody will miss. Gives how many.
    pub(crate) fn remove_until(&mut self, dir: &Path, fits: impl Fn(&Self) -> bool) -> Result<usize, Error> {
        self.remove_while(dir, |list| {
            let merged = list.packs.iter().position(|pack| pack.merged);
            (!fits(list) && !list.packs.is_empty()).then(|| merged.unwrap_or(0))
        })
    }

    fn remove_while(&mut self, dir: &Path, next: impl Fn(&Self) -> Option<usize>) -> Result<usize, Error> {
        let mut removed = 0;
        while let Some(pack) = next(self).and_then(|number| self.packs.remove(number)) {
            remove_pack(dir, &pack.name)?;
            removed += 1;
        }
        if removed > 0 {
            self.save(dir)?;
        }
        Ok(removed)
    }

    fn save(&self, dir: &Path) -> Result<(), Error> {
        let under_way = self.under_way.as_ref().map(|replacement| {
            let root = replacement.root.map_or_else(|| "-".to_owned(), |root| root.to_string());
            format!("replace {} {root} {}\n", replacement.new, replacement.old.join(" "))
        });
        let retired = self.packs.iter().map(|pack| {
            let why = if pack.merged { MERGED } else { SQUASHED };
            format!(
                "retired {} {} {why}
",
                pack.since_unix, pack.name
            )
        });
        let text: String = under_way.into_iter().chain(retired).collect();
        replace_file(&dir.join(FILE), &dir.join(format!("{FILE}.lock")), text.as_bytes())
    }
}

impl RetiredPack {
    /// Whether it has been retired for that long. A clock that was set back does not keep it for ever.
    fn is_due(&self, now: SystemTime, after: Duration) -> bool {
        let since = UNIX_EPOCH + Duration::from_secs(self.since_unix);
        now.duration_since(since)
            .map_or_else(|ahead| ahead.duration() > after, |age| age >= after)
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs())
}

enum Line {
    UnderWay(Replacement),
    Retired {
        since_unix: u64,
        name: String,
        merged: bool,
    },
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        match words.next()? {
            "retired" => {
                let since_unix = words.next()?.parse().ok()?;
                let name = words.next()?.to_owned();
                let merged = match words.next()? {
                    MERGED => true,
                    SQUASHED => false,
                    _ => return None,
                };
                Some(Self::Retired {
                    since_unix,
                    name,
                    merged,
                })
            }
            "replace" => {
                let new = words.next()?.to_owned();
                let root = match words.next()? {
                    "-" => None,
                    id => Some(id.parse().ok()?),
                };
                Some(Self::UnderWay(Replacement {
                    new,
                    root,
                    old: words.map(str::to_owned).collect(),
                }))
            }
            _ => None,
        }
    }
}
