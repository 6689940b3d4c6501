//! Appending: payloads, index, commit record, each on disk before the next.

use std::{
    collections::HashSet,
    fs::File,
    io::{BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use flate2::{Compress, Compression, FlushCompress, Status};

use super::{
    Commit, Files, Object, PackLog, Recovered, Segment, View,
    files::BLOCK_BYTES,
    format::{CommitRecord, EntryRecord, HEADER_BYTES, Purpose, RECORD_BYTES},
    history::Copy,
    known::KnownObjects,
    recover::{self, Opened},
};
use crate::{Error, Kind, ObjectId};

/// The one writer of a pack log. The caller sees to it that there is only one.
#[derive(Debug)]
pub struct PackLogWriter {
    pub(super) dir: PathBuf,
    pub(super) generation: u32,
    pub(super) commits: File,
    pub(super) known: KnownObjects,
    /// Where the next range starts.
    pub(super) end: Segment,
    pub(super) log: PackLog,
    deflate: Compress,
}

impl PackLogWriter {
    /// Opens the log in `dir` (made if absent), and cuts off what is behind the last complete commit.
    ///
    /// # Errors
    /// [`Error::OtherVersion`] or [`Error::Damaged`], after which only [`PackLogWriter::create`] helps; [`Error::Disk`].
    pub fn open(dir: &Path) -> Result<(PackLogWriter, Recovered), Error> {
        let opened = recover::open(dir)?;
        let recovered = opened.recovered;
        if !recovered.is_clean() {
            log::warn!("pack log {dir:?}: cut off what was behind the last complete commit: {recovered:?}");
        }
        Ok((PackLogWriter::of(dir, opened), recovered))
    }

    /// Starts an empty log in `dir`, whatever is there. Readers of a log that was there keep what they have.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn create(dir: &Path) -> Result<PackLogWriter, Error> {
        std::fs::create_dir_all(dir).map_err(Error::disk("create", dir))?;
        // The old files are removed, not cut: somebody may be reading them.
        recover::remove_all(dir)?;
        recover::create(dir, 1)?;
        PackLogWriter::open(dir).map(|(writer, _)| writer)
    }

    fn of(dir: &Path, opened: Opened) -> PackLogWriter {
        let Opened {
            generation,
            commits,
            files,
            history,
            known,
            ..
        } = opened;
        let end = history
            .records()
            .last()
            .map(|record| record.segment)
            .unwrap_or_default();
        let log = PackLog::new(View { history, files });
        let deflate = Compress::new(Compression::default(), true);
        PackLogWriter {
            dir: dir.to_owned(),
            generation,
            commits,
            known,
            end,
            log,
            deflate,
        }
    }

    /// What readers get.
    pub fn log(&self) -> PackLog {
        self.log.clone()
    }

    /// Appends a commit: its own object first, then every object of its tree that the tree of the commit before it
    /// in the log lacks (all of them for the first commit; none for a squash that keeps the tree).
    ///
    /// # Errors
    /// [`Error::NotOnTop`], [`Error::AlreadyThere`], [`Error::CommitFirst`], [`Error::NoObjects`],
    /// [`Error::TooLarge`], [`Error::Disk`]. The log is as before then.
    pub fn append<'a>(&mut self, commit: Commit, objects: impl IntoIterator<Item = Object<'a>>) -> Result<(), Error> {
        let mut append = self.begin(commit)?;
        objects.into_iter().try_for_each(|object| append.push(object))?;
        append.finish()
    }

    /// Starts appending a commit whose objects are given one by one. Dropped before the end, nothing happened.
    ///
    /// # Errors
    /// As [`PackLogWriter::append`].
    pub fn begin(&mut self, commit: Commit) -> Result<Append<'_>, Error> {
        let view = self.log.view();
        let head = view.head().map(|head| head.id);
        if view.contains(&commit.id) {
            return Err(Error::AlreadyThere { commit: commit.id });
        }
        if commit.parent.is_some() && commit.parent != head {
            return Err(Error::NotOnTop {
                commit: commit.id,
                parent: commit.parent,
                head,
            });
        }
        Append::new(self, commit, Purpose::Ordinary { whole: head.is_none() })
    }

    /// Starts appending all objects of a commit that the log has, its own object first: clones start from here.
    ///
    /// # Errors
    /// [`Error::UnknownCommit`], [`Error::Disk`].
    pub fn begin_snapshot(&mut self, commit: &ObjectId) -> Result<Append<'_>, Error> {
        let view = self.log.view();
        let number = view
            .history
            .number(commit)
            .ok_or(Error::UnknownCommit { commit: *commit })?;
        Append::new(self, *view.history.commit(number), Purpose::Snapshot)
    }

    /// [`PackLogWriter::begin_snapshot`], with all objects at once.
    ///
    /// # Errors
    /// As there, and as [`PackLogWriter::append`].
    pub fn append_snapshot<'a>(
        &mut self,
        commit: &ObjectId,
        objects: impl IntoIterator<Item = Object<'a>>,
    ) -> Result<(), Error> {
        let mut append = self.begin_snapshot(commit)?;
        objects.into_iter().try_for_each(|object| append.push(object))?;
        append.finish()
    }
}

