//! What the pages show of what is wanted and what was imported.

use metadata_db::{ImportCounts, ImportRow, Wanted};
use site::{Chrome, ImportLine, ImportLineBundle, ImportsPage, Row, WantedLine, WantedPage};

use crate::appliance::Appliance;
use crate::error::ServeError;

/// So many lines a page lists; the files beside the pages have all.
const MAX_LINES: u32 = 500;

/// The page of what clients asked for in vain.
pub fn wanted(chrome: Chrome, wanted: &[Wanted]) -> String {
    let shown = wanted.iter().take(MAX_LINES as usize);
    let lines = shown.map(|wanted| WantedLine {
        name: wanted.name.to_string(),
        version: wanted.version.as_ref().map(ToString::to_string),
        count: wanted.count,
        last_unix: wanted.last_at.unsigned_abs(),
    });
    site::wanted(&WantedPage {
        chrome,
        lines: lines.collect(),
        more: wanted.len().saturating_sub(MAX_LINES as usize) as u64,
    })
}

/// The page of the log of imports.
pub fn imports(appliance: &Appliance, chrome: Chrome) -> Result<String, ServeError> {
    let mut rows = appliance.decisions.latest_imports(MAX_LINES + 1)?;
    let is_cut = rows.len() > MAX_LINES as usize;
    rows.truncate(MAX_LINES as usize);
    Ok(site::imports(&ImportsPage {
        chrome,
        lines: rows.into_iter().map(line).collect(),
        is_cut,
    }))
}

fn line(row: ImportRow) -> ImportLine {
    ImportLine {
        unix: row.at.unsigned_abs(),
        result: row.result.as_str().to_owned(),
        why: row.why,
        bundle: row.bundle.map(|bundle| ImportLineBundle {
            id: bundle.id,
            site: bundle.site,
            serial: bundle.serial,
            part: bundle.part,
            parts: bundle.parts,
        }),
        who: row.who,
        key: row.key_id,
        crate_files: row.counts.crate_files,
        crate_bytes: row.counts.crate_bytes,
        index: in_words(&row.counts),
    }
}

/// `3 new, 1 removed`; nothing is said of what did not happen.
fn in_words(counts: &ImportCounts) -> String {
    let parts = [
        (counts.new_versions, "new"),
        (counts.yanked, "yanked"),
        (counts.removed, "removed"),
        (counts.changed, "with another checksum"),
    ];
    let said = parts.iter().filter(|(count, _)| *count > 0);
    said.map(|(count, what)| format!("{count} {what}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The same on the status page, in short.
pub fn air_gap_rows(appliance: &Appliance) -> Result<Vec<Row>, ServeError> {
    let decisions = &appliance.decisions;
    let mut rows = vec![
        Row::new("Wanted", decisions.count_wanted()?.to_string()).with_note("asked for in vain while offline; /wanted"),
    ];
    let last = decisions.latest_imports(1)?.into_iter().next();
    let last = last.map_or("none".to_owned(), |row| {
        format!("{}, {}", row.result.as_str(), site::date_time(row.at.unsigned_abs()))
    });
    rows.push(Row::new("Last import", last).with_note("/imports"));
    for site in decisions.sites()? {
        let came = format!(
            "serial {}, {}",
            site.last_serial,
            site::date(site.imported_at.unsigned_abs())
        );
        rows.push(Row::new(format!("From site {}", site.id), came));
    }
    let exports = decisions.exports()?;
    if let Some(last) = exports.first() {
        let when = site::date(last.finished_at.unsigned_abs());
        rows.push(Row::new("Last export", format!("serial {}, {when}", last.serial)));
    }
    Ok(rows)
}
