//! What only the one process does that has the data directory: it takes in what a command has staged, and publishes it.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bundle::{DecisionLines, IndexSummary, Manifest, PartSet, Records, Scope};
use index_sync::{Counted, ImportChanges, StateKind, TreeId};
use metadata_db::{EndedImport, ImportCounts, ImportResult, ImportRow, SiteDecision};
use registry::Checksum;
use serde::{Deserialize, Serialize};

use super::arrival::{Arrival, Standing, standing};
use super::planned::files_in;
use super::{decided, folders, recording};
use crate::appliance::{Appliance, StartError};
use crate::clock::unix_now;
use crate::commands::{Job, Jobs};
use crate::control::Reply;
use crate::error::chain;
use crate::prefetch::size;

/// So many files are taken in between two words of progress.
const BATCH: usize = 512;
/// So many names are shown of each kind of change.
const SHOWN: usize = 20;

/// Names of staged files, beside the crate files.
pub mod staged {
    /// What becomes of the index.
    pub const CHANGES: &str = "changes.gz";
    /// What was decided outside.
    pub const DECISIONS: &str = "decisions.jsonl.gz";

    /// The manifest of a part: it is there once all of the part is.
    pub fn manifest(part: u16) -> String {
        format!("MANIFEST.{part}.json")
    }

    /// The crate files of a part.
    pub fn files(part: u16) -> String {
        format!("files.{part}")
    }
}

/// Takes in a bundle all of whose parts are staged, in the background.
pub fn begin_import(appliance: &Arc<Appliance>, arrival: Arrival) -> Reply {
    Jobs::begin(appliance, "an import", |own, job| async move {
        let done = import(&own, &arrival, &job).await;
        or_refused(&own, &arrival, done).await
    })
}

/// Says what a bundle would change in the index, in the background. Its index payload is staged.
/// Its folder is another one than that of an import.
pub fn begin_comparison(appliance: &Arc<Appliance>, arrival: Arrival, folder: String) -> Reply {
    Jobs::begin(
        appliance,
        "a look at what an import would change",
        |own, job| async move {
            let compared = compare(&own, &arrival, &folder, &job).await;
            compared.unwrap_or_else(|error| Reply::failed(chain(&*error)))
        },
    )
}

/// A failure is one row in the log, too.
async fn or_refused(appliance: &Arc<Appliance>, arrival: &Arrival, done: Result<Reply, StartError>) -> Reply {
    let reply = done.unwrap_or_else(|error| Reply::failed(chain(&*error)));
    if !reply.ok {
        let row = arrival.row(
            ImportResult::Refused,
            Some(reply.message.clone()),
            ImportCounts::default(),
        );
        let own = Arc::clone(appliance);
        let logged = tokio::task::spawn_blocking(move || own.decisions.log_import(&row)).await;
        if !matches!(logged, Ok(Ok(()))) {
            log::error!("a refused import could not be written into the log of imports");
        }
    }
    reply
}

/// All parts of a bundle, as they are staged.
struct Staged {
    folder: PathBuf,
    index: Option<IndexSummary>,
    files: Vec<(Checksum, u64)>,
    /// What was decided outside, if it says something of the index: read before anything of it is published.
    decisions: Option<Vec<SiteDecision>>,
}

impl Staged {
    fn open(data_dir: &Path, arrival: &Arrival) -> Result<Self, StartError> {
        let folder = folders::staged(data_dir, &arrival.id.to_string());
        let (mut index, mut files) = (None, Vec::new());
        // they may have come by several commands
        let mut parts = PartSet::new();
        for part in 1..=arrival.parts {
            let manifest = manifest(&folder, arrival, part)?;
            let of_part = files_in(&folder.join(staged::files(part)))?;
            if of_part.len() as u64 != manifest.part_crates.files {
                return Err(format!("part {part} is not staged as a whole").into());
            }
            files.extend(of_part);
            parts.add(manifest.clone())?;
            index = manifest.bundle.index;
        }
        let decisions = match &index {
            Some(_) => Some(decisions_in(&folder.join(staged::DECISIONS))?),
            None => None,
        };
        Ok(Self {
            folder,
            index,
            files,
            decisions,
        })
    }

