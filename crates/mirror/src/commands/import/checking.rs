//! `mirror import --check`: whether files are whole and unchanged, on any machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use bundle::{Id, PartSet, Report, Trust};

use super::super::{Ended, say};
use crate::appliance::StartError;
use crate::bundles::Sources;
use crate::prefetch::size;

/// Checks bundles to their last byte. What is wrong with the first bad one ends it.
pub fn check(sources: &Sources) -> Ended {
    let mut sets: BTreeMap<Id, PartSet> = BTreeMap::new();
    for path in &sources.bundles {
        let failed = |error: &dyn std::error::Error| format!("{}: {}", path.display(), crate::error::chain(error));
        let file = File::open(path).map_err(|error| failed(&error))?;
        let report = bundle::check(file, Trust::Anyone).map_err(|error| failed(&error))?;
        say(&format!("{}\n", in_words(path, &report)))?;
        let set = sets.entry(report.manifest.bundle.id).or_default();
        set.add(report.manifest).map_err(|error| failed(&error))?;
    }
    for (id, set) in &sets {
        if !set.is_complete() {
            say(&format!("bundle {id}: not checked yet: {}\n", parts(&set.missing())))?;
        }
    }
    let others = sources.crates.len() + sources.vendored.len();
    if others > 0 && sources.bundles.is_empty() {
        return Err(loose_is_not_checked().into());
    }
    if others > 0 {
        say(&format!(
            "{others} files or folders besides: {}\n",
            loose_is_not_checked()
        ))?;
    }
    Ok(true)
}

fn loose_is_not_checked() -> &'static str {
    "only the index of a mirror says what a crate file or a vendored crate should be; `mirror import` compares them with it"
}

fn in_words(path: &Path, report: &Report) -> String {
    let manifest = &report.manifest;
    let bundle = &manifest.bundle;
    let signed = match &report.signed {
        Some(signed) => format!(
            "signed with {} (key id {}), whom to trust is not asked here",
            signed.key,
            signed.key.id()
        ),
        None => "not signed".to_owned(),
    };
    let part = match manifest.parts {
        1 => String::new(),
        parts => format!(", part {} of {parts}", manifest.part),
    };
    let mut words = format!(
        "{}: not damaged: bundle {}, serial {} of site {}{part}, of {}: {} crate files, {}, {} index files; {signed}",
        path.display(),
        bundle.id,
        bundle.serial,
        bundle.site,
        bundle.created,
        report.crates.files,
        size(report.crates.bytes),
        report.index_changed + report.index_removed,
    );
    if let Some(parent) = bundle.parent {
        words.push_str(&format!("; it continues serial {} (id {})", parent.serial, parent.id));
    }
    words
}

/// Some parts, by number.
pub fn parts(parts: &[u16]) -> String {
    let numbers: Vec<String> = parts.iter().map(ToString::to_string).collect();
    match parts.len() {
        1 => format!("part {}", numbers[0]),
        _ => format!("parts {}", numbers.join(", ")),
    }
}

/// What is said of a file that is no good.
pub fn named(path: &Path, error: &StartError) -> StartError {
    format!("{}: {}", path.display(), crate::error::chain(&**error)).into()
}
