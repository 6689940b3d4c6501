//! `mirror pin`, `mirror unpin` and `mirror pins`: sets of crate files that no budget takes away.

use std::sync::Arc;

use index_sync::Ask;
use metadata_db::PinnedFile;

use super::own_appliance::with_own_appliance;
use super::progress::{OwnWatcher, done_by_server};
use super::{Ended, by_lockfiles, finish};
use crate::appliance::{Appliance, StartError};
use crate::cli;
use crate::control::{Reply, Request, ask};
use crate::data_dir::check_format;
use crate::error::chain;
use crate::prefetch::{Watcher, over, size, unless_over};
use crate::selected::{Found, Gathered, Named, Whereabouts, gather, whereabouts};
use crate::settings::Settings;

/// Makes what is named the set of that name.
pub fn pin(settings: Settings, name: &str, named: &cli::Named) -> Ended {
    let (locked, crates) = by_lockfiles(&settings, named)?;
    let named = Named {
        locked,
        crates,
        ..Named::default()
    };
    check_format(&settings.data_dir)?;
    let request = Request::Pin {
        name: name.to_owned(),
        named: named.clone(),
    };
    let reply = match done_by_server(&settings, &request)? {
        Some(reply) => reply,
        None => {
            let own = OwnWatcher::new();
            let reply = with_own_appliance(settings, async |appliance| {
                pin_named(appliance, name, named, &own).await
            });
            own.clear();
            reply?
        }
    };
    finish(&reply)
}

/// Deletes the set; its files become like all others.
pub fn unpin(settings: Settings, name: &str) -> Ended {
    carried_out(settings, Request::Unpin { name: name.to_owned() })
}

/// Lists the sets.
pub fn pins(settings: Settings) -> Ended {
    carried_out(settings, Request::Pins)
}

fn carried_out(settings: Settings, request: Request) -> Ended {
    check_format(&settings.data_dir)?;
    let reply = match ask(&settings.data_dir, &request)? {
        Some(reply) => reply,
        None => with_own_appliance(settings, async |appliance| carry_out_pins(appliance, request).await)?,
    };
    finish(&reply)
}

/// What `unpin` and `pins` come to.
pub async fn carry_out_pins(appliance: &Arc<Appliance>, request: Request) -> Result<Reply, StartError> {
    let Request::Unpin { name } = request else {
        return listed(appliance).await;
    };
    if !appliance.decisions.unpin(&name)? {
        return Ok(Reply::failed(format!("{name}: there is no such pin")));
    }
    appliance.budget.look_again();
    Ok(Reply::ok(format!("{name}: no longer pinned")))
}

/// All of it or nothing: what protects files today is not given up for what may be a slip of the pen, or upstream's bad day.
pub async fn pin_named(
    appliance: &Arc<Appliance>,
    name: &str,
    named: Named,
    watcher: &impl Watcher,
) -> Result<Reply, StartError> {
    let choosing = chosen(appliance, named, watcher);
    let (pinned, missing) = match unless_over(appliance, watcher, choosing).await {
        Ok(chosen) => chosen,
        Err(error) => (Vec::new(), vec![chain(&*error)]),
    };
    // nobody would hear what is in force from now on
    if let Some(why) = over(appliance, watcher) {
        return Err(format!("it was ended before its time: {why}").into());
    }
    if pinned.is_empty() || !missing.is_empty() {
        return unchanged(appliance, name, &missing);
    }
    let (own, set, files) = (Arc::clone(appliance), name.to_owned(), pinned.clone());
    let (kept, bytes) = tokio::task::spawn_blocking(move || put_down(&own, &set, &files)).await??;
    // what the set had before may go
    appliance.budget.look_again();
    log::info!("{name}: {} crate files pinned by command", pinned.len());
    let mut report = format!(
        "{name}: {} crate files pinned, {kept} of them kept ({})",
        pinned.len(),
        size(bytes)
    );
    if kept < pinned.len() {
        report.push_str("; `mirror prefetch` with the same words fetches the others");
    }
    Ok(Reply::ok("").with_report(report))
}

/// The files that are meant, and what cannot be pinned, one line each.
async fn chosen(
    appliance: &Arc<Appliance>,
    named: Named,
    watcher: &impl Watcher,
) -> Result<(Vec<PinnedFile>, Vec<String>), StartError> {
    let say = |words| watcher.say(words);
    let Gathered { files, problems, .. } = gather(appliance, named, Ask::IfOld, &say).await?;
    watcher.say(format!("looking where {} crate files are", files.len()));
    let mut missing: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let mut pinned = Vec::new();
    for Found { selected, whereabouts } in whereabouts(appliance, files).await? {
        let checksum = match whereabouts {
            Whereabouts::Kept { checksum, .. } | Whereabouts::NotKept { checksum } => checksum,
            other => {
                missing.push(format!("{selected}: {other}"));
                continue;
            }
        };
        pinned.push(PinnedFile {
            name: selected.name,
            version: selected.version,
            checksum,
        });
    }
    Ok((pinned, missing))
}

/// Nothing is written down, and it is said why and what is in force.
fn unchanged(appliance: &Appliance, name: &str, missing: &[String]) -> Result<Reply, StartError> {
    let before = appliance.decisions.pins()?.into_iter().find(|pin| pin.name == name);
    let in_force = match before {
        Some(pin) => format!("the set stays as it was, with {} crate files", pin.files.len()),
        None => "no such set was made".to_owned(),
    };
    let why = match missing.len() {
        0 => "no crate of crates.io was named".to_owned(),
        missing => format!("{missing} of what was named cannot be pinned"),
    };
    let reply = Reply::failed(format!("{name}: {why}: {in_force}"));
    if missing.is_empty() {
        return Ok(reply);
    }
    let lines: Vec<String> = missing
        .iter()
        .map(|line| format!("  cannot be pinned: {line}"))
        .collect();
    Ok(reply.with_report(lines.join("\n")))
}

/// Writes the set down, and says how many of its files are kept, and their bytes. Nothing of it is evicted from then on.
fn put_down(appliance: &Appliance, name: &str, files: &[PinnedFile]) -> Result<(usize, u64), StartError> {
    let _nothing_goes = appliance.budget.lock();
    appliance.decisions.pin(name, files)?;
    kept_of(appliance, files)
}

fn kept_of(appliance: &Appliance, files: &[PinnedFile]) -> Result<(usize, u64), StartError> {
    let (mut kept, mut bytes) = (0, 0);
    for file in files {
        if let Some(found) = appliance.cache.kept(&file.checksum)? {
            kept += 1;
            bytes += found.size_bytes;
        }
    }
    Ok((kept, bytes))
}

async fn listed(appliance: &Arc<Appliance>) -> Result<Reply, StartError> {
    let own = Arc::clone(appliance);
    let text = tokio::task::spawn_blocking(move || pins_text(&own)).await??;
    Ok(Reply::ok(text))
}

fn pins_text(appliance: &Appliance) -> Result<String, StartError> {
    let mut lines = Vec::new();
    for pin in appliance.decisions.pins()? {
        let (kept, bytes) = kept_of(appliance, &pin.files)?;
        lines.push(format!(
            "{}: {} crate files, {kept} of them kept ({})",
            pin.name,
            pin.files.len(),
            size(bytes)
        ));
    }
    if lines.is_empty() {
        lines.push("nothing is pinned".to_owned());
    }
    Ok(lines.join("\n"))
}