    /// Of part 1 what is not crate files.
    fn index_of(folder: PathBuf, arrival: &Arrival) -> Result<Self, StartError> {
        let index = manifest(&folder, arrival, 1)?.bundle.index;
        Ok(Self {
            folder,
            index,
            files: Vec::new(),
            decisions: None,
        })
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, size)| size).sum()
    }

    /// The state that the bundle comes to, made of objects that nobody sees yet.
    async fn state(&self, appliance: &Appliance, arrival: &Arrival) -> Result<Option<States>, StartError> {
        let Some(index) = &self.index else {
            return Ok(None);
        };
        let base = match arrival.parent {
            Some(parent) => appliance.index.state(StateKind::Import, &parent.id.to_string())?,
            None => None,
        };
        let continues = arrival.parent.is_some();
        let changes: Box<dyn Iterator<Item = _> + Send> = match index.files {
            0 => Box::new(std::iter::empty()),
            _ => {
                let file = BufReader::with_capacity(256 << 10, File::open(self.folder.join(staged::CHANGES))?);
                Box::new(Records::new(file, index, continues))
            }
        };
        let bundle = appliance.index.stage_state(base, changes).await?;
        if bundle.to_string() != index.tree.as_str() {
            return Err(format!(
                "the index would come to {bundle}, and MANIFEST.json says {}: the bundle does not continue what is here",
                index.tree
            )
            .into());
        }
        let site = appliance.index.state(StateKind::Site, &arrival.site.to_string())?;
        let next = match index.scope {
            Scope::Full => bundle,
            Scope::Selected => appliance.index.state_laid_over(site, base, bundle).await?,
        };
        Ok(Some(States { site, bundle, next }))
    }
}

fn manifest(folder: &Path, arrival: &Arrival, part: u16) -> Result<Manifest, StartError> {
    let manifest = std::fs::read(folder.join(staged::manifest(part)));
    let manifest = manifest.map_err(|error| format!("part {part} is not staged: {error}"))?;
    let manifest = Manifest::parse(&manifest)?;
    if manifest.bundle.id != arrival.id || manifest.part != part || manifest.parts != arrival.parts {
        return Err(format!("what is staged as part {part} belongs to another bundle").into());
    }
    Ok(manifest)
}

/// States of the index of a site.
struct States {
    /// What was imported from it before.
    site: Option<TreeId>,
    /// What the bundle says.
    bundle: TreeId,
    /// What the site has come to with it.
    next: TreeId,
}

async fn import(appliance: &Arc<Appliance>, arrival: &Arrival, job: &Job) -> Result<Reply, StartError> {
    let Ok(_one_at_a_time) = appliance.bundles.importing.try_lock() else {
        return Err("another import is coming to its end in this mirror: try again when it is done".into());
    };
    let (own, known) = (Arc::clone(appliance), arrival.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let standing = standing(&own, &known)?;
        Ok::<_, StartError>((standing, Staged::open(own.data_dir(), &known)))
    });
    let staged = match opened.await?? {
        (Standing::Goes, staged) => staged?,
        (Standing::Unchanged(text), _) => return Ok(Reply::ok("").with_report(text)),
        (Standing::Refused(why), _) => return Ok(Reply::failed(why)),
    };
    job.say("putting the index together".to_owned());
    let states = staged.state(appliance, arrival).await?;
    let id = arrival.id.to_string();
    let message = format!("Import bundle {id}, serial {} of site {}", arrival.serial, arrival.site);
    if let Some(states) = &states {
        appliance
            .index
            .keep_state(StateKind::Import, &id, states.bundle, &message)
            .await?;
    }
    take_in(appliance, &staged, job).await?;
    job.say("publishing the index".to_owned());
    let changes = match &states {
        Some(states) => {
            let site = arrival.site.to_string();
            Some(appliance.index.publish_state(&site, states.next, &message).await?)
        }
        None => None,
    };
    let text = ended(appliance, arrival, staged, changes).await?;
    log::info!(
        "bundle {id} (serial {}) was imported by {}",
        arrival.serial,
        arrival.who
    );
    Ok(Reply::ok("").with_report(text))
}

async fn take_in(appliance: &Arc<Appliance>, staged: &Staged, job: &Job) -> Result<(), StartError> {
    let mut done = 0;
    for batch in staged.files.chunks(BATCH) {
        let (own, folder, batch) = (Arc::clone(appliance), staged.folder.clone(), batch.to_vec());
        done += batch.len();
        tokio::task::spawn_blocking(move || own.cache.take_in(&folder, &batch)).await??;
        job.say(format!("took in {done} of {} crate files", staged.files.len()));
    }
    Ok(())
}

/// Writes down that all of it is here, and cleans up.
async fn ended(
    appliance: &Arc<Appliance>,
    arrival: &Arrival,
    staged: Staged,
    changes: Option<ImportChanges>,
) -> Result<String, StartError> {
    let counts = counts(&staged, changes.as_ref());
    let row = arrival.row(ImportResult::Imported, None, counts);
    let own = Arc::clone(appliance);
    let files = staged.files.clone();
    let text = tokio::task::spawn_blocking(move || {
        let ended = EndedImport {
            row: &row,
            decisions: staged.decisions.as_deref(),
        };
        let checksums = staged.files.iter().map(|(checksum, _)| *checksum);
        own.decisions.end_import(&ended, checksums)?;
        // what a failure leaves here goes with the next import
        if let Err(error) = std::fs::remove_dir_all(&staged.folder) {
            log::warn!("{} could not be removed: {error}", staged.folder.display());
        }
        let mut text = format!("{} crate files, {}", staged.files.len(), size(staged.bytes()));
        if let Some(changes) = &changes {
            text.push_str(&format!("\n{}", changes_text(changes)));
        }
        Ok::<_, StartError>(text)
    })
    .await??;
    recording::begin(appliance, files);
    Ok(text)
}

