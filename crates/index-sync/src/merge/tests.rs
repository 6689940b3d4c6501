use proptest::prelude::*;

use super::*;

const GRACE: i64 = 900;

fn path() -> IndexPath {
    "1/a".parse().unwrap()
}

fn checksum(bytes: &str) -> Checksum {
    Checksum::of(bytes.as_bytes())
}

/// A line of crate `a`; `bytes` stands for the crate file's content.
fn line(vers: &str, bytes: &str) -> String {
    format!(
        r#"{{"name":"a","vers":"{vers}","deps":[],"cksum":"{}","features":{{}},"yanked":false}}"#,
        checksum(bytes)
    )
}

fn file(lines: &[(&str, &str)]) -> Vec<u8> {
    lines
        .iter()
        .flat_map(|(vers, bytes)| (line(vers, bytes) + "\n").into_bytes())
        .collect()
}

/// A mirror of one crate: what is published, remembered and decided, through several answers.
struct Mirror {
    published: Vec<u8>,
    state: Option<UpstreamState>,
    decisions: BTreeMap<String, DecisionRow>,
    now: i64,
    config_readable: bool,
    may_remove_crate: bool,
    kept: Vec<Checksum>,
}

impl Mirror {
    fn of(lines: &[(&str, &str)]) -> Self {
        let mut mirror = Self {
            published: Vec::new(),
            state: None,
            decisions: BTreeMap::new(),
            now: 1000,
            config_readable: true,
            may_remove_crate: true,
            kept: Vec::new(),
        };
        assert_eq!(mirror.hear(Some(&file(lines))), []);
        assert_eq!(mirror.published, file(lines));
        mirror
    }

    /// What upstream says now; and again, which must change nothing.
    fn hear(&mut self, answer: Option<&[u8]>) -> Vec<Report> {
        let outcome = self.outcome(answer);
        self.apply(&outcome);
        let again = self.outcome(answer);
        assert_eq!(again.published, outcome.published);
        assert_eq!(again.state, outcome.state);
        assert_eq!((again.put, again.delete), (vec![], vec![]));
        assert_eq!(again.reports, []);
        outcome.reports
    }

    fn outcome(&self, answer: Option<&[u8]>) -> Outcome {
        let decisions: Vec<DecisionRow> = self.decisions.values().cloned().collect();
        merge(&Merge {
            path: &path(),
            published: &self.published,
            answer: match answer {
                Some(bytes) => Answer::Lines {
                    bytes,
                    etag: Some("\"e\""),
                    last_modified: None,
                },
                None => Answer::Absent,
            },
            state: self.state.as_ref(),
            decisions: &decisions,
            now_unix: self.now,
            grace_secs: GRACE,
            releases_held: false,
            config_readable: self.config_readable,
            may_remove_crate: self.may_remove_crate,
            kept_or_served: &|checksum| self.kept.contains(checksum),
        })
    }

    fn apply(&mut self, outcome: &Outcome) {
        self.published.clone_from(&outcome.published);
        self.state.clone_from(&outcome.state);
        for vers in &outcome.delete {
            self.decisions.remove(vers).expect("only what is there is deleted");
        }
        for row in &outcome.put {
            self.decisions.insert(row.vers.clone(), row.clone());
        }
    }

    fn versions(&self) -> Vec<String> {
        let file = IndexFile::parse_readable(&self.published, &path());
        file.lines().iter().map(|line| line.vers.clone().into_owned()).collect()
    }

    fn kinds(&self) -> Vec<(&str, &DecisionKind)> {
        self.decisions
            .iter()
            .map(|(vers, row)| (vers.as_str(), &row.kind))
            .collect()
    }

    fn missing(&self) -> Vec<&str> {
        let missing = self.state.iter().flat_map(|state| state.missing.keys());
        missing.map(String::as_str).collect()
    }
}

#[test]
fn without_decisions_the_body_passes_byte_for_byte() {
    let odd = format!("{}\r\n\n{}", line("1.0.0", "x"), line("not semver", "y"));
    let mut mirror = Mirror::of(&[("1.0.0", "x")]);
    assert_eq!(mirror.hear(Some(odd.as_bytes())), []);
    assert_eq!(mirror.published, odd.as_bytes());
    assert_eq!(mirror.state.unwrap().digest, *Checksum::of(odd.as_bytes()).as_bytes());
}

