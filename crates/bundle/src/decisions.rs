//! `index/decisions.jsonl.gz`: what the outside mirror removed or holds, for those who look in the office. It changes
//! nothing of the index, whose lines say the same already.

use std::io::{BufRead, BufReader, Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use registry::{Checksum, CrateVersion, IndexPath};
use serde::{Deserialize, Serialize};

use crate::error::{json_fault, shown};
use crate::stored::HashingWriter;
use crate::{Error, Stored, Time};

/// The most bytes of the member.
pub(crate) const MAX_PACKED_BYTES: u64 = 16 << 20;
const MAX_BYTES: u64 = 64 << 20;
const MAX_LINE_BYTES: u64 = 64 << 10;

/// What was decided outside about one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutsideDecision {
    /// Where the crate's index file stands.
    pub path: IndexPath,
    /// The version.
    pub version: CrateVersion,
    /// What was decided.
    pub kind: DecisionKind,
    /// Upstream removed the whole crate.
    pub whole_crate: bool,
    /// When.
    pub decided_at: Time,
    /// The checksum in force, or the last one known.
    pub checksum: Checksum,
    /// The one that upstream changed it to.
    pub new_checksum: Option<Checksum>,
}

/// The kinds of decisions that travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecisionKind {
    /// Upstream removed it.
    Removed,
    /// Upstream changed its checksum; the old one is in force.
    HeldChecksum,
    /// It went with too many others at once; it is in force until somebody decides.
    HeldRemoval,
    /// Upstream removed it, and the outside mirror keeps serving it.
    Kept,
}

#[derive(Deserialize)]
struct OnlyKind<'a> {
    #[serde(borrow)]
    kind: std::borrow::Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    path: String,
    vers: CrateVersion,
    kind: DecisionKind,
    whole_crate: bool,
    decided_at: Time,
    checksum: Checksum,
    #[serde(default)]
    new_checksum: Option<Checksum>,
}

impl DecisionKind {
    const ALL: [Self; 4] = [Self::Removed, Self::HeldChecksum, Self::HeldRemoval, Self::Kept];

    /// The word it has in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::HeldChecksum => "held-checksum",
            Self::HeldRemoval => "held-removal",
            Self::Kept => "kept",
        }
    }
}

/// Writes the member to a file that is packed later. Nothing is to be packed if there are no decisions.
///
/// # Errors
/// `out` gave up.
pub fn write_decisions<W: Write>(
    out: W,
    decisions: impl IntoIterator<Item = OutsideDecision>,
) -> Result<(W, Stored), Error> {
    let failed = |source| Error::Write { source };
    let mut gzip = GzEncoder::new(HashingWriter::new(out), Compression::default());
    for decision in decisions {
        let line = Line {
            path: decision.path.to_string(),
            vers: decision.version,
            kind: decision.kind,
            whole_crate: decision.whole_crate,
            decided_at: decision.decided_at,
            checksum: decision.checksum,
            new_checksum: decision.new_checksum,
        };
        let mut line = serde_json::to_vec(&line).expect("plain values become JSON");
        line.push(b'\n');
        gzip.write_all(&line).map_err(failed)?;
    }
    Ok(gzip.finish().map_err(failed)?.finish())
}

/// Reads the decisions one by one; kinds that are not known are passed over. After an error it ends.
pub struct DecisionLines<R> {
    inflated: Option<BufReader<GzDecoder<R>>>,
    line: u64,
    left_bytes: u64,
}

impl<R: BufRead> DecisionLines<R> {
    /// `reader` gives the member's bytes.
    pub fn new(reader: R) -> Self {
        Self {
            inflated: Some(BufReader::new(GzDecoder::new(reader))),
            line: 0,
            left_bytes: MAX_BYTES,
        }
    }

    /// The next line, or `None` at the end.
    fn line(&mut self, inflated: &mut impl BufRead) -> Result<Option<Vec<u8>>, Error> {
        self.line += 1;
        let limit = MAX_LINE_BYTES.min(self.left_bytes);
        let mut line = Vec::new();
        inflated
            .take(limit + 1)
            .read_until(b'\n', &mut line)
            .map_err(|source| self.fault(source))?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.len() as u64 > limit {
            return Err(self.wrong("it is too long, or the whole is".to_owned()));
        }
        self.left_bytes -= line.len() as u64;
        if line.pop() != Some(b'\n') {
            return Err(self.wrong("it has no end".to_owned()));
        }
        Ok(Some(line))
    }

