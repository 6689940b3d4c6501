use std::collections::{BTreeMap, HashSet};

use registry::{IndexFile, IndexLine, IndexPath};
use serde::{Deserialize, Serialize};

use crate::report::Report;

/// The most names that are listed of one kind.
const LISTED: usize = 1_000;

/// How many of something there are, and which.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// How many.
    pub count: u64,
    /// The first thousand of them: a crate's name, or that and a version.
    pub names: Vec<String>,
}

impl Counted {
    fn add(&mut self, name: impl FnOnce() -> String) {
        self.count += 1;
        if self.names.len() < LISTED {
            self.names.push(name());
        }
    }
}

/// What the state of another mirror's index changes in what is published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportChanges {
    /// Crates that were not here.
    pub new_crates: Counted,
    /// Versions of crates that were here.
    pub new_versions: Counted,
    /// Versions that are yanked now and were not.
    pub yanked: Counted,
    /// Versions that were yanked and are no more.
    pub unyanked: Counted,
    /// Crates of which nothing is left.
    pub removed_crates: Counted,
    /// Versions that are left out, those of removed crates among them.
    pub removed_versions: Counted,
    /// Versions whose checksum is another one from now on: nothing of the old one was kept or served here.
    pub changed_checksums: Counted,
    /// Versions whose checksum was changed there, and stays as it is here until the operator says otherwise.
    pub held_checksums: Counted,
}

impl ImportChanges {
    /// Whether nothing changes.
    pub fn is_nothing(&self) -> bool {
        self == &Self::default()
    }

    pub(crate) fn add_new_crate(&mut self, path: &IndexPath) {
        self.new_crates.add(|| path.file_name().to_owned());
    }

    /// Adds what becomes of one file. Empty bytes are no file.
    pub(crate) fn add(&mut self, path: &IndexPath, before: &[u8], after: &[u8], reports: &[Report]) {
        let named = |vers: &str| format!("{} {vers}", path.file_name());
        for report in reports {
            if let Report::ChecksumHeld { vers, .. } = report {
                self.held_checksums.add(|| named(vers));
            }
        }
        if before == after {
            return;
        }
        match (before.is_empty(), after.is_empty()) {
            (true, false) => return self.add_new_crate(path),
            (false, true) => self.removed_crates.add(|| path.file_name().to_owned()),
            _ => {}
        }
        // Most lines stay as they are: only the others are read.
        let (gone, come) = (lines_beside(before, after), lines_beside(after, before));
        let (before, after) = (
            IndexFile::parse_readable(&gone, path),
            IndexFile::parse_readable(&come, path),
        );
        let (before, after) = (by_version(&before), by_version(&after));
        for (vers, line) in &after {
            match before.get(vers) {
                None => self.new_versions.add(|| named(vers)),
                Some(old) => self.add_line(old, line, || named(vers)),
            }
        }
        for vers in before.keys().filter(|vers| !after.contains_key(*vers)) {
            self.removed_versions.add(|| named(vers));
        }
    }

    fn add_line(&mut self, old: &IndexLine<'_>, new: &IndexLine<'_>, name: impl Fn() -> String) {
        if old.checksum != new.checksum {
            self.changed_checksums.add(&name);
        }
        match (old.yanked, new.yanked) {
            (false, true) => self.yanked.add(name),
            (true, false) => self.unyanked.add(name),
            _ => {}
        }
    }
}

/// The lines of one file that the other does not have.
fn lines_beside(file: &[u8], other: &[u8]) -> Vec<u8> {
    let other: HashSet<&[u8]> = other.split(|byte| *byte == b'\n').collect();
    let lines = file.split_inclusive(|byte| *byte == b'\n');
    let is_its_own = |line: &&[u8]| !other.contains(line.strip_suffix(b"\n").unwrap_or(line));
    lines.filter(is_its_own).collect::<Vec<_>>().concat()
}

fn by_version<'a>(file: &'a IndexFile<'a>) -> BTreeMap<&'a str, &'a IndexLine<'a>> {
    file.lines().iter().map(|line| (line.vers.as_ref(), line)).collect()
}

#[cfg(test)]
mod tests {
    use registry::Checksum;

    use super::*;

    fn lines(lines: &[(&str, &str, bool)]) -> Vec<u8> {
        let line = |(vers, seed, yanked): &(&str, &str, bool)| {
            let cksum = Checksum::of(seed.as_bytes());
            format!(
                "{{\"name\":\"serde\",\"vers\":\"{vers}\",\"deps\":[],\"cksum\":\"{cksum}\",\"features\":{{}},\"yanked\":{yanked}}}\n"
            )
        };
        lines.iter().map(line).collect::<String>().into_bytes()
    }

    fn changes(before: &[(&str, &str, bool)], after: &[(&str, &str, bool)]) -> Vec<(&'static str, Vec<String>)> {
        let mut changes = ImportChanges::default();
        changes.add(&"se/rd/serde".parse().unwrap(), &lines(before), &lines(after), &[]);
        let all = [
            ("new crate", changes.new_crates),
            ("new", changes.new_versions),
            ("yanked", changes.yanked),
            ("unyanked", changes.unyanked),
            ("removed crate", changes.removed_crates),
            ("removed", changes.removed_versions),
            ("changed", changes.changed_checksums),
        ];
        let some = all.into_iter().filter(|(_, counted)| counted.count > 0);
        some.map(|(what, counted)| (what, counted.names)).collect()
    }

    #[test]
    fn each_kind_of_change_is_counted_once() {
        let one = [("1.0.0", "a", false)];
        assert_eq!(changes(&one, &one), []);
        assert_eq!(changes(&[], &one), [("new crate", vec!["serde".to_owned()])]);
        assert_eq!(
            changes(&one, &[]),
            [
                ("removed crate", vec!["serde".to_owned()]),
                ("removed", vec!["serde 1.0.0".to_owned()])
            ]
        );
        let after = [("1.0.0", "b", true), ("1.0.1", "c", false)];
        let names = |vers: &str| vec![format!("serde {vers}")];
        assert_eq!(
            changes(&one, &after),
            [
                ("new", names("1.0.1")),
                ("yanked", names("1.0.0")),
                ("changed", names("1.0.0"))
            ]
        );
        assert_eq!(
            changes(&after, &[("1.0.0", "b", false)]),
            [("unyanked", names("1.0.0")), ("removed", names("1.0.1"))]
        );
    }

    #[test]
    fn names_end_after_a_thousand() {
        let mut counted = Counted::default();
        (0..1_500).for_each(|n| counted.add(|| n.to_string()));
        assert_eq!((counted.count, counted.names.len()), (1_500, 1_000));
    }
}
