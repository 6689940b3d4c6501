//! Objects as the packs of a repository have them: deflated, and ready for the log.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use git_smart_http::{Deflated, Kind, Object};
use gix::ObjectId;
use gix::hash::Kind::Sha1;
use gix::progress::Discard;
use gix_pack::data::entry::Header;
use gix_pack::index::traverse::SafetyCheck;
use gix_pack::index::traverse::with_index::Options;

use super::{MANY_OBJECTS, id};
use crate::repository::{pack_path, packs_on_disk};
use crate::{CommitId, Error};

/// The packs that were there at one moment. One that is removed meanwhile can be read on.
pub(super) struct Packs(Vec<Pack>);

struct Pack {
    index: gix_pack::index::File,
    data: gix_pack::data::File,
    /// Where each object begins, in ascending order.
    offsets: Vec<u64>,
}

impl Packs {
    /// Leaves out what cannot be opened: that is a finding for whoever reads objects in the usual way.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let open = |name: &String| {
            let path = pack_path(dir, name);
            let index = gix_pack::index::File::at(path.with_extension("idx"), Sha1).ok()?;
            let data = gix_pack::data::File::at(path, Sha1).ok()?;
            let offsets = index.sorted_offsets();
            Some(Pack { index, data, offsets })
        };
        Ok(Self(packs_on_disk(dir)?.iter().filter_map(open).collect()))
    }

    /// Pack by pack, front to back: what deltas are made against stands near them.
    pub(super) fn place(&self, object: ObjectId) -> Option<(usize, u64)> {
        let packs = self.0.iter().enumerate();
        packs
            .filter_map(|(number, pack)| Some((number, pack.index.lookup(object)?)))
            .map(|(number, at)| (number, self.0[number].index.pack_offset_at_index(at)))
            .next()
    }

    /// Takes those out of `ids` that are in packs of which they are the most part, and gives them by pack.
    pub(super) fn mostly_wanted(&self, ids: &mut Vec<ObjectId>) -> Vec<(usize, HashSet<ObjectId>)> {
        let mut wanted = vec![HashSet::new(); self.0.len()];
        for id in ids.iter() {
            if let Some((number, _)) = self.place(*id) {
                wanted[number].insert(*id);
            }
        }
        let numbered = wanted.into_iter().enumerate();
        let mostly = |(number, wanted): &(usize, HashSet<ObjectId>)| {
            wanted.len() >= MANY_OBJECTS && wanted.len() * 2 > self.0[*number].offsets.len()
        };
        let whole: Vec<_> = numbered.filter(mostly).collect();
        ids.retain(|id| !whole.iter().any(|(_, wanted)| wanted.contains(id)));
        whole
    }

    /// Shows all objects of a pack, on several threads, until one of them says that this is enough.
    pub(super) fn each_object(
        &self,
        number: usize,
        threads: usize,
        mut take: impl FnMut(ObjectId, Object<'_>) -> bool + Send + Clone,
    ) -> Result<(), Error> {
        let pack = &self.0[number];
        let (is_over, enough) = (AtomicBool::new(false), AtomicBool::new(false));
        let (over, full) = (&is_over, &enough);
        let each = move |kind: gix::objs::Kind, bytes: &[u8], entry: &gix_pack::index::Entry, _: &dyn gix::Progress| {
            let kind = match kind {
                gix::objs::Kind::Commit => Kind::Commit,
                gix::objs::Kind::Tree => Kind::Tree,
                gix::objs::Kind::Blob => Kind::Blob,
                gix::objs::Kind::Tag => return Ok(()),
            };
            if !pack.is_as_indexed(entry.pack_offset, entry.crc32) {
                let said = format!("object {} is not what it was", entry.oid);
                return Err(gix::Error::from_error(std::io::Error::other(said)));
            }
            let id = id(CommitId::from(entry.oid));
            let data = bytes;
            if !take(entry.oid, Object { id, kind, data }) {
                full.store(true, Ordering::Relaxed);
                over.store(true, Ordering::Relaxed);
            }
            Ok(())
        };
        let options = Options {
            check: SafetyCheck::SkipFileAndObjectChecksumVerification,
            thread_limit: Some(threads),
            alloc_limit_bytes: None,
        };
        let done = pack
            .index
            .traverse_with_index(&pack.data, each, &mut Discard, &is_over, options);
        match done {
            Err(_) if enough.load(Ordering::Relaxed) => Ok(()),
            done => done.map(drop).map_err(Error::git("read a pack for the pack log")),
        }
    }

    /// An object that some pack has whole; none if they have it as a delta or not at all.
    pub(super) fn deflated(&self, object: ObjectId) -> Option<Deflated> {
        self.0.iter().find_map(|pack| pack.deflated(object))
    }
}

impl Pack {
    /// Where the entry ends that starts there.
    fn end(&self, start: u64) -> u64 {
        let next = self.offsets.partition_point(|offset| *offset <= start);
        self.offsets.get(next).copied().unwrap_or(self.data.pack_end() as u64)
    }

