//! Writes a planned bundle: reads `index.git` and `blobs/` beside the server.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

use bundle::{
    Contents, CrateFile, Description, FAT32_FILE_BYTES, IndexSummary, MemberName, PayloadWriter, Plan, Scope,
    SecretKey, Stored, Time, Total,
};
use index_sync::{FileChange, PublishedTree};
use registry::{Checksum, IndexEdit};
use rustix::fs::OFlags;

use super::planned::{DECISIONS, Prepared};
use crate::appliance::StartError;
use crate::cli::IndexScope;
use crate::commands::Transfer;
use crate::free_space::{free_bytes, is_fat};
use crate::prefetch::size;

const CHANGES: &str = "changes.gz";
/// So much is written between two flushes.
const FLUSHED_AT_ONCE: u64 = 32 << 20;

/// Where a bundle goes.
#[derive(Debug)]
pub struct Target<'a> {
    /// The file; with `split` what its parts begin with.
    pub output: &'a Path,
    /// The most that a part may have.
    pub split: Option<u64>,
    /// What is there may be written over.
    pub force: bool,
}

impl Target<'_> {
    fn path(&self, part: u16) -> PathBuf {
        match self.split {
            Some(_) => with_suffix(self.output, &format!(".{part:03}")),
            None => self.output.to_owned(),
        }
    }

    fn folder(&self) -> &Path {
        match self.output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// What can be said before anything is planned.
    pub fn check(&self) -> Result<(), StartError> {
        let folder = self.folder();
        if !folder.is_dir() {
            return Err(format!("{} is no folder: is the stick there?", folder.display()).into());
        }
        if self.output.is_dir() {
            return Err(format!("{} is a folder: name a file in it", self.output.display()).into());
        }
        self.check_part(1)
    }

    fn check_part(&self, part: u16) -> Result<(), StartError> {
        let path = self.path(part);
        if path.exists() && !self.force {
            return Err(format!("{} is there already: --force writes over it", path.display()).into());
        }
        Ok(())
    }

    /// That all of it fits.
    fn check_room(&self, plan: &Plan) -> Result<(), StartError> {
        for part in plan.parts() {
            self.check_part(part.manifest.part)?;
        }
        let (folder, needed) = (self.folder(), plan.total_bytes());
        let largest = plan.parts().iter().map(|part| part.bytes).max().unwrap_or_default();
        if largest > FAT32_FILE_BYTES && is_fat(folder) {
            return Err(format!(
                "{} is on a FAT file system, which takes no file of {}: add --split 4GiB",
                folder.display(),
                size(largest)
            )
            .into());
        }
        let free = free_bytes(folder)?;
        if free < needed && !self.force {
            return Err(format!(
                "{} has {} free, and the bundle needs {}",
                folder.display(),
                size(free),
                size(needed)
            )
            .into());
        }
        Ok(())
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A bundle of which every byte is known.
#[derive(Debug)]
pub struct Outgoing<'a> {
    data_dir: &'a Path,
    prepared: &'a Prepared,
    target: &'a Target<'a>,
    plan: Plan,
    /// How many index files go along.
    pub index_files: u64,
}

impl<'a> Outgoing<'a> {
    /// Packs the changes of the index, which stand before the crate files; and looks whether all of it fits where it goes.
    pub fn pack(
        data_dir: &'a Path,
        prepared: &'a Prepared,
        target: &'a Target<'a>,
        key: Option<&SecretKey>,
    ) -> Result<Self, StartError> {
        let (changes, total) = pack_changes(data_dir, prepared)?;
        let planned = &prepared.plan;
        let contents = Contents {
            bundle: Description {
                id: planned.id,
                site: planned.site,
                serial: planned.serial,
                parent: planned.parent,
                created: Time::from_unix(planned.created_at),
                creator: format!("mirror {}", env!("CARGO_PKG_VERSION")),
                key: key.map(SecretKey::public_key),
                index: Some(IndexSummary {
                    scope: match planned.scope {
                        IndexScope::Full => Scope::Full,
                        IndexScope::Selected => Scope::Selected,
                    },
                    tree: planned.tree.clone(),
                    files: total.files,
                    bytes: total.bytes,
                    upstream: planned.upstream.clone(),
                    whole: planned.whole && planned.scope == IndexScope::Full,
                }),
                wanted_missing: planned.missing,
            },
            changes,
            decisions: planned.decisions.map(|(checksum, bytes)| Stored { checksum, bytes }),
            crates: prepared
                .files
                .iter()
                .map(|(checksum, bytes)| CrateFile {
                    checksum: *checksum,
                    bytes: *bytes,
                })
                .collect(),
        };
        let plan = Plan::new(contents, target.split)?;
        target.check_room(&plan)?;
        Ok(Self {
            data_dir,
            prepared,
            target,
            plan,
            index_files: total.files,
        })
    }

    /// The bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.plan.total_bytes()
    }

    /// How many parts there are.
    pub fn parts(&self) -> usize {
        self.plan.parts().len()
    }

    /// Writes all parts, each under a name that says that it is not finished; what was written goes again if that fails.
    pub fn write(&self, key: Option<&SecretKey>) -> Result<Unfinished, StartError> {
        let mut transfer = Transfer::new("wrote", self.bytes());
        let mut unfinished = Unfinished::default();
        let mut before = 0;
        for part in self.plan.parts() {
            let path = self.target.path(part.manifest.part);
            let file = unfinished.begin(path, part.bytes)?;
            let flushing = Flushing::of(&file)?;
            let mut writer = self.plan.write_part(part.manifest.part, file, key)?;
            while let Some((member, _)) = writer.wanted() {
                writer.put(self.open(member)?).map_err(|error| self.explained(error))?;
                flushing.has_come_to(writer.written_bytes());
                transfer.show(before + writer.written_bytes());
            }
            let file = writer.finish()?;
            transfer.say("waiting until the disk has written all of it");
            flushing.end()?;
            file.sync_all()?;
            before += part.bytes;
        }
        transfer.end();
        Ok(unfinished)
    }

    fn open(&self, member: MemberName) -> Result<impl Read, StartError> {
        let path = match member {
            MemberName::Changes => self.prepared.folder.join(CHANGES),
            MemberName::Decisions => self.prepared.folder.join(DECISIONS),
            MemberName::Crate(checksum) => blob(self.data_dir, &checksum),
            other => return Err(format!("{other} is not packed from a file").into()),
        };
        File::open(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()).into())
    }

    fn explained(&self, error: bundle::Error) -> StartError {
        match error {
            bundle::Error::Source { .. } => {
                format!("{error}; `mirror verify --repair` fetches damaged files again").into()
            }
            other => other.into(),
        }
    }
}