/// One range that is being appended.
#[derive(Debug)]
pub struct Append<'w> {
    writer: &'w mut PackLogWriter,
    view: Arc<View>,
    record: CommitRecord,
    entries: BufWriter<File>,
    index: BufWriter<File>,
    payload_crc: crc32fast::Hasher,
    index_crc: crc32fast::Hasher,
    /// What this range has already: two paths may have the same content.
    seen: HashSet<ObjectId>,
    /// What an earlier range seems to have too.
    repeating: Vec<(ObjectId, u64)>,
}

impl<'w> Append<'w> {
    fn new(writer: &'w mut PackLogWriter, commit: Commit, purpose: Purpose) -> Result<Append<'w>, Error> {
        let view = writer.log.view();
        let (entry, payload) = (writer.end.end, writer.end.payload_end);
        let files = &view.files;
        // Positions are set each time: an append that was given up may have left something behind the end.
        let entries = tail(&files.entries, &files.entries_path, HEADER_BYTES + payload)?;
        let index = tail(&files.index, &files.index_path, HEADER_BYTES + entry * RECORD_BYTES)?;
        let segment = Segment {
            start: entry,
            end: entry,
            payload_start: payload,
            payload_end: payload,
            ..Segment::default()
        };
        Ok(Append {
            writer,
            view,
            record: CommitRecord {
                commit,
                purpose,
                segment,
            },
            entries,
            index,
            payload_crc: crc32fast::Hasher::new(),
            index_crc: crc32fast::Hasher::new(),
            seen: HashSet::new(),
            repeating: Vec::new(),
        })
    }

    /// Adds an object; the commit itself must be the first. One that this range has already is left out.
    ///
    /// # Errors
    /// [`Error::CommitFirst`], [`Error::TooLarge`], [`Error::Disk`].
    pub fn push(&mut self, object: Object<'_>) -> Result<(), Error> {
        let commit = self.record.commit.id;
        let first = self.seen.is_empty();
        if first != (object.kind == Kind::Commit) || first != (object.id == commit) {
            return Err(Error::CommitFirst {
                commit,
                object: object.id,
            });
        }
        if !self.seen.insert(object.id) {
            return Ok(());
        }
        let segment = &mut self.record.segment;
        let (entry, offset) = (segment.end, segment.payload_end);
        let deflated = deflate(&mut self.writer.deflate, object.data, |bytes| {
            self.payload_crc.update(bytes);
            self.entries.write_all(bytes)
        });
        let deflated = deflated.map_err(Error::disk("write", &self.view.files.entries_path))?;
        segment.payload_end += deflated;
        segment.end += 1;
        let repeats = self.writer.known.contains(&object.id);
        if repeats {
            self.repeating.push((object.id, entry));
        }
        let record = EntryRecord {
            id: object.id,
            kind: object.kind,
            // A snapshot repeats everything: no need to say so.
            repeats: repeats && self.record.purpose != Purpose::Snapshot,
            inflated: object.data.len() as u64,
            offset,
            deflated: u32::try_from(deflated).map_err(|_| Error::TooLarge { object: object.id })?,
        };
        let bytes = record.encode();
        self.index_crc.update(&bytes);
        self.index
            .write_all(&bytes)
            .map_err(Error::disk("write", &self.view.files.index_path))
    }

    /// Makes the range durable, and then shows it to readers.
    ///
    /// # Errors
    /// [`Error::NoObjects`], [`Error::Disk`].
    pub fn finish(mut self) -> Result<(), Error> {
        if self.seen.is_empty() {
            return Err(Error::NoObjects {
                commit: self.record.commit.id,
            });
        }
        self.record.segment.payload_crc = self.payload_crc.clone().finalize();
        self.record.segment.index_crc = self.index_crc.clone().finalize();
        let files = Arc::clone(&self.view.files);
        sync(&mut self.entries, &files.entries_path)?;
        sync(&mut self.index, &files.index_path)?;
        // Before the record, so that what fails here leaves the log as it was.
        let view = self.next_view(&files)?;
        self.writer.write_record(&self.record)?;
        self.writer.known.extend(self.seen.drain());
        self.writer.end = self.record.segment;
        self.writer.log.publish(view);
        Ok(())
    }

    fn next_view(&mut self, files: &Arc<Files>) -> Result<View, Error> {
        let mut history = self.view.history.clone();
        let place = history.push(&self.record).expect("begin has seen that the commit fits");
        if self.record.purpose == Purpose::Snapshot {
            let repeats = Arc::make_mut(&mut history.repeats);
            for (id, entry) in &self.repeating {
                if let Some(copies) = repeats.get_mut(id) {
                    copies.push(Copy { entry: *entry, place });
                }
            }
        } else if !self.repeating.is_empty() {
            let ids: HashSet<ObjectId> = self.repeating.iter().map(|(id, _)| *id).collect();
            let copies = recover::copies(&history, files, &ids)?;
            Arc::make_mut(&mut history.repeats).extend(copies);
        }
        Ok(View {
            history,
            files: Arc::clone(files),
        })
    }
}

impl PackLogWriter {
    fn write_record(&mut self, record: &CommitRecord) -> Result<(), Error> {
        let path = self.dir.join("commits");
        let end = super::format::COMMIT_BYTES * self.log.view().history.record_count() + HEADER_BYTES;
        let written = (|| {
            self.commits.seek(SeekFrom::Start(end))?;
            self.commits.write_all(&record.encode())?;
            self.commits.sync_data()
        })();
        written.map_err(|error| {
            // A record that may be on disk or not must not be found by the next start while readers lack it.
            let _ = self.commits.set_len(end);
            Error::disk("write", path)(error)
        })
    }
}

fn tail(file: &File, path: &Path, end: u64) -> Result<BufWriter<File>, Error> {
    let mut file = file.try_clone().map_err(Error::disk("open", path))?;
    let placed = file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end)));
    placed.map_err(Error::disk("cut", path))?;
    Ok(BufWriter::with_capacity(BLOCK_BYTES, file))
}

fn sync(writer: &mut BufWriter<File>, path: &Path) -> Result<(), Error> {
    let synced = writer.flush().and_then(|()| writer.get_ref().sync_data());
    synced.map_err(Error::disk("sync", path))
}

/// Deflates `data` piece by piece, and says how many bytes came out.
fn deflate(
    compress: &mut Compress,
    data: &[u8],
    mut each: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<u64> {
    compress.reset();
    let mut out = [0; 16 << 10];
    loop {
        let (read, made) = (compress.total_in() as usize, compress.total_out());
        let status = compress.compress(&data[read..], &mut out, FlushCompress::Finish);
        let status = status.map_err(std::io::Error::other)?;
        each(&out[..(compress.total_out() - made) as usize])?;
        if status == Status::StreamEnd {
            return Ok(compress.total_out());
        }
    }
}
