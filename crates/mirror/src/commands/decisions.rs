//! `mirror removed`, `mirror keep` and `mirror accept`: upstream's changes of mind, and what the operator says to them.

use std::sync::Arc;

use index_sync::{Decided, Index};
use metadata_db::{DecisionKind, DecisionRow, SiteDecision};
use registry::{CrateName, CrateVersion, IndexLine, IndexPath};
use serde::{Deserialize, Serialize};

use super::own_appliance::with_own_appliance;
use super::{Ended, say};
use crate::appliance::{Appliance, StartError};
use crate::control::{Request, ask};
use crate::data_dir::check_format;
use crate::settings::Settings;

/// What the operator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// What is here stays in force.
    Keep,
    /// What upstream says counts.
    Accept,
}

/// One version about which upstream changed its mind.
#[derive(Debug, Serialize)]
pub struct Dispute {
    /// The crate's name as the index line spells it.
    #[serde(rename = "crate")]
    pub krate: String,
    /// The version.
    pub version: String,
    /// Its state, in one word: `removed`, `held-checksum`, `held-removal`, `kept` or `accepted`.
    pub state: &'static str,
    /// Since when, in UTC.
    pub since: String,
    /// The checksum in force, or the last one known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// Upstream's new checksum, if that is what changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_checksum: Option<String>,
    /// The mirror outside that decided it, as its bundles say; without it the decision is this mirror's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// The state, in words.
    pub what: String,
    /// What the operator can do.
    pub can: String,
}

/// Lists them: by the running server, or here if none runs.
pub fn removed(settings: Settings, json: bool) -> Ended {
    check_format(&settings.data_dir)?;
    let text = match ask(&settings.data_dir, &Request::Removed { json })? {
        Some(reply) if reply.ok => reply.message,
        Some(reply) => return Err(reply.message.into()),
        None => with_own_appliance(settings, async |appliance: &Arc<Appliance>| {
            removed_text(appliance, json).await
        })?,
    };
    say(&format!("{text}\n"))
}

/// Keeps or accepts: by the running server, or here if none runs.
pub fn by_command(settings: Settings, word: Word, what: &str) -> Ended {
    let (name, version) = what
        .split_once('@')
        .map_or((what, None), |(name, version)| (name, Some(version)));
    let name = name.parse::<CrateName>()?;
    let version = version.map(str::parse::<CrateVersion>).transpose()?;
    check_format(&settings.data_dir)?;
    let request = Request::Decide {
        word,
        name: name.clone(),
        version: version.clone(),
    };
    let text = match ask(&settings.data_dir, &request)? {
        Some(reply) if reply.ok => reply.message,
        Some(reply) => return Err(reply.message.into()),
        None => with_own_appliance(settings, async |appliance: &Arc<Appliance>| {
            Ok(decide(&appliance.index, word, &name, version.as_ref()).await?)
        })?,
    };
    say(&format!("{text}\n"))
}

