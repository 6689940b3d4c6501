//! The cache as its callers see it.

use std::{
    fmt,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use registry::Checksum;
use tokio::{runtime::Handle, sync::watch};
use upstream_http::{UpstreamHttp, UpstreamUrl};

use crate::{
    Config, Error, Event, KeptFile, Stats, Verdict, Waiter, Wanted,
    blobs::Blobs,
    disk::Disk,
    fill,
    known::{Checked, Readers},
    memory::Memory,
    open::{Opened, Turns},
    progress::Progress,
    running::{Fill, Running},
    slots::Slots,
    stats::Counters,
    table::Table,
    temp_file::TempDirectory,
};

/// Fills that run or wait for their turn; each costs a task and a few hundred bytes.
const MOST_FILLS: usize = 4096;

/// Crate files on disk, and the fills that bring more. Clones share everything.
#[derive(Clone, Debug)]
pub struct DownloadCache {
    pub(crate) inner: Arc<Inner>,
}

/// A crate file that somebody asked for.
#[derive(Debug)]
pub enum CrateFile {
    /// It is on disk.
    Kept(KeptFile),
    /// It arrives.
    Filling(Waiter),
}

pub(crate) struct Inner {
    pub config: Config,
    pub upstream: UpstreamHttp,
    pub events: Box<dyn Fn(Event) + Send + Sync>,
    pub blobs: Blobs,
    pub temp: Arc<TempDirectory>,
    pub memory: Memory,
    pub checked: Checked,
    pub readers: Readers,
    turns: Turns,
    pub slots: Slots,
    pub counters: Counters,
    pub runtime: Handle,
    /// How many fills are in the table, for those who wait for the last one.
    pub running: watch::Sender<usize>,
    table: Mutex<Table>,
}

/// What became of a file that was to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// It is gone; so many bytes are free.
    Freed(u64),
    /// Somebody reads it, so it stays.
    InUse,
    /// It was not kept.
    Absent,
}

/// Removes a kept file from a data directory that no cache has open; the bytes that frees, `None` if it was not kept.
///
/// # Errors
/// [`Error::Disk`] if the file cannot be removed.
pub fn evict_from(data_dir: &Path, checksum: &Checksum) -> Result<Option<u64>, Error> {
    Blobs::open(data_dir.join("blobs"), Disk::default())?.evict(checksum)
}

