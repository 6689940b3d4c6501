//! The tar around the members: plain headers written, and read strictly.

use std::io::{self, BufRead, BufReader, Read, Seek};

use tar::Header;

use crate::error::shown;
use crate::manifest::MAX_MEMBER_BYTES;
use crate::{Error, MemberName};

/// What tar counts in.
pub(crate) const BLOCK: usize = 512;
/// What tar fills its files up to.
pub(crate) const RECORD_BYTES: u64 = 10_240;
/// What is read at once.
const BUFFER_BYTES: usize = 256 << 10;
const KIND_AT: usize = 156;
const SIZE_AT: usize = 124;
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// The bytes of `size` with what fills up its last block.
pub(crate) const fn padded(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64)
}

/// The header of a member.
pub(crate) fn header(member: MemberName, size: u64, mtime: u64) -> [u8; BLOCK] {
    let mut header = Header::new_ustar();
    header
        .set_path(member.to_string())
        .expect("the names of members are short and plain");
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(mtime);
    header.set_cksum();
    *header.as_bytes()
}

/// Reads members one after the other, each of which is known before.
#[derive(Debug)]
pub(crate) struct Tape<R> {
    input: BufReader<R>,
    position: u64,
    /// Bytes of the member that were not read.
    left: u64,
    /// Bytes between the member's end and the next header.
    padding: u64,
    /// What is being read, for messages.
    what: String,
}

impl<R: Read> Tape<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input: BufReader::with_capacity(BUFFER_BYTES, input),
            position: 0,
            left: 0,
            padding: 0,
            what: String::new(),
        }
    }

    /// Goes on to the next member; the one before was read to its end. Returns its size, which is not above `limit`.
    pub(crate) fn begin(&mut self, member: MemberName, limit: u64) -> Result<u64, Error> {
        self.end_member()?;
        self.what = member.to_string();
        let block = self.block()?;
        let wrong = |why: String| Error::Header {
            expected: member.to_string(),
            why,
        };
        let size = size_in(&block, &self.what).map_err(wrong)?;
        let limit = limit.min(MAX_MEMBER_BYTES);
        if size > limit {
            return Err(wrong(format!(
                "it says that it has {size} bytes, and it may have {limit} at most"
            )));
        }
        self.left = size;
        self.padding = padded(size) - size;
        Ok(size)
    }

    pub(crate) const fn left(&self) -> u64 {
        self.left
    }

    fn end_member(&mut self) -> Result<(), Error> {
        debug_assert_eq!(self.left, 0, "the member before was read to its end");
        let mut padding = [0; BLOCK];
        let padding = &mut padding[..usize::try_from(self.padding).expect("less than a block")];
        self.fill(padding)?;
        self.padding = 0;
        if padding.iter().any(|byte| *byte != 0) {
            let expected = format!("the header behind {}", self.what);
            return Err(Error::Header {
                expected,
                why: "the padding is not zero".to_owned(),
            });
        }
        Ok(())
    }

    fn block(&mut self) -> Result<[u8; BLOCK], Error> {
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        Ok(block)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.input
            .read_exact(bytes)
            .map_err(|source| Error::from_read(&self.what, source))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Nothing follows but the end: two blocks of zeros, and zeros up to the end of tar's record at most.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        self.end_member()?;
        self.what = "the end".to_owned();
        let wrong = |why: String| Error::Header {
            expected: "the end".to_owned(),
            why,
        };
        for _ in 0..2 {
            let block = self.block()?;
            if let Some(name) = name_in(&block) {
                return Err(wrong(format!("there is one more member, {}", shown(&name))));
            }
        }
        let room = self.position.next_multiple_of(RECORD_BYTES) - self.position;
        let mut rest = Vec::new();
        self.input
            .by_ref()
            .take(room + 1)
            .read_to_end(&mut rest)
            .map_err(|source| Error::from_read("the end", source))?;
        if rest.len() as u64 > room || rest.iter().any(|byte| *byte != 0) {
            return Err(wrong("there is more behind it".to_owned()));
        }
        Ok(())
    }

    /// What lies in memory and was not consumed.
    pub(crate) fn buffered(&self) -> &[u8] {
        let buffered = self.input.buffer();
        &buffered[..buffered.len().min(usize::try_from(self.left).unwrap_or(usize::MAX))]
    }
}

impl<R: Read + Seek> Tape<R> {
    /// To the end of the member without reading it.
    pub(crate) fn skip(&mut self) -> Result<(), Error> {
        let left = i64::try_from(self.left).expect("members are below 8 GiB");
        self.input.seek_relative(left).map_err(|source| Error::Read {
            what: self.what.clone(),
            source,
        })?;
        self.position += self.left;
        self.left = 0;
        Ok(())
    }
}

/// The rest of the member that was begun.
impl<R: Read> Read for Tape<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(bytes.len());
        bytes[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Tape<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        if self.input.fill_buf()?.is_empty() {
            return Err(Error::Truncated {
                what: self.what.clone(),
            }
            .into());
        }
        Ok(self.buffered())
    }

    fn consume(&mut self, length: usize) {
        self.input.consume(length);
        self.position += length as u64;
        self.left -= length as u64;
    }
}

/// The name in a header; `None` for a block of zeros.
fn name_in(block: &[u8; BLOCK]) -> Option<String> {
    let is_empty = block.iter().all(|byte| *byte == 0);
    let name = Header::from_byte_slice(block).path_bytes();
    (!is_empty).then(|| String::from_utf8_lossy(&name).into_owned())
}

/// The size that a header gives, if it is one of a plain file with this name and nothing unusual.
fn size_in(block: &[u8; BLOCK], expected: &str) -> Result<u64, String> {
    let header = Header::from_byte_slice(block);
    let Some(name) = name_in(block) else {
        return Err("the bundle ends there".to_owned());
    };
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            if CHECKSUM.contains(&at) {
                u32::from(b' ')
            } else {
                u32::from(*byte)
            }
        })
        .sum();
    if header.cksum().ok() != Some(sum) {
        return Err("there is no tar header, or it is damaged".to_owned());
    }
    let prefix_is_empty = header.as_ustar().is_none_or(|ustar| ustar.prefix[0] == 0);
    if header.as_ustar().is_none() && header.as_gnu().is_none() {
        return Err("there is a tar header older than ustar".to_owned());
    }
    if !matches!(block[KIND_AT], b'0' | 0) {
        let kind = char::from(block[KIND_AT]).escape_default();
        return Err(format!(
            "there is {} of the tar type '{kind}', and only plain files may be in it",
            shown(&name)
        ));
    }
    if name != expected || !prefix_is_empty {
        return Err(format!("there is {}", shown(&name)));
    }
    if block[SIZE_AT] & 0x80 != 0 {
        return Err("its size is not in octal digits".to_owned());
    }
    header
        .entry_size()
        .map_err(|_| "its size is not in octal digits".to_owned())
}
