//! What is in `objects/` and counts: the packs that are in force and the loose objects, with their sizes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::hash::Kind::Sha1;

use super::layout::{fan_out, list, loose_object, name_of, packs};
use crate::Error;
use crate::durable::remove_file;

/// A pack whose objects we rely on.
pub(crate) struct LivePack {
    /// `pack-` and the hash of its content.
    pub(crate) name: String,
    /// Pack and index together.
    pub(crate) bytes: u64,
    pack_bytes: u64,
    index: gix_pack::index::File,
}

impl LivePack {
    pub(crate) fn open(dir: &Path, name: &str) -> Result<Self, Error> {
        let pack = packs(dir).join(format!("{name}.pack"));
        let damaged = |why: String| Error::Damaged {
            path: dir.to_owned(),
            why: format!("{name}: {why}"),
        };
        let index = gix_pack::index::File::at(pack.with_extension("idx"), Sha1)
            .map_err(|error| damaged(format!("unreadable index: {error}")))?;
        let index_bytes = size_of_file(&pack.with_extension("idx"))?;
        let pack_bytes = size_of_file(&pack)?;
        if trailer(&pack)? != index.pack_checksum().as_slice() {
            return Err(damaged(
                "the pack ends in another checksum than its index says".to_owned(),
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            bytes: pack_bytes + index_bytes,
            pack_bytes,
            index,
        })
    }

    /// The ids of its objects.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.index.iter().map(|entry| entry.oid)
    }
}

/// The last twenty bytes: a pack that was cut short has others.
fn trailer(pack: &Path) -> Result<[u8; 20], Error> {
    let mut bytes = [0; 20];
    File::open(pack)
        .and_then(|mut file| {
            file.seek(SeekFrom::End(-20))?;
            file.read_exact(&mut bytes)
        })
        .map_err(Error::io("read", pack))?;
    Ok(bytes)
}

fn size_of_file(path: &Path) -> Result<u64, Error> {
    fs::metadata(path)
        .map(|metadata| metadata.len())
        .map_err(Error::io("measure", path))
}

/// The names of all packs on disk, live and retired.
pub(crate) fn packs_on_disk(dir: &Path) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = list(&packs(dir))?
        .iter()
        .filter_map(|path| name_of(path).strip_suffix(".pack"))
        .map(str::to_owned)
        .collect();
    names.sort();
    Ok(names)
}

/// What a pack and its index take on disk.
pub(crate) fn pack_bytes(dir: &Path, name: &str) -> Result<u64, Error> {
    let pack = packs(dir).join(format!("{name}.pack"));
    Ok(size_of_file(&pack)? + size_of_file(&pack.with_extension("idx"))?)
}

/// Removes a pack: the index first, without which nobody looks for the rest.
pub(crate) fn remove_pack(dir: &Path, name: &str) -> Result<(), Error> {
    ["idx", "rev", "bitmap", "mtimes", "keep", "pack"]
        .iter()
        .try_for_each(|extension| remove_file(&packs(dir).join(format!("{name}.{extension}"))))
}

/// The objects that are here to stay. What is only in a retired pack is not among them, and must be written anew.
pub(crate) struct Storage {
    dir: PathBuf,
    pub(crate) packs: Vec<LivePack>,
    /// The loose objects, with their sizes on disk.
    pub(crate) loose: HashMap<ObjectId, u64>,
}

impl Storage {
    pub(crate) fn load(dir: &Path, is_retired: impl Fn(&str) -> bool) -> Result<Self, Error> {
        let mut storage = Self {
            dir: dir.to_owned(),
            packs: Vec::new(),
            loose: HashMap::new(),
        };
        for name in packs_on_disk(dir)?.iter().filter(|name| !is_retired(name)) {
            storage.packs.push(LivePack::open(dir, name)?);
        }
        for folder in fan_out(dir)? {
            for path in list(&folder)? {
                let hex = format!("{}{}", name_of(&folder), name_of(&path));
                if let Ok(id) = ObjectId::from_hex(hex.as_bytes()) {
                    storage.loose.insert(id, size_of_file(&path)?);
                }
            }
        }
        Ok(storage)
    }

    pub(crate) fn contains(&self, id: ObjectId) -> bool {
        self.loose.contains_key(&id) || self.packs.iter().any(|pack| pack.index.lookup(id).is_some())
    }

    /// What all of it takes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.loose.values().sum::<u64>() + self.packs.iter().map(|pack| pack.bytes).sum::<u64>()
    }

    /// Begins to rely on a pack that was placed.
    pub(crate) fn add_pack(&mut self, name: &str) -> Result<(), Error> {
        if !self.packs.iter().any(|pack| pack.name == name) {
            self.packs.push(LivePack::open(&self.dir, name)?);
        }
        Ok(())
    }

    /// Removes the files of all loose objects. They are in a pack by now.
    pub(crate) fn drop_loose(&mut self) -> Result<usize, Error> {
        let dropped = self.loose.len();
        for (id, _) in self.loose.drain() {
            remove_file(&loose_object(&self.dir, id))?;
        }
        Ok(dropped)
    }

    /// What these objects would take as one pack with its index, as they are compressed now.
    pub(crate) fn packed_bytes(&self, ids: &[ObjectId]) -> u64 {
        /// Id, checksum and offset in an index; its fixed part, and the pack's.
        const INDEX_ENTRY: u64 = 28;
        const FIXED: u64 = 1072 + 32;
        let offsets: Vec<Vec<u64>> = self.packs.iter().map(|pack| pack.index.sorted_offsets()).collect();
        let size = |id: &ObjectId| {
            let packed = self.packs.iter().zip(&offsets).find_map(|(pack, offsets)| {
                let start = pack.index.pack_offset_at_index(pack.index.lookup(id)?);
                let next = offsets.partition_point(|offset| *offset <= start);
                Some(offsets.get(next).copied().unwrap_or(pack.pack_bytes.saturating_sub(20)) - start)
            });
            packed.or_else(|| self.loose.get(id).copied()).unwrap_or(0)
        };
        FIXED + ids.iter().map(|id| size(id) + INDEX_ENTRY).sum::<u64>()
    }
}