impl DownloadCache {
    /// Opens or creates the cache below `config.data_dir` and removes what a crash left in `tmp/`. Blocks for the disk.
    ///
    /// Fills run in the runtime that this is called in, which must have timers; `events` is called there, and must not block.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] outside of tokio; [`Error::Disk`] if the directories cannot be used.
    pub fn open(
        config: Config,
        upstream: UpstreamHttp,
        events: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let disk = Disk::new(config.fault_hook.clone());
        let blobs = Blobs::open(config.data_dir.join("blobs"), disk.clone())?;
        let temp = TempDirectory::open(config.data_dir.join("tmp"), disk.clone())?;
        let flushed = disk.flush_directory(&config.data_dir);
        flushed.map_err(|error| Error::disk("flush", &config.data_dir, error))?;
        let swept = temp.sweep()?;
        if swept > 0 {
            log::info!("removed {swept} unfinished crate files");
        }
        let inner = Inner {
            slots: Slots::new(config.fills_at_once, config.fills_per_host),
            memory: Memory::new(config.memory_bytes),
            config,
            upstream,
            events: Box::new(events),
            blobs,
            temp: Arc::new(temp),
            checked: Checked::default(),
            readers: Readers::default(),
            turns: Turns::default(),
            counters: Counters::default(),
            runtime,
            running: watch::Sender::new(0),
            table: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The kept file with these bytes, ready to be served: its bytes were right when they were last read. It is read and
    /// hashed away from the caller's thread. One that has wrong bytes is set aside, told as [`Event::Bad`], and `None`.
    ///
    /// # Errors
    /// [`Error::Disk`] if the disk cannot say.
    pub async fn open_kept(&self, checksum: &Checksum) -> Result<Option<KeptFile>, Error> {
        if let Some(bytes) = self.inner.memory.get(checksum) {
            return Ok(Some(KeptFile::in_memory(bytes)));
        }
        let checksum = *checksum;
        match self.blocking(move |inner| inner.open(&checksum)).await? {
            Opened::Absent => Ok(None),
            Opened::Ready(kept) => Ok(Some(kept)),
            Opened::Unchecked => {
                let turn = self.inner.turns.take(&checksum).await;
                self.blocking(move |inner| {
                    let opened = inner.open_large(&checksum);
                    drop(turn);
                    opened
                })
                .await
            }
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.inner.clone();
        let done = self.inner.runtime.spawn_blocking(move || work(&inner)).await;
        done.unwrap_or(Err(Error::Abandoned))
    }

    /// The kept file with these bytes, opened but not read: for looking into it, not for serving it. Blocks for two system calls, one if it is not there.
    ///
    /// # Errors
    /// [`Error::Disk`] if the disk cannot say.
    pub fn kept(&self, checksum: &Checksum) -> Result<Option<KeptFile>, Error> {
        self.inner.found(checksum)
    }

    /// The kept file; or the running fill, joined; or a new fill from `url`. It does not wait for upstream: the waiter does.
    /// A kept file that the disk cannot read is fetched again, and replaced.
    ///
    /// # Errors
    /// The reason of a fill that failed a moment ago, [`Error::Busy`] if thousands of fills wait already, and [`Error::Disk`].
    pub async fn fetch(&self, wanted: Wanted, url: UpstreamUrl) -> Result<CrateFile, Error> {
        self.fetch_for(None, wanted, url).await
    }

    /// The same for a client, which may have `fills_per_client` fills begun for it at once.
    ///
    /// # Errors
    /// Those of [`DownloadCache::fetch`], and [`Error::BusyForClient`].
    pub async fn fetch_for(
        &self,
        client: Option<IpAddr>,
        wanted: Wanted,
        url: UpstreamUrl,
    ) -> Result<CrateFile, Error> {
        loop {
            let ended = self.inner.table().ended;
            match self.open_kept(&wanted.checksum).await {
                Ok(Some(kept)) => return Ok(CrateFile::Kept(kept)),
                Ok(None) => {}
                Err(error) if error.is_temporary() => return Err(error),
                Err(error) => log::warn!("{wanted} is kept, but fetched again: {}", error.in_one_line()),
            }
            if let Some(waiter) = self.join_or_begin(client, &wanted, &url, ended)? {
                return Ok(CrateFile::Filling(waiter));
            }
        }
    }

    /// `None` if the file has come since `ended` was read: a fill leaves the table after its file is in place.
    fn join_or_begin(
        &self,
        client: Option<IpAddr>,
        wanted: &Wanted,
        url: &UpstreamUrl,
        ended: u64,
    ) -> Result<Option<Waiter>, Error> {
        let mut table = self.inner.table();
        if let Some(fill) = table.running.get(&wanted.checksum) {
            self.inner.counters.waiters_joined.add(1);
            return Ok(Some(fill.waiter()));
        }
        if let Some(error) = table.failure(&wanted.checksum, Instant::now()) {
            return Err(error);
        }
        if table.ended != ended && self.inner.blobs.look(&wanted.checksum)?.is_some() {
            return Ok(None);
        }
        let fills = table.running.len();
        if fills >= MOST_FILLS {
            return Err(Error::Busy { fills });
        }
        table.begins(client, self.inner.config.fills_per_client)?;
        let (fill, sender) = Fill::new(wanted.clone(), client);
        Ok(Some(self.begin(&mut table, fill, sender, url.clone())))
    }

    fn begin(&self, table: &mut Table, fill: Arc<Fill>, sender: watch::Sender<Progress>, url: UpstreamUrl) -> Waiter {
        let waiter = fill.waiter();
        table.running.insert(fill.wanted.checksum, fill.clone());
        self.inner.running.send_modify(|running| *running += 1);
        let running = Running {
            cache: self.inner.clone(),
            fill,
            sender,
            begun: Instant::now(),
        };
        self.inner.runtime.spawn(fill::run(running, url));
        waiter
    }

    /// Forgets a kept file and a remembered failure, and says how many bytes that frees; `None` if it was not kept.
    /// Those who read the file go on, and a running fill of it is not stopped.
    ///
    /// # Errors
    /// [`Error::Disk`] if the file cannot be removed.
    pub fn evict(&self, checksum: &Checksum) -> Result<Option<u64>, Error> {
        self.inner.table().forget_failure(checksum);
        let freed = self.inner.blobs.evict(checksum)?;
        self.inner.memory.remove(checksum);
        self.inner.checked.forget(checksum);
        Ok(freed)
    }

    /// Whether a file with this checksum was found bad and set aside, perhaps in an earlier life. Blocks for one system call.
    pub fn is_set_aside(&self, checksum: &Checksum) -> bool {
        self.inner.blobs.is_set_aside(checksum)
    }

    /// Forgets a kept file to make room, unless somebody reads it from disk now. Blocks for the disk.
    ///
    /// # Errors
    /// [`Error::Disk`] if the file cannot be removed.
    pub fn evict_unused(&self, checksum: &Checksum) -> Result<Eviction, Error> {
        if self.inner.readers.has(checksum) {
            return Ok(Eviction::InUse);
        }
        Ok(self.evict(checksum)?.map_or(Eviction::Absent, Eviction::Freed))
    }

    /// Calls back with checksum and size in bytes of each kept file, in no order: for adopting what a database does not know. Blocks for the disk.
    ///
    /// # Errors
    /// [`Error::Disk`] if a folder cannot be read.
    pub fn for_each_kept(&self, f: impl FnMut(Checksum, u64)) -> Result<(), Error> {
        self.inner.blobs.for_each(f)
    }

    /// Checksums and sizes in bytes of the kept files whose checksums begin with this byte. Blocks for the disk.
    ///
    /// # Errors
    /// [`Error::Disk`] if the folder cannot be read.
    pub fn checksums_in(&self, folder: u8) -> Result<Vec<(Checksum, u64)>, Error> {
        self.inner.blobs.in_folder(folder)
    }

    /// Hashes a kept file again, and moves it to `blobs/bad/` if it is wrong. Blocks for the disk.
    ///
    /// # Errors
    /// [`Error::Disk`] if the file cannot be read.
    pub fn verify(&self, checksum: &Checksum) -> Result<Verdict, Error> {
        self.inner.verify(checksum)
    }

    /// The counters as they are now.
    pub fn stats(&self) -> Stats {
        let counters = &self.inner.counters;
        let waiting = self.inner.slots.waiting();
        let fills = *self.inner.running.borrow() as u64;
        let (memory_bytes, memory_hits) = self.inner.memory.bytes_and_hits();
        Stats {
            memory_hits,
            memory_bytes,
            bad_files: counters.bad_files.get(),
            fills_running: fills.saturating_sub(waiting),
            fills_waiting: waiting,
            fills_ok: counters.fills_ok.get(),
            fills_failed: counters.fills_failed.get(),
            fills_not_kept: counters.fills_not_kept.get(),
            retries: counters.retries.get(),
            bytes_fetched: counters.bytes_fetched.get(),
            waiters_joined: counters.waiters_joined.get(),
        }
    }

    /// Waits until no fill runs, at most for `timeout`, and says how many are left. Stop asking for files before: new fills are not refused.
    pub async fn drain(&self, timeout: Duration) -> usize {
        let mut running = self.inner.running.subscribe();
        let drained = running.wait_for(|running| *running == 0);
        match tokio::time::timeout(timeout, drained).await {
            Ok(_) => 0,
            Err(_) => *self.inner.running.borrow(),
        }
    }
}

impl Inner {
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As far as is known: a file system that cannot say is taken as it comes.
    pub(crate) fn free_bytes(&self) -> u64 {
        (self.config.free_bytes)(&self.config.data_dir).unwrap_or_else(|error| {
            log::warn!("failed to ask how much space is free: {error}");
            u64::MAX
        })
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
