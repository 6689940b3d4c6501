//! The status page: index, following, cache and connections at length.

use std::time::{Duration, SystemTime};

use index_sync::{FollowPhase, PackLogState};
use site::{Chrome, Group, Row, Status};

use super::air_gap::air_gap_rows;
use super::keeping::{care_rows, dispute_rows, pin_rows};
use super::{cache_state, index_state, serves_git};
use crate::appliance::Appliance;
use crate::commands;
use crate::error::ServeError;
use crate::free_space::file_system;
use crate::settings::Mode;

/// The status page: the same at length.
pub fn status(appliance: &Appliance, chrome: Chrome) -> Result<String, ServeError> {
    let (cache, index) = (cache_state(appliance)?, appliance.index.status());
    let state = index_state(appliance);
    let seconds = |age: Option<Duration>| age.map_or("never".to_owned(), |age| format!("{} s ago", age.as_secs()));
    let stats = appliance.cache.stats();
    let connections = &appliance.connections;
    let error = state.last_error.map_or("none".to_owned(), |(why, ago)| {
        format!("{why} ({} s ago)", ago.as_secs())
    });
    let index_rows = vec![
        Row::new("Source", state.source),
        Row::new("Published crates", state.files.to_string()),
        Row::new(
            "Published commit",
            state.commit.unwrap_or_else(|| "none yet".to_owned()),
        ),
        Row::new("Last good answer of upstream", seconds(state.age)),
        Row::new("Last error of upstream", error),
        Row::new("Requests upstream since the start", index.requests.to_string()),
        Row::new("Of them ahead of need", index.asked_ahead.to_string())
            .with_note("dependencies of what was asked for, before a client asked for them"),
        Row::new("Of them not modified", index.not_modified.to_string()),
        Row::new("Answers refused", index.refused.to_string()).with_note("login pages, unreadable lines"),
        Row::new("Held for the operator", index.held.to_string()).with_note("removals and changed checksums"),
        Row::new("Waiting for their commit", index.pending.to_string()),
    ];
    let cache_rows = vec![
        Row::new("Kept files", cache.files.to_string()),
        Row::new("Kept bytes", cache.bytes.to_string()),
        Row::new("Hits", cache.hits.to_string()),
        Row::new("Misses", cache.misses.to_string()),
        Row::new("Fills running", stats.fills_running.to_string()),
        Row::new("Fills failed since the start", stats.fills_failed.to_string()),
        Row::new("Bytes fetched since the start", stats.bytes_fetched.to_string()),
        Row::new(
            "Free on the disk, in bytes",
            cache.free_bytes.map_or("unknown".to_owned(), |free| free.to_string()),
        ),
        Row::new(
            "File system",
            file_system(appliance.data_dir()).unwrap_or_else(|_| "unknown".to_owned()),
        ),
    ];
    let connection_rows = vec![
        Row::new("Open now", connections.open().to_string()),
        Row::new("HTTP/1 since the start", connections.http1().to_string()),
        Row::new("HTTP/2 since the start", connections.http2().to_string()),
        Row::new("Upgraded to HTTP/2 since the start", connections.upgraded().to_string()),
    ];
    let group = |title: &str, rows| Group {
        title: title.to_owned(),
        rows,
    };
    let mut groups = vec![
        group("Index", index_rows),
        group("Index over git", git_rows(appliance)),
        group("Cache", cache_rows),
        group("Care of what is kept", care_rows(appliance, &cache)?),
        group("Connections", connection_rows),
    ];
    groups.insert(4, group("Across the air gap", air_gap_rows(appliance)?));
    let pins = pin_rows(appliance)?;
    if !pins.is_empty() {
        groups.insert(4, group("Pins", pins));
    }
    let disputes = commands::disputes(&appliance.index.decided_now()?);
    if !disputes.is_empty() {
        groups.insert(1, group("Upstream changed its mind", dispute_rows(&disputes)));
    }
    let trouble = appliance.trouble();
    if !trouble.is_empty() {
        let rows = trouble.into_iter().map(|why| Row::new("Trouble", why)).collect();
        groups.insert(0, group("Not ready", rows));
    }
    Ok(site::status(&Status { chrome, groups }))
}

/// How following goes, and what git clients can have.
fn git_rows(appliance: &Appliance) -> Vec<Row> {
    let mut rows = vec![Row::new(
        "Followed from",
        match appliance.settings.layers.get("upstream.git").text.as_str() {
            "" => "nothing".to_owned(),
            given => given.to_owned(),
        },
    )];
    if let Some(status) = appliance.index.follow_status() {
        let now = match status.phase {
            FollowPhase::Waiting => "waiting until somebody wants it and the mode allows it".to_owned(),
            FollowPhase::Idle => "between two rounds".to_owned(),
            _ => commands::words(&status),
        };
        let seconds = |at: SystemTime| at.elapsed().unwrap_or_default().as_secs();
        let success = status.last_success.map(|at| format!("{} s ago", seconds(at)));
        let error = status
            .last_error
            .map(|(at, why)| format!("{why} ({} s ago)", seconds(at)));
        rows.extend([
            Row::new("Now", now),
            Row::new("The whole index is here", yes_or_no(status.synced)),
            Row::new(
                "Last good round",
                success.unwrap_or_else(|| "none since the start".to_owned()),
            ),
            Row::new("Last error of a round", error.unwrap_or_else(|| "none".to_owned())),
            Row::new("Good rounds since the start", status.rounds.to_string()),
            Row::new(
                "Files with unreadable lines since the start",
                status.unreadable_files.to_string(),
            ),
        ]);
    }
    rows.extend([
        Row::new("Served to git clients", served(appliance)).with_note("/git/index"),
        Row::new(
            "Pack log",
            match appliance.index.pack_log() {
                Some(PackLogState::Ready(log)) => format!("{} bytes", log.view().payload_bytes()),
                Some(PackLogState::Building { percent }) => format!("being made, {percent} %"),
                None => "none".to_owned(),
            },
        ),
        Row::new("Packs being sent", appliance.git_clones.running().to_string()),
    ]);
    rows
}

/// Without a question of the kind that makes the mirror follow the whole index.
fn served(appliance: &Appliance) -> &'static str {
    let status = appliance.index.follow_status();
    let is_coming = status.is_some_and(|status| !status.synced) && appliance.mode() != Mode::Offline;
    match serves_git(appliance) {
        true if is_coming && !appliance.settings.serve_partial => "once the whole index is here",
        serves => yes_or_no(serves),
    }
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}
