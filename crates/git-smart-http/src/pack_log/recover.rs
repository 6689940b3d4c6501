//! Opening: what is complete stays, what is behind it is cut off.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io::Read,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use super::{
    Files, History, Place,
    files::path,
    format::{self, COMMIT_BYTES, CommitRecord, HEADER_BYTES, RECORD_BYTES},
    history::Copy,
    known::KnownObjects,
};
use crate::{Error, ObjectId};

/// What opening found behind the last complete commit and cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes cut from the payloads.
    pub entries_bytes: u64,
    /// Bytes cut from the index.
    pub index_bytes: u64,
    /// Bytes cut from the commit records. A whole record is 128: then a commit is gone that was complete once.
    pub commits_bytes: u64,
}

impl Recovered {
    /// Whether everything was complete.
    pub fn is_clean(&self) -> bool {
        *self == Recovered::default()
    }
}

/// An opened log.
pub(super) struct Opened {
    pub generation: u32,
    pub commits: File,
    pub files: Arc<Files>,
    pub history: History,
    pub known: KnownObjects,
    pub recovered: Recovered,
}

/// Opens the log in `dir`, or starts one.
pub(super) fn open(dir: &Path) -> Result<Opened, Error> {
    fs::create_dir_all(dir).map_err(Error::disk("create", dir))?;
    let commits_path = dir.join("commits");
    let Some(generation) = generation_of(&commits_path)? else {
        // Without a complete header nothing was ever promised.
        create(dir, 1)?;
        return open_generation(dir, 1);
    };
    for what in ["entries", "index"] {
        let path = path(dir, what, generation);
        if generation_of(&path)? != Some(generation) {
            create(dir, generation)?;
            return open_generation(dir, generation);
        }
    }
    open_generation(dir, generation)
}

fn generation_of(path: &Path) -> Result<Option<u32>, Error> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::disk("open", path)(error)),
    };
    let mut header = [0; HEADER_BYTES as usize];
    match file.read_exact(&mut header) {
        Ok(()) => format::generation(&header, path).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(Error::disk("read", path)(error)),
    }
}

/// Starts an empty log, `commits` last, since it names the other two.
pub(super) fn create(dir: &Path, generation: u32) -> Result<(), Error> {
    let commits = dir.join("commits");
    if let Err(error) = fs::remove_file(&commits)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(Error::disk("remove", commits)(error));
    }
    for path in [
        path(dir, "entries", generation),
        path(dir, "index", generation),
        commits,
    ] {
        fs::write(&path, format::header(generation)).map_err(Error::disk("write", &path))?;
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(Error::disk("sync", &path))?;
    }
    sync_dir(dir)
}

/// Makes names that were created, moved or removed in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::disk("sync", dir))
}

pub(super) fn open_generation(dir: &Path, generation: u32) -> Result<Opened, Error> {
    remove_others(dir, generation)?;
    let commits_path = dir.join("commits");
    let (entries_path, index_path) = (path(dir, "entries", generation), path(dir, "index", generation));
    let commits = open_rw(&commits_path)?;
    let entries = open_rw(&entries_path)?;
    let index = open_rw(&index_path)?;
    let damaged = AtomicBool::new(false);
    let files = Arc::new(Files {
        entries,
        index,
        entries_path,
        index_path,
        damaged,
    });
    let (history, end) = read_commits(&commits, &commits_path, &files)?;
    let last = history
        .records()
        .last()
        .map(|record| record.segment)
        .unwrap_or_default();
    let recovered = Recovered {
        entries_bytes: cut(&files.entries, &files.entries_path, HEADER_BYTES + last.payload_end)?,
        index_bytes: cut(&files.index, &files.index_path, HEADER_BYTES + last.end * RECORD_BYTES)?,
        commits_bytes: cut(&commits, &commits_path, end)?,
    };
    let mut opened = Opened {
        generation,
        commits,
        files,
        history,
        known: KnownObjects::default(),
        recovered,
    };
    opened.learn_objects()?;
    Ok(opened)
}

fn open_rw(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(Error::disk("open", path))
}

/// What a rewrite or a start that was cut short left behind.
fn remove_others(dir: &Path, generation: u32) -> Result<(), Error> {
    remove_but(
        dir,
        &[
            "commits".to_owned(),
            format!("entries.{generation}"),
            format!("index.{generation}"),
        ],
    )
}