    /// What the line says; `None` if its kind is not known.
    fn decision(&self, line: &[u8]) -> Result<Option<OutsideDecision>, Error> {
        let wrong = |error: serde_json::Error| self.wrong(json_fault(&error));
        let OnlyKind { kind } = serde_json::from_slice(line).map_err(wrong)?;
        if DecisionKind::ALL.iter().all(|known| known.as_str() != kind) {
            return Ok(None);
        }
        let line: Line = serde_json::from_slice(line).map_err(wrong)?;
        let path = line.path.parse();
        Ok(Some(OutsideDecision {
            path: path.map_err(|_| self.wrong(format!("{} is no path of an index file", shown(&line.path))))?,
            version: line.vers,
            kind: line.kind,
            whole_crate: line.whole_crate,
            decided_at: line.decided_at,
            checksum: line.checksum,
            new_checksum: line.new_checksum,
        }))
    }

    fn advance(&mut self, mut inflated: BufReader<GzDecoder<R>>) -> Result<Option<OutsideDecision>, Error> {
        loop {
            let Some(line) = self.line(&mut inflated)? else {
                return self.end(inflated);
            };
            if let Some(decision) = self.decision(&line)? {
                self.inflated = Some(inflated);
                return Ok(Some(decision));
            }
        }
    }

    fn end(&self, inflated: BufReader<GzDecoder<R>>) -> Result<Option<OutsideDecision>, Error> {
        let mut behind = inflated.into_inner().into_inner();
        let is_end = behind.fill_buf().map_err(|source| self.fault(source))?.is_empty();
        if is_end {
            Ok(None)
        } else {
            Err(self.wrong("there is more behind the end of the gzip".to_owned()))
        }
    }

    fn fault(&self, source: std::io::Error) -> Error {
        match source.downcast::<Error>() {
            Ok(own) => own,
            Err(source) => self.wrong(format!("it cannot be unpacked: {}", shown(&source.to_string()))),
        }
    }

    fn wrong(&self, why: String) -> Error {
        Error::Decisions { line: self.line, why }
    }
}

impl<R: BufRead> Iterator for DecisionLines<R> {
    type Item = Result<OutsideDecision, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let inflated = self.inflated.take()?;
        self.advance(inflated).transpose()
    }
}

impl<R> std::fmt::Debug for DecisionLines<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecisionLines")
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text).unwrap();
        gzip.finish().unwrap()
    }

    fn decision(name: &str, kind: DecisionKind) -> OutsideDecision {
        OutsideDecision {
            path: IndexPath::of(&name.parse().unwrap()),
            version: "1.0.0+build".parse().unwrap(),
            kind,
            whole_crate: true,
            decided_at: Time::from_unix(1_795_176_000),
            checksum: Checksum::of(b"old"),
            new_checksum: (kind == DecisionKind::HeldChecksum).then(|| Checksum::of(b"new")),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let all: Vec<_> = DecisionKind::ALL
            .into_iter()
            .map(|kind| decision("serde", kind))
            .collect();
        let (bytes, stored) = write_decisions(Vec::new(), all.clone()).unwrap();
        assert_eq!(
            stored,
            Stored {
                checksum: Checksum::of(&bytes),
                bytes: bytes.len() as u64
            }
        );
        let read: Result<Vec<_>, _> = DecisionLines::new(bytes.as_slice()).collect();
        assert_eq!(read.unwrap(), all);
    }

    #[test]
    fn kinds_of_tomorrow_are_passed_over() {
        let (bytes, _) = write_decisions(Vec::new(), [decision("a", DecisionKind::Kept)]).unwrap();
        let mut text = b"{\"kind\":\"forgotten\",\"path\":7}\n".to_vec();
        GzDecoder::new(bytes.as_slice()).read_to_end(&mut text).unwrap();
        let read: Result<Vec<_>, _> = DecisionLines::new(packed(&text).as_slice()).collect();
        assert_eq!(read.unwrap(), [decision("a", DecisionKind::Kept)]);
    }

    #[test]
    fn what_is_no_decision_is_refused_by_its_line() {
        let long = format!("{{\"kind\":\"{}\"}}\n", "x".repeat(70_000));
        for text in ["x\n", "{}\n", "{\"kind\":\"removed\"}\n", "{\"kind\":\"later\"}", &long] {
            let error = DecisionLines::new(packed(text.as_bytes()).as_slice())
                .next()
                .unwrap()
                .unwrap_err();
            assert!(
                error.to_string().starts_with("index/decisions.jsonl.gz, line 1: "),
                "{error}"
            );
        }
        let mut more = packed(b"");
        more.push(0);
        assert!(DecisionLines::new(more.as_slice()).next().unwrap().is_err());
        let cut = packed(b"{\"kind\":\"later\"}\n");
        assert!(DecisionLines::new(&cut[..cut.len() - 9]).any(|line| line.is_err()));
    }

    #[test]
    fn a_gzip_bomb_ends_at_the_limit() {
        let line = format!("{{\"kind\":\"{}\"}}\n", "x".repeat(60_000));
        let bomb = packed(line.repeat(1200).as_bytes());
        assert!(bomb.len() < 1 << 20);
        let error = DecisionLines::new(bomb.as_slice()).next().unwrap().unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }
}