    /// The pack was right when it was indexed; the disk may have changed it since.
    fn is_as_indexed(&self, start: u64, crc32: Option<u32>) -> bool {
        let whole = self.data.entry_slice(start..self.end(start));
        whole.is_some_and(|whole| crc32 == Some(self.data.entry_crc32(start, whole.len())))
    }

    fn deflated(&self, object: ObjectId) -> Option<Deflated> {
        let number = self.index.lookup(object)?;
        let start = self.index.pack_offset_at_index(number);
        if !self.is_as_indexed(start, self.index.crc32_at_index(number)) {
            return None;
        }
        let end = self.end(start);
        let whole = self.data.entry_slice(start..end)?;
        let entry = gix_pack::data::Entry::from_bytes(whole, start, Sha1).ok()?;
        let kind = match entry.header {
            Header::Commit => Kind::Commit,
            Header::Tree => Kind::Tree,
            Header::Blob => Kind::Blob,
            Header::Tag | Header::OfsDelta { .. } | Header::RefDelta { .. } => return None,
        };
        Some(Deflated {
            id: id(CommitId::from(object)),
            kind,
            inflated: entry.decompressed_size,
            bytes: self.data.entry_slice(entry.data_offset..end)?.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::sync::Mutex;

    use flate2::read::ZlibDecoder;
    use tempfile::TempDir;
    use testkit::git_ok;

    use super::*;

    /// A repository with one pack, in which one of two files is a delta. Gives the objects' names.
    fn packed() -> (TempDir, Vec<ObjectId>) {
        let dir = tempfile::tempdir().unwrap();
        git_ok(dir.path(), &["init", "-q", "-b", "master"]);
        let long: String = (0..2_000).map(|n| format!("line {n}\n")).collect();
        fs::write(dir.path().join("a"), &long).unwrap();
        fs::write(dir.path().join("b"), format!("{long}and one more\n")).unwrap();
        git_ok(dir.path(), &["add", "-A"]);
        git_ok(dir.path(), &["commit", "-q", "-m", "change"]);
        git_ok(dir.path(), &["repack", "-q", "-a", "-d", "-f"]);
        let names = ["HEAD", "HEAD^{tree}", "HEAD:a", "HEAD:b"].map(|name| git_ok(dir.path(), &["rev-parse", name]));
        (
            dir,
            names.map(|name| ObjectId::from_hex(name.as_bytes()).unwrap()).to_vec(),
        )
    }

    #[test]
    fn what_a_pack_has_whole_is_taken_as_it_is() {
        let (dir, ids) = packed();
        let packs = Packs::open(&dir.path().join(".git")).unwrap();
        assert!(ids.iter().all(|id| packs.place(*id).is_some()));
        let taken: Vec<Option<Deflated>> = ids.iter().map(|id| packs.deflated(*id)).collect();
        assert_eq!(taken.iter().flatten().count(), 3, "one file is a delta of the other");
        for object in taken.iter().flatten() {
            let mut content = Vec::new();
            ZlibDecoder::new(object.bytes.as_slice())
                .read_to_end(&mut content)
                .unwrap();
            assert_eq!(object.inflated, content.len() as u64);
            let kind = match object.kind {
                Kind::Commit => gix::objs::Kind::Commit,
                Kind::Tree => gix::objs::Kind::Tree,
                Kind::Blob => gix::objs::Kind::Blob,
            };
            let name = gix::objs::compute_hash(Sha1, kind, &content).unwrap();
            assert_eq!(id(CommitId::from(name)), object.id);
        }
        let shown = Mutex::new(Vec::new());
        let show = |name: ObjectId, object: Object<'_>| {
            let kind = ids
                .iter()
                .position(|id| *id == name)
                .map(|at| [Kind::Commit, Kind::Tree, Kind::Blob][at.min(2)]);
            assert_eq!(kind, Some(object.kind));
            shown.lock().unwrap().push(name);
            true
        };
        packs.each_object(0, 2, show).unwrap();
        let mut shown = shown.into_inner().unwrap();
        shown.sort();
        let mut all = ids.clone();
        all.sort();
        assert_eq!(shown, all, "each once, deltas too");
        assert!(
            packs.each_object(0, 1, |_, _| false).is_ok(),
            "who has enough may say so"
        );
        let absent = ObjectId::null(Sha1);
        assert!(packs.place(absent).is_none() && packs.deflated(absent).is_none());
    }

    #[test]
    fn what_the_disk_has_changed_is_not_taken() {
        let (dir, ids) = packed();
        let git = dir.path().join(".git");
        let path = pack_path(&git, &packs_on_disk(&git).unwrap()[0]);
        let whole = Packs::open(&git).unwrap();
        let object = ids.iter().find(|id| whole.deflated(**id).is_some()).unwrap();
        let (_, start) = whole.place(*object).unwrap();
        drop(whole);
        let mut bytes = fs::read(&path).unwrap();
        bytes[usize::try_from(start).unwrap() + 10] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let packs = Packs::open(&git).unwrap();
        assert_eq!(packs.deflated(*object), None);
        assert!(packs.each_object(0, 1, |_, _| true).is_err());
    }
}
