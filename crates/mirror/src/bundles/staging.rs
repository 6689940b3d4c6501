//! Brings a part of a bundle from the stick into `imports/<bundle id>/`, verified on the way. Nothing of it is visible there.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bundle::{Manifest, Member, MemberName, Members, Sums};
use registry::Checksum;
use sha2::{Digest, Sha256};

use super::folders::Owner;
use super::outgoing::blob;
use super::planned::{files_in, write_files};
use super::publishing::staged;
use crate::appliance::StartError;

const BUFFER_BYTES: usize = 256 << 10;
/// A disk gives a file whole blocks, of 4 KiB as a rule; and its entry in a folder and its rows in the databases take room too.
const BESIDE_ITS_BYTES: u64 = (4 << 10) + 512;
/// A file that is just being staged.
const UNFINISHED: &str = "unfinished.part";

/// Where one bundle is staged.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The data directory.
    pub data_dir: &'a Path,
    /// The bundle's folder.
    pub folder: PathBuf,
    /// Who gets what is written.
    pub owner: Owner,
}

impl Stage<'_> {
    /// Whether all of a part is here: staged, or kept already.
    pub fn has(&self, part: u16) -> bool {
        let Ok(manifest) = std::fs::read(self.folder.join(staged::manifest(part))) else {
            return false;
        };
        let Ok(files) = files_in(&self.folder.join(staged::files(part))) else {
            return false;
        };
        let is_here = |(checksum, bytes): &(Checksum, u64)| {
            self.is_kept(checksum, *bytes) || size_of(&self.crate_path(checksum)) == Some(*bytes)
        };
        Manifest::parse(&manifest).is_ok() && files.iter().all(is_here)
    }

    /// Whether this very part is here, and not another one that gives itself the same id.
    pub fn has_this(&self, manifest: &Manifest) -> bool {
        let staged = std::fs::read(self.folder.join(staged::manifest(manifest.part)));
        let is_same = staged.is_ok_and(|json| Manifest::parse(&json).is_ok_and(|staged| staged == *manifest));
        is_same && self.has(manifest.part)
    }

    /// What was staged of the index was refused: it is read from the stick again. Crate files are what their names say, whoever brought them.
    pub fn forget_index(&self) -> io::Result<()> {
        let of_index = [
            staged::manifest(1),
            staged::CHANGES.to_owned(),
            staged::DECISIONS.to_owned(),
        ];
        of_index
            .iter()
            .try_for_each(|name| remove_if_there(&self.folder.join(name)))
    }

    /// The parts of `parts` that are not here.
    pub fn missing(&self, parts: u16) -> Vec<u16> {
        (1..=parts).filter(|part| !self.has(*part)).collect()
    }

    /// What the crate files of a part take on the disk that are not here yet: at most so many bytes. How large each of them is
    /// stands further behind in the part.
    pub fn room_needed(&self, manifest: &Manifest, sums: &Sums) -> u64 {
        let here = |checksum: &Checksum| {
            let kept = size_of(&blob(self.data_dir, checksum));
            kept.or_else(|| size_of(&self.crate_path(checksum)))
        };
        let (mut files, mut bytes) = (0, 0);
        for size in sums.crates.iter().filter_map(here) {
            files += 1;
            bytes += size;
        }
        let all = manifest.part_crates;
        let blocks = all.files.saturating_sub(files).saturating_mul(BESIDE_ITS_BYTES);
        all.bytes.saturating_sub(bytes).saturating_add(blocks)
    }

    fn is_kept(&self, checksum: &Checksum, bytes: u64) -> bool {
        size_of(&blob(self.data_dir, checksum)) == Some(bytes)
    }

    fn crate_path(&self, checksum: &Checksum) -> PathBuf {
        self.folder.join(format!("{checksum}.crate"))
    }

    /// Stages what comes before the crate files, for a look at it: not in a bundle's own folder, since the part would count as staged.
    pub fn take_index<R: Read + Seek>(&self, mut members: Members<R>) -> Result<(), StartError> {
        let manifest = members.manifest().clone();
        while let Some(member) = members.next_member()? {
            if matches!(member.name(), MemberName::Crate(_)) {
                break;
            }
            self.take(member, &mut |_| ())?;
        }
        self.write_manifest(&manifest)
    }

    /// Stages a part. `progress` hears how many bytes of it were looked at.
    pub fn take_part<R: Read + Seek>(
        &self,
        mut members: Members<R>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StartError> {
        let manifest = members.manifest().clone();
        let (mut files, mut before, mut has_decisions) = (Vec::new(), 0, false);
        while let Some(member) = members.next_member()? {
            let bytes = member.size_bytes();
            has_decisions |= matches!(member.name(), MemberName::Decisions);
            if let MemberName::Crate(checksum) = member.name() {
                files.push((checksum, bytes));
            }
            self.take(member, &mut |done| progress(before + done))?;
            before += bytes;
            progress(before);
        }
        if manifest.part == 1 && !has_decisions {
            // another bundle of the same id, which was refused, may have left some
            remove_if_there(&self.folder.join(staged::DECISIONS))?;
        }
        let list = self.folder.join(staged::files(manifest.part));
        write_files(&list, &files)?;
        self.owner.give(&list)?;
        // one for all of them
        flush_all(&self.folder)?;
        self.write_manifest(&manifest)
    }

    /// From here on the part counts as staged.
    fn write_manifest(&self, manifest: &Manifest) -> Result<(), StartError> {
        let (unfinished, path) = (
            self.folder.join(UNFINISHED),
            self.folder.join(staged::manifest(manifest.part)),
        );
        let mut file = create(&unfinished)?;
        file.write_all(&manifest.to_json())?;
        file.sync_all()?;
        self.owner.give(&unfinished)?;
        std::fs::rename(&unfinished, path)?;
        File::open(&self.folder)?.sync_all()?;
        Ok(())
    }

    fn take<R: Read + Seek>(&self, member: Member<'_, R>, progress: &mut dyn FnMut(u64)) -> Result<(), StartError> {
        let (path, bytes) = match member.name() {
            MemberName::Changes => (self.folder.join(staged::CHANGES), None),
            MemberName::Decisions => (self.folder.join(staged::DECISIONS), None),
            MemberName::Crate(checksum) if self.is_kept(&checksum, member.size_bytes()) => return Ok(member.skip()?),
            MemberName::Crate(checksum) => (self.crate_path(&checksum), Some((checksum, member.size_bytes()))),
            other => return Err(format!("{other} is at a place where it cannot be").into()),
        };
        // what a try before has brought need not come from the stick again
        if let Some((checksum, bytes)) = bytes
            && size_of(&path) == Some(bytes)
            && hash_of(&path)? == checksum
        {
            return Ok(member.skip()?);
        }
        let unfinished = self.folder.join(UNFINISHED);
        let mut out = Counted {
            file: create(&unfinished)?,
            bytes: 0,
            progress,
        };
        member.copy_to(&mut out)?;
        self.owner.give(&unfinished)?;
        Ok(std::fs::rename(&unfinished, path)?)
    }
}

/// Says how much was written.
struct Counted<'a> {
    file: File,
    bytes: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        (self.progress)(self.bytes);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o640)
        .open(path)
}

fn size_of(path: &Path) -> Option<u64> {
    let found = std::fs::symlink_metadata(path).ok()?;
    found.is_file().then_some(found.len())
}

/// What a file's bytes hash to.
pub fn hash_of(path: &Path) -> io::Result<Checksum> {
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    let mut hasher = Sha256::new();
    loop {
        let bytes = io::BufRead::fill_buf(&mut reader)?;
        if bytes.is_empty() {
            return Ok(Checksum::from_bytes(hasher.finalize().into()));
        }
        hasher.update(bytes);
        let length = bytes.len();
        io::BufRead::consume(&mut reader, length);
    }
}

/// Makes all that was written durable.
pub fn flush_all(folder: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(File::open(folder)?)?;
    #[cfg(not(target_os = "linux"))]
    for entry in std::fs::read_dir(folder)? {
        File::open(entry?.path())?.sync_all()?;
    }
    File::open(folder)?.sync_all()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
