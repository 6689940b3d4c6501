mod from_git;
mod lines;

use std::collections::{BTreeMap, BTreeSet};

use metadata_db::{DecisionKind, DecisionRow, UpstreamState};
use registry::{Checksum, Decision, Decisions, IndexFile, IndexLine, IndexPath, published_lines};

use crate::report::Report;
pub(crate) use from_git::merge_git;
use lines::{InForce, by_version, differences, in_force};

/// What upstream said about one index file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer<'a> {
    /// This body, whose every line was read, and the validators that came with it.
    Lines {
        bytes: &'a [u8],
        etag: Option<&'a str>,
        last_modified: Option<&'a str>,
    },
    /// Upstream has no such crate.
    Absent,
}

/// All that decides what becomes of an answer.
pub(crate) struct Merge<'a> {
    pub(crate) path: &'a IndexPath,
    /// What is published now; empty if nothing is.
    pub(crate) published: &'a [u8],
    pub(crate) answer: Answer<'a>,
    pub(crate) state: Option<&'a UpstreamState>,
    pub(crate) decisions: &'a [DecisionRow],
    pub(crate) now_unix: i64,
    /// How long a version must be missing before it counts as removed, in seconds.
    pub(crate) grace_secs: i64,
    /// Whether upstream's `config.json` can be read now. While it cannot, nothing goes missing.
    pub(crate) config_readable: bool,
    /// Whether one more whole crate may be removed within this hour.
    pub(crate) may_remove_crate: bool,
    /// Whether removals that are held need be held no longer.
    pub(crate) releases_held: bool,
    /// Whether the crate file of this checksum was kept or served here.
    pub(crate) kept_or_served: &'a dyn Fn(&Checksum) -> bool,
}

/// What becomes of it.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    /// What is published from now on; empty means that the file leaves the tree.
    pub(crate) published: Vec<u8>,
    /// What is to be remembered of upstream; `None` means nothing.
    pub(crate) state: Option<UpstreamState>,
    pub(crate) put: Vec<DecisionRow>,
    /// Versions whose decisions are void.
    pub(crate) delete: Vec<String>,
    pub(crate) reports: Vec<Report>,
    /// Lines that differ from before in anything but the checksum, and pass.
    pub(crate) changed_lines: usize,
    /// Some version is missing: whether `config.json` can be read matters.
    pub(crate) lacks_some: bool,
}

struct Working<'a> {
    input: &'a Merge<'a>,
    rows: BTreeMap<&'a str, &'a DecisionRow>,
    keep: BTreeMap<String, Vec<u8>>,
    missing: BTreeMap<String, i64>,
    /// Versions that upstream lists and that stay removed.
    omit: BTreeSet<String>,
    gone: Vec<(&'a str, InForce<'a>)>,
    outcome: Outcome,
}

/// What is published once upstream has answered: a pure function, and one that changes nothing when it is given
/// the same answer again.
pub(crate) fn merge(input: &Merge<'_>) -> Outcome {
    let upstream = match input.answer {
        Answer::Lines { bytes, .. } => bytes,
        Answer::Absent => b"",
    };
    let ours = IndexFile::parse_readable(input.published, input.path);
    let theirs = IndexFile::parse_readable(upstream, input.path);
    let theirs: BTreeMap<&str, &IndexLine<'_>> = by_version(&theirs);
    let mut working = Working::new(input);
    for (vers, line) in in_force(&ours, &working.rows) {
        match theirs.get(vers) {
            Some(new) => working.listed(vers, &line, new),
            None => working.lacking(vers, line),
        }
    }
    for (vers, row) in working.rows.clone() {
        if let (DecisionKind::Removed, Some(new)) = (&row.kind, theirs.get(vers)) {
            working.returned(row, new);
        }
    }
    working.remove_gone(theirs.is_empty());
    working.finish(&ours)
}