/// All files of a log.
pub(super) fn remove_all(dir: &Path) -> Result<(), Error> {
    remove_but(dir, &[])
}

fn remove_but(dir: &Path, kept: &[String]) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(Error::disk("list", dir))? {
        let entry = entry.map_err(Error::disk("list", dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = name == "commits"
            || ["entries.", "index.", "commits."]
                .iter()
                .any(|start| name.starts_with(start));
        if ours && !kept.contains(&name) {
            fs::remove_file(entry.path()).map_err(Error::disk("remove", entry.path()))?;
        }
    }
    Ok(())
}

/// The longest row of records that fit to each other and to the files, and where it ends.
fn read_commits(commits: &File, path: &Path, files: &Files) -> Result<(History, u64), Error> {
    let entries_len = length(&files.entries, &files.entries_path)?;
    let index_len = length(&files.index, &files.index_path)?;
    let commits_len = length(commits, path)?;
    let (mut history, mut at) = (History::default(), HEADER_BYTES);
    let (mut entry, mut payload) = (0, 0);
    while at + COMMIT_BYTES <= commits_len {
        let mut bytes = [0; COMMIT_BYTES as usize];
        commits
            .read_exact_at(&mut bytes, at)
            .map_err(Error::disk("read", path))?;
        let Some(record) = CommitRecord::decode(&bytes) else {
            break;
        };
        let segment = &record.segment;
        let joins = segment.start == entry && segment.payload_start == payload;
        let ordered = segment.start < segment.end && segment.payload_start <= segment.payload_end;
        let there = HEADER_BYTES.saturating_add(segment.payload_end) <= entries_len
            && segment.end <= (index_len - HEADER_BYTES) / RECORD_BYTES;
        if !(joins && ordered && there) || history.push(&record).is_none() {
            break;
        }
        (entry, payload) = (segment.end, segment.payload_end);
        at += COMMIT_BYTES;
    }
    Ok((history, at))
}

fn length(file: &File, path: &Path) -> Result<u64, Error> {
    file.metadata()
        .map(|metadata| metadata.len())
        .map_err(Error::disk("look at", path))
}

/// Cuts a file to `end`, and says how much went.
fn cut(file: &File, path: &Path, end: u64) -> Result<u64, Error> {
    let behind = length(file, path)?.saturating_sub(end);
    if behind > 0 {
        file.set_len(end)
            .and_then(|()| file.sync_all())
            .map_err(Error::disk("cut", path))?;
    }
    Ok(behind)
}

impl Opened {
    /// Reads the index once, and again if objects repeat.
    fn learn_objects(&mut self) -> Result<(), Error> {
        let mut repeating = HashSet::new();
        for record in self.history.records() {
            let known = &mut self.known;
            self.files.scan(record.commit.id, &record.segment, |_, entry| {
                known.extend([entry.id]);
                if entry.repeats {
                    repeating.insert(entry.id);
                }
            })?;
        }
        let copies = copies(&self.history, &self.files, &repeating)?;
        self.history.repeats = Arc::new(copies);
        Ok(())
    }
}

/// All copies of these objects, those left out of which there is only one.
pub(super) fn copies(
    history: &History,
    files: &Files,
    objects: &HashSet<ObjectId>,
) -> Result<HashMap<ObjectId, Vec<Copy>>, Error> {
    let mut copies: HashMap<ObjectId, Vec<Copy>> = HashMap::new();
    if objects.is_empty() {
        return Ok(copies);
    }
    for (place, commit) in history.places() {
        files.scan(commit, history.segment(place), |entry, record| {
            if objects.contains(&record.id) {
                copies.entry(record.id).or_default().push(Copy { entry, place });
            }
        })?;
    }
    copies.retain(|_, copies| copies.len() > 1);
    Ok(copies)
}

impl History {
    /// All ranges, with the commit that each belongs to.
    pub(super) fn places(&self) -> impl Iterator<Item = (Place, ObjectId)> {
        let ordinary = (0..self.len()).map(Place::Commit);
        let places = ordinary.chain((0..self.snapshot_count()).map(Place::Snapshot));
        places.map(|place| (place, self.commit(self.owner(place)).id))
    }
}
