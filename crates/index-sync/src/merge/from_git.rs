use registry::{IndexFile, IndexLine};

use super::lines::{InForce, by_version, in_force};
use super::{Answer, DecisionKind, Merge, Outcome, Working};

/// The same for a file of upstream's git repository, whose copy before this round was `old` (`None`: there was no such file, or
/// no round before).
///
/// Where the two copies agree about a version, git has nothing to say about it: what is published came from a source that
/// changed its mind later. A version is gone if git had it and has it no more, and for no other reason. The outcome's state means
/// nothing.
pub(crate) fn merge_git(input: &Merge<'_>, old: Option<&[u8]>) -> Outcome {
    let new = match input.answer {
        Answer::Lines { bytes, .. } => bytes,
        Answer::Absent => b"",
    };
    let ours = IndexFile::parse_readable(input.published, input.path);
    let old = old.unwrap_or_default();
    // Mostly what is published is git's last copy: it is read once then.
    let old = (old != input.published).then(|| IndexFile::parse_readable(old, input.path));
    let new = IndexFile::parse_readable(new, input.path);
    let (old, new) = (by_version(old.as_ref().unwrap_or(&ours)), by_version(&new));
    let mut working = Working::new(input);
    let in_force = in_force(&ours, &working.rows);
    for (vers, line) in in_force {
        match (old.get(vers), new.get(vers)) {
            (Some(before), Some(now)) if before.raw == now.raw => working.unchanged(vers, &line, now),
            (_, Some(now)) => working.listed(vers, &line, now),
            (Some(_), None) => working.removed_from_git(vers, line),
            (None, None) => working.elsewhere(vers, line),
        }
    }
    for (vers, row) in working.rows.clone() {
        match (old.get(vers), new.get(vers)) {
            _ if row.kind != DecisionKind::Removed => {}
            (Some(before), Some(now)) if before.raw == now.raw => {
                working.omit.insert(vers.to_owned());
            }
            (_, Some(now)) => working.returned(row, now),
            (_, None) => {}
        }
    }
    working.remove_gone(new.is_empty());
    working.finish(&ours)
}

impl<'a> Working<'a> {
    /// Git says of this version what it said before.
    fn unchanged(&mut self, vers: &str, line: &InForce<'_>, now: &IndexLine<'_>) {
        match self.rows.get(vers).map(|row| &row.kind) {
            Some(DecisionKind::Accepted) => self.listed(vers, line, now),
            _ if line.raw != now.raw => self.keep(vers, line.raw),
            _ => {}
        }
    }

    fn removed_from_git(&mut self, vers: &'a str, line: InForce<'a>) {
        match self.rows.get(vers).map(|row| &row.kind) {
            Some(DecisionKind::Kept | DecisionKind::HeldRemoval) => self.keep(vers, line.raw),
            _ => self.gone.push((vers, line)),
        }
    }

    /// A version that git does not have and did not have in its copy before.
    fn elsewhere(&mut self, vers: &'a str, line: InForce<'a>) {
        let is_over = self.rows.get(vers).is_some_and(|row| match row.kind {
            // What was accepted may be another checksum, of which git knows nothing.
            DecisionKind::Accepted => row.new_checksum.is_none(),
            DecisionKind::HeldRemoval => self.input.releases_held,
            _ => false,
        });
        if is_over {
            self.gone.push((vers, line));
        } else {
            self.keep(vers, line.raw);
        }
    }
}

#[cfg(test)]
mod tests;
