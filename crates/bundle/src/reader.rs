use std::io::{self, BufRead, Read, Seek, Write};

use registry::Checksum;
use sha2::{Digest, Sha256};

use crate::manifest::{MAX_MANIFEST_BYTES, Manifest};
use crate::sums::{self, Sums, SumsReader};
use crate::tape::Tape;
use crate::{Error, MemberName, Prehash, PublicKey, Signature, decisions};

const MAX_SIGNATURE_BYTES: u64 = 4 << 10;
/// What gzip may add to bytes that it cannot make smaller, at most.
const GZIP_SLACK_BYTES: u64 = 64 << 10;

/// Whom the caller believes.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// A bundle that one of these keys signed.
    Keys(&'a [PublicKey]),
    /// Anybody, also nobody.
    Anyone,
}

/// A good signature by the key that the manifest names. Whether that is to be trusted is another question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The key.
    pub key: PublicKey,
    /// What it signed besides.
    pub trusted_comment: String,
}

/// A bundle whose manifest, sums and signature were read, and nothing else.
#[derive(Debug)]
pub struct Opened<R> {
    tape: Tape<R>,
    manifest: Manifest,
    sums: Sums,
    signed: Option<Signed>,
}

/// Reads what stands before the index and the crate files.
///
/// # Errors
/// It is no bundle, or one that does not agree with itself, or its signature is not good.
pub fn open<R: Read>(input: R) -> Result<Opened<R>, Error> {
    let mut tape = Tape::new(input);
    let json = small(&mut tape, MemberName::Manifest, MAX_MANIFEST_BYTES)?;
    let manifest = Manifest::parse(&json)?;
    let (sums, hashed) = read_sums(&mut tape, &manifest, Checksum::of(&json))?;
    let signed = match manifest.bundle.key {
        None => None,
        Some(key) => {
            let text = small(&mut tape, MemberName::Signature, MAX_SIGNATURE_BYTES)?;
            let text = String::from_utf8(text).map_err(|_| Error::Signature {
                why: "it is no text".to_owned(),
            })?;
            let signature = Signature::parse(&text)?;
            key.verify(hashed, &signature)?;
            Some(Signed {
                key,
                trusted_comment: signature.trusted_comment().to_owned(),
            })
        }
    };
    Ok(Opened {
        tape,
        manifest,
        sums,
        signed,
    })
}

fn small<R: Read>(tape: &mut Tape<R>, member: MemberName, limit: u64) -> Result<Vec<u8>, Error> {
    tape.begin(member, limit)?;
    let mut bytes = Vec::new();
    tape.read_to_end(&mut bytes)
        .map_err(|source| Error::from_read(member.to_string(), source))?;
    Ok(bytes)
}

fn read_sums<R: Read>(
    tape: &mut Tape<R>,
    manifest: &Manifest,
    of_manifest: Checksum,
) -> Result<(Sums, Prehash), Error> {
    let most = sums::text_bytes(manifest.has_changes(), manifest.part == 1, manifest.part_crates.files);
    tape.begin(MemberName::Sums, most)?;
    let mut reader = SumsReader::new(manifest, of_manifest);
    let mut hashed = Prehash::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        tape.by_ref()
            .take(SumsReader::MAX_LINE_BYTES as u64)
            .read_until(b'\n', &mut line)
            .and_then(|_| hashed.write_all(&line))
            .map_err(|source| Error::from_read(MemberName::Sums.to_string(), source))?;
        if line.is_empty() {
            return Ok((reader.finish()?, hashed));
        }
        match line.strip_suffix(b"\n") {
            Some(line) => reader.push(line)?,
            None => return Err(reader.has_no_end()),
        }
    }
}

impl<R: Read> Opened<R> {
    /// What the bundle says that it is.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The members and their hashes.
    pub const fn sums(&self) -> &Sums {
        &self.sums
    }

    /// Who signed; `None` if nobody did.
    pub const fn signed(&self) -> Option<&Signed> {
        self.signed.as_ref()
    }

    /// Goes on to the members, if the caller trusts who signed.
    ///
    /// # Errors
    /// He does not.
    pub fn trusting(self, trust: Trust<'_>) -> Result<Members<R>, Error> {
        if let Trust::Keys(keys) = trust {
            let signed = self.signed.as_ref().ok_or(Error::Unsigned)?;
            if !keys.contains(&signed.key) {
                return Err(Error::UnknownSigner { key: signed.key });
            }
        }
        let crate_bytes_left = self.manifest.part_crates.bytes;
        Ok(Members {
            tape: self.tape,
            manifest: self.manifest,
            sums: self.sums,
            number: 0,
            crate_bytes_left,
            current: None,
            is_finished: false,
            is_broken: false,
        })
    }
}

/// The members of a bundle one after the other.
#[derive(Debug)]
pub struct Members<R> {
    tape: Tape<R>,
    manifest: Manifest,
    sums: Sums,
    number: usize,
    crate_bytes_left: u64,
    current: Option<Current>,
    is_finished: bool,
    is_broken: bool,
}

