//! One file per command.

mod check;
mod decisions;
mod doctor;
mod doer;
mod export;
mod import;
mod imports;
mod jobs;
mod keys;
mod named;
mod own_appliance;
mod pins;
mod prefetch;
mod progress;
mod prune;
mod remote;
mod search;
mod serve;
mod sync;
mod transfer;
mod verify;
mod wanted;

pub use check::checked;
pub use decisions::{Dispute, Word, decide, disputes, removed_text};
pub use imports::imports_text;
pub use jobs::{Job, Jobs};
pub use pins::{carry_out_pins, pin_named};
pub use prune::{NO_BUDGET, pruned};
pub use sync::{differences_text, synced_text, words};
pub use transfer::Transfer;
pub use verify::reply as verify_reply;
pub use wanted::carry_out_wanted;

use named::{by_lockfiles, lockfile};

use crate::appliance::StartError;
use crate::cli::{Cli, Command, ConfigCommand};
use crate::client_config::{client_config, git_client_config, older_client_config};
use crate::control::Reply;
use crate::settings::{Settings, show};

/// How a command ended: `Ok(true)` is success, `Ok(false)` a failure that was reported already.
pub type Ended = Result<bool, StartError>;

/// Carries out what the command line says.
pub fn run(cli: &Cli, settings: Settings) -> Ended {
    match &cli.command {
        Command::Serve => serve::serve(settings),
        Command::Config(ConfigCommand::Show) => say(&show(&settings)),
        Command::Config(ConfigCommand::Client { git, old }) => {
            let base = settings
                .public_url
                .as_ref()
                .map_or_else(|| settings.local_url(), ToString::to_string);
            say(&match (git, old) {
                (true, _) => git_client_config(&base),
                (_, true) => older_client_config(&base),
                _ => client_config(&base),
            })
        }
        Command::Sync => sync::sync(settings),
        Command::Verify {
            against_upstream: true, ..
        } => sync::verify_against_upstream(settings),
        Command::Verify { repair, .. } => verify::verify(settings, *repair),
        Command::Prune => prune::prune(settings),
        Command::Doctor => doctor::doctor(settings),
        Command::Healthcheck => remote::healthcheck(&settings),
        Command::Mode { mode } => remote::mode(&settings, *mode),
        Command::Search { query, limit, json } => search::search(&settings, &query.join(" "), *limit, *json),
        Command::Refresh { name } => remote::refresh(&settings, name),
        Command::Removed { json } => decisions::removed(settings, *json),
        Command::Keep { what } => decisions::by_command(settings, Word::Keep, what),
        Command::Accept { what } => decisions::by_command(settings, Word::Accept, what),
        Command::Who { what } => remote::who(&settings, what),
        Command::Prefetch(args) => prefetch::prefetch(settings, args),
        Command::Check { lockfile, json } => check::check(settings, lockfile, *json),
        Command::Pin { name, named } => pins::pin(settings, name, named),
        Command::Unpin { name } => pins::unpin(settings, name),
        Command::Pins => pins::pins(settings),
        Command::Wanted { output, json, clear } => wanted::wanted(settings, output.as_deref(), *json, *clear),
        Command::Imports { json } => imports::imports(&settings, *json),
        Command::Export(args) => export::export(settings, args),
        Command::Import(args) => import::import(settings, args),
        Command::Keys(command) => keys::keys(&settings, command),
        Command::Evict { what } => remote::evict(&settings, what),
    }
}

/// What work came to: its report on standard output, and why it failed on standard error.
fn finish(reply: &Reply) -> Ended {
    for text in [&reply.report, &Some(reply.message.clone()).filter(|_| reply.ok)]
        .into_iter()
        .flatten()
    {
        if !text.is_empty() {
            say(&format!("{text}\n"))?;
        }
    }
    if reply.ok {
        Ok(true)
    } else {
        Err(reply.message.clone().into())
    }
}

/// Writes to standard output; a reader that has gone is no error.
fn say(text: &str) -> Ended {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(true)
}
