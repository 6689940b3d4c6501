//! `mirror prefetch`: crate files fetched ahead of need, by a running server or without one.

mod afterwards;
mod basis;
mod failures;
mod fetching;
mod plan;
mod queue;
mod source;

use std::sync::Arc;
use std::time::Duration;

use index_sync::Ask;
use serde::{Deserialize, Serialize};

use crate::appliance::{Appliance, StartError};
use crate::commands::Job;
use crate::control::Reply;
use crate::error::chain;
use crate::selected::{Named, gather, whereabouts};
use crate::settings::Mode;
use afterwards::{Missing, beyond_budget, count_as_used, gone, make_room};
use basis::Basis;
use fetching::Fetching;
use plan::Plan;
pub use plan::size;
pub use queue::{Prefetches, begin};
use source::Source;

const TICK: Duration = Duration::from_millis(500);

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
        What::Failed => match failures::before(appliance) {
            Ok(named) if named.locked.is_empty() && named.crates.is_empty() => Ok(Reply::ok(
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
    let planning = planned(appliance, named, dry_run, watcher);
    let (plan, basis) = unless_over(appliance, watcher, planning).await?;
    let warning = plan.bytes(basis).and_then(|bytes| beyond_budget(appliance, bytes));
    if dry_run {
        return Ok(plan.dry_run(basis, warning));
    }
    watcher.announce(plan.announcement(basis, warning));
    count_as_used(appliance, plan.kept()).await?;
    let all = plan.all();
    let (wanted, missing) = plan.into_work();
    let fetching = Fetching::new(appliance, watcher, wanted.len() as u64)?;
    let fetched = fetching.run(Source::listed(wanted)).await?;
    let mut gone = gone(appliance, all, &fetched).await?;
    gone.named.splice(0..0, missing);
    Ok(fetched.reply(gone))
}

async fn planned(
    appliance: &Arc<Appliance>,
    named: Named,
    dry_run: bool,
    watcher: &impl Watcher,
) -> Result<(Plan, Basis), StartError> {
    // to follow the whole index from then on is more than a dry run may leave behind
    if named.dependencies.is_some() && !dry_run {
        want_whole_index(appliance, watcher).await?;
    }
    let gathered = gather(appliance, named, Ask::IfOld, &|words| watcher.say(words)).await?;
    let found = whereabouts(appliance, gathered.files).await?;
    if !dry_run {
        failures::remember(appliance, &found, gathered.unasked)?;
    }
    let plan = Plan::of(found, gathered.problems);
    watcher.say("finding out how large they are".to_owned());
    let basis = Basis::of(appliance, plan.wanted()).await?;
    Ok((plan, basis))
}

/// Why it makes no sense to go on.
pub fn over(appliance: &Appliance, watcher: &impl Watcher) -> Option<&'static str> {
    if appliance.stopping() {
        return Some("the server is shutting down");
    }
    watcher.is_over().then_some("nobody asked any more how it goes")
}

/// Does `work`, which is dropped where it waits when nobody wants it any more.
pub async fn unless_over<T>(
    appliance: &Appliance,
    watcher: &impl Watcher,
    work: impl Future<Output = Result<T, StartError>>,
) -> Result<T, StartError> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(TICK) => {}
        }
        if let Some(why) = over(appliance, watcher) {
            return Err(format!("it was ended before its time: {why}").into());
        }
    }
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
    if !dry_run {
        appliance.index.want_whole();
    }
    let counting = async {
        sync(appliance, watcher).await?;
        let (source, count) = Source::whole(appliance, watcher).await?;
        let words = count.in_words(appliance).await?;
        Ok((source, count, words))
    };
    let (source, count, words) = unless_over(appliance, watcher, counting).await?;
    if dry_run {
        return Ok(Reply::ok("").with_report(words));
    }
    watcher.announce(words);
    let fetching = Fetching::new(appliance, watcher, count.to_fetch)?;
    let fetched = fetching.run(source).await?;
    let mut missing = Missing::default();
    if appliance.settings.cache.max_bytes.is_some() && !fetched.is_given_up() {
        make_room(appliance).await?;
        let (_, left) = unless_over(appliance, watcher, Source::whole(appliance, watcher)).await?;
        missing.unnamed = left.to_fetch.saturating_sub(fetched.failures());
    }
    Ok(fetched.reply(missing))
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

/// A round that has begun comes to its end, also when nobody waits for it any more.
async fn sync(appliance: &Arc<Appliance>, watcher: &impl Watcher) -> Result<(), StartError> {
    let own = Arc::clone(appliance);
    let mut round = tokio::spawn(async move { own.index.sync_once(|_| ()).await });
    loop {
        tokio::select! {
            done = &mut round => {
                done??;
                return Ok(());
            }
            () = tokio::time::sleep(TICK) => {}
        }
        if let Some(status) = appliance.index.follow_status() {
            watcher.say(crate::commands::words(&status));
        }
    }
}
