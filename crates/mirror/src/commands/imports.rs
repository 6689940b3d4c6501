//! `mirror imports`: the log of what came across the air gap.

use std::fmt::Write;

use metadata_db::{DecisionsDb, ImportRow};
use serde_json::json;
use site::date_time;

use super::search::drives_terminal;
use super::{Ended, say};
use crate::control::{Request, ask};
use crate::data_dir::{DataDir, check_format};
use crate::prefetch::size;
use crate::settings::Settings;

/// Prints the log, the oldest row first: by the running server, or here if none runs.
pub fn imports(settings: &Settings, json: bool) -> Ended {
    check_format(&settings.data_dir)?;
    if let Some(reply) = ask(&settings.data_dir, &Request::Imports { json })? {
        if reply.ok {
            return say(&reply.message);
        }
        return Err(reply.message.into());
    }
    let path = settings.data_dir.join("decisions.db");
    if !path.is_file() {
        return Err(format!("{} is not a mirror's data directory", settings.data_dir.display()).into());
    }
    let named_by = settings.layers.get("data_dir").source.to_string();
    let _alone = DataDir::lock(&settings.data_dir, &named_by)?;
    say(&imports_text(&DecisionsDb::open(&path)?, json)?)
}

/// The log for people, or as JSON lines. Blocks.
pub fn imports_text(decisions: &DecisionsDb, json: bool) -> Result<String, metadata_db::Error> {
    let mut text = String::new();
    decisions.for_each_import(|row| {
        text.push_str(&if json { json_line(&row) } else { line(&row) });
        text.push('\n');
    })?;
    if text.is_empty() && !json {
        text.push_str("nothing was imported\n");
    }
    Ok(text)
}

fn json_line(row: &ImportRow) -> String {
    let (bundle, counts) = (row.bundle.as_ref(), &row.counts);
    json!({
        "at": date_time(row.at.unsigned_abs()),
        "result": row.result.as_str(),
        "why": row.why,
        "bundle": bundle.map(|bundle| &bundle.id),
        "site": bundle.map(|bundle| &bundle.site),
        "serial": bundle.map(|bundle| bundle.serial),
        "part": bundle.map(|bundle| bundle.part),
        "parts": bundle.map(|bundle| bundle.parts),
        "key": row.key_id,
        "who": row.who,
        "crate_files": counts.crate_files,
        "crate_bytes": counts.crate_bytes,
        "new_versions": counts.new_versions,
        "yanked": counts.yanked,
        "removed": counts.removed,
        "changed_checksums": counts.changed,
    })
    .to_string()
}

fn line(row: &ImportRow) -> String {
    let mut line = format!("{} {}: ", date_time(row.at.unsigned_abs()), row.result.as_str());
    match &row.bundle {
        None => line.push_str("no bundle"),
        Some(bundle) => {
            let _ = write!(
                line,
                "serial {} of site {}, bundle {}",
                bundle.serial, bundle.site, bundle.id
            );
            if bundle.parts > 1 {
                let _ = write!(line, ", part {} of {}", bundle.part, bundle.parts);
            }
        }
    }
    match &row.key_id {
        Some(key) => drop(write!(line, ", signed with {key}")),
        None if row.bundle.is_some() => line.push_str(", unsigned"),
        None => {}
    }
    let counts = &row.counts;
    let _ = write!(
        line,
        ", by {}: {} crate files ({}), {} new crates and versions of known ones, {} yanked, {} removed, {} with another checksum",
        row.who,
        counts.crate_files,
        size(counts.crate_bytes),
        counts.new_versions,
        counts.yanked,
        counts.removed,
        counts.changed
    );
    if let Some(why) = &row.why {
        let _ = write!(line, "; {why}");
    }
    // names and causes come from elsewhere: one row is one line, and nothing of it is obeyed by a terminal
    line.chars().map(|c| if drives_terminal(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use metadata_db::{ImportCounts, ImportResult, ImportedBundle};

    use super::*;

    fn row() -> ImportRow {
        ImportRow {
            at: 86_400,
            bundle: Some(ImportedBundle {
                id: "b".repeat(32),
                site: "a".repeat(32),
                serial: 7,
                part: 2,
                parts: 3,
            }),
            key_id: None,
            who: "mallory\n1970-01-01T00:00:00Z imported".to_owned(),
            result: ImportResult::Refused,
            why: Some("its name is \u{1b}[2J\u{202e}".to_owned()),
            counts: ImportCounts {
                crate_files: 3,
                crate_bytes: 2_000_000,
                removed: 1,
                ..ImportCounts::default()
            },
        }
    }

    #[test]
    fn a_row_is_one_line_whatever_is_in_it() {
        let line = line(&row());
        assert!(
            line.starts_with("1970-01-02T00:00:00Z refused: serial 7 of site aaaa"),
            "{line}"
        );
        for part in [
            ", part 2 of 3",
            ", unsigned, by mallory 1970",
            "1 removed",
            "; its name is",
        ] {
            assert!(line.contains(part), "{line}");
        }
        assert!(!line.contains(drives_terminal), "{line}");
        let loose = super::line(&ImportRow { bundle: None, ..row() });
        assert!(loose.contains("refused: no bundle, by mallory"), "{loose}");
    }

    #[test]
    fn the_log_comes_as_json_lines_in_its_order() {
        let dir = tempfile::tempdir().unwrap();
        let db = DecisionsDb::open(&dir.path().join("decisions.db")).unwrap();
        assert_eq!(imports_text(&db, true).unwrap(), "");
        assert_eq!(imports_text(&db, false).unwrap(), "nothing was imported\n");
        let loose = ImportRow {
            bundle: None,
            result: ImportResult::Files,
            ..row()
        };
        db.log_import(&row()).unwrap();
        db.log_import(&loose).unwrap();
        let text = imports_text(&db, true).unwrap();
        let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), 2);
        assert_eq!((&rows[0]["serial"], &rows[0]["result"]), (&json!(7), &json!("refused")));
        assert_eq!(
            (&rows[0]["who"], &rows[0]["why"]),
            (&json!(row().who), &json!(row().why))
        );
        assert_eq!(
            (&rows[1]["bundle"], &rows[1]["crate_bytes"]),
            (&json!(null), &json!(2_000_000))
        );
        assert_eq!(imports_text(&db, false).unwrap().lines().count(), 2);
    }
}
