use std::io::{self, Read, Write};

use registry::Checksum;
use sha2::{Digest, Sha256};

use crate::plan::{PartPlan, Plan};
use crate::sums;
use crate::tape::{self, BLOCK, RECORD_BYTES, padded};
use crate::{Error, MemberName, Prehash, SecretKey, Stored};

/// What is gathered before it is written: a file goes from the disk into this and from here to the stick.
const BUFFER_BYTES: usize = 1 << 20;

impl Plan {
    /// Begins to write the part with this number, from 1: manifest, sums and signature. `key` is the one that the manifest
    /// names, or `None` if it names none.
    ///
    /// # Errors
    /// `out` gave up, or the key is another one.
    ///
    /// # Panics
    /// There is no such part.
    pub fn write_part<W: Write>(&self, part: u16, out: W, key: Option<&SecretKey>) -> Result<PartWriter<'_, W>, Error> {
        let part = &self.parts()[usize::from(part) - 1];
        if key.map(SecretKey::public_key) != part.manifest.bundle.key {
            let why = "the manifest names another key than the one that is to sign".to_owned();
            return Err(Error::Contents { why });
        }
        let mut writer = PartWriter {
            plan: self,
            part,
            out: Buffered::new(out),
            number: 0,
        };
        writer.begin(key)?;
        Ok(writer)
    }
}

/// Writes one part. The members come from the caller, in the order that [`Self::wanted`] asks for.
pub struct PartWriter<'a, W> {
    plan: &'a Plan,
    part: &'a PartPlan,
    out: Buffered<W>,
    number: usize,
}

impl<W: Write> PartWriter<'_, W> {
    fn begin(&mut self, key: Option<&SecretKey>) -> Result<(), Error> {
        let manifest = &self.part.manifest;
        let json = manifest.to_json();
        self.small(MemberName::Manifest, &json)?;
        let [changes, decisions] = self.index();
        let hashes = [
            Some(Checksum::of(&json)),
            changes.map(|it| it.checksum),
            decisions.map(|it| it.checksum),
        ];
        let size = sums::text_bytes(changes.is_some(), decisions.is_some(), manifest.part_crates.files);
        self.header(MemberName::Sums, size)?;
        let mut both = Tee {
            first: &mut self.out,
            second: Prehash::default(),
        };
        let crates = self.plan.contents.crates[self.part.files.clone()]
            .iter()
            .map(|file| file.checksum);
        sums::write_text(&mut both, hashes, crates).map_err(write_fault)?;
        let hashed = both.second;
        self.out.pad(size).map_err(write_fault)?;
        match key {
            Some(key) => {
                let signature = key.sign(hashed, &manifest.trusted_comment()).to_text();
                self.small(MemberName::Signature, signature.as_bytes())
            }
            None => Ok(()),
        }
    }

    fn index(&self) -> [Option<Stored>; 2] {
        let contents = &self.plan.contents;
        if self.part.manifest.part == 1 {
            [contents.changes, contents.decisions]
        } else {
            [None, None]
        }
    }

    fn header(&mut self, member: MemberName, size: u64) -> Result<(), Error> {
        let mtime = self.part.manifest.bundle.created.unix();
        self.out
            .write_all(&tape::header(member, size, mtime))
            .map_err(write_fault)
    }

    fn small(&mut self, member: MemberName, bytes: &[u8]) -> Result<(), Error> {
        self.header(member, bytes.len() as u64)?;
        self.out.write_all(bytes).map_err(write_fault)?;
        self.out.pad(bytes.len() as u64).map_err(write_fault)
    }

    /// The member that [`Self::put`] takes next, with its hash and size; `None` once all were put.
    pub fn wanted(&self) -> Option<(MemberName, Stored)> {
        let [changes, decisions] = self.index();
        let index = [(MemberName::Changes, changes), (MemberName::Decisions, decisions)];
        let mut index = index.into_iter().filter_map(|(name, stored)| Some((name, stored?)));
        let before = index.clone().count();
        if self.number < before {
            return index.nth(self.number);
        }
        let file = self.plan.contents.crates[self.part.files.clone()].get(self.number - before)?;
        Some((
            MemberName::Crate(file.checksum),
            Stored {
                checksum: file.checksum,
                bytes: file.bytes,
            },
        ))
    }

    /// Packs the member that is wanted, hashing it on the way.
    ///
    /// # Errors
    /// `from` is not what it should be, by size or hash, or cannot be read; or the output gave up. What was written so far
    /// is of no use then.
    ///
    /// # Panics
    /// Nothing is wanted.
    pub fn put(&mut self, mut from: impl Read) -> Result<(), Error> {
        let (member, Stored { checksum, bytes }) = self.wanted().expect("put is called while something is wanted");
        let wrong = |why: String| Error::Source { member, why };
        self.header(member, bytes)?;
        let mut hasher = Sha256::new();
        let copied = self.out.fill_from(&mut from, bytes, &mut hasher);
        copied.map_err(|fault| match fault {
            Fault::Read(source) => Error::Read {
                what: member.to_string(),
                source,
            },
            Fault::Short => wrong(format!("it has fewer than its {bytes} bytes")),
            Fault::Write(source) => write_fault(source),
        })?;
        if from.read(&mut [0]).map_err(|source| Error::Read {
            what: member.to_string(),
            source,
        })? != 0
        {
            return Err(wrong(format!("it has more than its {bytes} bytes")));
        }
        let actual = Checksum::from_bytes(hasher.finalize().into());
        if actual != checksum {
            return Err(wrong(format!(
                "it is damaged, its SHA-256 is {actual} and not {checksum}"
            )));
        }
        self.out.pad(bytes).map_err(write_fault)?;
        self.number += 1;
        Ok(())
    }

    /// The bytes that were written, of [`PartPlan::bytes`] in all.
    pub const fn written_bytes(&self) -> u64 {
        self.out.written
    }

    /// Writes the end, after all members were put.
    ///
    /// # Errors
    /// The output gave up, or something is still wanted.
    pub fn finish(mut self) -> Result<W, Error> {
        if let Some((member, _)) = self.wanted() {
            return Err(Error::Source {
                member,
                why: "it was not given".to_owned(),
            });
        }
        let end = (self.out.written + 2 * BLOCK as u64).next_multiple_of(RECORD_BYTES);
        let zeros = vec![0; usize::try_from(end - self.out.written).expect("at most 11 KiB")];
        self.out
            .write_all(&zeros)
            .and_then(|()| self.out.flush())
            .map_err(write_fault)?;
        debug_assert_eq!(end, self.part.bytes, "a part has the size that was planned");
        Ok(self.out.inner)
    }
}