impl<'a> Working<'a> {
    fn new(input: &'a Merge<'a>) -> Self {
        Self {
            input,
            rows: input.decisions.iter().map(|row| (row.vers.as_str(), row)).collect(),
            keep: BTreeMap::new(),
            missing: BTreeMap::new(),
            omit: BTreeSet::new(),
            gone: Vec::new(),
            outcome: Outcome {
                published: Vec::new(),
                state: None,
                put: Vec::new(),
                delete: Vec::new(),
                reports: Vec::new(),
                changed_lines: 0,
                lacks_some: false,
            },
        }
    }

    /// A version that is in force here and in upstream's answer.
    fn listed(&mut self, vers: &str, line: &InForce<'_>, new: &IndexLine<'_>) {
        match self.rows.get(vers).copied() {
            Some(row) => match row.kind {
                DecisionKind::Kept => self.keep(vers, line.raw),
                DecisionKind::HeldChecksum => self.held_before(row, line, new),
                DecisionKind::HeldRemoval => {
                    self.outcome.delete.push(vers.to_owned());
                    self.compare(vers, line, new);
                }
                DecisionKind::Accepted => {
                    self.outcome.delete.push(vers.to_owned());
                    // A third checksum is not the one that was accepted.
                    if row.new_checksum.is_some_and(|accepted| accepted != new.checksum) {
                        self.compare(vers, line, new);
                    }
                }
                DecisionKind::Removed => {}
            },
            None => self.compare(vers, line, new),
        }
    }

    fn compare(&mut self, vers: &str, line: &InForce<'_>, new: &IndexLine<'_>) {
        if line.checksum == new.checksum {
            self.outcome.changed_lines += usize::from(line.raw != new.raw);
            return;
        }
        let (vers, old) = (vers.to_owned(), line.checksum);
        if !(self.input.kept_or_served)(&old) {
            let new = new.checksum;
            self.outcome.reports.push(Report::ChecksumTaken { vers, old, new });
            return;
        }
        self.hold_checksum(&vers, line, new);
    }

    fn held_before(&mut self, row: &DecisionRow, line: &InForce<'_>, new: &IndexLine<'_>) {
        let vers = row.vers.clone();
        if line.checksum == new.checksum {
            self.outcome.delete.push(vers.clone());
            self.outcome.reports.push(Report::ChecksumBack { vers });
        } else if row.new_checksum == Some(new.checksum) {
            self.keep(&vers, line.raw);
        } else {
            self.hold_checksum(&vers, line, new);
        }
    }

    fn hold_checksum(&mut self, vers: &str, line: &InForce<'_>, new: &IndexLine<'_>) {
        self.keep(vers, line.raw);
        self.outcome.put.push(DecisionRow {
            held_line: Some(new.raw.to_vec()),
            new_checksum: Some(new.checksum),
            ..self.row(vers, DecisionKind::HeldChecksum, line, false)
        });
        self.outcome.reports.push(Report::ChecksumHeld {
            vers: vers.to_owned(),
            old: line.checksum,
            new: new.checksum,
        });
    }

    /// A version that is in force here and that upstream's answer lacks.
    fn lacking(&mut self, vers: &'a str, line: InForce<'a>) {
        match self.rows.get(vers).map(|row| (row.kind, row.new_checksum)) {
            Some((DecisionKind::Kept | DecisionKind::HeldRemoval, _)) => self.keep(vers, line.raw),
            Some((DecisionKind::Accepted, None)) => self.gone.push((vers, line)),
            // What was accepted was another checksum, and not that it goes.
            Some((DecisionKind::Accepted, Some(_)) | (DecisionKind::HeldChecksum | DecisionKind::Removed, _))
            | None => {
                self.missing(vers, line);
            }
        }
    }