#[test]
fn a_yank_passes_and_is_counted() {
    let mirror = Mirror::of(&[("1.0.0", "x"), ("2.0.0", "y")]);
    let yanked = String::from_utf8(mirror.published.clone())
        .unwrap()
        .replacen("false", "true", 1);
    let outcome = mirror.outcome(Some(yanked.as_bytes()));
    assert_eq!(
        (outcome.changed_lines, outcome.reports, outcome.put),
        (1, vec![], vec![])
    );
    assert_eq!(outcome.published, yanked.as_bytes());
}

#[test]
fn a_version_is_removed_only_by_a_second_answer_after_the_grace() {
    let mut mirror = Mirror::of(&[("1.0.0", "x"), ("2.0.0", "y")]);
    let without = file(&[("2.0.0", "y")]);
    assert_eq!(mirror.hear(Some(&without)), [Report::Missing { vers: "1.0.0".into() }]);
    mirror.now += GRACE - 1;
    assert_eq!(mirror.hear(Some(&without)), []);
    assert_eq!(
        (mirror.versions(), mirror.missing()),
        (vec!["2.0.0".into(), "1.0.0".into()], vec!["1.0.0"])
    );
    mirror.now += 1;
    assert_eq!(mirror.hear(Some(&without)), [Report::Removed { vers: "1.0.0".into() }]);
    assert_eq!(mirror.published, without);
    assert_eq!(mirror.missing(), [""; 0]);
    let row = &mirror.decisions["1.0.0"];
    assert_eq!(
        (&row.kind, row.decided_at, row.checksum),
        (&DecisionKind::Removed, mirror.now, checksum("x"))
    );
    assert_eq!(row.line, line("1.0.0", "x").into_bytes());
}

#[test]
fn a_version_that_is_back_within_the_grace_was_never_missing() {
    let mut mirror = Mirror::of(&[("1.0.0", "x"), ("2.0.0", "y")]);
    mirror.hear(Some(&file(&[("2.0.0", "y")])));
    mirror.now += GRACE / 2;
    mirror.hear(Some(&file(&[("1.0.0", "x"), ("2.0.0", "y")])));
    assert_eq!(mirror.missing(), [""; 0]);
    mirror.now += GRACE / 2;
    let reports = mirror.hear(Some(&file(&[("2.0.0", "y")])));
    assert_eq!(
        reports,
        [Report::Missing { vers: "1.0.0".into() }],
        "the grace begins anew"
    );
}

#[test]
fn nothing_goes_missing_or_away_while_config_json_cannot_be_read() {
    let mut mirror = Mirror::of(&[("1.0.0", "x"), ("2.0.0", "y")]);
    let without = file(&[("2.0.0", "y")]);
    mirror.config_readable = false;
    assert_eq!(mirror.hear(Some(&without)), []);
    assert!(mirror.outcome(Some(&without)).lacks_some);
    assert_eq!(mirror.missing(), [""; 0]);
    mirror.config_readable = true;
    mirror.hear(Some(&without));
    mirror.now += GRACE;
    mirror.config_readable = false;
    assert_eq!(mirror.hear(Some(&without)), []);
    assert_eq!(mirror.missing(), ["1.0.0"], "the first time stays");
    mirror.config_readable = true;
    assert_eq!(mirror.hear(Some(&without)), [Report::Removed { vers: "1.0.0".into() }]);
}

#[test]
fn a_whole_crate_stays_as_it_is_and_then_leaves() {
    let lines = [("1.10.0", "x"), ("1.9.0", "y"), ("0.1.0", "z")];
    let mut mirror = Mirror::of(&lines);
    mirror.hear(None);
    assert_eq!(mirror.published, file(&lines));
    assert_eq!(mirror.state.as_ref().unwrap().absent_since, Some(1000));
    mirror.now += GRACE;
    assert_eq!(mirror.hear(None).len(), 3);
    assert_eq!((mirror.published.len(), &mirror.state), (0, &None));
    assert_eq!(mirror.decisions.len(), 3);
}

