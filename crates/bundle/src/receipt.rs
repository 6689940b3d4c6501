use std::fmt::{self, Write};
use std::str::FromStr;

use registry::Checksum;
use sha2::{Digest, Sha256};

use crate::error::shown;
use crate::{Error, Id, Serials, Time, TreeHex};

const FIRST_LINE: &str = "mirror receipt 1";
const MAX_BYTES: usize = 1024;
const MAX_MISSING: usize = 8;
const MAX_OFFICE_BYTES: usize = 64;
/// Another system may have put a carriage return before the end of each line.
const MAX_LINES: usize = 17;

/// What an office has of a site: a text of at most 1 KiB that goes back on the same stick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The site.
    pub site: Id,
    /// The last bundle that was imported from it.
    pub bundle: Id,
    /// Its serial.
    pub serial: u64,
    /// The serials of all bundles of the site that were imported, as far as they are known: of many, the newest.
    pub serials: Option<Serials>,
    /// The state of the index that the bundle made; `None` if no bundle said anything of the index.
    pub index: Option<TreeHex>,
    /// How many crate files of the site are in the office.
    pub crate_files: u64,
    /// What [`crates_digest`] makes of their checksums.
    pub digest: Checksum,
    /// Files of the site that were lost in the office; the first eight of them, ascending.
    pub missing: Vec<Checksum>,
    /// The name of the office's machine.
    pub office: String,
    /// When this was written.
    pub time: Time,
}

/// The SHA-256 over checksums, ascending, each as a line of hexadecimal digits.
pub fn crates_digest(sorted: impl IntoIterator<Item = Checksum>) -> Checksum {
    let mut hasher = Sha256::new();
    for checksum in sorted {
        hasher.update(checksum.to_hex());
        hasher.update(b"\n");
    }
    Checksum::from_bytes(hasher.finalize().into())
}

impl fmt::Display for Receipt {
    /// The text. Of a name that is longer than 64 characters or not plain, what is plain in its beginning is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, rest) = (self.head(), self.rest()?);
        f.write_str(&head)?;
        if let Some(serials) = &self.serials {
            let room = MAX_BYTES.saturating_sub(head.len() + rest.len() + MAX_LINES + "serials \n".len());
            let serials = serials.newest_within(room);
            if !serials.is_empty() {
                writeln!(f, "serials {serials}")?;
            }
        }
        f.write_str(&rest)
    }
}

impl Receipt {
    fn head(&self) -> String {
        format!(
            "{FIRST_LINE}\nsite {}\nbundle {}\nserial {}\n",
            self.site, self.bundle, self.serial
        )
    }

    /// Behind the serials.
    fn rest(&self) -> Result<String, fmt::Error> {
        let mut rest = String::new();
        let f = &mut rest;
        match &self.index {
            Some(tree) => writeln!(f, "index {tree}")?,
            None => writeln!(f, "index none")?,
        }
        writeln!(f, "crates {} {}", self.crate_files, self.digest)?;
        for checksum in self.missing.iter().take(MAX_MISSING) {
            writeln!(f, "missing {checksum}")?;
        }
        let plain = self.office.chars().filter(char::is_ascii_graphic);
        let office: String = plain.take(MAX_OFFICE_BYTES).collect();
        writeln!(f, "office {}", if office.is_empty() { "unknown" } else { &office })?;
        writeln!(f, "time {}", self.time)?;
        Ok(rest)
    }
}

/// Takes the lines one by one.
struct Lines<'a> {
    lines: std::iter::Peekable<std::str::Lines<'a>>,
    line: usize,
}

impl<'a> Lines<'a> {
    fn wrong(&self, why: String) -> Error {
        Error::Receipt { line: self.line, why }
    }

    fn value(&mut self, key: &str) -> Result<&'a str, Error> {
        self.line += 1;
        let line = self.lines.next().unwrap_or_default();
        let value = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(' '));
        value.ok_or_else(|| self.wrong(format!("it should begin with \"{key} \", and is \"{}\"", shown(line))))
    }

    fn parsed<T: FromStr>(&mut self, key: &str) -> Result<T, Error> {
        let value = self.value(key)?;
        value
            .parse()
            .map_err(|_| self.wrong(format!("\"{}\" is not what \"{key}\" can have", shown(value))))
    }

    /// Receipts of the first version of the program have none.
    fn serials(&mut self) -> Result<Option<Serials>, Error> {
        match self.lines.peek().is_some_and(|line| line.starts_with("serials ")) {
            true => self.parsed("serials").map(Some),
            false => Ok(None),
        }
    }

    fn missing(&mut self) -> Result<Vec<Checksum>, Error> {
        let mut missing = Vec::new();
        while self.lines.peek().is_some_and(|line| line.starts_with("missing ")) {
            missing.push(self.parsed("missing")?);
        }
        if missing.len() > MAX_MISSING || !missing.is_sorted_by(|a, b| a < b) {
            return Err(self.wrong("the missing files are more than eight, or not in ascending order".to_owned()));
        }
        Ok(missing)
    }

    fn crates(&mut self) -> Result<(u64, Checksum), Error> {
        let value = self.value("crates")?;
        let parsed = value
            .split_once(' ')
            .and_then(|(files, digest)| Some((files.parse().ok()?, digest.parse().ok()?)));
        parsed.ok_or_else(|| self.wrong("it should be a number and a SHA-256".to_owned()))
    }

    fn index(&mut self) -> Result<Option<TreeHex>, Error> {
        if self.lines.peek() == Some(&"index none") {
            self.value("index").map(|_| None)
        } else {
            self.parsed("index").map(Some)
        }
    }

    fn office(&mut self) -> Result<String, Error> {
        let office = self.value("office")?;
        if office.len() > MAX_OFFICE_BYTES || !office.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(self.wrong("the name is too long, or not plain".to_owned()));
        }
        Ok(office.to_owned())
    }
}