/// Where a kept file is.
pub fn blob(data_dir: &Path, checksum: &Checksum) -> PathBuf {
    let hex = checksum.to_hex();
    data_dir.join("blobs").join(&hex[..2]).join(hex)
}

/// Writes what becomes of each index file, and gives how many there are. None if the receiver has all of it.
fn pack_changes(data_dir: &Path, prepared: &Prepared) -> Result<(Option<Stored>, Total), StartError> {
    let tree = PublishedTree::open_read_only(&data_dir.join("index.git"))?;
    let id = |tree: &bundle::TreeHex| tree.as_str().parse();
    let base = prepared.plan.base.as_ref().map(id).transpose()?;
    let changes = tree.changes_between(base, id(&prepared.plan.tree)?)?;
    if changes.is_empty() {
        return Ok((None, Total::default()));
    }
    let mut transfer = Transfer::counting("packed", changes.len() as u64);
    let file = BufWriter::with_capacity(256 << 10, File::create(prepared.folder.join(CHANGES))?);
    let mut writer = PayloadWriter::new(file);
    for (done, change) in (0..).zip(&changes) {
        writer.push(&change.path, &edit(&tree, change)?)?;
        transfer.show(done);
    }
    let (file, stored, total) = writer.finish()?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?;
    transfer.end();
    Ok((Some(stored), total))
}