#[test]
fn one_crate_too_many_is_held_until_it_is_back_or_accepted() {
    let lines = [("1.0.0", "x"), ("2.0.0", "y")];
    let mut mirror = Mirror::of(&lines);
    mirror.hear(None);
    mirror.now += GRACE;
    mirror.may_remove_crate = false;
    assert_eq!(mirror.hear(None), [Report::RemovalHeld { versions: 2 }]);
    assert_eq!(mirror.published, file(&lines));
    mirror.may_remove_crate = true;
    assert_eq!(mirror.hear(None), [], "held stays held");
    assert_eq!(
        mirror.kinds(),
        [
            ("1.0.0", &DecisionKind::HeldRemoval),
            ("2.0.0", &DecisionKind::HeldRemoval)
        ]
    );

    let mut back = Mirror {
        decisions: mirror.decisions.clone(),
        ..Mirror::of(&lines)
    };
    assert_eq!(back.hear(Some(&file(&lines))), []);
    assert_eq!((back.kinds(), &back.published), (vec![], &file(&lines)));

    for row in mirror.decisions.values_mut() {
        row.kind = DecisionKind::Accepted;
    }
    mirror.may_remove_crate = false;
    assert_eq!(mirror.hear(None).len(), 2);
    assert!(mirror.published.is_empty());
    assert_eq!(
        mirror.kinds(),
        [("1.0.0", &DecisionKind::Removed), ("2.0.0", &DecisionKind::Removed)]
    );
}

#[test]
fn a_removed_version_that_is_back_is_taken_also_with_another_checksum() {
    for (bytes, old) in [("x", "x"), ("other", "x")] {
        let mut mirror = Mirror::of(&[("1.0.0", "x"), ("2.0.0", "y")]);
        mirror.kept = vec![checksum("x")];
        mirror.hear(Some(&file(&[("2.0.0", "y")])));
        mirror.now += GRACE;
        mirror.hear(Some(&file(&[("2.0.0", "y")])));
        let back = file(&[("1.0.0", bytes), ("2.0.0", "y")]);
        let vers = "1.0.0".to_owned();
        let (old, new) = (checksum(old), checksum(bytes));
        assert_eq!(mirror.hear(Some(&back)), [Report::Returned { vers, old, new }]);
        assert_eq!((mirror.kinds(), &mirror.published), (vec![], &back));
    }
}

#[test]
fn a_changed_checksum_is_held_if_the_old_file_was_kept_and_taken_if_not() {
    let changed = file(&[("1.0.0", "new")]);
    let (vers, old, new) = ("1.0.0".to_owned(), checksum("old"), checksum("new"));
    let mut mirror = Mirror::of(&[("1.0.0", "old")]);
    assert_eq!(
        mirror.hear(Some(&changed)),
        [Report::ChecksumTaken {
            vers: vers.clone(),
            old,
            new
        }]
    );
    assert_eq!(mirror.published, changed);

    let mut mirror = Mirror::of(&[("1.0.0", "old")]);
    mirror.kept = vec![old];
    assert_eq!(
        mirror.hear(Some(&changed)),
        [Report::ChecksumHeld {
            vers: vers.clone(),
            old,
            new
        }]
    );
    assert_eq!(mirror.published, file(&[("1.0.0", "old")]));
    let row = &mirror.decisions["1.0.0"];
    assert_eq!((row.checksum, row.new_checksum), (old, Some(new)));
    assert_eq!(row.held_line.as_deref(), Some(line("1.0.0", "new").as_bytes()));

    mirror.kept.clear();
    let third = checksum("third");
    let reports = mirror.hear(Some(&file(&[("1.0.0", "third"), ("1.1.0", "more")])));
    assert_eq!(
        reports,
        [Report::ChecksumHeld {
            vers: vers.clone(),
            old,
            new: third
        }],
        "held is held"
    );
    assert_eq!(mirror.published, file(&[("1.0.0", "old"), ("1.1.0", "more")]));

    assert_eq!(
        mirror.hear(Some(&file(&[("1.0.0", "old")]))),
        [Report::ChecksumBack { vers }, Report::Missing { vers: "1.1.0".into() }]
    );
    assert_eq!(mirror.kinds(), []);
}

#[test]
fn an_accepted_checksum_is_taken() {
    let mut mirror = Mirror::of(&[("1.0.0", "old")]);
    mirror.kept = vec![checksum("old")];
    let changed = file(&[("1.0.0", "new")]);
    mirror.hear(Some(&changed));
    mirror.decisions.get_mut("1.0.0").unwrap().kind = DecisionKind::Accepted;
    assert_eq!(mirror.hear(Some(&changed)), []);
    assert_eq!((mirror.kinds(), &mirror.published), (vec![], &changed));
}

