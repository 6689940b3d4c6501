//! What an export is to carry, written down in `exports/<bundle id>/` between who plans it and who writes the bundle.

use std::fs::{File, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bundle::{Id, OutsideDecision, Parent, TreeHex};
use registry::Checksum;
use serde::{Deserialize, Serialize};

use super::folders;
use crate::appliance::StartError;
use crate::cli::IndexScope;

/// Whoever writes the bundle begins within this time.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(120);

const PLAN: &str = "plan.json";
const FILES: &str = "files";
/// What the mirror has decided, as the bundle has it; it is not there if that is nothing.
pub const DECISIONS: &str = "decisions.jsonl.gz";

/// All of it but the list of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The bundle's id.
    pub id: Id,
    /// The id of this mirror.
    pub site: Id,
    /// Its place in the row of all exports from here.
    pub serial: u64,
    /// The bundle that it continues.
    pub parent: Option<Parent>,
    /// In Unix seconds.
    pub created_at: i64,
    /// How much of the index goes along.
    pub scope: IndexScope,
    /// The state of the index that its receiver comes to.
    pub tree: TreeHex,
    /// The state that its receiver has.
    pub base: Option<TreeHex>,
    /// Upstream's commit, if it is followed.
    pub upstream: Option<TreeHex>,
    /// Whether all of upstream's index is here.
    pub whole: bool,
    /// How many of the files that were named are not in it.
    pub missing: u64,
    /// What the file with the decisions hashes to, and its size.
    pub decisions: Option<(Checksum, u64)>,
}

/// A plan that was taken up. Its files are not evicted as long as this is held.
#[derive(Debug)]
pub struct Prepared {
    /// The plan.
    pub plan: Plan,
    /// The crate files with their sizes, by checksum.
    pub files: Vec<(Checksum, u64)>,
    /// Its folder, which has room for what is made on the way.
    pub folder: PathBuf,
    #[expect(dead_code, reason = "it is held, not read")]
    lock: File,
}

fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("exports")
}

impl Plan {
    /// Writes it down with its files.
    pub fn write(
        &mut self,
        data_dir: &Path,
        files: &[(Checksum, u64)],
        decisions: Vec<OutsideDecision>,
    ) -> Result<(), StartError> {
        let folder = folder(data_dir).join(self.id.to_string());
        folders::make(&folder)?;
        write_files(&folder.join(FILES), files)?;
        if !decisions.is_empty() {
            let (_, stored) = bundle::write_decisions(File::create(folder.join(DECISIONS))?, decisions)?;
            self.decisions = Some((stored.checksum, stored.bytes));
        }
        std::fs::write(folder.join(PLAN), serde_json::to_vec(self)?)?;
        Ok(())
    }
}

impl Prepared {
    /// The bundle is written, or will never be.
    pub fn end(self) -> io::Result<()> {
        std::fs::remove_dir_all(&self.folder)
    }

    /// Takes up what was planned.
    pub fn take_up(data_dir: &Path, id: Id) -> io::Result<Self> {
        let folder = folder(data_dir).join(id.to_string());
        let lock = File::open(folder.join(PLAN))?;
        lock.try_lock()?;
        Ok(Self {
            plan: serde_json::from_reader(&lock)?,
            files: files_in(&folder.join(FILES))?,
            folder,
            lock,
        })
    }
}

/// Writes a list of files: a checksum and a size on each line.
pub fn write_files(list: &Path, files: &[(Checksum, u64)]) -> io::Result<()> {
    let mut list = BufWriter::new(File::create(list)?);
    for (checksum, size_bytes) in files {
        writeln!(list, "{checksum} {size_bytes}")?;
    }
    list.into_inner()?.sync_all()
}

/// Reads one.
pub fn files_in(list: &Path) -> io::Result<Vec<(Checksum, u64)>> {
    let lines = BufReader::new(File::open(list)?).lines();
    let read = |line: io::Result<String>| {
        let line = line?;
        let parsed = line
            .split_once(' ')
            .and_then(|(checksum, size)| Some((checksum.parse().ok()?, size.parse().ok()?)));
        parsed.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{line:?} names no crate file")))
    };
    lines.map(read).collect()
}