fn counts(staged: &Staged, changes: Option<&ImportChanges>) -> ImportCounts {
    let counts = ImportCounts {
        crate_files: staged.files.len() as u64,
        crate_bytes: staged.bytes(),
        ..ImportCounts::default()
    };
    let Some(changes) = changes else {
        return counts;
    };
    ImportCounts {
        new_versions: changes.new_versions.count + changes.new_crates.count,
        yanked: changes.yanked.count,
        removed: changes.removed_versions.count,
        changed: changes.changed_checksums.count + changes.held_checksums.count,
        ..counts
    }
}

fn decisions_in(path: &Path) -> Result<Vec<SiteDecision>, StartError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let decisions = DecisionLines::new(BufReader::new(file));
    Ok(decisions
        .map(|decision| decision.map(decided::of_site))
        .collect::<Result<_, _>>()?)
}

async fn compare(appliance: &Arc<Appliance>, arrival: &Arrival, folder: &str, job: &Job) -> Result<Reply, StartError> {
    let staged = Staged::index_of(folders::staged(appliance.data_dir(), folder), arrival)?;
    job.say("putting the index together".to_owned());
    let Some(states) = staged.state(appliance, arrival).await? else {
        return Ok(Reply::ok("").with_report("the index would stay as it is".to_owned()));
    };
    let changes = appliance.index.compare_with_published(states.site, states.next).await?;
    Ok(Reply::ok("").with_report(changes_text(&changes)))
}

/// What an import changes in the index.
fn changes_text(changes: &ImportChanges) -> String {
    let kinds: [(&str, &Counted); 8] = [
        ("new crates", &changes.new_crates),
        ("new versions", &changes.new_versions),
        ("yanked", &changes.yanked),
        ("no longer yanked", &changes.unyanked),
        ("crates removed", &changes.removed_crates),
        ("versions removed", &changes.removed_versions),
        ("with another checksum", &changes.changed_checksums),
        (
            "another checksum is held back until `mirror accept`",
            &changes.held_checksums,
        ),
    ];
    let mut lines = Vec::new();
    for (what, counted) in kinds.into_iter().filter(|(_, counted)| counted.count > 0) {
        let names = &counted.names[..counted.names.len().min(SHOWN)];
        let mut line = format!("  {what}: {}: {}", counted.count, names.join(", "));
        if counted.count > names.len() as u64 {
            line.push_str(", …");
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return "nothing changes in the index".to_owned();
    }
    lines.insert(0, "in the index:".to_owned());
    lines.join("\n")
}

/// Crate files that came without a bundle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Loose {
    /// The folder they are staged in.
    pub folder: String,
    /// Who gave the command.
    pub who: String,
}

/// Takes in staged crate files that the published index lists: the command has compared them. Blocks.
pub fn import_files(appliance: &Arc<Appliance>, loose: &Loose) -> Result<Reply, StartError> {
    let folder = folders::staged(appliance.data_dir(), &loose.folder);
    let files = files_in(&folder.join(staged::files(1)))?;
    let taken = appliance.cache.take_in(&folder, &files)?;
    let bytes = files.iter().map(|(_, size)| size).sum();
    let row = ImportRow {
        at: unix_now(),
        bundle: None,
        key_id: None,
        who: loose.who.clone(),
        result: ImportResult::Files,
        why: None,
        counts: ImportCounts {
            crate_files: files.len() as u64,
            crate_bytes: bytes,
            ..ImportCounts::default()
        },
    };
    let checksums = files.iter().map(|(checksum, _)| *checksum);
    appliance.decisions.end_import_of_files(&row, checksums)?;
    std::fs::remove_dir_all(&folder)?;
    recording::begin(appliance, files.clone());
    Ok(Reply::ok("").with_report(format!(
        "{} crate files, {}: {taken} of them are new here",
        files.len(),
        size(bytes)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_and_some_are_named() {
        let none = ImportChanges::default();
        assert_eq!(changes_text(&none), "nothing changes in the index");
        let names: Vec<String> = (0..30).map(|at| format!("krate-{at}")).collect();
        let some = ImportChanges {
            new_crates: Counted { count: 30, names },
            yanked: Counted {
                count: 1,
                names: vec!["serde 1.0.0".to_owned()],
            },
            ..ImportChanges::default()
        };
        let text = changes_text(&some);
        assert!(
            text.contains("new crates: 30: krate-0, ") && text.contains("krate-19, …"),
            "{text}"
        );
        assert!(
            text.ends_with("  yanked: 1: serde 1.0.0") && !text.contains("removed"),
            "{text}"
        );
    }
}