impl FromStr for Receipt {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut lines = Lines {
            lines: text.lines().peekable(),
            line: 1,
        };
        if text.len() > MAX_BYTES {
            return Err(lines.wrong(format!("it has {} bytes, more than {MAX_BYTES}", text.len())));
        }
        if lines.lines.next() != Some(FIRST_LINE) {
            return Err(lines.wrong(format!("it is not \"{FIRST_LINE}\"")));
        }
        let (site, bundle, serial) = (lines.parsed("site")?, lines.parsed("bundle")?, lines.parsed("serial")?);
        let (serials, index) = (lines.serials()?, lines.index()?);
        let (crate_files, digest) = lines.crates()?;
        let missing = lines.missing()?;
        let (office, time) = (lines.office()?, lines.parsed("time")?);
        if lines.lines.any(|line| !line.trim().is_empty()) {
            return Err(lines.wrong("there is more behind it".to_owned()));
        }
        Ok(Self {
            site,
            bundle,
            serial,
            serials,
            index,
            crate_files,
            digest,
            missing,
            office,
            time,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn receipt(missing: usize) -> Receipt {
        let mut missing: Vec<_> = (0..missing)
            .map(|at| Checksum::of(&[u8::try_from(at).unwrap()]))
            .collect();
        missing.sort_unstable();
        Receipt {
            site: Id::from_bytes([1; 16]),
            bundle: Id::from_bytes([2; 16]),
            serial: u64::MAX,
            serials: None,
            index: Some("a".repeat(64).parse().unwrap()),
            crate_files: u64::MAX,
            digest: crates_digest(missing.iter().copied()),
            missing,
            office: "x".repeat(64),
            time: Time::from_unix(i64::MAX),
        }
    }

    #[test]
    fn the_largest_one_fits_in_a_kibibyte_and_is_read_again() {
        for missing in 0..=8 {
            let receipt = receipt(missing);
            let text = receipt.to_string();
            assert!(text.len() <= 1024, "{}", text.len());
            assert_eq!(text.parse::<Receipt>().unwrap(), receipt);
            assert_eq!(text.replace('\n', "\r\n").parse::<Receipt>().unwrap(), receipt);
        }
        let without = Receipt {
            index: None,
            ..receipt(0)
        };
        assert_eq!(without.to_string().parse::<Receipt>().unwrap(), without);
    }

    #[test]
    fn of_too_many_serials_the_newest_are_written() {
        let many = Serials::of((0..1000).map(|at| 2 * at));
        for missing in 0..=8 {
            let receipt = Receipt {
                serial: 1998,
                serials: Some(many.clone()),
                ..receipt(missing)
            };
            let text = receipt.to_string().replace('\n', "\r\n");
            assert!(text.len() <= 1024, "{}", text.len());
            let read = text.parse::<Receipt>().unwrap().serials.unwrap();
            assert!(read.contains(1998) && !read.contains(0) && !read.contains(1997));
            assert_eq!(read.contains(1912), missing < 6, "{missing}: {read}");
        }
        let few = Receipt {
            serials: Some(Serials::of([1, 2, 3, 5])),
            ..receipt(8)
        };
        assert!(few.to_string().contains("\nserials 1-3,5\nindex "));
        assert_eq!(few.to_string().parse::<Receipt>().unwrap(), few);
        let wrong = few.to_string().replace("1-3,5", "3-1");
        assert!(wrong.parse::<Receipt>().is_err());
    }

    #[test]
    fn odd_names_are_made_plain() {
        let named = |office: &str| {
            Receipt {
                office: office.to_owned(),
                ..receipt(1)
            }
            .to_string()
            .parse::<Receipt>()
            .unwrap()
            .office
        };
        assert_eq!(named("a b\nsite \u{1b}é"), "absite");
        assert_eq!(named(""), "unknown");
        assert_eq!(named(&"y".repeat(70)), "y".repeat(64));
    }

    #[test]
    fn a_digest_is_that_of_the_lines() {
        let checksum = Checksum::of(b"a");
        assert_eq!(
            crates_digest([checksum]),
            Checksum::of(format!("{checksum}\n").as_bytes())
        );
        assert_eq!(crates_digest([]), Checksum::of(b""));
    }

    proptest! {
        #[test]
        fn a_changed_receipt_is_read_or_refused(at in any::<prop::sample::Index>(), to in "[ -~\n]{0,2}") {
            let mut text = receipt(2).to_string();
            let at = at.index(text.len());
            text.replace_range(at..=at, &to);
            if let Ok(receipt) = text.parse::<Receipt>() {
                prop_assert_eq!(receipt.to_string().parse::<Receipt>().unwrap(), receipt);
            }
        }
    }
}