/// The plans that are there, and whether somebody is at work on each.
fn all(data_dir: &Path) -> io::Result<Vec<(PathBuf, bool)>> {
    let entries = match std::fs::read_dir(folder(data_dir)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let under_way = is_under_way(&path);
        all.push((path, under_way));
    }
    Ok(all)
}

fn is_under_way(folder: &Path) -> bool {
    let Ok(plan) = File::open(folder.join(PLAN)) else {
        // it is just being written, or was left half written
        return is_young(folder);
    };
    matches!(plan.try_lock_shared(), Err(TryLockError::WouldBlock)) || is_young(&folder.join(PLAN))
}

fn is_young(path: &Path) -> bool {
    let changed = std::fs::metadata(path).and_then(|found| found.modified());
    changed.is_ok_and(|changed| {
        SystemTime::now()
            .duration_since(changed)
            .is_ok_and(|age| age < TAKEN_UP_WITHIN)
    })
}

/// The crate files that exports under way need.
pub fn held(data_dir: &Path) -> io::Result<Vec<Checksum>> {
    let mut held = Vec::new();
    for (folder, _) in all(data_dir)?.into_iter().filter(|(_, under_way)| *under_way) {
        match files_in(&folder.join(FILES)) {
            Ok(files) => held.extend(files.into_iter().map(|(checksum, _)| checksum)),
            // it has ended meanwhile
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(held)
}

/// Removes what exports have left behind that nobody works on any more, and gives the ids of their bundles.
pub fn sweep(data_dir: &Path) -> io::Result<Vec<String>> {
    let mut swept = Vec::new();
    for (folder, under_way) in all(data_dir)? {
        if !under_way {
            std::fs::remove_dir_all(&folder)?;
            swept.extend(folder.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Id = Id::from_bytes([1; 16]);

    fn plan(id: Id) -> Plan {
        Plan {
            id,
            site: Id::from_bytes([5; 16]),
            serial: 7,
            parent: Some(Parent {
                id: Id::from_bytes([6; 16]),
                serial: 6,
            }),
            created_at: 1_700_000_000,
            scope: IndexScope::Full,
            tree: "4".repeat(40).parse().unwrap(),
            base: None,
            upstream: None,
            whole: false,
            missing: 0,
            decisions: None,
        }
    }

    fn grow_old(folder: &Path) {
        let long_ago = SystemTime::now() - 2 * TAKEN_UP_WITHIN;
        let file = File::options().write(true).open(folder.join(PLAN)).unwrap();
        file.set_modified(long_ago).unwrap();
    }

    #[test]
    fn files_are_held_until_the_export_ends_or_its_writer_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(held(dir.path()).unwrap().is_empty() && sweep(dir.path()).unwrap().is_empty());
        let files = [(Checksum::of(b"a"), 1), (Checksum::of(b"b"), 2)];
        plan(ONE).write(dir.path(), &files, Vec::new()).unwrap();
        assert_eq!(held(dir.path()).unwrap().len(), 2, "its writer is about to come");

        let prepared = Prepared::take_up(dir.path(), ONE).unwrap();
        assert_eq!((&prepared.plan, &prepared.files[..]), (&plan(ONE), &files[..]));
        assert!(Prepared::take_up(dir.path(), ONE).is_err(), "one writer is enough");
        grow_old(&prepared.folder);
        assert_eq!(held(dir.path()).unwrap().len(), 2);
        assert!(sweep(dir.path()).unwrap().is_empty());

        drop(prepared);
        assert!(held(dir.path()).unwrap().is_empty());
        assert_eq!(sweep(dir.path()).unwrap(), [ONE.to_string()]);
        assert!(Prepared::take_up(dir.path(), ONE).is_err());
    }
}