fn edit(tree: &PublishedTree, change: &FileChange) -> Result<IndexEdit, StartError> {
    let Some(new) = change.new else {
        return Ok(IndexEdit::Removed);
    };
    let new = tree.blob(new)?;
    Ok(match change.old {
        Some(old) => IndexEdit::between(Some(&tree.blob(old)?), &new),
        None => IndexEdit::whole(&new),
    })
}

/// Has the disk write beside the hashing, rather than all of it in the end.
struct Flushing {
    due: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
    /// What was written when it was due last.
    last: Cell<u64>,
}

impl Flushing {
    fn of(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        let (due, wait) = std::sync::mpsc::sync_channel(1);
        // an error is told once for all handles of the file: it must not be lost here
        let thread = std::thread::spawn(move || wait.iter().try_for_each(|()| file.sync_data()));
        let last = Cell::new(0);
        Ok(Self { due, thread, last })
    }

    fn has_come_to(&self, bytes: u64) {
        if bytes - self.last.get() >= FLUSHED_AT_ONCE {
            self.last.set(bytes);
            // one that is under way still will do
            let _ = self.due.try_send(());
        }
    }

    fn end(self) -> io::Result<()> {
        drop(self.due);
        self.thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("flushing was abandoned")))
    }
}

/// Parts that are written, and have no name yet. What is not finished is removed.
#[derive(Debug, Default)]
pub struct Unfinished {
    parts: Vec<(PathBuf, u64)>,
}

fn unfinished_name(path: &Path) -> PathBuf {
    with_suffix(path, ".part")
}

impl Unfinished {
    fn begin(&mut self, path: PathBuf, bytes: u64) -> Result<File, StartError> {
        let name = unfinished_name(&path);
        // what somebody else put on the stick is no way to other files
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&name)
            .map_err(|error| format!("{} cannot be written: {error}", name.display()))?;
        self.parts.push((path, bytes));
        Ok(file)
    }

    /// Gives the parts their names, and says what they are and how large.
    pub fn finish(mut self) -> Result<Vec<(PathBuf, u64)>, StartError> {
        // They are whole, and count: what becomes of their names, none of them is removed any more.
        let parts = std::mem::take(&mut self.parts);
        for (path, _) in &parts {
            let written = unfinished_name(path);
            std::fs::rename(&written, path).map_err(|error| {
                format!(
                    "{} is written and counts as exported, but cannot be named {}: {error}: name it so yourself",
                    written.display(),
                    path.display()
                )
            })?;
        }
        if let Some((path, _)) = parts.first() {
            let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            // a stick that cannot do this has the files all the same
            let _ = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
        }
        Ok(parts)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        for (path, _) in &self.parts {
            let _ = std::fs::remove_file(unfinished_name(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_there_and_a_folder_that_is_not_are_refused_before_anything_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let (there, nowhere) = (dir.path().join("there.tar"), dir.path().join("no/such/x.tar"));
        std::fs::write(&there, "").unwrap();
        let refused = |output: &Path, split, force| {
            let target = Target { output, split, force };
            target.check().map_err(|error| error.to_string()).err()
        };
        assert!(refused(&there, None, false).unwrap().contains("--force"));
        assert_eq!(refused(&there, None, true), None);
        assert_eq!(refused(&there, Some(1 << 20), false), None, "parts have other names");
        assert!(refused(&nowhere, None, false).unwrap().contains("is the stick there?"));
        assert!(refused(dir.path(), None, false).unwrap().contains("name a file in it"));
    }

    #[test]
    fn what_is_not_finished_goes_and_what_is_has_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar");
        let count = || std::fs::read_dir(dir.path()).unwrap().count();
        let mut unfinished = Unfinished::default();
        unfinished.begin(path.clone(), 0).unwrap();
        assert_eq!(count(), 1);
        drop(unfinished);
        assert_eq!(count(), 0);
        let mut unfinished = Unfinished::default();
        unfinished.begin(path.clone(), 0).unwrap();
        assert_eq!(unfinished.finish().unwrap(), [(path.clone(), 0)]);
        assert!(path.exists() && count() == 1);
    }
}