#[test]
fn a_kept_version_keeps_its_line_whatever_upstream_says() {
    let mut mirror = Mirror::of(&[("1.0.0", "x"), ("2.0.0", "y")]);
    let without = file(&[("2.0.0", "y")]);
    mirror.hear(Some(&without));
    mirror.now += GRACE;
    mirror.hear(Some(&without));
    mirror.decisions.get_mut("1.0.0").unwrap().kind = DecisionKind::Kept;
    mirror.hear(Some(&without));
    assert_eq!(mirror.published, file(&[("2.0.0", "y"), ("1.0.0", "x")]));
    mirror.hear(Some(&file(&[("1.0.0", "other"), ("2.0.0", "y")])));
    assert_eq!(mirror.published, file(&[("1.0.0", "x"), ("2.0.0", "y")]));
    mirror.hear(None);
    mirror.now += GRACE;
    mirror.may_remove_crate = false;
    assert_eq!(
        mirror.hear(None),
        [Report::Removed { vers: "2.0.0".into() }],
        "the crate itself stays"
    );
    assert_eq!(mirror.published, file(&[("1.0.0", "x")]));
}

#[test]
fn what_was_decided_but_not_committed_before_a_crash_is_published_by_the_next_answer() {
    let lines = [("1.0.0", "x"), ("2.0.0", "y")];
    let without = file(&[("2.0.0", "y")]);
    let mut mirror = Mirror::of(&lines);
    mirror.hear(Some(&without));
    mirror.now += GRACE;
    let decided = mirror.outcome(Some(&without));
    for row in decided.put {
        mirror.decisions.insert(row.vers.clone(), row);
    }
    assert_eq!(mirror.hear(Some(&without)), []);
    assert_eq!(mirror.published, without);
}

#[derive(Debug, Clone)]
enum Event {
    Lines(Vec<(u8, u8)>),
    Absent,
    Wait(i64),
    Config(bool),
    Budget(bool),
    Keep(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => proptest::collection::vec((0u8..4, 0u8..3), 1..5).prop_map(Event::Lines),
        2 => Just(Event::Absent),
        2 => (0..2 * GRACE).prop_map(Event::Wait),
        1 => any::<bool>().prop_map(Event::Config),
        1 => any::<bool>().prop_map(Event::Budget),
        1 => (0u8..3).prop_map(Event::Keep),
    ]
}

proptest! {
    /// `hear` also checks at each step that the same answer again changes nothing.
    #[test]
    fn whatever_upstream_says_lines_stay_readable_and_no_version_goes_before_its_time(
        events in proptest::collection::vec(event(), 1..40)
    ) {
        let mut mirror = Mirror::of(&[("1.0.0", "0")]);
        let mut lacking: BTreeMap<String, i64> = BTreeMap::new();
        for event in events {
            let body = match event {
                Event::Wait(seconds) => { mirror.now += seconds; continue }
                Event::Config(readable) => { mirror.config_readable = readable; continue }
                Event::Budget(left) => { mirror.may_remove_crate = left; continue }
                Event::Keep(bytes) => { mirror.kept.push(checksum(&bytes.to_string())); continue }
                Event::Absent => None,
                Event::Lines(lines) => {
                    let lines: BTreeMap<u8, u8> = lines.into_iter().collect();
                    let text = lines.iter().map(|(vers, bytes)| line(&format!("{vers}.0.0"), &bytes.to_string()) + "\n");
                    Some(text.collect::<String>().into_bytes())
                }
            };
            let listed = IndexFile::parse_readable(body.as_deref().unwrap_or_default(), &path());
            let before = mirror.versions();
            for vers in &before {
                match listed.find(vers) {
                    Some(_) => { lacking.remove(vers); }
                    None => { lacking.entry(vers.clone()).or_insert(mirror.now); }
                }
            }
            mirror.hear(body.as_deref());
            let after = mirror.versions();
            for vers in before.iter().filter(|vers| !after.contains(vers)) {
                let since = lacking.remove(vers);
                prop_assert!(since.is_some_and(|since| mirror.now - since >= GRACE), "{} went too early", vers);
                prop_assert_eq!(&mirror.decisions[vers].kind, &DecisionKind::Removed);
                prop_assert!(mirror.config_readable);
            }
            for line in listed.lines() {
                prop_assert!(after.iter().any(|vers| *vers == line.vers), "a listed version is not published");
            }
            if !mirror.published.is_empty() {
                prop_assert!(IndexFile::parse(&mirror.published, &path()).is_ok());
            }
            if mirror.decisions.is_empty() && mirror.missing().is_empty() && body.is_some() && mirror.config_readable {
                prop_assert_eq!(Some(&mirror.published), body.as_ref());
            }
        }
    }
}
