//! What there is to do, said before it is done.

use metadata_db::Totals;
use selection::{Problem, Selected};

use crate::control::Reply;
use crate::selected::{Found, Whereabouts};

/// What was found of what was named.
#[derive(Debug)]
pub struct Plan {
    kept: u64,
    kept_bytes: u64,
    wanted: Vec<Selected>,
    /// What cannot be had, one line each.
    missing: Vec<String>,
    basis: Basis,
}

/// What an estimate of bytes is made of: the index has no sizes.
#[derive(Debug, Clone, Copy)]
pub enum Basis {
    /// What is kept in all.
    Kept(Totals),
    /// Some of the files to fetch, as upstream says.
    Sample {
        /// How many.
        files: u64,
        /// How large they are together.
        bytes: u64,
    },
}

impl Plan {
    /// With what to estimate from.
    pub fn of(found: Vec<Found>, problems: Vec<Problem>, basis: Basis) -> Self {
        let mut plan = Self {
            kept: 0,
            kept_bytes: 0,
            wanted: Vec::new(),
            missing: problems.iter().map(ToString::to_string).collect(),
            basis,
        };
        for Found { selected, whereabouts } in found {
            match whereabouts {
                Whereabouts::Kept { size_bytes, .. } => {
                    plan.kept += 1;
                    plan.kept_bytes += size_bytes;
                }
                Whereabouts::NotKept { .. } => plan.wanted.push(selected),
                other => plan.missing.push(format!("{selected}: {other}")),
            }
        }
        plan
    }

    /// What is about to be done.
    pub fn announcement(&self) -> String {
        let fetched = to_fetch(self.wanted.len() as u64, self.basis);
        let all = self.kept as usize + self.wanted.len() + self.missing.len();
        let mut text = format!(
            "{all} crate files: {} kept ({}), {fetched}",
            self.kept,
            size(self.kept_bytes)
        );
        if !self.missing.is_empty() {
            text.push_str(&format!(", {} not to be had", self.missing.len()));
        }
        text
    }

    /// All there is to say when nothing is to be done.
    pub fn dry_run(self) -> Reply {
        let mut report = self.announcement();
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

    /// What is to be fetched, and what cannot be.
    pub fn into_work(self) -> (Vec<Selected>, Vec<String>) {
        (self.wanted, self.missing)
    }
}

/// How many, and how large that may be.
pub fn to_fetch(files: u64, basis: Basis) -> String {
    const UNKNOWN: &str = "the index does not say how large they are";
    let (known, bytes, of) = match basis {
        _ if files == 0 => return "none to fetch".to_owned(),
        Basis::Kept(totals) => (totals.files, totals.bytes, "kept ones"),
        Basis::Sample { files, bytes } => (files, bytes, "of them that upstream was asked for"),
    };
    let Some(average) = bytes.checked_div(known) else {
        return format!("{files} to fetch; {UNKNOWN}, and nothing is kept to estimate from");
    };
    let (all, each) = (size(average.saturating_mul(files)), size(average));
    format!("{files} to fetch, about {all} ({UNKNOWN}: by the {known} {of}, {each} on average)")
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
        let plan = Plan::of(all(), Vec::new(), Basis::Kept(totals));
        assert_eq!(
            plan.announcement(),
            "4 crate files: 1 kept (2.5 KB), 2 to fetch, about 3.0 MB (the index does not say how large they are: by the 4 kept \
             ones, 1.5 MB on average), 1 not to be had"
        );
        let reply = plan.dry_run();
        assert!(!reply.ok && reply.report.unwrap().contains("\n  d 1.0.0: removed upstream"));
        let empty = Plan::of(all(), Vec::new(), Basis::Kept(Totals::default())).announcement();
        assert!(empty.contains("nothing is kept to estimate from"), "{empty}");
    }
}
