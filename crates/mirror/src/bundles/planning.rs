//! What goes into an export: chosen, fetched where it is lacking, compared with what the office has, and written down.

use std::collections::BTreeSet;
use std::sync::Arc;

use bundle::Id;
use index_sync::{Ask, StateKind, TreeId};
use metadata_db::{ExportScope, NewExport};
use registry::{Checksum, CrateName, IndexPath};
use selection::Selected;
use serde::{Deserialize, Serialize};

use super::decided;
use super::had::{Had, Since};
use super::planned::{self, Plan};
use crate::appliance::{Appliance, StartError};
use crate::cli::IndexScope;
use crate::clock::unix_now;
use crate::commands::{Job, Jobs};
use crate::control::Reply;
use crate::error::chain;
use crate::prefetch::{What, Wish, prefetch, size};
use crate::selected::{Found, Named, Whereabouts, gather, whereabouts};

/// What somebody wants to carry away.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExportWish {
    /// What is named; with nothing named and pinned, all that is kept.
    pub named: Option<Named>,
    /// Sets of crate files.
    pub pinned: Vec<String>,
    /// What the office has already.
    pub since: Option<Since>,
    /// How much of the index goes along.
    pub scope: IndexScope,
    /// Only say what would be carried.
    pub dry_run: bool,
    /// Leave out what cannot be had.
    pub allow_missing: bool,
}

/// What is meant.
#[derive(Debug, Default)]
struct Chosen {
    /// By checksum, each once.
    files: Vec<(Checksum, u64)>,
    /// The index files of their crates.
    paths: BTreeSet<IndexPath>,
    /// Not kept yet; looked at in a dry run alone.
    to_fetch: Vec<Selected>,
    /// What cannot be had, one line each.
    missing: Vec<String>,
    /// What there is not, and need not be.
    unknown: Vec<CrateName>,
}

/// Begins to plan an export, in the background. Its job ends with the id of the bundle as the message.
pub fn begin_export(appliance: &Arc<Appliance>, wish: ExportWish) -> Reply {
    Jobs::begin(appliance, "an export", |own, job| async move {
        let planned = plan(&own, wish, &job).await;
        planned.unwrap_or_else(|error| Reply::failed(chain(&*error)))
    })
}

/// The bundle is written: from now on it counts.
pub async fn finish_export(appliance: &Arc<Appliance>, id: Id) -> Result<Reply, StartError> {
    let own = Arc::clone(appliance);
    tokio::task::spawn_blocking(move || {
        if !own.decisions.finish_export(&id.to_string(), unix_now())? {
            return Ok(Reply::failed("this export was given up meanwhile: begin it anew"));
        }
        log::info!("bundle {id} was exported by command");
        Ok(Reply::ok(""))
    })
    .await?
}

async fn plan(appliance: &Arc<Appliance>, wish: ExportWish, job: &Job) -> Result<Reply, StartError> {
    forget_abandoned(appliance).await?;
    let had = blocking(appliance, {
        let since = wish.since.clone();
        move |appliance| Had::of(appliance, since.as_ref())
    })
    .await?;
    let mut chosen = choose(appliance, &wish, job).await?;
    if wish.dry_run {
        return would_carry(appliance, &wish, &chosen, &had).await;
    }
    if !chosen.missing.is_empty() && !wish.allow_missing {
        return Ok(refused(&chosen.missing));
    }
    let missing = std::mem::take(&mut chosen.missing);
    job.say("writing down the state of the index".to_owned());
    let tree = state(appliance, wish.scope, &chosen, &had).await?;
    chosen
        .files
        .retain(|(checksum, _)| had.files.binary_search(checksum).is_err());
    let plan = entered(appliance, &wish, &chosen, &had, tree, missing.len()).await?;
    let unknown = chosen.unknown.iter().map(unknown_text);
    let mut lines: Vec<String> = missing.iter().cloned().chain(unknown).collect();
    lines.iter_mut().for_each(|line| line.insert_str(0, "  left out: "));
    lines.insert(0, in_words(appliance, wish.scope, &chosen, &had));
    Ok(Reply::ok(plan.id.to_string()).with_report(lines.join("\n")))
}

/// Does `work` where blocking is allowed.
async fn blocking<T: Send + 'static>(
    appliance: &Arc<Appliance>,
    work: impl FnOnce(&Appliance) -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    let own = Arc::clone(appliance);
    tokio::task::spawn_blocking(move || work(&own)).await?
}

