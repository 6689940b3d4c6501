use std::collections::{BTreeMap, BTreeSet};

use metadata_db::{DecisionKind, DecisionRow};
use registry::{Checksum, Decision, Decisions, IndexFile, IndexLine};

/// The line in force of one version.
pub(super) struct InForce<'a> {
    pub(super) raw: &'a [u8],
    pub(super) checksum: Checksum,
}

pub(super) fn by_version<'a>(file: &'a IndexFile<'a>) -> BTreeMap<&'a str, &'a IndexLine<'a>> {
    file.lines().iter().map(|line| (line.vers.as_ref(), line)).collect()
}

/// The published lines, with what was decided but perhaps not published before the last stop.
pub(super) fn in_force<'a>(
    ours: &'a IndexFile<'a>,
    rows: &BTreeMap<&'a str, &'a DecisionRow>,
) -> BTreeMap<&'a str, InForce<'a>> {
    let mut lines: BTreeMap<&str, InForce<'_>> = by_version(ours)
        .into_iter()
        .map(|(vers, line)| {
            (
                vers,
                InForce {
                    raw: line.raw,
                    checksum: line.checksum,
                },
            )
        })
        .collect();
    for (vers, row) in rows {
        match row.kind {
            DecisionKind::Removed => {
                lines.remove(vers);
            }
            DecisionKind::Kept | DecisionKind::HeldChecksum | DecisionKind::HeldRemoval => {
                lines.insert(
                    vers,
                    InForce {
                        raw: &row.line,
                        checksum: row.checksum,
                    },
                );
            }
            DecisionKind::Accepted => {}
        }
    }
    lines
}

/// What has to change in the published file so that exactly the kept lines are in it.
pub(super) fn differences(ours: &IndexFile<'_>, mut keep: BTreeMap<String, Vec<u8>>) -> Decisions {
    let published: BTreeSet<&str> = ours.lines().iter().map(|line| line.vers.as_ref()).collect();
    let mut decisions = Decisions::new();
    for vers in published {
        match keep.remove(vers) {
            None => {
                decisions.insert(vers.to_owned(), Decision::Omit);
            }
            Some(raw) if ours.find(vers).is_some_and(|line| line.raw != raw) => {
                decisions.insert(vers.to_owned(), Decision::Keep(raw));
            }
            Some(_) => {}
        }
    }
    decisions.extend(keep.into_iter().map(|(vers, raw)| (vers, Decision::Keep(raw))));
    decisions
}
