//! The one writer: payloads, index, commit record, each on disk before the next.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Append, Commit, Deflater, Files, Object, PackLog, Recovered, Segment, View,
    format::{COMMIT_BYTES, CommitRecord, HEADER_BYTES, Purpose},
    known::KnownObjects,
    recover::{self, Opened},
};
use crate::{Error, ObjectId};

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
    pub(super) deflater: Deflater,
    /// How many records are in `commits`.
    pub(super) written: u64,
    /// Records that are not, since durability was put off.
    waiting: Vec<CommitRecord>,
    puts_off: bool,
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
        let written = history.record_count();
        let log = PackLog::new(View { history, files });
        PackLogWriter {
            dir: dir.to_owned(),
            generation,
            commits,
            known,
            end,
            log,
            deflater: Deflater::default(),
            written,
            waiting: Vec::new(),
            puts_off: false,
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

impl PackLogWriter {
    /// From now on, what is appended is shown to readers but not made durable before [`PackLogWriter::sync`]: for
    /// building a log of many commits. Those that a crash finds in between are cut off when the log is opened.
    pub fn put_off_sync(&mut self) {
        self.puts_off = true;
    }

    /// Makes durable what was appended, and ends what [`PackLogWriter::put_off_sync`] began.
    ///
    /// # Errors
    /// [`Error::Disk`]: readers see commits that may not be on disk. Open the log anew.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.puts_off = false;
        let files = Arc::clone(self.log.view().files());
        let waiting = std::mem::take(&mut self.waiting);
        self.write(&files, &waiting)
    }

    /// Takes the record of a range whose payloads and index are written.
    pub(super) fn keep(&mut self, record: CommitRecord) -> Result<(), Error> {
        if self.puts_off {
            self.waiting.push(record);
            return Ok(());
        }
        let files = Arc::clone(self.log.view().files());
        self.write(&files, &[record])
    }

    /// Payloads, index, records: each is on disk before the next.
    fn write(&mut self, files: &Files, records: &[CommitRecord]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        files
            .entries
            .sync_data()
            .map_err(Error::disk("sync", &files.entries_path))?;
        files
            .index
            .sync_data()
            .map_err(Error::disk("sync", &files.index_path))?;
        let bytes: Vec<u8> = records.iter().flat_map(CommitRecord::encode).collect();
        let end = HEADER_BYTES + COMMIT_BYTES * self.written;
        let written = (|| {
            self.commits.seek(SeekFrom::Start(end))?;
            self.commits.write_all(&bytes)?;
            self.commits.sync_data()
        })();
        if let Err(error) = written {
            // A record that may be on disk or not must not be found by the next start while readers lack it.
            let _ = self.commits.set_len(end);
            return Err(Error::disk("write", self.dir.join("commits"))(error));
        }
        self.written += records.len() as u64;
        Ok(())
    }
}
