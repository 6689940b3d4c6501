//! Many objects on their way into the log, by all the processors there are.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use git_smart_http::{Append, Deflated, Deflater};
use gix::ObjectId;
use gix_pack::cache::lru::MemoryCappedHashmap;

use super::Shared;
use super::fill::with_object;
use super::packs::Packs;
use crate::{CommitId, Error};

/// No more threads than this: the mirror has other things to do.
const MOST_THREADS: usize = 4;
/// Objects that one thread takes at a time.
const TURN: usize = 2048;
/// Objects that deltas are made against, as each thread keeps them.
const BASES_BYTES: usize = 16 << 20;
/// From so many deflated bytes on, they are handed over.
const LOAD_BYTES: usize = 256 << 10;

/// Appends a commit and `ids`, of which nothing is relied on but that they are all there is. What packs have whole is copied; the
/// rest is deflated on several threads, in no order in particular.
pub(super) fn push_many(
    mut append: Append<'_>,
    shared: &Shared,
    commit: CommitId,
    mut ids: Vec<ObjectId>,
) -> Result<(), Error> {
    shared
        .tree
        .with_git_mut(|git| with_object(git, commit.into(), |object| Ok(append.push(object)?)))?;
    let packs = Packs::open(shared.tree.dir())?;
    ids.sort();
    ids.dedup();
    let total = ids.len();
    let whole = packs.mostly_wanted(&mut ids);
    ids.sort_by_cached_key(|id| packs.place(*id));
    let work = Work {
        shared,
        packs,
        whole,
        ids: &ids,
        next: AtomicUsize::new(0),
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    thread::scope(|scope| {
        let (sender, loads) = sync_channel(threads);
        for _ in 0..threads {
            let (sender, work) = (sender.clone(), &work);
            let started = thread::Builder::new()
                .name("pack-log-many".to_owned())
                .spawn_scoped(scope, move || work.run(&sender));
            started.map_err(|source| Error::Thread { source })?;
        }
        let whole = &work;
        let started = thread::Builder::new()
            .name("pack-log-whole".to_owned())
            .spawn_scoped(scope, move || whole.run_whole(threads, &sender));
        started.map_err(|source| Error::Thread { source })?;
        let mut done = 0;
        for load in loads {
            for object in load? {
                append.push_deflated(&object)?;
                done += 1;
            }
            shared.progress(done, total)?;
        }
        if done != total {
            // A clone from it would lack something, and nobody would see that before the client does.
            return Err(Error::Damaged {
                path: shared.tree.dir().to_owned(),
                why: format!("{done} of {total} objects were found for the pack log"),
            });
        }
        Ok(())
    })?;
    Ok(append.finish()?)
}

type Load = Result<Vec<Deflated>, Error>;

struct Work<'a> {
    shared: &'a Shared,
    packs: Packs,
    /// Packs of which most is wanted, with what that is: each is gone through as a whole, which undoes each delta once.
    whole: Vec<(usize, HashSet<ObjectId>)>,
    /// What is wanted beside that.
    ids: &'a [ObjectId],
    /// The first that nobody has taken.
    next: AtomicUsize,
}

impl Work<'_> {
    /// Hands over what is wanted of the packs that are gone through as a whole.
    fn run_whole(&self, threads: usize, sender: &SyncSender<Load>) {
        for (number, wanted) in &self.whole {
            let (sent, mut deflater) = (sender.clone(), Deflater::default());
            let done = self.packs.each_object(*number, threads, move |name, object| {
                if !wanted.contains(&name) {
                    return true;
                }
                let copied = self.packs.deflated(name);
                let load = vec![copied.unwrap_or_else(|| deflater.object(object))];
                sent.send(Ok(load)).is_ok()
            });
            if let Err(error) = done {
                // Nobody waits for it: another failed before.
                let _ = sender.send(Err(error));
                return;
            }
        }
    }

    /// What one thread does.
    fn run(&self, sender: &SyncSender<Load>) {
        let done = self.shared.tree.with_git_mut(|git| {
            // With gix's own cache of 64 objects, what deltas are made against is inflated again and again.
            let mut git = git.clone();
            let bases = || Box::new(MemoryCappedHashmap::new(BASES_BYTES)) as Box<_>;
            git.objects.set_pack_cache(bases);
            self.deflate(&git, sender)
        });
        if let Err(error) = done {
            // Nobody waits for it: another failed before.
            let _ = sender.send(Err(error));
        }
    }

    fn deflate(&self, git: &gix::Repository, sender: &SyncSender<Load>) -> Result<(), Error> {
        let mut deflater = Deflater::default();
        let (mut load, mut bytes) = (Vec::new(), 0);
        loop {
            let start = self.next.fetch_add(TURN, Ordering::Relaxed).min(self.ids.len());
            let turn = &self.ids[start..self.ids.len().min(start + TURN)];
            for id in turn {
                let object = match self.packs.deflated(*id) {
                    Some(object) => Some(object),
                    None => with_object(git, *id, |object| Ok(deflater.object(object)))?,
                };
                bytes += object.as_ref().map_or(0, |object| object.bytes.len());
                load.extend(object);
                if bytes >= LOAD_BYTES {
                    bytes = 0;
                    if sender.send(Ok(std::mem::take(&mut load))).is_err() {
                        // Another failed: nobody wants the rest.
                        return Ok(());
                    }
                }
            }
            if turn.is_empty() {
                // As above.
                let _ = sender.send(Ok(load));
                return Ok(());
            }
        }
    }
}
