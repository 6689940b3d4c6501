//! `mirror prefetch`: crate files fetched ahead of need, by a running server or without one.

mod basis;
mod fetching;
mod plan;
mod source;

use std::sync::Arc;

use index_sync::Ask;
use serde::{Deserialize, Serialize};

use crate::appliance::{Appliance, StartError};
use crate::commands::Job;
use crate::control::Reply;
use crate::error::chain;
use crate::selected::{Named, gather, whereabouts};
use crate::settings::Mode;
use basis::Basis;
use fetching::Fetching;
use plan::Plan;
pub use plan::size;
use source::Source;

/// What is to be fetched.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wish {
    /// Which crate files.
    pub what: What,
    /// Only say how many there are.
    pub dry_run: bool,
}

/// Which crate files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum What {
    /// Those that are named.
    Named(Named),
    /// Those that could not be fetched before.
    Failed,
    /// All of upstream's.
    All {
        /// How upstream reaches the operator.
        contact: String,
    },
}

/// Who hears how it goes, and may end it.
pub trait Watcher: Sync {
    /// How far it is.
    fn say(&self, words: String);
    /// What is to be printed before it begins.
    fn announce(&self, text: String);
    /// Whether nobody wants it any more.
    fn is_over(&self) -> bool;
}

impl Watcher for Job {
    fn say(&self, words: String) {
        self.say(words);
    }

    fn announce(&self, text: String) {
        self.announce(text);
    }

    fn is_over(&self) -> bool {
        self.is_abandoned()
    }
}

/// Fetches; the reply's report is for standard output.
pub async fn prefetch(appliance: &Arc<Appliance>, wish: Wish, watcher: &impl Watcher) -> Reply {
    let done = match wish.what {
        What::Named(named) => prefetch_named(appliance, named, wish.dry_run, watcher).await,
        What::Failed => match failed_before(appliance) {
            Ok(named) if named.locked.is_empty() => Ok(Reply::ok(
                "nothing is left over from before; say what to fetch by --lockfile, --crate, --list, --latest or --all",
            )),
            Ok(named) => prefetch_named(appliance, named, wish.dry_run, watcher).await,
            Err(error) => Err(error),
        },
        What::All { contact } => prefetch_all(appliance, &contact, wish.dry_run, watcher).await,
    };
    done.unwrap_or_else(|error| Reply::failed(chain(&*error)))
}

async fn prefetch_named(
    appliance: &Arc<Appliance>,
    named: Named,
    dry_run: bool,
    watcher: &impl Watcher,
) -> Result<Reply, StartError> {
    if named.dependencies.is_some() {
        want_whole_index(appliance, watcher).await?;
    }
    let (files, problems) = gather(appliance, named, Ask::IfOld, &|words| watcher.say(words)).await?;
    let plan = Plan::of(whereabouts(appliance, files).await?, problems);
    watcher.say("finding out how large they are".to_owned());
    let basis = Basis::of(appliance, plan.wanted()).await?;
    if dry_run {
        return Ok(plan.dry_run(basis));
    }
    watcher.announce(plan.announcement(basis));
    let (wanted, missing) = plan.into_work();
    let fetching = Fetching::new(appliance, watcher, wanted.len() as u64)?;
    Ok(fetching.run(Source::listed(wanted)).await?.reply(missing))
}

/// As of now: the versions, whatever their checksum has become.
fn failed_before(appliance: &Appliance) -> Result<Named, StartError> {
    let failures = appliance.metadata.prefetch_failures()?.into_iter();
    let locked = failures.map(|failure| selection::Selected {
        name: failure.name,
        version: failure.version,
        checksum: None,
    });
    Ok(Named {
        locked: locked.collect(),
        ..Named::default()
    })
}

async fn prefetch_all(
    appliance: &Arc<Appliance>,
    contact: &str,
    dry_run: bool,
    watcher: &impl Watcher,
) -> Result<Reply, StartError> {
    if appliance.index.follow_status().is_none() {
        return Err("all of upstream is listed by its git repository alone, and upstream.git is empty".into());
    }
    let _named = appliance.name_contact(contact)?;
    appliance.index.want_whole();
    sync(appliance, watcher).await?;
    let (source, count) = Source::whole(appliance, watcher).await?;
    let words = count.in_words(appliance).await?;
    if dry_run {
        return Ok(Reply::ok("").with_report(words));
    }
    watcher.announce(words);
    let fetching = Fetching::new(appliance, watcher, count.to_fetch)?;
    Ok(fetching.run(source).await?.reply(Vec::new()))
}

/// Dependencies are many: who asks for them wants the whole index, which answers without asking upstream for each. Until it is here
/// single files are asked for, where upstream has them.
async fn want_whole_index(appliance: &Arc<Appliance>, watcher: &impl Watcher) -> Result<(), StartError> {
    appliance.index.want_whole();
    let single_files = appliance.settings.upstream.sparse.is_some();
    let followed = appliance.index.follow_status();
    if followed.is_none() || single_files || appliance.mode() == Mode::Offline {
        return Ok(());
    }
    sync(appliance, watcher).await
}

async fn sync(appliance: &Arc<Appliance>, watcher: &impl Watcher) -> Result<(), StartError> {
    let say = |status: &index_sync::FollowStatus| watcher.say(crate::commands::words(status));
    appliance.index.sync_once(say).await?;
    Ok(())
}
