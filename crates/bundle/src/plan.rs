use std::ops::Range;

use registry::Checksum;

use crate::manifest::{Description, MAX_MEMBER_BYTES, MAX_PART_FILES, MAX_PARTS, Manifest};
use crate::sums;
use crate::tape::{BLOCK, RECORD_BYTES, padded};
use crate::{Error, MemberName, Stored, Total};

/// The largest file that FAT32 can hold. A part is always a multiple of 10 KiB, which 4 GiB is not: parts of at most 4 GiB
/// fit as well.
pub const FAT32_FILE_BYTES: u64 = u32::MAX as u64;

/// All that goes into a bundle.
#[derive(Debug, Clone)]
pub struct Contents {
    /// What the manifest says. If it names a key, the parts are signed.
    pub bundle: Description,
    /// The index payload, if there are records.
    pub changes: Option<Stored>,
    /// The decisions, if there are any.
    pub decisions: Option<Stored>,
    /// The crate files in any order, each once.
    pub crates: Vec<CrateFile>,
}

/// A crate file to be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CrateFile {
    /// Its checksum.
    pub checksum: Checksum,
    /// Its size.
    pub bytes: u64,
}

/// What goes into which part, and how large each becomes, to the byte.
#[derive(Debug)]
pub struct Plan {
    pub(crate) contents: Contents,
    parts: Vec<PartPlan>,
}

/// One part.
#[derive(Debug, Clone)]
pub struct PartPlan {
    /// Its manifest.
    pub manifest: Manifest,
    /// The size of its file.
    pub bytes: u64,
    pub(crate) files: Range<usize>,
}

/// Counts the bytes of a part while it grows.
struct Size<'a> {
    contents: &'a Contents,
    /// What manifest and signature take at most, with their headers.
    framed_bytes: u64,
}

impl Plan {
    /// Spreads the contents over parts of at most `split` bytes, or puts all into one.
    ///
    /// # Errors
    /// The contents make no bundle, or something does not fit into a part alone.
    pub fn new(mut contents: Contents, split: Option<u64>) -> Result<Self, Error> {
        contents.crates.sort_unstable();
        let crates = check(&contents)?;
        let size = Size {
            contents: &contents,
            framed_bytes: framed_bytes(&widest(&contents, crates)),
        };
        let mut ranges = Vec::new();
        let mut first = 0;
        while first < contents.crates.len() || ranges.is_empty() {
            if ranges.len() == usize::from(MAX_PARTS) {
                return Err(Error::Contents {
                    why: format!("it would have more than {MAX_PARTS} parts"),
                });
            }
            let end = size.end_of_part(first, ranges.is_empty(), split)?;
            ranges.push(first..end);
            first = end;
        }
        let parts = u16::try_from(ranges.len()).expect("at most 999");
        let parts = (1..)
            .zip(ranges)
            .map(|(part, files)| size.part(part, parts, crates, files))
            .collect();
        Ok(Self { contents, parts })
    }

    /// The parts, in their order.
    pub fn parts(&self) -> &[PartPlan] {
        &self.parts
    }

