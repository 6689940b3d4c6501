//! `index/changes.gz`: what becomes of each index file, as gzip over records in the order of their paths.

use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use registry::{IndexEdit, IndexPath, MAX_FILE_BYTES, Piece};
use serde::{Deserialize, Serialize};

use crate::error::{json_fault, shown};
use crate::manifest::IndexSummary;
use crate::stored::HashingWriter;
use crate::{Error, Stored, Total};

/// The longest line of a record, with its end.
const MAX_LINE_BYTES: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    path: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    removed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pieces: Option<Vec<LinePiece>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LinePiece {
    Copy([u64; 2]),
    New(u64),
}

/// Writes records to a file that is packed later: its hash stands before it in the bundle.
pub struct PayloadWriter<W: Write> {
    gzip: GzEncoder<HashingWriter<W>>,
    last: Option<IndexPath>,
    records: u64,
    bytes: u64,
}

impl<W: Write> PayloadWriter<W> {
    /// Writes to `out`, in pieces of some KiB.
    pub fn new(out: W) -> Self {
        Self {
            gzip: GzEncoder::new(HashingWriter::new(out), Compression::default()),
            last: None,
            records: 0,
            bytes: 0,
        }
    }

    /// Adds what becomes of `path`, which comes after all before.
    ///
    /// # Errors
    /// It does not; or no reader would take the edit; or `out` gave up.
    pub fn push(&mut self, path: &IndexPath, edit: &IndexEdit) -> Result<(), Error> {
        self.records += 1;
        if self.last.as_ref().is_some_and(|last| last >= path) {
            return Err(self.wrong(format!("{path} does not come after the one before")));
        }
        let (pieces, new) = match edit {
            IndexEdit::Removed => (None, None),
            IndexEdit::Pieces { pieces, new } => {
                let asked = new_bytes(pieces).map_err(|why| self.wrong(why))?;
                if asked != new.len() as u64 {
                    return Err(self.wrong(format!("its pieces ask for {asked} bytes, and {} are there", new.len())));
                }
                (Some(pieces.iter().map(to_line).collect()), Some(new))
            }
        };
        let line = Line {
            path: path.to_string(),
            removed: pieces.is_none(),
            pieces,
        };
        let mut line = serde_json::to_vec(&line).expect("plain values become JSON");
        line.push(b'\n');
        if line.len() > MAX_LINE_BYTES {
            return Err(self.wrong(format!("its line has more than {MAX_LINE_BYTES} bytes")));
        }
        self.write(&line)?;
        if let Some(new) = new {
            self.write(new)?;
            self.write(b"\n")?;
        }
        self.last = Some(path.clone());
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.bytes += bytes.len() as u64;
        self.gzip.write_all(bytes).map_err(|source| Error::Write { source })
    }

    fn wrong(&self, why: String) -> Error {
        Error::Payload {
            record: self.records,
            why,
        }
    }

    /// Ends it. The total is of records and their bytes, for the manifest.
    ///
    /// # Errors
    /// The output gave up.
    pub fn finish(self) -> Result<(W, Stored, Total), Error> {
        let total = Total {
            files: self.records,
            bytes: self.bytes,
        };
        let hashing = self.gzip.finish().map_err(|source| Error::Write { source })?;
        let (out, stored) = hashing.finish();
        Ok((out, stored, total))
    }
}

impl<W: Write> std::fmt::Debug for PayloadWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PayloadWriter")
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

fn to_line(piece: &Piece) -> LinePiece {
    match *piece {
        Piece::Copy { offset, length } => LinePiece::Copy([offset, length]),
        Piece::New { length } => LinePiece::New(length),
    }
}

fn from_line(piece: LinePiece) -> Piece {
    match piece {
        LinePiece::Copy([offset, length]) => Piece::Copy { offset, length },
        LinePiece::New(length) => Piece::New { length },
    }
}

/// The new bytes that pieces ask for, if the file they make is none that is too large.
fn new_bytes(pieces: &[Piece]) -> Result<u64, String> {
    if pieces.len() > IndexEdit::MAX_PIECES {
        return Err(format!(
            "it has {} pieces, more than {}",
            pieces.len(),
            IndexEdit::MAX_PIECES
        ));
    }
    let (mut new, mut all) = (0_u64, 0_u64);
    for piece in pieces {
        let (length, is_new) = match *piece {
            Piece::Copy { offset, length } => {
                offset.checked_add(length).ok_or("it copies from beyond any file")?;
                (length, false)
            }
            Piece::New { length } => (length, true),
        };
        all = all.saturating_add(length);
        if all > MAX_FILE_BYTES as u64 {
            return Err(format!("it makes a file of more than {MAX_FILE_BYTES} bytes"));
        }
        new += if is_new { length } else { 0 };
    }
    Ok(new)
}

