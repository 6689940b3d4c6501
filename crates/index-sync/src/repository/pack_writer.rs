//! Packs: made aside, flushed, and only then put among the others. gix compresses and indexes; it never flushes.

use std::fs;
use std::io::{BufReader, BufWriter, ErrorKind, PipeReader, PipeWriter};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::thread;

use gix::ObjectId;
use gix::hash::Kind::Sha1;
use gix::objs::Data;
use gix::progress::Discard;
use gix::zlib::Compression;
use gix_pack::Bundle;
use gix_pack::bundle::write::{Options, Outcome};
use gix_pack::data::Version::V2;
use gix_pack::data::output::bytes::FromEntriesIter;
use gix_pack::data::output::count::PackLocation;
use gix_pack::data::output::entry::{iter_from_counts, iter_from_counts::Options as EntryOptions};
use gix_pack::data::output::{Count, Entry};

use super::layout::{name_of, packs, staging};
use super::new_object::NewObject;
use crate::Error;
use crate::durable::{make_read_only, remove_file, sync_dir, sync_file};

static NEVER: AtomicBool = AtomicBool::new(false);
/// No more threads than this compress: the mirror has other things to do.
const MOST_THREADS: usize = 4;
/// Fewer objects are not worth another thread.
const WORTH_A_THREAD: usize = 64;

/// A whole pack with its index, flushed, that no reader sees yet.
pub(crate) struct StagedPack {
    /// `pack-` and the hash of its content.
    pub(crate) name: String,
    pack: PathBuf,
    index: PathBuf,
}

impl StagedPack {
    /// Pack and index together.
    pub(crate) fn bytes(&self) -> Result<u64, Error> {
        let mut bytes = 0;
        for path in [&self.pack, &self.index] {
            bytes += fs::metadata(path).map_err(Error::io("measure", path))?.len();
        }
        Ok(bytes)
    }

    /// Makes the pack visible; when this returns it survives a power cut.
    pub(crate) fn place(self, dir: &Path) -> Result<(), Error> {
        let folder = packs(dir);
        for (from, extension) in [(&self.pack, "pack"), (&self.index, "idx")] {
            // The index last: without it the pack does not count, for git and for our sweep.
            let to = folder.join(format!("{}.{extension}", self.name));
            fs::rename(from, &to).map_err(Error::io("place", &to))?;
        }
        sync_dir(&folder)
    }
}

/// A pack of objects that are in the repository already, and of new ones. What is compressed stays so; nothing
/// becomes a delta.
pub(crate) fn stage(
    dir: &Path,
    git: &gix::Repository,
    ids: &[ObjectId],
    new: &[NewObject<'_>],
) -> Result<StagedPack, Error> {
    let mut objects = git.objects.clone().into_inner();
    objects.prevent_pack_unload();
    let counts = ids
        .iter()
        .map(|id| Count {
            id: *id,
            entry_pack_location: PackLocation::NotLookedUp,
        })
        .collect();
    through_pipe(&staging(dir), move |out| {
        let options = EntryOptions {
            thread_limit: Some(1),
            chunk_size: 200,
            ..Default::default()
        };
        let entries = iter_from_counts(counts, objects, Box::new(Discard), options)
            .map_err(Error::git("read objects for a pack"))?;
        // The new ones last: what is copied may refer to others by their number.
        let entries = gix::parallel::InOrderIter::from(entries).chain(new_entries(new));
        write_entries(entries, ids.len() + new.len(), out)
    })
}

/// New objects, compressed on all processors, in their order.
fn new_entries(new: &[NewObject<'_>]) -> Vec<gix::Result<Vec<Entry>>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(MOST_THREADS).min(new.len() / WORTH_A_THREAD + 1);
    // Large objects are neighbours: each thread takes every so-manyth.
    let share = |first: usize| {
        new.iter()
            .skip(first)
            .step_by(threads)
            .map(new_entry)
            .collect::<Vec<_>>()
    };
    let mut shares: Vec<_> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|first| scope.spawn(move || share(first))).collect();
        let mut shares = vec![share(0).into_iter()];
        for other in others {
            let share = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            shares.push(share.into_iter());
        }
        shares
    });
    let mut entries = Vec::with_capacity(new.len());
    while let Some(entry) = shares[entries.len() % threads].next() {
        entries.push(entry);
    }
    entries
}

