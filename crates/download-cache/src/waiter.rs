//! Reading a file while it arrives.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    Error,
    progress::{Progress, State},
    running::Fill,
};

/// All that a waiter ever has in memory.
const PIECE_BYTES: u64 = 64 << 10;

/// One reader of a fill, at a pace of its own. Dropping it changes nothing for the fill or other waiters.
#[derive(Debug)]
pub struct Waiter {
    fill: Arc<Fill>,
    progress: watch::Receiver<Progress>,
    position: u64,
    over: bool,
}

impl Waiter {
    pub(crate) fn new(fill: Arc<Fill>, progress: watch::Receiver<Progress>) -> Self {
        Self {
            fill,
            progress,
            position: 0,
            over: false,
        }
    }

    /// Waits until a response can begin, and gives the file's size in bytes; `None` if upstream does not say it (then it is more than 64 KiB).
    /// Files of up to 64 KiB get here when they are whole and checked. It can be cancelled and called again.
    ///
    /// # Errors
    /// Why the fill failed.
    pub async fn head(&mut self) -> Result<Option<u64>, Error> {
        let progress = self.progress.wait_for(|progress| progress.head().is_some()).await;
        progress
            .ok()
            .and_then(|progress| progress.head())
            .unwrap_or(Err(Error::Abandoned))
    }

    /// The next bytes, at most 64 KiB; `None` once all of a checked file has been given. It can be cancelled and called again.
    ///
    /// After an error there is nothing more: whoever passes the bytes on must make that cut visible to the client.
    ///
    /// # Errors
    /// Why the fill failed, or that the disk cannot be read.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        if self.over {
            return None;
        }
        let piece = match self.readable().await {
            Ok(end) if end == self.position => None,
            Ok(end) => Some(self.read(end)),
            Err(error) => Some(Err(error)),
        };
        match &piece {
            Some(Ok(bytes)) => self.position += bytes.len() as u64,
            Some(Err(_)) | None => self.over = true,
        }
        piece
    }

    /// How many bytes have been given.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Waits for more bytes or the end, and says up to where may be read.
    async fn readable(&mut self) -> Result<u64, Error> {
        let position = self.position;
        let more = |progress: &Progress| progress.released > position || progress.is_over();
        let progress = self.progress.wait_for(more).await.map_err(|_| Error::Abandoned)?;
        match &progress.state {
            State::Failed(error) => Err(error.clone()),
            _ => Ok(progress.released),
        }
    }

    fn read(&self, end: u64) -> Result<Bytes, Error> {
        let file = self
            .fill
            .file()
            .expect("bytes are released after they were written to it");
        let len = (end - self.position).min(PIECE_BYTES) as usize;
        file.read_at(self.position, len)
            .map_err(|error| Error::disk("read", "the unfinished file".as_ref(), error))
    }
}
