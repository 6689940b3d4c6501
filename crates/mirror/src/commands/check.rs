//! `mirror check`: will this build with upstream gone?

use std::path::PathBuf;
use std::sync::Arc;

use selection::{Elsewhere, Selected};
use serde_json::json;

use super::own_appliance::with_own_appliance;
use super::{Ended, finish, lockfile};
use crate::appliance::{Appliance, StartError};
use crate::control::{Reply, Request, ask};
use crate::data_dir::check_format;
use crate::prefetch::size;
use crate::selected::{Found, Whereabouts, whereabouts};
use crate::settings::Settings;

/// Names what is missing, removed, or has another checksum.
pub fn check(settings: Settings, lockfiles: &[PathBuf], json: bool) -> Ended {
    check_format(&settings.data_dir)?;
    let (mut crates, mut elsewhere) = (Vec::new(), Vec::new());
    for path in lockfiles {
        let (locked, others) = lockfile(&settings, path)?;
        crates.extend(locked);
        elsewhere.extend(others.iter().map(from_elsewhere));
    }
    crates.sort();
    crates.dedup();
    elsewhere.sort();
    elsewhere.dedup();
    let reply = match ask(
        &settings.data_dir,
        &Request::Check {
            crates: crates.clone(),
            elsewhere: elsewhere.clone(),
            json,
        },
    )? {
        Some(reply) => reply,
        None => with_own_appliance(settings, async |appliance| {
            checked(appliance, crates, &elsewhere, json).await
        })?,
    };
    finish(&reply)
}

fn from_elsewhere(package: &Elsewhere) -> String {
    let source = package.source.as_deref().unwrap_or_default();
    format!("{} {} from {source}", package.name, package.version)
}

/// The answer: its report is for standard output.
pub async fn checked(
    appliance: &Arc<Appliance>,
    crates: Vec<Selected>,
    elsewhere: &[String],
    as_json: bool,
) -> Result<Reply, StartError> {
    let found = whereabouts(appliance, crates).await?;
    let is_here = |found: &&Found| matches!(found.whereabouts, Whereabouts::Kept { .. });
    let missing = found.iter().filter(|found| !is_here(found)).count();
    let unknown = match elsewhere.len() {
        0 => None,
        1 => Some("1 package comes from elsewhere, of which nothing is known".to_owned()),
        count => Some(format!(
            "{count} packages come from elsewhere, of which nothing is known"
        )),
    };
    let report = if as_json {
        format!("{:#}", in_json(&found, missing, elsewhere))
    } else {
        in_words(&found, missing, elsewhere)
    };
    let lacking = match missing {
        0 => None,
        1 => Some("1 crate file would be missing with upstream gone".to_owned()),
        _ => Some(format!("{missing} crate files would be missing with upstream gone")),
    };
    let why: Vec<String> = lacking.into_iter().chain(unknown).collect();
    let reply = match why.is_empty() {
        true => Reply::ok(""),
        false => Reply::failed(why.join("; ")),
    };
    Ok(reply.with_report(report))
}

fn in_words(found: &[Found], missing: usize, elsewhere: &[String]) -> String {
    let bytes = found.iter().map(|found| match found.whereabouts {
        Whereabouts::Kept { size_bytes, .. } => size_bytes,
        _ => 0,
    });
    let (here, all) = (found.len() - missing, found.len());
    let mut text = format!("{here} of {all} crate files are here, {}", size(bytes.sum()));
    for Found { selected, whereabouts } in found {
        if !matches!(whereabouts, Whereabouts::Kept { .. }) {
            text.push_str(&format!("\n  {selected}: {whereabouts}"));
        }
    }
    if !elsewhere.is_empty() {
        text.push_str("\nnot of crates.io: a build wants them too, and whether it gets them with upstream gone is not known here:");
        for package in elsewhere {
            text.push_str(&format!("\n  {package}"));
        }
    }
    text
}

fn in_json(found: &[Found], missing: usize, elsewhere: &[String]) -> serde_json::Value {
    let not_here = found.iter().filter_map(|found| {
        let why = match &found.whereabouts {
            Whereabouts::Kept { .. } => return None,
            Whereabouts::NotKept { .. } => "not-kept",
            Whereabouts::OtherChecksum { .. } => "other-checksum",
            Whereabouts::Removed => "removed",
            Whereabouts::NotListed => "not-listed",
            Whereabouts::NoSuchCrate => "no-such-crate",
            Whereabouts::Unknown { .. } => "unknown",
        };
        let mut entry = json!({
            "name": found.selected.name,
            "version": found.selected.version,
            "why": why,
            "detail": found.whereabouts.to_string(),
        });
        if let Whereabouts::OtherChecksum { locked, listed } = &found.whereabouts {
            entry["locked_checksum"] = json!(locked);
            entry["index_checksum"] = json!(listed);
        }
        Some(entry)
    });
    let not_here: Vec<_> = not_here.collect();
    json!({
        "ready": missing == 0 && elsewhere.is_empty(),
        "crate_files": found.len(),
        "here": found.len() - missing,
        "missing": not_here,
        "foreign": elsewhere,
    })
}