fn new_entry(object: &NewObject<'_>) -> gix::Result<Vec<Entry>> {
    let data = Data::new(&object.data, object.kind, Sha1);
    let entry = Entry::from_data(&Count::from_data(object.id, None), &data, Compression::DEFAULT)?;
    Ok(vec![entry])
}

fn write_entries(
    entries: impl Iterator<Item = gix::Result<Vec<Entry>>>,
    count: usize,
    out: PipeWriter,
) -> Result<(), Error> {
    let count = u32::try_from(count).expect("an index has fewer than four billion objects");
    let mut pack = FromEntriesIter::new(entries, BufWriter::with_capacity(1 << 16, out), count, V2, Sha1);
    pack.try_for_each(|step| step.map(drop))
        .map_err(Error::git("write a pack"))
}

/// `produce` runs on a thread of its own and its bytes go straight into the indexer: no second copy on disk or in memory.
fn through_pipe(
    folder: &Path,
    produce: impl FnOnce(PipeWriter) -> Result<(), Error> + Send,
) -> Result<StagedPack, Error> {
    // Not with its parents: a repository that was deleted beneath us is not to be begun anew like this.
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(Error::io("create", folder)(error)),
        _ => {}
    }
    let (reader, writer) = std::io::pipe().map_err(Error::io("open a pipe for", folder))?;
    let (produced, indexed) = thread::scope(|scope| {
        let producer = scope.spawn(|| produce(writer));
        let indexed = index(reader, folder);
        let produced = producer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (produced, indexed)
    });
    // An indexer that gives up breaks the pipe, and a producer that does cuts the pack short: the other's error follows.
    let outcome = match (produced, indexed) {
        (Ok(()), indexed) => indexed?,
        (Err(error), Ok(_)) => return Err(error),
        (Err(producer), Err(indexer)) => {
            log::error!("while a pack was written: {producer:?}");
            return Err(indexer);
        }
    };
    flushed(outcome, folder)
}

fn index(reader: PipeReader, folder: &Path) -> Result<Outcome, Error> {
    let options = Options {
        thread_limit: Some(1),
        iteration_mode: gix_pack::data::input::Mode::Verify,
        index_version: gix_pack::index::Version::default(),
        alloc_limit_bytes: None,
        compression: Compression::DEFAULT,
    };
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let no_bases = None::<gix::OdbHandle>;
    Bundle::write_to_directory(&mut reader, Some(folder), &mut Discard, &NEVER, no_bases, Sha1, options)
        .map_err(Error::git("index a pack"))
}

/// What a fetch has written, flushed; none if there was no object in it.
pub(crate) fn fetched_pack(outcome: Outcome, folder: &Path) -> Result<Option<StagedPack>, Error> {
    if outcome.data_path.is_none() {
        return Ok(None);
    }
    flushed(outcome, folder).map(Some)
}

fn flushed(outcome: Outcome, folder: &Path) -> Result<StagedPack, Error> {
    let missing = || Error::Damaged {
        path: folder.to_owned(),
        why: "a pack without objects was made".to_owned(),
    };
    let pack = outcome.data_path.ok_or_else(missing)?;
    let index = outcome.index_path.ok_or_else(missing)?;
    for path in [&pack, &index] {
        make_read_only(path)?;
        sync_file(path)?;
    }
    if let Some(keep) = outcome.keep_path {
        remove_file(&keep)?;
    }
    let name = name_of(&pack).trim_end_matches(".pack").to_owned();
    Ok(StagedPack { name, pack, index })
}
