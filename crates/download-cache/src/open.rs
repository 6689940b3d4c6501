//! Opening kept files: small ones are hashed whenever they come from disk, large ones at their first opening. All of it blocks.

use std::{io, sync::Arc};

use registry::Checksum;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{Error, Event, KeptFile, Verdict, blobs::Blob, cache::Inner, temp_file::TempFile, verify::hash};

/// Large files that may be hashed for clients at once.
const CHECKS: usize = 16;

/// What opening came to.
#[derive(Debug)]
pub(crate) enum Opened {
    /// It is not kept, or was bad and is gone.
    Absent,
    /// It may be served.
    Ready(KeptFile),
    /// It is large and has to be hashed first.
    Unchecked,
}

/// Turns for hashing large files, so that a hundred clients who want the same one hash it once.
#[derive(Debug)]
pub(crate) struct Turns([Arc<Mutex<()>>; CHECKS]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Arc::default()))
    }
}

impl Turns {
    pub(crate) async fn take(&self, checksum: &Checksum) -> OwnedMutexGuard<()> {
        let place = usize::from(checksum.as_bytes()[1]) % CHECKS;
        self.0[place].clone().lock_owned().await
    }
}

impl Inner {
    /// The kept file without a look at its bytes.
    pub(crate) fn found(&self, checksum: &Checksum) -> Result<Option<KeptFile>, Error> {
        let blob = self.blobs.find(checksum)?;
        Ok(blob.map(|blob| self.on_disk(checksum, blob)))
    }

    pub(crate) fn open(&self, checksum: &Checksum) -> Result<Opened, Error> {
        let ticket = self.memory.ticket();
        let Some(blob) = self.blobs.find(checksum)? else {
            return Ok(Opened::Absent);
        };
        let size_bytes = blob.identity.size_bytes;
        if size_bytes > self.config.small_file_bytes {
            return Ok(if self.checked.has(checksum, blob.identity) {
                Opened::Ready(self.on_disk(checksum, blob))
            } else {
                Opened::Unchecked
            });
        }
        if !self.memory.has_room_for(size_bytes) {
            // Slow clients hold too many of them: this one goes out in pieces.
            let sound = self.is_sound(checksum, &blob)?;
            return Ok(sound.map_or(Opened::Absent, |()| Opened::Ready(self.on_disk(checksum, blob))));
        }
        let mut bytes = vec![0; size_bytes as usize];
        let read = blob.file.read_into(0, &mut bytes);
        read.or_else(|error| self.shorter(checksum, error))?;
        let actual = Checksum::of(&bytes);
        if actual != *checksum {
            self.bad(checksum, &blob, actual);
            return Ok(Opened::Absent);
        }
        let bytes = self.memory.put(*checksum, bytes, ticket);
        Ok(Opened::Ready(KeptFile::in_memory(bytes)))
    }

    /// Opens a large file after hashing it, unless that was done while this waited for its turn.
    pub(crate) fn open_large(&self, checksum: &Checksum) -> Result<Option<KeptFile>, Error> {
        let Some(blob) = self.blobs.find(checksum)? else {
            return Ok(None);
        };
        if !self.checked.has(checksum, blob.identity) {
            if self.is_sound(checksum, &blob)?.is_none() {
                return Ok(None);
            }
            self.checked.add(*checksum, blob.identity);
        }
        Ok(Some(self.on_disk(checksum, blob)))
    }

    pub(crate) fn verify(&self, checksum: &Checksum) -> Result<Verdict, Error> {
        let Some(blob) = self.blobs.find(checksum)? else {
            return Ok(Verdict::Absent);
        };
        let was_in_memory = blob.file.is_in_memory();
        let actual = self.hash_of(checksum, &blob).inspect_err(|_| {
            // So that whoever asks for it sees it too, and has it fetched anew.
            self.memory.remove(checksum);
            self.checked.forget(checksum);
        })?;
        if !was_in_memory {
            // Looking for rot must not push out what clients read.
            blob.file.leave_memory();
        }
        if actual == *checksum {
            return Ok(Verdict::Good);
        }
        self.bad(checksum, &blob, actual);
        Ok(Verdict::Bad { actual })
    }

    /// Takes in a file that a fill has just checked, and has it ready for those who ask next.
    pub(crate) fn keep(&self, temp: TempFile, checksum: &Checksum) -> Result<(), Error> {
        let file = temp.file.clone();
        self.blobs.keep(temp, checksum)?;
        match file.metadata() {
            // The rename counts as a change of the file, so this has to be what is seen after it.
            Ok(metadata) => {
                let identity = crate::disk::Identity::of(&metadata);
                if identity.size_bytes > self.config.small_file_bytes {
                    self.checked.add(*checksum, identity);
                } else if self.config.memory_bytes > 0 {
                    // The file is in place whatever this says; it would be said again to whoever opens it.
                    let _ = self.open(checksum);
                }
            }
            Err(error) => log::debug!("kept file {checksum} cannot be looked at: {error}"),
        }
        Ok(())
    }

    fn on_disk(&self, checksum: &Checksum, blob: Blob) -> KeptFile {
        let reading = self.readers.add(*checksum);
        KeptFile::on_disk(blob.file, blob.identity.size_bytes, reading)
    }

    /// `None` if it was bad, and is set aside now.
    fn is_sound(&self, checksum: &Checksum, blob: &Blob) -> Result<Option<()>, Error> {
        let actual = self.hash_of(checksum, blob)?;
        if actual != *checksum {
            self.bad(checksum, blob, actual);
        }
        Ok((actual == *checksum).then_some(()))
    }

    fn hash_of(&self, checksum: &Checksum, blob: &Blob) -> Result<Checksum, Error> {
        match hash(blob) {
            Ok(actual) => Ok(actual),
            // It shrank while it was read: as bad as any other bytes.
            Err(error) => self.shorter(checksum, error).map(|()| Checksum::of(b"")),
        }
    }

    /// A file that ends too early is a bad one; everything else is the disk's trouble.
    fn shorter(&self, checksum: &Checksum, error: io::Error) -> Result<(), Error> {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Ok(());
        }
        Err(Error::disk("read", &self.blobs.path(checksum), error))
    }

    fn bad(&self, checksum: &Checksum, blob: &Blob, actual: Checksum) {
        self.counters.bad_files.add(1);
        self.memory.remove(checksum);
        self.checked.forget(checksum);
        let fault = format!("has checksum {actual}");
        self.blobs.set_aside_read(checksum, blob.identity, &fault);
        (self.events)(Event::Bad { checksum: *checksum });
    }
}
