//! The open files of one generation, and reading in blocks.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use super::{
    Segment,
    format::{EntryRecord, HEADER_BYTES, RECORD_BYTES},
};
use crate::{Error, ObjectId};

/// How much is read at once.
pub(crate) const BLOCK_BYTES: usize = 64 << 10;

/// The files that hold entries and index. Readers keep them open over a rewrite of the log.
#[derive(Debug)]
pub(crate) struct Files {
    pub entries: File,
    pub index: File,
    pub entries_path: PathBuf,
    pub index_path: PathBuf,
    pub damaged: AtomicBool,
}

impl Files {
    /// Up to `most` bytes of the payloads, at least one.
    pub(crate) fn payload<'w>(&self, window: &'w mut Window, at: u64, most: usize) -> Result<&'w [u8], Error> {
        let read = window.get(&self.entries, HEADER_BYTES + at, most, 1);
        read.map_err(Error::disk("read", &self.entries_path))
    }

    /// The index record of an entry, as it is in the file.
    pub(crate) fn record(&self, window: &mut Window, entry: u64) -> Result<[u8; RECORD_BYTES as usize], Error> {
        const LENGTH: usize = RECORD_BYTES as usize;
        let read = window.get(&self.index, HEADER_BYTES + entry * RECORD_BYTES, LENGTH, LENGTH);
        let bytes = read.map_err(Error::disk("read", &self.index_path))?;
        Ok(bytes.try_into().expect("the window gave as much as was asked for"))
    }

    /// Reads the index records of a range, compares their checksum, and shows them with their numbers.
    pub(crate) fn scan(
        &self,
        commit: ObjectId,
        segment: &Segment,
        mut each: impl FnMut(u64, &EntryRecord),
    ) -> Result<(), Error> {
        let mut window = Window::default();
        let mut crc = crc32fast::Hasher::new();
        let mut offset = segment.payload_start;
        for entry in segment.start..segment.end {
            let bytes = self.record(&mut window, entry)?;
            crc.update(&bytes);
            let record = EntryRecord::decode(&bytes).filter(|record| record.offset == offset);
            let record = record.ok_or(Error::Damaged {
                commit,
                what: "an index record",
            })?;
            offset += u64::from(record.deflated);
            each(entry, &record);
        }
        if offset != segment.payload_end || crc.finalize() != segment.index_crc {
            return Err(Error::Damaged {
                commit,
                what: "the checksum of its index records",
            });
        }
        Ok(())
    }

    /// Compares both checksums of a range.
    pub(crate) fn verify(&self, commit: ObjectId, segment: &Segment) -> Result<(), Error> {
        self.scan(commit, segment, |_, _| {})?;
        let mut crc = crc32fast::Hasher::new();
        self.copy(segment, |bytes| {
            crc.update(bytes);
            Ok(())
        })?;
        match crc.finalize() == segment.payload_crc {
            true => Ok(()),
            false => Err(Error::Damaged {
                commit,
                what: "the checksum of its payloads",
            }),
        }
    }

    /// Shows the payloads of a range, block by block.
    pub(crate) fn copy(
        &self,
        segment: &Segment,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut window = Window::default();
        let mut at = segment.payload_start;
        while at < segment.payload_end {
            let most = (segment.payload_end - at).min(BLOCK_BYTES as u64) as usize;
            let bytes = self.payload(&mut window, at, most)?;
            at += bytes.len() as u64;
            each(bytes)?;
        }
        Ok(())
    }
}

/// A block of a file that is read front to back.
#[derive(Debug, Default)]
pub(crate) struct Window {
    at: u64,
    block: Vec<u8>,
}

impl Window {
    /// From `least` to `most` bytes at `at`.
    fn get(&mut self, file: &File, at: u64, most: usize, least: usize) -> io::Result<&[u8]> {
        let held = self.at..self.at + self.block.len() as u64;
        if !(held.contains(&at) && held.end - at >= least as u64) {
            self.fill(file, at)?;
        }
        let start = (at - self.at) as usize;
        let end = self.block.len().min(start + most);
        if end - start < least.min(most) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(&self.block[start..end])
    }

    fn fill(&mut self, file: &File, at: u64) -> io::Result<()> {
        self.block.resize(BLOCK_BYTES, 0);
        self.at = at;
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match file.read_at(&mut self.block[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.block.clear();
                    return Err(error);
                }
            }
        }
        self.block.truncate(filled);
        Ok(())
    }
}

/// The file of one generation.
pub(crate) fn path(dir: &Path, what: &str, generation: u32) -> PathBuf {
    dir.join(format!("{what}.{generation}"))
}
