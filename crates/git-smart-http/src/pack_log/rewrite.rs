//! Dropping what no client needs any more: the log is written anew and switched over.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::PathBuf,
};

use super::{
    PackLogWriter, Segment, View,
    files::{BLOCK_BYTES, path},
    format::{self, CommitRecord},
    recover::{self, Opened, sync_dir},
};
use crate::Error;

impl PackLogWriter {
    /// Drops commits from before `time` (seconds since 1970), and says how many went.
    ///
    /// Kept is what somebody can still ask for: the history of the newest root with its snapshots, and the old tips
    /// since `time`. Nothing goes while that root has no snapshot of its own. Readers of the log as it was go on.
    ///
    /// # Errors
    /// [`Error::Damaged`] when what should be kept is not what was written; [`Error::Disk`]. The log is as before.
    pub fn drop_before(&mut self, time: i64) -> Result<u32, Error> {
        self.sync()?;
        let view = self.log.view();
        let first = view.history.first_kept(time);
        if first == 0 {
            return Ok(0);
        }
        let generation = self.generation.wrapping_add(1);
        let mut rewrite = Rewrite::start(self, generation)?;
        for record in view.history.records() {
            if view.history.stays(&record, first) {
                rewrite.copy(&view, record).inspect_err(|error| view.note(error))?;
            }
        }
        rewrite.finish()?;
        self.switch(generation)?;
        log::info!(
            "pack log {:?}: dropped {first} commits that are too old to be asked for",
            self.dir
        );
        Ok(first)
    }

    /// Goes on with the files that `commits` names now.
    fn switch(&mut self, generation: u32) -> Result<(), Error> {
        let Opened {
            generation,
            commits,
            files,
            history,
            known,
            ..
        } = recover::open_generation(&self.dir, generation)?;
        self.end = history
            .records()
            .last()
            .map(|record| record.segment)
            .unwrap_or_default();
        (self.generation, self.commits, self.known) = (generation, commits, known);
        self.written = history.record_count();
        self.log.publish(View { history, files });
        Ok(())
    }
}

/// The three files of the next generation.
struct Rewrite {
    dir: PathBuf,
    files: [(PathBuf, BufWriter<File>); 3],
    end: Segment,
}

impl Rewrite {
    fn start(writer: &PackLogWriter, generation: u32) -> Result<Rewrite, Error> {
        let dir = writer.dir.clone();
        let paths = [
            path(&dir, "entries", generation),
            path(&dir, "index", generation),
            dir.join("commits.new"),
        ];
        let open = |path: PathBuf| {
            let file = File::create(&path).map_err(Error::disk("create", &path))?;
            let mut file = BufWriter::with_capacity(BLOCK_BYTES, file);
            file.write_all(&format::header(generation))
                .map_err(Error::disk("write", &path))?;
            Ok((path, file))
        };
        let [entries, index, commits] = paths.map(open);
        Ok(Rewrite {
            dir,
            files: [entries?, index?, commits?],
            end: Segment::default(),
        })
    }

    fn copy(&mut self, view: &View, record: CommitRecord) -> Result<(), Error> {
        let old = record.segment;
        let [(entries_path, entries), (index_path, index), (commits_path, commits)] = &mut self.files;
        let mut payload_crc = crc32fast::Hasher::new();
        view.files.copy(&old, |bytes| {
            payload_crc.update(bytes);
            entries.write_all(bytes).map_err(Error::disk("write", &*entries_path))
        })?;
        if payload_crc.finalize() != old.payload_crc {
            return Err(Error::Damaged {
                commit: record.commit.id,
                what: "the checksum of its payloads",
            });
        }
        let mut index_crc = crc32fast::Hasher::new();
        let mut written = Ok(());
        let start = self.end.payload_end;
        view.files.scan(record.commit.id, &old, |_, entry| {
            let mut entry = *entry;
            entry.offset = entry.offset - old.payload_start + start;
            let bytes = entry.encode();
            index_crc.update(&bytes);
            if written.is_ok() {
                written = index.write_all(&bytes);
            }
        })?;
        written.map_err(Error::disk("write", &*index_path))?;
        self.end = Segment {
            start: self.end.end,
            end: self.end.end + old.len(),
            payload_start: start,
            payload_end: start + old.payload_end - old.payload_start,
            payload_crc: old.payload_crc,
            index_crc: index_crc.finalize(),
        };
        let record = CommitRecord {
            segment: self.end,
            ..record
        };
        commits
            .write_all(&record.encode())
            .map_err(Error::disk("write", &*commits_path))
    }

    /// Makes the files durable; the rename of `commits`, which names the other two, is the switch.
    fn finish(self) -> Result<(), Error> {
        for (path, mut file) in self.files {
            file.flush()
                .and_then(|()| file.get_ref().sync_all())
                .map_err(Error::disk("sync", path))?;
        }
        let commits = self.dir.join("commits");
        fs::rename(self.dir.join("commits.new"), &commits).map_err(Error::disk("replace", commits))?;
        sync_dir(&self.dir)
    }
}