    /// The bytes of all parts.
    pub fn total_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// Counts the crate files; all that must hold of the contents.
fn check(contents: &Contents) -> Result<Total, Error> {
    let wrong = |why: String| Error::Contents { why };
    let mut total = Total::default();
    let mut last = None;
    for file in &contents.crates {
        if last == Some(file.checksum) {
            return Err(wrong(format!("crate file {} is named twice", file.checksum)));
        }
        if file.bytes > MAX_MEMBER_BYTES {
            return Err(wrong(format!("crate file {} has more than 8 GiB", file.checksum)));
        }
        last = Some(file.checksum);
        total = total
            .with(file.bytes)
            .ok_or_else(|| wrong("it is too large to be counted".to_owned()))?;
    }
    let has_records = contents.bundle.index.as_ref().is_some_and(|index| index.files > 0);
    if has_records != contents.changes.is_some() {
        return Err(wrong(
            "the index payload does not go with what the manifest says of it".to_owned(),
        ));
    }
    let index = [contents.changes, contents.decisions];
    if index
        .into_iter()
        .flatten()
        .any(|stored| stored.bytes > MAX_MEMBER_BYTES)
    {
        return Err(wrong("the index payload has more than 8 GiB".to_owned()));
    }
    // The rules of the manifest that do not depend on how it is split.
    let whole = Manifest {
        bundle: contents.bundle.clone(),
        part: 1,
        parts: 2,
        crates: total,
        part_crates: Total::default(),
    };
    whole.check()?;
    Ok(total)
}

/// A manifest whose numbers have at least as many digits as those of any part.
fn widest(contents: &Contents, crates: Total) -> Manifest {
    let bundle = contents.bundle.clone();
    Manifest {
        bundle,
        part: MAX_PARTS,
        parts: MAX_PARTS,
        crates,
        part_crates: crates,
    }
}

/// A member with its header.
const fn framed(bytes: u64) -> u64 {
    BLOCK as u64 + padded(bytes)
}

/// Manifest and signature.
fn framed_bytes(manifest: &Manifest) -> u64 {
    let signature = manifest
        .bundle
        .key
        .map_or(0, |key| framed(signature_bytes(manifest, key)));
    framed(manifest.to_json().len() as u64) + signature
}

/// What the signature of this part will have.
fn signature_bytes(manifest: &Manifest, key: crate::PublicKey) -> u64 {
    crate::Signature::of_nothing(key.id(), manifest.trusted_comment())
        .to_text()
        .len() as u64
}

impl Size<'_> {
    fn index(&self, is_first: bool) -> [Option<Stored>; 2] {
        if is_first {
            [self.contents.changes, self.contents.decisions]
        } else {
            [None, None]
        }
    }

    /// The whole file, with `crates` bytes of framed crate files.
    fn file_bytes(&self, framed_bytes: u64, is_first: bool, files: u64, crates: u64) -> u64 {
        let [changes, decisions] = self.index(is_first);
        let sums = sums::text_bytes(changes.is_some(), decisions.is_some(), files);
        let index = [changes, decisions]
            .into_iter()
            .flatten()
            .map(|stored| framed(stored.bytes))
            .sum::<u64>();
        let members = framed_bytes + framed(sums) + index + crates;
        (members + 2 * BLOCK as u64).next_multiple_of(RECORD_BYTES)
    }

    /// Where the part that begins with the crate file `first` ends.
    fn end_of_part(&self, first: usize, is_first: bool, split: Option<u64>) -> Result<usize, Error> {
        let limit = split.unwrap_or(u64::MAX);
        let alone = self.file_bytes(self.framed_bytes, is_first, 0, 0);
        if alone > limit {
            let [changes, decisions] = self.index(is_first);
            let index = changes
                .map(|_| MemberName::Changes)
                .or(decisions.map(|_| MemberName::Decisions));
            let member = index.unwrap_or(MemberName::Manifest);
            return Err(Error::DoesNotFit {
                member,
                needs_bytes: alone,
                limit_bytes: limit,
            });
        }
        let mut crates = 0;
        let mut end = first;
        while let Some(file) = self.contents.crates.get(end) {
            let files = (end - first) as u64 + 1;
            let with_it = crates + framed(file.bytes);
            if files > MAX_PART_FILES && split.is_none() {
                let why = format!("a part has at most {MAX_PART_FILES} crate files: split it (--split)");
                return Err(Error::Contents { why });
            }
            if files > MAX_PART_FILES || self.file_bytes(self.framed_bytes, is_first, files, with_it) > limit {
                break;
            }
            (crates, end) = (with_it, end + 1);
        }
        if end == first
            && let Some(file) = self.contents.crates.get(first)
        {
            let needs_bytes = self.file_bytes(self.framed_bytes, false, 1, framed(file.bytes));
            if needs_bytes > limit {
                let member = MemberName::Crate(file.checksum);
                return Err(Error::DoesNotFit {
                    member,
                    needs_bytes,
                    limit_bytes: limit,
                });
            }
        }
        Ok(end)
    }

    fn part(&self, part: u16, parts: u16, crates: Total, files: Range<usize>) -> PartPlan {
        let own = &self.contents.crates[files.clone()];
        let part_crates = Total {
            files: own.len() as u64,
            bytes: own.iter().map(|file| file.bytes).sum(),
        };
        let manifest = Manifest {
            bundle: self.contents.bundle.clone(),
            part,
            parts,
            crates,
            part_crates,
        };
        let framed_crates = own.iter().map(|file| framed(file.bytes)).sum();
        let bytes = self.file_bytes(framed_bytes(&manifest), part == 1, part_crates.files, framed_crates);
        PartPlan { manifest, bytes, files }
    }
}
