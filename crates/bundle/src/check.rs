use std::collections::BTreeMap;
use std::io::Read;

use registry::IndexEdit;

use crate::manifest::Manifest;
use crate::{DecisionLines, Error, Member, MemberName, Records, Signed, Total, Trust, open};

/// What was found in a bundle, or one part of it, that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What it says that it is.
    pub manifest: Manifest,
    /// Who signed it.
    pub signed: Option<Signed>,
    /// Its crate files.
    pub crates: Total,
    /// Index files that it changes or adds.
    pub index_changed: u64,
    /// Index files that it removes.
    pub index_removed: u64,
    /// Decisions of the outside mirror.
    pub decisions: u64,
}

/// Reads a whole bundle file and believes nothing: every hash, the signature, and the form of the index payload. Needs
/// nothing but the file.
///
/// # Errors
/// Names the first member that is wrong.
pub fn check<R: Read>(input: R, trust: Trust<'_>) -> Result<Report, Error> {
    let opened = open(input)?;
    let mut report = Report {
        manifest: opened.manifest().clone(),
        signed: opened.signed().cloned(),
        crates: Total::default(),
        index_changed: 0,
        index_removed: 0,
        decisions: 0,
    };
    let mut members = opened.trusting(trust)?;
    while let Some(mut member) = members.next_member()? {
        match member.name() {
            MemberName::Changes => {
                let counted = count_records(&mut member, &mut report);
                first_fault(member, counted)?;
            }
            MemberName::Decisions => {
                let counted = count_decisions(&mut member, &mut report);
                first_fault(member, counted)?;
            }
            _ => {
                report.crates.files += 1;
                report.crates.bytes += member.size_bytes();
                member.drain()?;
            }
        }
    }
    Ok(report)
}

/// A damaged member is called damaged, whatever its contents look like for it.
fn first_fault<R: Read>(member: Member<'_, R>, counted: Result<(), Error>) -> Result<(), Error> {
    match counted {
        Err(Error::Content { .. } | Error::Truncated { .. } | Error::Read { .. }) => counted,
        _ => member.drain().and(counted),
    }
}

fn count_records<R: Read>(member: &mut Member<'_, R>, report: &mut Report) -> Result<(), Error> {
    let bundle = &report.manifest.bundle;
    let index = bundle
        .index
        .as_ref()
        .expect("there are no changes without an index in the manifest");
    for record in Records::new(member, index, bundle.parent.is_some()) {
        match record? {
            (_, IndexEdit::Removed) => report.index_removed += 1,
            (_, IndexEdit::Pieces { .. }) => report.index_changed += 1,
        }
    }
    Ok(())
}

fn count_decisions<R: Read>(member: &mut Member<'_, R>, report: &mut Report) -> Result<(), Error> {
    DecisionLines::new(member).try_for_each(|line| line.map(|_| report.decisions += 1))
}

/// The parts of one bundle, as they come.
#[derive(Debug, Default)]
pub struct PartSet {
    parts: BTreeMap<u16, Manifest>,
}

impl PartSet {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part.
    ///
    /// # Errors
    /// It is of another bundle, or was added already; or all are there and do not make the whole.
    pub fn add(&mut self, manifest: Manifest) -> Result<(), Error> {
        let part = manifest.part;
        let wrong = |why: String| Error::Part { part, why };
        if let Some(first) = self.parts.values().next() {
            let (own, other) = (manifest.bundle.id, first.bundle.id);
            if own != other {
                return Err(wrong(format!("it is of bundle {own}, and the others are of {other}")));
            }
            if (&manifest.bundle, manifest.parts, manifest.crates) != (&first.bundle, first.parts, first.crates) {
                return Err(wrong(
                    "its manifest does not agree with the one of the other parts".to_owned(),
                ));
            }
        }
        if self.parts.contains_key(&part) {
            return Err(wrong("it is there twice".to_owned()));
        }
        let together = self.parts.values().chain([&manifest]);
        let sum = together
            .map(|manifest| manifest.part_crates)
            .try_fold(Total::default(), Total::plus);
        let is_last = self.parts.len() + 1 == usize::from(manifest.parts);
        let fits = sum.is_some_and(|sum| {
            let whole = manifest.crates;
            if is_last {
                sum == whole
            } else {
                sum.files <= whole.files && sum.bytes <= whole.bytes
            }
        });
        if !fits {
            return Err(wrong(
                "the crate files of the parts do not add up to those of the bundle".to_owned(),
            ));
        }
        self.parts.insert(part, manifest);
        Ok(())
    }

    /// The numbers of the parts that are lacking; of none if no part was added.
    pub fn missing(&self) -> Vec<u16> {
        let parts = self.parts.values().next().map_or(0, |manifest| manifest.parts);
        (1..=parts).filter(|part| !self.parts.contains_key(part)).collect()
    }

    /// Whether all are there.
    pub fn is_complete(&self) -> bool {
        !self.parts.is_empty() && self.missing().is_empty()
    }
}
