//! Fetching one file: attempts, the check, and keeping it.

use std::time::Instant;

use bytes::Bytes;
use registry::Checksum;
use sha2::{Digest, Sha256};
use tokio::time::{timeout, timeout_at};
use upstream_http::{Body, Request, Response, UpstreamUrl};

use crate::{
    Error,
    error::shown,
    progress::{HELD_BACK, Progress, SLOW, State, releasable, worth_telling},
    rate::{Rate, TooSlow},
    retry::{self, Past},
    running::{Filled, Running},
    temp_file::TempFile,
};

/// The whole task of a fill.
pub(crate) async fn run(running: Running, url: UpstreamUrl) {
    let outcome = fill(&running, &url).await;
    running.finish(outcome);
}

async fn fill(running: &Running, url: &UpstreamUrl) -> Result<Filled, Error> {
    let cache = &running.cache;
    let limit = cache.config.fill_deadline;
    let deadline = running.begun + limit;
    let turn = cache.slots.take(url.authority());
    let slot = timeout_at(deadline.into(), turn).await;
    let _slot = slot.map_err(|_| Error::Busy {
        fills: *cache.running.borrow(),
    })?;
    let mut transfer = Transfer {
        running,
        url,
        temp: None,
        deadline,
    };
    let transferred = timeout_at(deadline.into(), transfer.attempts()).await;
    let late = |_| Error::Deadline { url: shown(url), limit };
    let size_bytes = transferred.map_err(late)??;
    let temp = transfer.temp.expect("the bytes were written to it");
    Ok(keep(running, temp, size_bytes).await)
}

/// Puts checked bytes in their place. If that cannot be, they are still right, and waiters get them.
async fn keep(running: &Running, temp: TempFile, size_bytes: u64) -> Filled {
    let cache = running.cache.clone();
    let checksum = running.fill.wanted.checksum;
    let keeping = move || {
        let free_bytes = cache.free_bytes();
        let min_free_bytes = cache.config.min_free_bytes;
        if free_bytes < min_free_bytes {
            return Err(Error::Reserve {
                free_bytes,
                min_free_bytes,
            });
        }
        cache.keep(temp, &checksum)
    };
    match running.cache.runtime.spawn_blocking(keeping).await {
        Ok(Ok(())) => Filled::Kept { size_bytes },
        Ok(Err(why)) => Filled::NotKept { size_bytes, why },
        Err(_) => Filled::NotKept {
            size_bytes,
            why: Error::Abandoned,
        },
    }
}

/// The part of a fill that talks to upstream.
struct Transfer<'a> {
    running: &'a Running,
    url: &'a UpstreamUrl,
    /// Made once upstream has said how large the file is, on disk, or in memory if the disk has no place for it.
    temp: Option<TempFile>,
    deadline: Instant,
}

impl Transfer<'_> {
    /// Asks until it goes well or there is no sense in it, and gives the size of the checked file.
    async fn attempts(&mut self) -> Result<u64, Error> {
        let cache = &self.running.cache;
        let mut past = Past::default();
        loop {
            let error = match self.attempt(past.failed > 0).await {
                Ok(size_bytes) => return Ok(size_bytes),
                Err(error) => error,
            };
            past.failed += 1;
            past.released = self.released() > 0;
            let pause = match retry::pause(&error, past, &cache.config) {
                Some(pause) if Instant::now() + pause < self.deadline => pause,
                _ => return Err(error),
            };
            past.wrong_bytes_before |= matches!(error, Error::WrongBytes { .. });
            let (wanted, failed) = (&self.running.fill.wanted, past.failed);
            let why = error.in_one_line();
            log::info!("attempt {failed} to fetch {wanted} failed, the next is in {pause:.3?}: {why}");
            cache.counters.retries.add(1);
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&mut self, again: bool) -> Result<u64, Error> {
        let request = Request {
            deadline: Some(self.deadline),
            fresh_connection: again,
            ..Request::get(self.url.clone(), self.running.cache.config.max_file_bytes)
        };
        let response = self.running.cache.upstream.get(request).await;
        let mut response = response.map_err(|error| Error::upstream(self.url, error))?;
        self.check_head(&response)?;
        // before anybody is told of a body: without a place for it, it is a plain error
        self.make_temp(response.content_length)?;
        let total = self.announce(response.content_length)?;
        let mut body = Incoming::new(self, total)?;
        let mut rate = Rate::new(&body.transfer.running.cache.config);
        let mut asked = Instant::now();
        while let Some(bytes) = body.next(&mut response.body).await {
            let bytes = bytes.map_err(|error| Error::upstream(body.transfer.url, error))?;
            let pace = rate.add(bytes.len() as u64, asked.elapsed());
            body.take(&bytes)?;
            if let Err(slow) = pace
                && !body.is_whole()
            {
                return Err(body.transfer.too_slow(slow));
            }
            asked = Instant::now();
        }
        body.check()
    }

    fn check_head(&self, response: &Response) -> Result<(), Error> {
        if response.status != 200 {
            return Err(Error::status(self.url, response.status, response.retry_after));
        }
        Ok(())
    }

    /// The file of this fill is made at its first attempt.
    fn make_temp(&mut self, total: Option<u64>) -> Result<(), Error> {
        if self.temp.is_none() {
            let made = self.new_temp(total)?;
            self.write_to(made);
        }
        Ok(())
    }

    /// What comes is written to this file from now on, and waiters read it.
    fn write_to(&mut self, temp: TempFile) {
        self.running.fill.set_file(temp.file.clone());
        self.temp = Some(temp);
    }

    fn temp(&self) -> &TempFile {
        let temp = self.temp.as_ref();
        temp.expect("it is made before the body is read")
    }

    fn new_temp(&self, total: Option<u64>) -> Result<TempFile, Error> {
        let cache = &self.running.cache;
        let on_disk = match total {
            Some(size_bytes) if size_bytes > cache.free_bytes() => Err(Error::NoSpace {
                needed_bytes: Some(size_bytes),
            }),
            _ => TempFile::create(&cache.temp, &self.running.fill.wanted.checksum),
        };
        on_disk.or_else(|error| {
            let in_memory = TempFile::in_memory(&cache.temp, total);
            in_memory.ok_or(error)
        })
    }

    /// Does `work` with the file of this fill. If the disk has filled up, the fill goes on in memory with the first `held_bytes`,
    /// which waiters may have had, and `work` is done there.
    fn or_in_memory(
        &mut self,
        held_bytes: u64,
        total: Option<u64>,
        work: impl Fn(&TempFile) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let full = match work(self.temp()) {
            Err(full @ Error::NoSpace { .. }) => full,
            done => return done,
        };
        let Some(in_memory) = self.temp().moved_to_memory(held_bytes, total) else {
            return Err(full);
        };
        log::info!(
            "{}: the disk is full, it is passed on through memory",
            self.running.fill.wanted
        );
        self.write_to(in_memory);
        work(self.temp())
    }

    /// Tells the waiters the length; if they have been told before, that one stays in force.
    fn announce(&self, total: Option<u64>) -> Result<Option<u64>, Error> {
        let told = self.running.sender.borrow().head();
        match (told, total) {
            (Some(Ok(Some(told))), Some(now)) if told != now => Err(self.changed()),
            (Some(Ok(told)), now) => Ok(told.or(now)),
            _ => {
                self.tell(0, State::Running { total });
                Ok(total)
            }
        }
    }

    fn tell(&self, released: u64, state: State) {
        self.running.sender.send_replace(Progress { released, state });
    }

    fn released(&self) -> u64 {
        self.running.sender.borrow().released
    }

    fn too_slow(&self, slow: TooSlow) -> Error {
        Error::TooSlow {
            url: shown(self.url),
            size_bytes: slow.bytes,
            waited: slow.waited,
            min_bytes_per_second: self.running.cache.config.min_bytes_per_second,
        }
    }

    fn changed(&self) -> Error {
        Error::Changed { url: shown(self.url) }
    }
}

