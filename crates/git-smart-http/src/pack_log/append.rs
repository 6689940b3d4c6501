//! One range on its way into the log.

use std::{
    collections::HashSet,
    fs::File,
    io::{BufWriter, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use super::{
    Commit, Deflated, Files, Object, PackLogWriter, Segment, View,
    files::BLOCK_BYTES,
    format::{CommitRecord, EntryRecord, HEADER_BYTES, Purpose, RECORD_BYTES},
    history::Copy,
    recover,
};
use crate::{Error, Kind, ObjectId};

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
    pub(super) fn new(writer: &'w mut PackLogWriter, commit: Commit, purpose: Purpose) -> Result<Append<'w>, Error> {
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
        if !self.is_new(object.id, object.kind)? {
            return Ok(());
        }
        let deflated = self.writer.deflater.deflate(object.data, |bytes| {
            self.payload_crc.update(bytes);
            self.entries.write_all(bytes)
        });
        let deflated = deflated.map_err(Error::disk("write", &self.view.files.entries_path))?;
        self.note(object.id, object.kind, object.data.len() as u64, deflated)
    }

    /// The same with an object that is deflated already.
    ///
    /// # Errors
    /// As [`Append::push`].
    pub fn push_deflated(&mut self, object: &Deflated) -> Result<(), Error> {
        if !self.is_new(object.id, object.kind)? {
            return Ok(());
        }
        self.payload_crc.update(&object.bytes);
        self.entries
            .write_all(&object.bytes)
            .map_err(Error::disk("write", &self.view.files.entries_path))?;
        self.note(object.id, object.kind, object.inflated, object.bytes.len() as u64)
    }

    /// Whether the range lacks it, which changes now.
    fn is_new(&mut self, id: ObjectId, kind: Kind) -> Result<bool, Error> {
        let commit = self.record.commit.id;
        let first = self.seen.is_empty();
        if first != (kind == Kind::Commit) || first != (id == commit) {
            return Err(Error::CommitFirst { commit, object: id });
        }
        Ok(self.seen.insert(id))
    }

    /// Writes down where the payload is that was just written.
    fn note(&mut self, id: ObjectId, kind: Kind, inflated: u64, deflated: u64) -> Result<(), Error> {
        let segment = &mut self.record.segment;
        let (entry, offset) = (segment.end, segment.payload_end);
        segment.payload_end += deflated;
        segment.end += 1;
        let repeats = self.writer.known.contains(&id);
        if repeats {
            self.repeating.push((id, entry));
        }
        let record = EntryRecord {
            id,
            kind,
            // A snapshot repeats everything: no need to say so.
            repeats: repeats && self.record.purpose != Purpose::Snapshot,
            inflated,
            offset,
            deflated: u32::try_from(deflated).map_err(|_| Error::TooLarge { object: id })?,
        };
        let bytes = record.encode();
        self.index_crc.update(&bytes);
        self.index
            .write_all(&bytes)
            .map_err(Error::disk("write", &self.view.files.index_path))
    }

    /// Makes the range durable (or leaves that to [`PackLogWriter::sync`]), and then shows it to readers.
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
        self.entries
            .flush()
            .map_err(Error::disk("write", &files.entries_path))?;
        self.index.flush().map_err(Error::disk("write", &files.index_path))?;
        // Before the record, so that what fails here leaves the log as it was.
        let view = self.next_view(&files)?;
        self.writer.keep(self.record)?;
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

fn tail(file: &File, path: &Path, end: u64) -> Result<BufWriter<File>, Error> {
    let mut file = file.try_clone().map_err(Error::disk("open", path))?;
    let placed = file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end)));
    placed.map_err(Error::disk("cut", path))?;
    Ok(BufWriter::with_capacity(BLOCK_BYTES, file))
}
