//! What there is to do, said before it is done.

use selection::{Problem, Selected};

use super::basis::Basis;
use crate::control::Reply;
use crate::selected::{Found, Whereabouts};

/// What was found of what was named.
#[derive(Debug)]
pub struct Plan {
    /// With their checksums.
    kept: Vec<Selected>,
    kept_bytes: u64,
    wanted: Vec<Selected>,
    /// What cannot be had, one line each.
    missing: Vec<String>,
}

impl Plan {
    /// Sorts what was found.
    pub fn of(found: Vec<Found>, problems: Vec<Problem>) -> Self {
        let mut plan = Self {
            kept: Vec::new(),
            kept_bytes: 0,
            wanted: Vec::new(),
            missing: problems.iter().map(ToString::to_string).collect(),
        };
        for Found {
            mut selected,
            whereabouts,
        } in found
        {
            match whereabouts {
                Whereabouts::Kept { checksum, size_bytes } => {
                    selected.checksum = Some(checksum);
                    plan.kept.push(selected);
                    plan.kept_bytes += size_bytes;
                }
                Whereabouts::NotKept { checksum } => {
                    selected.checksum = Some(checksum);
                    plan.wanted.push(selected);
                }
                other => plan.missing.push(format!("{selected}: {other}")),
            }
        }
        plan
    }

    /// How large all of it may be, what is kept and what is to be fetched.
    pub fn bytes(&self, basis: Basis) -> Option<u64> {
        let wanted = basis.bytes(self.wanted.len() as u64)?;
        Some(self.kept_bytes.saturating_add(wanted))
    }

    /// What is about to be done.
    pub fn announcement(&self, basis: Basis, warning: Option<String>) -> String {
        let fetched = basis.to_fetch(self.wanted.len() as u64);
        let all = self.kept.len() + self.wanted.len() + self.missing.len();
        let mut text = format!(
            "{all} crate files: {} kept ({}), {fetched}",
            self.kept.len(),
            size(self.kept_bytes)
        );
        if !self.missing.is_empty() {
            text.push_str(&format!(", {} not to be had", self.missing.len()));
        }
        if let Some(warning) = warning {
            text.push_str(&format!("\n{warning}"));
        }
        text
    }

    /// All there is to say when nothing is to be done.
    pub fn dry_run(self, basis: Basis, warning: Option<String>) -> Reply {
        let mut report = self.announcement(basis, warning);
        for file in &self.wanted {
            report.push_str(&format!("\n  to fetch: {file}"));
        }
        for line in &self.missing {
            report.push_str(&format!("\n  {line}"));
        }
        let reply = match self.missing.len() {
            0 => Reply::ok(""),
            missing => Reply::failed(format!("{missing} of what was named cannot be had")),
        };
        reply.with_report(report)
    }

    /// What is here.
    pub fn kept(&self) -> &[Selected] {
        &self.kept
    }

    /// What is here or to be fetched.
    pub fn all(&self) -> Vec<Selected> {
        self.kept.iter().chain(&self.wanted).cloned().collect()
    }

    /// What is to be fetched.
    pub fn wanted(&self) -> &[Selected] {
        &self.wanted
    }

    /// What is to be fetched, and what cannot be.
    pub fn into_work(self) -> (Vec<Selected>, Vec<String>) {
        (self.wanted, self.missing)
    }
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} KB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use metadata_db::Totals;
    use registry::Checksum;

    use super::*;

    fn found(name: &str, whereabouts: Whereabouts) -> Found {
        Found {
            selected: Selected {
                name: name.parse().unwrap(),
                version: "1.0.0".parse().unwrap(),
                checksum: None,
            },
            whereabouts,
        }
    }

    #[test]
    fn says_what_is_known_and_what_an_estimate_is_made_of() {
        let checksum = Checksum::of(b"");
        let all = || {
            vec![
                found(
                    "a",
                    Whereabouts::Kept {
                        checksum,
                        size_bytes: 2_500,
                    },
                ),
                found("b", Whereabouts::NotKept { checksum }),
                found("c", Whereabouts::NotKept { checksum }),
                found("d", Whereabouts::Removed),
            ]
        };
        let totals = Totals {
            files: 4,
            bytes: 6_000_000,
            crates: 2,
        };
        let plan = Plan::of(all(), Vec::new());
        assert_eq!(
            plan.announcement(Basis::Kept(totals), None),
            "4 crate files: 1 kept (2.5 KB), 2 to fetch, about 3.0 MB (the index does not say how large they are: by the 4 kept \
             ones, 1.5 MB on average), 1 not to be had"
        );
        let reply = plan.dry_run(Basis::Kept(totals), None);
        assert!(!reply.ok && reply.report.unwrap().contains("\n  d 1.0.0: removed upstream"));
    }
}