/// The body of one attempt.
struct Incoming<'a, 'fill> {
    transfer: &'a mut Transfer<'fill>,
    hash: Sha256,
    written: u64,
    total: Option<u64>,
    /// What waiters had from earlier attempts: these bytes must come again.
    given: u64,
    told: u64,
    told_at: Instant,
}

impl<'a, 'fill> Incoming<'a, 'fill> {
    fn new(transfer: &'a mut Transfer<'fill>, total: Option<u64>) -> Result<Self, Error> {
        let given = transfer.released();
        transfer.or_in_memory(given, total, |temp| temp.cut_to(given))?;
        Ok(Self {
            transfer,
            hash: Sha256::new(),
            written: 0,
            total,
            given,
            told: given,
            told_at: Instant::now(),
        })
    }

    /// The next bytes. If they are slow to come, waiters are told of all that has come before.
    async fn next(&mut self, body: &mut Body) -> Option<Result<Bytes, upstream_http::Error>> {
        if let Ok(next) = timeout(SLOW, body.next()).await {
            return next;
        }
        self.release();
        body.next().await
    }

    fn take(&mut self, bytes: &Bytes) -> Result<(), Error> {
        self.transfer
            .running
            .cache
            .counters
            .bytes_fetched
            .add(bytes.len() as u64);
        self.hash.update(bytes);
        let given = self.given.saturating_sub(self.written).min(bytes.len() as u64);
        let (again, new) = bytes.split_at(given as usize);
        if !self.transfer.temp().holds_at(again, self.written)? {
            return Err(self.transfer.changed());
        }
        let position = self.written + given;
        let write = |temp: &TempFile| temp.write_at(new, position);
        self.transfer
            .or_in_memory(position.max(self.given), self.total, write)?;
        self.written += bytes.len() as u64;
        self.release();
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.total == Some(self.written)
    }

    fn release(&mut self) {
        let releasable = releasable(self.written, self.total);
        if worth_telling(self.told, releasable, self.total, self.told_at.elapsed()) {
            let sender = &self.transfer.running.sender;
            sender.send_modify(|progress| progress.released = releasable);
            self.told = releasable;
            self.told_at = Instant::now();
        }
    }

    fn check(self) -> Result<u64, Error> {
        let size_bytes = self.written;
        let expected = self.transfer.running.fill.wanted.checksum;
        let actual = Checksum::from_bytes(self.hash.finalize().into());
        if actual != expected {
            return Err(Error::WrongBytes {
                url: shown(self.transfer.url),
                expected,
                actual,
                size_bytes,
            });
        }
        if size_bytes == 0 {
            return Err(Error::Empty {
                url: shown(self.transfer.url),
            });
        }
        // The right bytes, but of another length than the responses that have begun.
        let promised = self.total.filter(|total| *total > HELD_BACK);
        if promised.is_some_and(|promised| promised != size_bytes) {
            return Err(self.transfer.changed());
        }
        Ok(size_bytes)
    }
}