    fn missing(&mut self, vers: &'a str, line: InForce<'a>) {
        self.outcome.lacks_some = true;
        let first = self.input.state.and_then(|state| state.missing.get(vers)).copied();
        match first {
            Some(first) if self.input.config_readable && self.input.now_unix - first >= self.input.grace_secs => {
                self.gone.push((vers, line));
                return;
            }
            Some(first) => {
                self.missing.insert(vers.to_owned(), first);
            }
            None if self.input.config_readable => {
                self.missing.insert(vers.to_owned(), self.input.now_unix);
                self.outcome.reports.push(Report::Missing { vers: vers.to_owned() });
            }
            None => {}
        }
        self.keep(vers, line.raw);
    }

    fn returned(&mut self, row: &DecisionRow, new: &IndexLine<'_>) {
        self.outcome.delete.push(row.vers.clone());
        self.outcome.reports.push(Report::Returned {
            vers: row.vers.clone(),
            old: row.checksum,
            new: new.checksum,
        });
    }

    /// Removes what was missing for long enough, unless that would be one whole crate too many.
    fn remove_gone(&mut self, upstream_is_empty: bool) {
        let gone = std::mem::take(&mut self.gone);
        let whole_crate = upstream_is_empty && self.keep.is_empty() && !gone.is_empty();
        let accepted = |vers: &str| {
            self.rows
                .get(vers)
                .is_some_and(|row| row.kind == DecisionKind::Accepted)
        };
        let hold = whole_crate && !self.input.may_remove_crate && !gone.iter().all(|(vers, _)| accepted(vers));
        if hold {
            self.outcome.reports.push(Report::RemovalHeld { versions: gone.len() });
        }
        for (vers, line) in gone {
            if hold {
                self.keep(vers, line.raw);
                self.outcome
                    .put
                    .push(self.row(vers, DecisionKind::HeldRemoval, &line, true));
            } else {
                self.outcome
                    .put
                    .push(self.row(vers, DecisionKind::Removed, &line, whole_crate));
                self.outcome.reports.push(Report::Removed { vers: vers.to_owned() });
            }
        }
    }

    fn finish(mut self, ours: &IndexFile<'_>) -> Outcome {
        let path = self.input.path;
        self.outcome.published = match self.input.answer {
            Answer::Lines { bytes, .. } => {
                let kept = self.keep.into_iter().map(|(vers, raw)| (vers, Decision::Keep(raw)));
                let omitted = self.omit.into_iter().map(|vers| (vers, Decision::Omit));
                let decisions: Decisions = kept.chain(omitted).collect();
                published_lines(bytes, path, &decisions)
            }
            // What stays of a crate that upstream lacks stays as and where it is.
            Answer::Absent => published_lines(self.input.published, path, &differences(ours, self.keep)),
        };
        let absent_since = self.input.state.and_then(|state| state.absent_since);
        self.outcome.state = match self.input.answer {
            Answer::Lines {
                bytes,
                etag,
                last_modified,
            } => Some(UpstreamState {
                digest: *Checksum::of(bytes).as_bytes(),
                etag: etag.map(str::to_owned),
                last_modified: last_modified.map(str::to_owned),
                missing: self.missing,
                absent_since: None,
            }),
            Answer::Absent if self.outcome.published.is_empty() => None,
            Answer::Absent => Some(UpstreamState {
                digest: [0; 32],
                etag: None,
                last_modified: None,
                missing: self.missing,
                absent_since: Some(absent_since.unwrap_or(self.input.now_unix)),
            }),
        };
        self.outcome
    }

    fn keep(&mut self, vers: &str, raw: &[u8]) {
        self.keep.insert(vers.to_owned(), raw.to_vec());
    }

    fn row(&self, vers: &str, kind: DecisionKind, line: &InForce<'_>, whole_crate: bool) -> DecisionRow {
        DecisionRow {
            vers: vers.to_owned(),
            kind,
            whole_crate,
            line: line.raw.to_vec(),
            held_line: None,
            checksum: line.checksum,
            new_checksum: None,
            decided_at: self.input.now_unix,
        }
    }
}

#[cfg(test)]
mod tests;
