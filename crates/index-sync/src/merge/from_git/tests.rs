use std::collections::BTreeMap;

use metadata_db::DecisionRow;
use proptest::prelude::*;
use registry::{Checksum, IndexPath};

use super::*;
use crate::report::Report;

fn path() -> IndexPath {
    "1/a".parse().unwrap()
}

fn checksum(bytes: &str) -> Checksum {
    Checksum::of(bytes.as_bytes())
}

/// A line of crate `a`; `bytes` stands for the crate file's content, with a `!` at its end for a yanked one.
fn line(vers: &str, bytes: &str) -> String {
    let cksum = checksum(bytes.trim_end_matches('!'));
    let yanked = bytes.ends_with('!');
    format!(r#"{{"name":"a","vers":"{vers}","deps":[],"cksum":"{cksum}","features":{{}},"yanked":{yanked}}}"#)
}

type Lines<'a> = &'a [(&'a str, &'a str)];

fn file(lines: Lines<'_>) -> Vec<u8> {
    let lines = lines.iter().map(|(vers, bytes)| line(vers, bytes) + "\n");
    lines.collect::<String>().into_bytes()
}

/// One crate, through several rounds.
#[derive(Default)]
struct Mirror {
    published: Vec<u8>,
    git: Option<Vec<u8>>,
    decisions: BTreeMap<String, DecisionRow>,
    kept: Vec<Checksum>,
    hold_removals: bool,
    release_held: bool,
}

impl Mirror {
    fn of(published: Lines<'_>, git: Lines<'_>) -> Self {
        Self {
            published: file(published),
            git: Some(file(git)),
            ..Self::default()
        }
    }

    /// Git has this file now; and after a crash the same round comes again, which must change nothing.
    fn round(&mut self, new: Option<&[u8]>) -> Vec<Report> {
        let reports = self.once(new);
        let (published, decisions) = (self.published.clone(), self.decisions.clone());
        self.once(new);
        assert_eq!(text(&self.published), text(&published));
        assert_eq!(self.decisions, decisions);
        self.git = new.map(<[u8]>::to_vec);
        reports
    }

    fn once(&mut self, new: Option<&[u8]>) -> Vec<Report> {
        let rows: Vec<DecisionRow> = self.decisions.values().cloned().collect();
        let path = path();
        let input = Merge {
            path: &path,
            published: &self.published,
            answer: new.map_or(Answer::Absent, |bytes| Answer::Lines {
                bytes,
                etag: None,
                last_modified: None,
            }),
            state: None,
            decisions: &rows,
            now_unix: 1000,
            grace_secs: 0,
            config_readable: true,
            may_remove_crate: !self.hold_removals,
            releases_held: self.release_held,
            kept_or_served: &|checksum| self.kept.contains(checksum),
        };
        let outcome = merge_git(&input, self.git.as_deref());
        for vers in &outcome.delete {
            self.decisions.remove(vers);
        }
        for row in outcome.put {
            self.decisions.insert(row.vers.clone(), row);
        }
        self.published = outcome.published;
        outcome.reports
    }

    fn decide(&mut self, vers: &str, kind: DecisionKind, bytes: &str) {
        let row = DecisionRow {
            vers: vers.to_owned(),
            kind,
            whole_crate: false,
            line: line(vers, bytes).into_bytes(),
            held_line: None,
            checksum: checksum(bytes),
            new_checksum: None,
            decided_at: 1,
        };
        self.decisions.insert(vers.to_owned(), row);
    }

    fn kinds(&self) -> Vec<(&str, DecisionKind)> {
        self.decisions
            .iter()
            .map(|(vers, row)| (vers.as_str(), row.kind))
            .collect()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn what_came_by_git_alone_is_published_byte_for_byte() {
    let odd = format!("{}\r\n\nnonsense\n{}", line("1.0.0", "x"), line("1.0.1", "y"));
    let mut mirror = Mirror::default();
    assert_eq!(mirror.round(Some(odd.as_bytes())), []);
    assert_eq!(text(&mirror.published), odd);
    let more = format!("{odd}\n{}\n", line("2.0.0", "z!"));
    mirror.round(Some(more.as_bytes()));
    assert_eq!(text(&mirror.published), more);
}

#[test]
fn whoever_changed_a_line_last_wins() {
    // Sparse was first with the yank and with 3.0.0.
    let mut mirror = Mirror::of(
        &[("1.0.0", "x!"), ("2.0.0", "y"), ("3.0.0", "z")],
        &[("1.0.0", "x"), ("2.0.0", "y")],
    );
    mirror.round(Some(&file(&[("1.0.0", "x"), ("2.0.0", "y!")])));
    assert_eq!(
        mirror.published,
        file(&[("1.0.0", "x!"), ("2.0.0", "y!"), ("3.0.0", "z")])
    );
    mirror.round(Some(&file(&[("1.0.0", "x!"), ("2.0.0", "y"), ("3.0.0", "z!")])));
    assert_eq!(
        mirror.published,
        file(&[("1.0.0", "x!"), ("2.0.0", "y"), ("3.0.0", "z!")])
    );
    assert_eq!(mirror.kinds(), []);
}

#[test]
fn gone_is_what_git_had_and_has_no_more() {
    let mut mirror = Mirror::of(
        &[("1.0.0", "x"), ("2.0.0", "y"), ("3.0.0", "z")],
        &[("1.0.0", "x"), ("2.0.0", "y")],
    );
    let reports = mirror.round(Some(&file(&[("1.0.0", "x")])));
    assert_eq!(
        reports,
        [Report::Removed {
            vers: "2.0.0".to_owned()
        }]
    );
    assert_eq!(mirror.published, file(&[("1.0.0", "x"), ("3.0.0", "z")]));
    mirror.round(None);
    assert_eq!(mirror.published, file(&[("3.0.0", "z")]), "what git never had stays");
    let reports = mirror.round(Some(&file(&[("2.0.0", "other")])));
    assert!(
        matches!(&reports[..], [Report::Returned { vers, .. }] if vers == "2.0.0"),
        "{reports:?}"
    );
    assert_eq!(mirror.published, file(&[("2.0.0", "other"), ("3.0.0", "z")]));
    assert_eq!(mirror.kinds(), [("1.0.0", DecisionKind::Removed)]);
}

#[test]
fn too_many_crates_at_once_are_held_until_they_are_back() {
    let lines: Lines<'_> = &[("1.0.0", "x"), ("2.0.0", "y")];
    let mut mirror = Mirror::of(lines, lines);
    mirror.hold_removals = true;
    assert_eq!(mirror.round(None), [Report::RemovalHeld { versions: 2 }]);
    assert_eq!(mirror.published, file(lines));
    assert_eq!(
        mirror.kinds(),
        [
            ("1.0.0", DecisionKind::HeldRemoval),
            ("2.0.0", DecisionKind::HeldRemoval)
        ]
    );
    mirror.round(Some(&file(lines)));
    assert_eq!((mirror.published.clone(), mirror.kinds()), (file(lines), vec![]));
    // A version of a crate that stays is another matter.
    mirror.round(Some(&file(&[("2.0.0", "y")])));
    assert_eq!(mirror.published, file(&[("2.0.0", "y")]));
}

#[test]
fn what_is_held_goes_when_that_is_over() {
    let lines: Lines<'_> = &[("1.0.0", "x"), ("2.0.0", "y")];
    let mut mirror = Mirror::of(lines, lines);
    mirror.hold_removals = true;
    mirror.round(None);
    mirror.round(None);
    assert_eq!(
        mirror.published,
        file(lines),
        "git says the same, and the hold is not over"
    );
    mirror.decide("1.0.0", DecisionKind::Accepted, "x");
    mirror.round(None);
    assert_eq!(mirror.published, file(&[("2.0.0", "y")]));
    (mirror.hold_removals, mirror.release_held) = (false, true);
    mirror.round(None);
    assert_eq!(mirror.published, b"");
    assert!(mirror.kinds().iter().all(|(_, kind)| *kind == DecisionKind::Removed));
}

#[test]
fn an_accepted_checksum_of_another_source_is_no_removal() {
    let lines: Lines<'_> = &[("1.0.0", "x")];
    let mut mirror = Mirror::of(lines, &[]);
    mirror.decide("1.0.0", DecisionKind::Accepted, "x");
    mirror.decisions.get_mut("1.0.0").unwrap().new_checksum = Some(checksum("other"));
    mirror.round(Some(&file(&[])));
    assert_eq!(mirror.published, file(lines));
}

#[test]
fn a_checksum_that_changed_is_held_if_the_file_was_kept() {
    let lines: Lines<'_> = &[("1.0.0", "x"), ("2.0.0", "y")];
    let mut mirror = Mirror::of(lines, lines);
    mirror.kept.push(checksum("x"));
    let reports = mirror.round(Some(&file(&[("1.0.0", "other"), ("2.0.0", "other")])));
    assert!(
        matches!(
            &reports[..],
            [Report::ChecksumHeld { .. }, Report::ChecksumTaken { .. }]
        ),
        "{reports:?}"
    );
    let held = file(&[("1.0.0", "x"), ("2.0.0", "other")]);
    assert_eq!(mirror.published, held);
    // It stays held while git says the same, and yields when git takes it back.
    mirror.round(Some(&file(&[("1.0.0", "other"), ("2.0.0", "other"), ("3.0.0", "z")])));
    assert_eq!(mirror.published, [held, file(&[("3.0.0", "z")])].concat());
    mirror.round(Some(&file(&[("1.0.0", "x!")])));
    assert_eq!(mirror.kinds().first(), Some(&("2.0.0", DecisionKind::Removed)));
    assert_eq!(mirror.published, file(&[("1.0.0", "x!")]));
}

#[test]
fn the_operator_has_the_last_word() {
    let lines: Lines<'_> = &[("1.0.0", "x"), ("2.0.0", "y")];
    let mut mirror = Mirror::of(&[("2.0.0", "y")], lines);
    // Removed by what sparse said; git has it still, which is no news.
    mirror.decide("1.0.0", DecisionKind::Removed, "x");
    mirror.decide("2.0.0", DecisionKind::Kept, "y");
    mirror.round(Some(&file(&[("1.0.0", "x"), ("2.0.0", "y!"), ("3.0.0", "z")])));
    assert_eq!(mirror.published, file(&[("2.0.0", "y"), ("3.0.0", "z")]));
    mirror.round(None);
    assert_eq!(mirror.published, file(&[("2.0.0", "y")]));
    mirror.decide("2.0.0", DecisionKind::Accepted, "y");
    mirror.round(None);
    assert_eq!(mirror.published, b"");
    assert!(mirror.kinds().contains(&("2.0.0", DecisionKind::Removed)));
}

fn some_lines() -> impl Strategy<Value = Vec<(u8, u8, bool)>> {
    proptest::collection::vec((0..4u8, 0..2u8, any::<bool>()), 0..5)
}

fn text_of(lines: &[(u8, u8, bool)]) -> String {
    let one = |(vers, bytes, yanked): &(u8, u8, bool)| {
        let bytes = format!("{bytes}{}", if *yanked { "!" } else { "" });
        line(&format!("{vers}.0.0"), &bytes) + "\n"
    };
    let unique: BTreeMap<u8, _> = lines.iter().map(|line| (line.0, *line)).collect();
    unique.values().map(one).collect()
}

proptest! {
    /// Without another source and without anything kept, what is published is git's file, however it came about.
    #[test]
    fn git_alone_is_followed_to_the_letter(rounds in proptest::collection::vec(some_lines(), 1..8)) {
        let mut mirror = Mirror::default();
        for lines in rounds {
            let new = text_of(&lines);
            mirror.round((!new.is_empty()).then_some(new.as_bytes()));
            prop_assert_eq!(text(&mirror.published), new);
        }
    }

    /// Nothing vanishes that git did not have.
    #[test]
    fn versions_of_other_sources_stay(ours in some_lines(), old in some_lines(), new in some_lines()) {
        let (ours, old, new) = (text_of(&ours), text_of(&old), text_of(&new));
        let mut mirror = Mirror { published: ours.clone().into_bytes(), git: Some(old.clone().into_bytes()), ..Mirror::default() };
        mirror.once((!new.is_empty()).then_some(new.as_bytes()));
        let path = path();
        let versions = |text: &str| -> Vec<String> {
            let file = IndexFile::parse_readable(text.as_bytes(), &path);
            file.lines().iter().map(|line| line.vers.clone().into_owned()).collect()
        };
        let published = versions(text(&mirror.published));
        let (old, new) = (versions(&old), versions(&new));
        for vers in versions(&ours) {
            prop_assert_eq!(published.contains(&vers), !old.contains(&vers) || new.contains(&vers));
        }
    }
}