/// The member that is being read.
#[derive(Debug)]
struct Current {
    name: MemberName,
    expected: Checksum,
    hasher: Sha256,
}

impl<R: Read> Members<R> {
    /// What the bundle says that it is.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The members and their hashes.
    pub const fn sums(&self) -> &Sums {
        &self.sums
    }

    /// The next member; what was not read of the one before is read and hashed. `None` after the last one, when the end
    /// was found as it must be.
    ///
    /// # Errors
    /// Names the first member that is wrong. Nothing more is to be had then.
    pub fn next_member(&mut self) -> Result<Option<Member<'_, R>>, Error> {
        if self.is_finished {
            return Ok(None);
        }
        if self.is_broken {
            return Err(Error::Broken);
        }
        self.drain_current()?;
        self.is_broken = true;
        let Some((name, expected)) = self.sums.member(self.number) else {
            self.finish()?;
            self.is_broken = false;
            return Ok(None);
        };
        let bytes = self.tape.begin(name, self.limit(name))?;
        if let MemberName::Crate(_) = name {
            self.crate_bytes_left -= bytes;
        }
        self.is_broken = false;
        self.number += 1;
        self.current = Some(Current {
            name,
            expected,
            hasher: Sha256::new(),
        });
        Ok(Some(Member {
            members: self,
            name,
            bytes,
        }))
    }

    /// Reads and hashes what the caller left of the member before.
    fn drain_current(&mut self) -> Result<(), Error> {
        let Some(Current { name, .. }) = self.current else {
            return Ok(());
        };
        let rest = Member {
            members: self,
            name,
            bytes: 0,
        };
        rest.drain()
    }

    /// What a member may have by what the manifest says.
    fn limit(&self, name: MemberName) -> u64 {
        match name {
            MemberName::Crate(_) => self.crate_bytes_left,
            MemberName::Decisions => decisions::MAX_PACKED_BYTES,
            _ => {
                let bytes = self.manifest.bundle.index.as_ref().map_or(0, |index| index.bytes);
                bytes.saturating_add(bytes / 1000).saturating_add(GZIP_SLACK_BYTES)
            }
        }
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.tape.finish()?;
        if self.crate_bytes_left > 0 {
            let why = format!("its crate files have {} bytes less than it says", self.crate_bytes_left);
            return Err(Error::Manifest { why });
        }
        self.is_finished = true;
        Ok(())
    }

    /// The end of the current member was reached, or it was passed over.
    fn end_member(&mut self) -> Result<(), Error> {
        let Some(Current { name, expected, hasher }) = self.current.take() else {
            return Ok(());
        };
        let actual = Checksum::from_bytes(hasher.finalize().into());
        if actual == expected {
            return Ok(());
        }
        self.is_broken = true;
        Err(Error::Content {
            member: name,
            expected,
            actual,
        })
    }
}

/// A member, read as a stream. Its bytes are not to be believed before the stream has ended without an error: that they are
/// not what `SHA256SUMS` says is an error in the place of the end, of the kind [`io::ErrorKind::InvalidData`].
#[derive(Debug)]
pub struct Member<'a, R> {
    members: &'a mut Members<R>,
    name: MemberName,
    bytes: u64,
}

impl<R: Read> Member<'_, R> {
    /// Which one it is.
    pub const fn name(&self) -> MemberName {
        self.name
    }

    /// Its size.
    pub const fn size_bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes all of it to `out`, and says in the end whether it was right.
    ///
    /// # Errors
    /// It was not, or could not be read; or `out` gave up.
    pub fn copy_to(mut self, out: &mut impl Write) -> Result<(), Error> {
        let member = self.name;
        loop {
            let bytes = self
                .fill_buf()
                .map_err(|source| Error::from_read(member.to_string(), source))?;
            if bytes.is_empty() {
                return Ok(());
            }
            out.write_all(bytes)
                .map_err(|source| Error::CopyOut { member, source })?;
            let length = bytes.len();
            self.consume(length);
        }
    }

    /// Reads the rest, and says whether all was right.
    ///
    /// # Errors
    /// It was not, or could not be read.
    pub fn drain(self) -> Result<(), Error> {
        self.copy_to(&mut io::sink())
    }
}

impl<R: Read + Seek> Member<'_, R> {
    /// Passes over what was not read, unhashed: for a file that is here already.
    ///
    /// # Errors
    /// The input cannot seek there.
    pub fn skip(self) -> Result<(), Error> {
        self.members.current = None;
        self.members.tape.skip()
    }
}

impl<R: Read> Read for Member<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let available = self.fill_buf()?;
        let length = available.len().min(bytes.len());
        bytes[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Member<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.members.tape.left() == 0 {
            self.members.end_member()?;
            return Ok(&[]);
        }
        self.members.tape.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        if let Some(current) = &mut self.members.current {
            current.hasher.update(&self.members.tape.buffered()[..length]);
        }
        self.members.tape.consume(length);
    }
}