/// Exports whose writer is gone count for nothing, and need nothing any more.
async fn forget_abandoned(appliance: &Arc<Appliance>) -> Result<(), StartError> {
    let swept = blocking(appliance, |appliance| Ok(planned::sweep(appliance.data_dir())?)).await?;
    for id in swept {
        // one that was finished keeps its state: a later one may continue it
        if appliance.decisions.abandon_export(&id)? {
            appliance.index.forget_state(StateKind::Export, &id).await?;
        }
    }
    Ok(())
}

async fn choose(appliance: &Arc<Appliance>, wish: &ExportWish, job: &Job) -> Result<Chosen, StartError> {
    let mut chosen = if wish.named.is_none() && wish.pinned.is_empty() {
        blocking(appliance, everything).await?
    } else {
        named(appliance, wish, job).await?
    };
    chosen.files.sort_unstable();
    chosen.files.dedup();
    Ok(chosen)
}

fn everything(appliance: &Appliance) -> Result<Chosen, StartError> {
    let mut chosen = Chosen::default();
    let mut checksums = Vec::new();
    appliance.metadata.for_each_kept(|row| {
        chosen.paths.insert(IndexPath::of(&row.name));
        checksums.push(row.checksum);
    })?;
    for checksum in checksums {
        if let Some(kept) = appliance.cache.kept(&checksum)? {
            chosen.files.push((checksum, kept.size_bytes));
        }
    }
    if chosen.files.is_empty() && appliance.index.status().files == 0 {
        return Err(format!(
            "nothing is kept in {}: there is nothing to export",
            appliance.data_dir().display()
        )
        .into());
    }
    Ok(chosen)
}

async fn named(appliance: &Arc<Appliance>, wish: &ExportWish, job: &Job) -> Result<Chosen, StartError> {
    let mut named = wish.named.clone().unwrap_or_default();
    named.locked.extend(pinned(appliance, &wish.pinned)?);
    if !wish.dry_run && !appliance.is_offline() {
        let fetch = Wish {
            what: What::Named(named.clone()),
            dry_run: false,
        };
        // what could not be fetched is found missing below
        prefetch(appliance, fetch, job).await;
    }
    let mut chosen = Chosen::default();
    // one that has gone from the index goes from the office's too
    let specs = named.crates.iter().map(|spec| IndexPath::of(&spec.name));
    chosen.paths.extend(specs);
    let gathered = gather(appliance, named, Ask::IfOld, &|words| job.say(words)).await?;
    chosen.missing = gathered.problems.iter().map(ToString::to_string).collect();
    chosen.unknown = gathered.unknown;
    for Found { selected, whereabouts } in whereabouts(appliance, gathered.files).await? {
        chosen.paths.insert(IndexPath::of(&selected.name));
        match whereabouts {
            Whereabouts::Kept { checksum, size_bytes } => chosen.files.push((checksum, size_bytes)),
            Whereabouts::NotKept { .. } if wish.dry_run && !appliance.is_offline() => chosen.to_fetch.push(selected),
            other => chosen.missing.push(format!("{selected}: {other}")),
        }
    }
    Ok(chosen)
}

fn pinned(appliance: &Appliance, names: &[String]) -> Result<Vec<Selected>, StartError> {
    let mut pins = appliance.decisions.pins()?;
    pins.retain(|pin| names.contains(&pin.name));
    if let Some(unknown) = names.iter().find(|name| pins.iter().all(|pin| pin.name != **name)) {
        return Err(format!("{unknown}: there is no such pin; `mirror pins` lists them").into());
    }
    let files = pins.into_iter().flat_map(|pin| pin.files);
    let selected = files.map(|file| Selected {
        name: file.name,
        version: file.version,
        checksum: Some(file.checksum),
    });
    Ok(selected.collect())
}

async fn state(appliance: &Appliance, scope: IndexScope, chosen: &Chosen, had: &Had) -> Result<TreeId, StartError> {
    let (only, base) = match scope {
        IndexScope::Full => (None, None),
        IndexScope::Selected => (Some(chosen.paths.iter().cloned().collect()), had.tree),
    };
    Ok(appliance.index.state_of_published(only, base).await?)
}

