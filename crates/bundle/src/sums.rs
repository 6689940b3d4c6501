use std::io::{self, Write};

use registry::Checksum;

use crate::error::shown;
use crate::manifest::Manifest;
use crate::{Error, MemberName};

const HEX: usize = 64;

/// What `SHA256SUMS` says: the hash of each member but itself and its signature, in the order of the tar.
///
/// Of a crate file's line nothing needs to be kept but the checksum, which is its name as well: 32 bytes for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// Of `MANIFEST.json`.
    pub manifest: Checksum,
    /// Of `index/changes.gz`, if there is one.
    pub changes: Option<Checksum>,
    /// Of `index/decisions.jsonl.gz`, if there is one.
    pub decisions: Option<Checksum>,
    /// The crate files, ascending.
    pub crates: Vec<Checksum>,
}

/// The bytes of the line of a name of so many bytes.
const fn line_bytes(name_bytes: usize) -> u64 {
    (HEX + 2 + name_bytes + 1) as u64
}

/// The bytes of a whole `SHA256SUMS`.
pub(crate) const fn text_bytes(has_changes: bool, has_decisions: bool, crate_files: u64) -> u64 {
    let changes = if has_changes {
        line_bytes("index/changes.gz".len())
    } else {
        0
    };
    let decisions = if has_decisions {
        line_bytes("index/decisions.jsonl.gz".len())
    } else {
        0
    };
    let crates = crate_files * line_bytes("crates/.crate".len() + HEX);
    line_bytes("MANIFEST.json".len()) + changes + decisions + crates
}

/// Writes it as `sha256sum` does.
pub(crate) fn write_text(
    out: &mut impl Write,
    [manifest, changes, decisions]: [Option<Checksum>; 3],
    crates: impl Iterator<Item = Checksum>,
) -> io::Result<()> {
    let first = [
        (MemberName::Manifest, manifest),
        (MemberName::Changes, changes),
        (MemberName::Decisions, decisions),
    ];
    let first = first.into_iter().filter_map(|(name, sum)| Some((name, sum?)));
    let crates = crates.map(|checksum| (MemberName::Crate(checksum), checksum));
    first
        .chain(crates)
        .try_for_each(|(name, checksum)| writeln!(out, "{checksum}  {name}"))
}

/// Reads `SHA256SUMS` line by line against what the manifest makes of it.
pub(crate) struct SumsReader<'a> {
    manifest: &'a Manifest,
    sums: Sums,
    line: u64,
}

impl<'a> SumsReader<'a> {
    /// The longest line there is, with its end.
    pub(crate) const MAX_LINE_BYTES: usize = 144;

    /// `of_manifest` is the hash of the manifest as it was read.
    pub(crate) fn new(manifest: &'a Manifest, of_manifest: Checksum) -> Self {
        let sums = Sums {
            manifest: of_manifest,
            changes: None,
            decisions: None,
            crates: Vec::new(),
        };
        Self {
            manifest,
            sums,
            line: 0,
        }
    }

    /// Takes the next line, without its end.
    pub(crate) fn push(&mut self, line: &[u8]) -> Result<(), Error> {
        self.line += 1;
        let text = std::str::from_utf8(line).map_err(|_| self.wrong("it is not plain ASCII"))?;
        let (hash, name) = text
            .split_at_checked(HEX)
            .and_then(|(hash, rest)| Some((hash, rest.strip_prefix("  ")?)))
            .ok_or_else(|| self.wrong("it is not 64 digits, two spaces and a name"))?;
        let checksum: Checksum = hash
            .parse()
            .map_err(|_| self.wrong("it does not begin with 64 hexadecimal digits in lower case"))?;
        self.place(checksum, name)
    }

    fn place(&mut self, checksum: Checksum, name: &str) -> Result<(), Error> {
        let is = |member: MemberName| name == member.to_string();
        let is_early = self.sums.crates.is_empty() && self.sums.decisions.is_none();
        if self.line == 1 {
            return self.place_manifest(checksum, name);
        }
        if self.line == 2 && self.manifest.has_changes() {
            if !is(MemberName::Changes) {
                return Err(self.wrong("index/changes.gz should come here"));
            }
            self.sums.changes = Some(checksum);
        } else if is(MemberName::Decisions) && self.manifest.part == 1 && is_early {
            self.sums.decisions = Some(checksum);
        } else if !is(MemberName::Crate(checksum)) {
            let why = format!("{} is not crates/{checksum}.crate", shown(name));
            return Err(self.wrong(&why));
        } else if self.sums.crates.last().is_some_and(|last| *last >= checksum) {
            return Err(self.wrong("crate files are not in ascending order, each once"));
        } else if self.sums.crates.len() as u64 == self.manifest.part_crates.files {
            return Err(self.wrong("there are more crate files than the manifest says"));
        } else {
            self.sums.crates.push(checksum);
        }
        Ok(())
    }

    fn place_manifest(&self, checksum: Checksum, name: &str) -> Result<(), Error> {
        if name != MemberName::Manifest.to_string() {
            return Err(self.wrong("MANIFEST.json should come first"));
        }
        if checksum != self.sums.manifest {
            let (expected, actual) = (checksum, self.sums.manifest);
            return Err(Error::Content {
                member: MemberName::Manifest,
                expected,
                actual,
            });
        }
        Ok(())
    }

    /// The line after those that were taken has no end, or is too long.
    pub(crate) fn has_no_end(&self) -> Error {
        let why = format!("it has no end within {} bytes", Self::MAX_LINE_BYTES);
        Error::Sums {
            line: self.line + 1,
            why,
        }
    }

    fn wrong(&self, why: &str) -> Error {
        Error::Sums {
            line: self.line,
            why: why.to_owned(),
        }
    }

    /// All lines were there.
    pub(crate) fn finish(mut self) -> Result<Sums, Error> {
        self.line += 1;
        if self.line == 1 {
            return Err(self.wrong("it is empty"));
        }
        if self.manifest.has_changes() && self.sums.changes.is_none() {
            return Err(self.wrong("index/changes.gz is missing"));
        }
        let (found, said) = (self.sums.crates.len() as u64, self.manifest.part_crates.files);
        if found != said {
            let why = format!("{found} crate files are listed, and the manifest says {said}");
            return Err(self.wrong(&why));
        }
        Ok(self.sums)
    }
}

impl Sums {
    /// The members that follow the signature, in their order, with their hashes.
    pub fn members(&self) -> impl Iterator<Item = (MemberName, Checksum)> + '_ {
        (0..).map_while(|number| self.member(number))
    }

    /// The one with this number among them.
    pub(crate) fn member(&self, number: usize) -> Option<(MemberName, Checksum)> {
        let index = [
            self.changes.map(|checksum| (MemberName::Changes, checksum)),
            self.decisions.map(|checksum| (MemberName::Decisions, checksum)),
        ];
        let before = index.iter().flatten().count();
        if number < before {
            return index.into_iter().flatten().nth(number);
        }
        let checksum = *self.crates.get(number - before)?;
        Some((MemberName::Crate(checksum), checksum))
    }
}