impl<W> std::fmt::Debug for PartWriter<'_, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartWriter")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

fn write_fault(source: io::Error) -> Error {
    Error::Write { source }
}

enum Fault {
    Read(io::Error),
    Write(io::Error),
    Short,
}

/// Gathers what is written; files are read straight into its buffer.
struct Buffered<W> {
    inner: W,
    buffer: Box<[u8]>,
    filled: usize,
    written: u64,
}

impl<W: Write> Buffered<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            filled: 0,
            written: 0,
        }
    }

    fn drain(&mut self) -> io::Result<()> {
        self.inner.write_all(&self.buffer[..self.filled])?;
        self.filled = 0;
        Ok(())
    }

    fn fill_from(&mut self, from: &mut impl Read, bytes: u64, hasher: &mut Sha256) -> Result<(), Fault> {
        let mut left = bytes;
        while left > 0 {
            if self.filled == self.buffer.len() {
                self.drain().map_err(Fault::Write)?;
            }
            let room = self.buffer.len() - self.filled;
            let room = room.min(usize::try_from(left).unwrap_or(usize::MAX));
            let target = &mut self.buffer[self.filled..self.filled + room];
            let length = match from.read(target) {
                Ok(0) => return Err(Fault::Short),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Fault::Read(error)),
            };
            hasher.update(&target[..length]);
            self.filled += length;
            self.written += length as u64;
            left -= length as u64;
        }
        Ok(())
    }

    /// Fills up the last block of a member.
    fn pad(&mut self, bytes: u64) -> io::Result<()> {
        let zeros = usize::try_from(padded(bytes) - bytes).expect("less than a block");
        self.write_all(&[0; BLOCK][..zeros])
    }
}

impl<W: Write> Write for Buffered<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.filled == self.buffer.len() {
            self.drain()?;
        }
        let length = bytes.len().min(self.buffer.len() - self.filled);
        self.buffer[self.filled..self.filled + length].copy_from_slice(&bytes[..length]);
        self.filled += length;
        self.written += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain()?;
        self.inner.flush()
    }
}

/// Writes to both.
struct Tee<'a, A, B> {
    first: &'a mut A,
    second: B,
}

impl<A: Write, B: Write> Write for Tee<'_, A, B> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.first.write(bytes)?;
        self.second.write_all(&bytes[..length])?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.first.flush()
    }
}