/// The list, one version a line; what bundles say of decisions outside comes last.
pub async fn removed_text(appliance: &Arc<Appliance>, json: bool) -> Result<String, StartError> {
    let mut disputes = disputes(&appliance.index.decided().await?);
    let own = Arc::clone(appliance);
    let outside = tokio::task::spawn_blocking(move || own.decisions.site_decisions()).await??;
    disputes.extend(outside.iter().map(|(site, decision)| decided_outside(site, decision)));
    if json {
        return Ok(serde_json::to_string_pretty(&disputes).expect("text is always JSON"));
    }
    if disputes.is_empty() {
        return Ok("upstream has removed nothing and changed no checksum".to_owned());
    }
    let line = |dispute: &Dispute| {
        let Dispute {
            krate,
            version,
            what,
            can,
            ..
        } = dispute;
        format!("{krate} {version}: {what}\n    {can}")
    };
    Ok(disputes.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// Carries out the operator's word, and says what came of it.
pub async fn decide(
    index: &Index,
    word: Word,
    name: &CrateName,
    version: Option<&CrateVersion>,
) -> Result<String, index_sync::Error> {
    let decided = match word {
        Word::Keep => index.keep(name, version).await?,
        Word::Accept => index.accept(name, version).await?,
    };
    let line = |(vers, decided): &(String, Decided)| format!("{name} {vers}: {}", in_words(*decided));
    Ok(decided.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn in_words(decided: Decided) -> &'static str {
    match decided {
        Decided::Again => "published again; its crate file is served if it is kept here",
        Decided::Stays => "what is served now stays, whatever upstream says",
        Decided::Changed => "upstream's line is published; the next download fetches upstream's file",
        Decided::LeftOut => "left out from now on",
        Decided::AsUpstream => "what upstream says counts again, from its next answer on",
    }
}

/// What is shown of them, here and on the status page.
pub fn disputes(rows: &[(IndexPath, DecisionRow)]) -> Vec<Dispute> {
    rows.iter().map(|(path, row)| dispute(path, row)).collect()
}

fn dispute(path: &IndexPath, row: &DecisionRow) -> Dispute {
    let spelled = IndexLine::parse(&row.line, path).map(|line| line.name.into_owned());
    let krate = spelled.unwrap_or_else(|_| path.file_name().to_owned());
    let since = site::date(u64::try_from(row.decided_at).unwrap_or_default());
    let at = format!("{krate}@{}", row.vers);
    let new = row.new_checksum.map(|checksum| checksum.to_hex());
    let (what, can) = match (row.kind, &new) {
        (DecisionKind::Removed, _) => (
            format!("removed upstream on {since} and left out"),
            format!("mirror keep {at} publishes it again"),
        ),
        (DecisionKind::HeldChecksum, new) => (
            format!(
                "upstream changed its checksum on {since} to {}; the old line is served",
                new.as_deref().unwrap_or("another")
            ),
            format!("mirror accept {at} takes the new one, mirror keep {at} stays with the old"),
        ),
        (DecisionKind::HeldRemoval, _) => (
            format!("gone upstream on {since} with too many other crates at once; still served"),
            format!("mirror accept {at} leaves it out, mirror keep {at} stays with it"),
        ),
        (DecisionKind::Kept, Some(new)) => (
            format!("kept on {since} with the old checksum; upstream's was {new}"),
            format!("mirror accept {at} takes upstream's"),
        ),
        (DecisionKind::Kept, None) => (
            format!("kept on {since}, whatever upstream says"),
            format!("mirror accept {at} lets upstream decide again"),
        ),
        (DecisionKind::Accepted, _) => (
            format!("accepted on {since}; done with upstream's next answer"),
            format!("mirror keep {at} stays with what was here"),
        ),
    };
    Dispute {
        version: row.vers.clone(),
        state: row.kind.as_str(),
        checksum: Some(row.checksum.to_hex()),
        new_checksum: new,
        site: None,
        krate,
        since,
        what,
        can,
    }
}

/// Nothing can be done about it here but to let it be brought.
fn decided_outside(site: &str, decision: &SiteDecision) -> Dispute {
    let krate = decision.path.file_name().to_owned();
    let since = site::date(decision.decided_at.unsigned_abs());
    let what = match decision.kind {
        DecisionKind::Removed => "removed upstream and left out",
        DecisionKind::HeldChecksum => "held, since upstream changed its checksum",
        DecisionKind::HeldRemoval => "held, since it went upstream with too many others at once",
        DecisionKind::Kept => "kept, whatever upstream says",
        DecisionKind::Accepted => "accepted as upstream has it",
    };
    Dispute {
        what: format!("{what}, on {since} on the mirror outside that its bundles call {site}"),
        can: "what is decided there comes with its next bundle".to_owned(),
        version: decision.vers.clone(),
        state: decision.kind.as_str(),
        checksum: decision.checksum.map(|checksum| checksum.to_hex()),
        new_checksum: decision.new_checksum.map(|checksum| checksum.to_hex()),
        site: Some(site.to_owned()),
        krate,
        since,
    }
}

#[cfg(test)]
mod tests {
    use registry::Checksum;

    use super::*;

    fn row(kind: DecisionKind, new: bool) -> DecisionRow {
        let checksum = Checksum::of(b"old");
        let line = format!(r#"{{"name":"Serde","vers":"1.0.0","deps":[],"cksum":"{checksum}","features":{{}}}}"#);
        DecisionRow {
            vers: "1.0.0".to_owned(),
            kind,
            whole_crate: false,
            line: line.into_bytes(),
            held_line: new.then(|| b"new".to_vec()),
            checksum,
            new_checksum: new.then(|| Checksum::of(b"new")),
            decided_at: 86_400,
        }
    }

    #[test]
    fn each_state_says_what_can_be_done() {
        let path: IndexPath = "se/rd/serde".parse().unwrap();
        for (kind, new, commands) in [
            (DecisionKind::Removed, false, &["keep"][..]),
            (DecisionKind::HeldChecksum, true, &["accept", "keep"]),
            (DecisionKind::HeldRemoval, false, &["accept", "keep"]),
            (DecisionKind::Kept, false, &["accept"]),
            (DecisionKind::Kept, true, &["accept"]),
            (DecisionKind::Accepted, true, &["keep"]),
        ] {
            let shown = dispute(&path, &row(kind, new));
            assert_eq!(
                (&*shown.krate, &*shown.version, &*shown.since),
                ("Serde", "1.0.0", "1970-01-02")
            );
            assert!(shown.what.contains("1970-01-02"), "{shown:?}");
            assert_eq!(shown.new_checksum.is_some(), new);
            for command in commands {
                assert!(
                    shown.can.contains(&format!("mirror {command} Serde@1.0.0")),
                    "{shown:?}"
                );
            }
            assert_eq!(shown.can.matches("mirror ").count(), commands.len(), "{shown:?}");
        }
    }
}