/// Reads records one by one, in memory for one of them. After an error it ends.
///
/// That each fits the older state of its file is not looked at here: [`IndexEdit::apply`] does.
pub struct Records<R> {
    inflated: Option<BufReader<GzDecoder<R>>>,
    total: Total,
    left: Total,
    continues: bool,
    last: Option<IndexPath>,
}

impl<R: BufRead> Records<R> {
    /// `reader` gives the member's bytes. No more is inflated than `index` says; if the bundle does not `continue` another
    /// one, nothing can be copied.
    pub fn new(reader: R, index: &IndexSummary, continues: bool) -> Self {
        let total = Total {
            files: index.files,
            bytes: index.bytes,
        };
        let inflated = Some(BufReader::with_capacity(64 << 10, GzDecoder::new(reader)));
        Self {
            inflated,
            total,
            left: total,
            continues,
            last: None,
        }
    }

    fn record(&mut self, inflated: &mut impl BufRead) -> Result<(IndexPath, IndexEdit), Error> {
        let line = self.line(inflated)?;
        let line: Line = serde_json::from_slice(&line).map_err(|error| self.wrong(json_fault(&error)))?;
        let path: IndexPath = line
            .path
            .parse()
            .map_err(|_| self.wrong(format!("{} is no path of an index file", shown(&line.path))))?;
        if self.last.as_ref().is_some_and(|last| *last >= path) {
            return Err(self.wrong(format!("{path} does not come after the one before")));
        }
        self.last = Some(path.clone());
        let edit = match (line.removed, line.pieces) {
            (true, None) => IndexEdit::Removed,
            (false, Some(pieces)) => self.pieces(inflated, pieces)?,
            _ => return Err(self.wrong("it must be either removed or made of pieces".to_owned())),
        };
        self.left.files -= 1;
        Ok((path, edit))
    }

    fn line(&mut self, inflated: &mut impl BufRead) -> Result<Vec<u8>, Error> {
        let limit = self.left.bytes.min(MAX_LINE_BYTES as u64);
        let mut line = Vec::new();
        inflated
            .take(limit)
            .read_until(b'\n', &mut line)
            .map_err(|source| self.fault(source))?;
        if line.pop() != Some(b'\n') {
            let why = if line.len() as u64 + 1 >= limit && limit > 0 {
                "its line is too long"
            } else {
                "it ends early"
            };
            return Err(self.wrong(why.to_owned()));
        }
        self.left.bytes -= line.len() as u64 + 1;
        Ok(line)
    }

    fn pieces(&mut self, inflated: &mut impl BufRead, pieces: Vec<LinePiece>) -> Result<IndexEdit, Error> {
        let pieces: Vec<Piece> = pieces.into_iter().map(from_line).collect();
        if !self.continues && pieces.iter().any(|piece| matches!(piece, Piece::Copy { .. })) {
            return Err(self.wrong("it copies from an older state, and the bundle continues none".to_owned()));
        }
        let length = new_bytes(&pieces).map_err(|why| self.wrong(why))?;
        if length + 1 > self.left.bytes {
            return Err(self.wrong("there is more than the manifest says".to_owned()));
        }
        let mut new = Vec::new();
        inflated
            .take(length + 1)
            .read_to_end(&mut new)
            .map_err(|source| self.fault(source))?;
        if new.len() as u64 != length + 1 || new.pop() != Some(b'\n') {
            return Err(self.wrong("its bytes do not end where they should".to_owned()));
        }
        self.left.bytes -= length + 1;
        Ok(IndexEdit::Pieces { pieces, new })
    }

    /// Nothing may follow: not in the gzip, and not behind it.
    fn end(&mut self, mut inflated: BufReader<GzDecoder<R>>) -> Result<(), Error> {
        let more = |this: &Self| this.wrong("there is more than the manifest says".to_owned());
        if self.left.bytes > 0 {
            return Err(self.wrong("there is less than the manifest says".to_owned()));
        }
        if !inflated.fill_buf().map_err(|source| self.fault(source))?.is_empty() {
            return Err(more(self));
        }
        let mut behind = inflated.into_inner().into_inner();
        if !behind.fill_buf().map_err(|source| self.fault(source))?.is_empty() {
            return Err(more(self));
        }
        Ok(())
    }

    fn fault(&self, source: io::Error) -> Error {
        match source.downcast::<Error>() {
            Ok(own) => own,
            Err(source) => self.wrong(format!("it cannot be unpacked: {}", shown(&source.to_string()))),
        }
    }

    fn wrong(&self, why: String) -> Error {
        Error::Payload {
            record: self.total.files - self.left.files + 1,
            why,
        }
    }
}

impl<R: BufRead> Iterator for Records<R> {
    type Item = Result<(IndexPath, IndexEdit), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut inflated = self.inflated.take()?;
        if self.left.files == 0 {
            return self.end(inflated).err().map(Err);
        }
        let record = self.record(&mut inflated);
        if record.is_ok() {
            self.inflated = Some(inflated);
        }
        Some(record)
    }
}

impl<R> std::fmt::Debug for Records<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