/// Enters the export in the ledger, and writes its plan for whoever writes the bundle.
async fn entered(
    appliance: &Arc<Appliance>,
    wish: &ExportWish,
    chosen: &Chosen,
    had: &Had,
    tree: TreeId,
    missing: usize,
) -> Result<Plan, StartError> {
    let id = Id::random()?;
    let name = id.to_string();
    appliance
        .index
        .keep_state(StateKind::Export, &name, tree, &format!("Exported as bundle {id}"))
        .await?;
    let export = for_ledger(name, wish.scope, chosen, had, tree);
    let parent = had.continued()?;
    let upstream = appliance.index.upstream_commit()?;
    let (scope, base, files) = (wish.scope, had.tree, chosen.files.clone());
    blocking(appliance, move |appliance| {
        let checksums = files.iter().map(|(checksum, _)| *checksum);
        let Some(serial) = appliance.decisions.begin_export(&export, checksums)? else {
            return Err("the bundle that this one was to continue is not in the ledger of exports".into());
        };
        let mut plan = Plan {
            id,
            site: appliance.decisions.own_site()?.parse()?,
            serial,
            parent,
            created_at: export.created_at,
            scope,
            tree: tree.to_string().parse()?,
            base: base.map(|base| base.to_string().parse()).transpose()?,
            whole: upstream.is_some() && appliance.index.follow_status().is_some(),
            upstream: upstream.map(|commit| commit.to_string().parse()).transpose()?,
            missing: missing as u64,
            decisions: None,
        };
        let decisions = decided::in_force(appliance)?;
        // from here on none of them is evicted
        let _nothing_goes = appliance.budget.lock();
        plan.write(appliance.data_dir(), &files, decisions)?;
        Ok(plan)
    })
    .await
}

fn for_ledger(id: String, scope: IndexScope, chosen: &Chosen, had: &Had, tree: TreeId) -> NewExport {
    NewExport {
        id,
        parent: had.parent.as_ref().map(|parent| parent.export.id.clone()),
        created_at: unix_now(),
        scope: Some(match scope {
            IndexScope::Full => ExportScope::Full,
            IndexScope::Selected => ExportScope::Selected,
        }),
        tree: Some(tree.to_string()),
        crate_files: chosen.files.len() as u64,
        crate_bytes: chosen.files.iter().map(|(_, size)| size).sum(),
    }
}

fn unknown_text(name: &CrateName) -> String {
    format!("{name}: the index has no such crate")
}

fn refused(missing: &[String]) -> Reply {
    let lines: Vec<String> = missing.iter().map(|line| format!("  missing: {line}")).collect();
    let what = match missing.len() {
        1 => "1 of what was named cannot be had".to_owned(),
        missing => format!("{missing} of what was named cannot be had"),
    };
    Reply::failed(format!(
        "{what}, so nothing was written; --allow-missing writes a bundle without it"
    ))
    .with_report(lines.join("\n"))
}

async fn would_carry(
    appliance: &Arc<Appliance>,
    wish: &ExportWish,
    chosen: &Chosen,
    had: &Had,
) -> Result<Reply, StartError> {
    let mut fresh = Chosen {
        files: chosen.files.clone(),
        ..Chosen::default()
    };
    fresh
        .files
        .retain(|(checksum, _)| had.files.binary_search(checksum).is_err());
    let tree = state(appliance, wish.scope, chosen, had).await?;
    let base = had.tree;
    let changed = blocking(appliance, move |appliance| {
        Ok(appliance.index.tree().changes_between(base, tree)?.len())
    })
    .await?;
    let mut report = in_words(appliance, wish.scope, &fresh, had);
    report.push_str(&format!("\n{changed} index files would go along"));
    for file in &chosen.to_fetch {
        report.push_str(&format!("\n  to fetch: {file}"));
    }
    for name in &chosen.unknown {
        report.push_str(&format!("\n  left out: {}", unknown_text(name)));
    }
    for line in &chosen.missing {
        report.push_str(&format!("\n  missing: {line}"));
    }
    let reply = match chosen.missing.len() {
        0 => Reply::ok(""),
        _ if wish.allow_missing => Reply::ok(""),
        missing => Reply::failed(format!("{missing} of what was named cannot be had")),
    };
    Ok(reply.with_report(report))
}

/// What there is to say before a bundle is written.
fn in_words(appliance: &Appliance, scope: IndexScope, chosen: &Chosen, had: &Had) -> String {
    let bytes = chosen.files.iter().map(|(_, size)| size).sum();
    let mut words = format!("{} crate files, {}", chosen.files.len(), size(bytes));
    if let Some(parent) = &had.parent {
        words.push_str(&format!(
            ", beyond what bundle {} (serial {}) brought",
            parent.export.id, parent.serial
        ));
    }
    if let Some(remark) = &had.remark {
        words.push_str(&format!("\n{remark}"));
    }
    let follows = appliance.index.follow_status().is_some_and(|status| status.synced);
    if scope == IndexScope::Full && !follows {
        words.push_str(&format!(
            "\nthe index has only the {} files that were asked for here, since this mirror does not follow the whole index: \
             `mirror sync` brings it",
            appliance.index.status().files
        ));
    }
    words
}
