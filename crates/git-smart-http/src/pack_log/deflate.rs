//! The zlib streams of the log.

use std::io;

use flate2::{Compress, Compression, FlushCompress, Status};

use super::Object;
use crate::{Kind, ObjectId};

/// One object as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deflated {
    /// Its name.
    pub id: ObjectId,
    /// What it is.
    pub kind: Kind,
    /// The size of its content, inflated, in bytes.
    pub inflated: u64,
    /// Its content as one zlib stream. Who appends vouches for it.
    pub bytes: Vec<u8>,
}

/// Deflates objects one after the other, on any thread.
#[derive(Debug)]
pub struct Deflater(Compress);

impl Clone for Deflater {
    /// One for another thread.
    fn clone(&self) -> Self {
        Deflater::default()
    }
}

impl Default for Deflater {
    fn default() -> Self {
        Deflater(Compress::new(Compression::default(), true))
    }
}

impl Deflater {
    /// What [`Append::push`](super::Append::push) would write.
    pub fn object(&mut self, object: Object<'_>) -> Deflated {
        let mut bytes = Vec::new();
        self.deflate(object.data, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .expect("memory takes all that is written");
        Deflated {
            id: object.id,
            kind: object.kind,
            inflated: object.data.len() as u64,
            bytes,
        }
    }

    /// Deflates `data` piece by piece, and says how many bytes came out.
    pub(super) fn deflate(&mut self, data: &[u8], mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
        let compress = &mut self.0;
        compress.reset();
        let mut out = [0; 16 << 10];
        loop {
            let (read, made) = (compress.total_in() as usize, compress.total_out());
            let status = compress.compress(&data[read..], &mut out, FlushCompress::Finish);
            let status = status.map_err(io::Error::other)?;
            each(&out[..(compress.total_out() - made) as usize])?;
            if status == Status::StreamEnd {
                return Ok(compress.total_out());
            }
        }
    }
}
