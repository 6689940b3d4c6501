//! A gzip stream that is read up to a limit.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;

use crate::MAX_INFLATED_BYTES;

/// The archive's bytes, up to the limit.
pub(crate) struct Inflated<R> {
    gzip: GzDecoder<BufReader<R>>,
    left: u64,
    pub(crate) limit_met: bool,
}

impl<R: Read> Inflated<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            gzip: GzDecoder::new(BufReader::new(reader)),
            left: MAX_INFLATED_BYTES,
            limit_met: false,
        }
    }

    /// Reads to the end, where gzip's own check of the bytes is. Nothing but zeros may follow the archive, and nothing
    /// at all the gzip stream: other programs would read it as more files.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        let mut buffer = [0; 8192];
        loop {
            match self.read(&mut buffer).map_err(unreadable)? {
                0 => break,
                read if buffer[..read].iter().any(|byte| *byte != 0) => {
                    return Err("something follows the end of the archive".to_owned());
                }
                _ => {}
            }
        }
        let rest = self.gzip.get_mut().fill_buf().map_err(unreadable)?;
        if rest.is_empty() {
            Ok(())
        } else {
            Err("something follows the end of the gzip stream".to_owned())
        }
    }
}

impl<R: Read> Read for Inflated<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte past the limit tells an archive that ends there from one that goes on.
        let room = usize::try_from(self.left.saturating_add(1)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(room);
        let read = self.gzip.read(&mut buffer[..wanted])?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                self.limit_met = true;
                let why = format!("it inflates to more than {MAX_INFLATED_BYTES} bytes");
                return Err(io::Error::other(why));
            }
        }
        Ok(read)
    }
}

/// What a failed read means for a crate file.
pub(crate) fn unreadable(cause: io::Error) -> String {
    format!("it cannot be unpacked: {cause}")
}
