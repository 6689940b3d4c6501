use std::borrow::Cow;

use serde::Deserialize;

use crate::{Checksum, Error, IndexPath};

/// The largest index file that is taken, in bytes. The largest real one has a few MB.
pub const MAX_FILE_BYTES: usize = 32 << 20;
/// The longest index line that is taken, in bytes.
pub const MAX_LINE_BYTES: usize = 4 << 20;

/// One line of an index file: one version. `raw` is what upstream wrote; the other fields were read out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexLine<'a> {
    /// The line's bytes without the newline. They pass through untouched.
    pub raw: &'a [u8],
    /// The crate's name as its publisher spelled it.
    pub name: Cow<'a, str>,
    /// The version as it is written; odd ones exist, so it is text here.
    pub vers: Cow<'a, str>,
    /// The SHA-256 of the crate file.
    pub checksum: Checksum,
    /// Whether the version was yanked; absent means no.
    pub yanked: bool,
}

#[derive(Deserialize)]
struct Known<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    vers: Cow<'a, str>,
    #[serde(borrow)]
    cksum: Cow<'a, str>,
    #[serde(default)]
    yanked: Option<bool>,
}

impl<'a> IndexLine<'a> {
    /// Reads one line for the file at `path`. Unknown keys and any `v` are left alone.
    ///
    /// Fails with the reason if it is not a JSON object with a `name` that fits the path, a `vers` and a `cksum` of 64
    /// hexadecimal digits in lower case. The format is that of the cargo book, "Registry Index Format".
    pub fn parse(raw: &'a [u8], path: &IndexPath) -> Result<Self, String> {
        if raw.len() > MAX_LINE_BYTES {
            return Err(format!("it has {} bytes, more than {MAX_LINE_BYTES}", raw.len()));
        }
        let known: Known<'a> = serde_json::from_slice(raw).map_err(|cause| cause.to_string())?;
        if !known.name.eq_ignore_ascii_case(path.file_name()) {
            return Err(format!("it speaks of `{}`", crate::error::shown(&known.name)));
        }
        if known.vers.is_empty() || known.vers.len() > crate::CrateVersion::MAX_BYTES {
            return Err("its `vers` is empty or too long".to_owned());
        }
        let checksum = known.cksum.parse().map_err(|cause: Error| cause.to_string())?;
        Ok(Self {
            raw,
            name: known.name,
            vers: known.vers,
            checksum,
            yanked: known.yanked.unwrap_or(false),
        })
    }
}

/// A whole index file whose every line was read.
///
/// A few real files name the same version twice; as in cargo, the last one counts ([`IndexFile::find`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexFile<'a> {
    lines: Vec<IndexLine<'a>>,
}

impl<'a> IndexFile<'a> {
    /// Reads `bytes` as the index file at `path`; one unusable line refuses the file. Empty lines are skipped, as cargo does.
    pub fn parse(bytes: &'a [u8], path: &IndexPath) -> Result<Self, Error> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(Error::FileTooLarge {
                size_bytes: bytes.len(),
                limit_bytes: MAX_FILE_BYTES,
            });
        }
        let mut lines = Vec::new();
        for (at, raw) in raw_lines(bytes) {
            lines.push(IndexLine::parse(raw, path).map_err(|why| Error::Line { number: at, why })?);
        }
        if lines.is_empty() {
            Err(Error::EmptyFile)
        } else {
            Ok(Self { lines })
        }
    }

    /// The lines that can be read; the others are left out. For files that were published as they came.
    pub fn parse_readable(bytes: &'a [u8], path: &IndexPath) -> Self {
        Self {
            lines: raw_lines(bytes)
                .filter_map(|(_, raw)| IndexLine::parse(raw, path).ok())
                .collect(),
        }
    }

    /// In the file's order, which is the order of publishing.
    pub fn lines(&self) -> &[IndexLine<'a>] {
        &self.lines
    }

    /// The line of a version, by its exact text.
    pub fn find(&self, vers: &str) -> Option<&IndexLine<'a>> {
        self.lines.iter().rev().find(|line| line.vers == vers)
    }
}

/// The lines that are not blank, numbered from 1.
fn raw_lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    bytes
        .split(|byte| *byte == b'\n')
        .enumerate()
        .map(|(at, raw)| (at + 1, raw))
        .filter(|(_, raw)| !raw.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(name: &str, vers: &str, more: &str) -> String {
        format!(
            r#"{{"name":"{name}","vers":"{vers}","deps":[],"cksum":"{}","features":{{}},"yanked":false{more}}}"#,
            Checksum::of(vers.as_bytes())
        )
    }

    fn path(name: &str) -> IndexPath {
        IndexPath::of(&name.parse().unwrap())
    }

    #[test]
    fn reads_lines_and_leaves_the_unknown_alone() {
        let text = format!(
            "{}\n{}\r\n\n{}",
            line("Serde", "1.0.0", ""),
            line("Serde", "1.0.1", r#","v":3,"news":[{"a":1e308}]"#),
            line("Serde", "odd version", "")
        );
        let path = path("serde");
        let file = IndexFile::parse(text.as_bytes(), &path).unwrap();
        let versions: Vec<_> = file.lines().iter().map(|line| line.vers.as_ref()).collect();
        assert_eq!(versions, ["1.0.0", "1.0.1", "odd version"]);
        assert_eq!(file.find("1.0.1").unwrap().checksum, Checksum::of(b"1.0.1"));
        assert!(file.find("1.0.2").is_none());
    }

    #[test]
    fn the_last_of_two_equal_versions_counts() {
        let text = format!(
            "{}\n{}\n",
            line("a", "1.0.0", ""),
            line("a", "1.0.0", "").replace("\"yanked\":false", "\"yanked\":true")
        );
        let path = path("a");
        assert!(
            IndexFile::parse(text.as_bytes(), &path)
                .unwrap()
                .find("1.0.0")
                .unwrap()
                .yanked
        );
    }

    #[test]
    fn one_bad_line_refuses_the_file() {
        let good = line("serde", "1.0.0", "");
        let cksum = Checksum::of(b"1.0.0").to_hex();
        for bad in [
            "<html>sign in</html>".to_owned(),
            good[..good.len() - 1].to_owned(),
            "[]".to_owned(),
            "null".to_owned(),
            "{}".to_owned(),
            format!("\u{feff}{good}"),
            format!("{good}\0"),
            good.replace("serde", "tokio"),
            good.replace("1.0.0", ""),
            good.replace(&cksum, &cksum[1..]),
            good.replace(&cksum, &cksum.to_uppercase()),
            good.replace("\"yanked\":false", "\"yanked\":7"),
            "[".repeat(100_000),
            format!("{{\"name\":{}", "[".repeat(100_000)),
        ] {
            let text = format!("{good}\n{bad}\n");
            let path = path("serde");
            let error = IndexFile::parse(text.as_bytes(), &path).unwrap_err();
            assert!(matches!(error, Error::Line { number: 2, .. }), "{bad:.80}: {error}");
            assert_eq!(IndexFile::parse_readable(text.as_bytes(), &path).lines().len(), 1);
        }
        assert_eq!(IndexFile::parse(b"\n", &path("a")).unwrap_err(), Error::EmptyFile);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let path = path("serde");
            let _ = IndexFile::parse(&bytes, &path);
            IndexFile::parse_readable(&bytes, &path);
        }

        #[test]
        fn a_damaged_line_never_changes_a_name_or_checksum_unseen(at in 0usize..200, byte in any::<u8>()) {
            let path = path("serde");
            let mut bytes = line("serde", "1.0.0", "").into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(file) = IndexFile::parse(&bytes, &path) {
                prop_assert!(file.lines().iter().all(|line| line.name.eq_ignore_ascii_case("serde")));
            }
        }
    }
}
