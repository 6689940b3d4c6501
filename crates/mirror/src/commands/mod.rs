//! One file per command.

mod doctor;
mod remote;
mod search;
mod serve;
mod sync;

pub use sync::{SyncProgress, differences_text, synced_text, words};

use crate::appliance::StartError;
use crate::cli::{Cli, Command, ConfigCommand};
use crate::client_config::{client_config, git_client_config, older_client_config};
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
        Command::Verify { .. } => sync::verify_against_upstream(settings),
        Command::Doctor => doctor::doctor(settings),
        Command::Healthcheck => remote::healthcheck(&settings),
        Command::Mode { mode } => remote::mode(&settings, *mode),
        Command::Search { query, limit, json } => search::search(&settings, &query.join(" "), *limit, *json),
        Command::Refresh { name } => remote::refresh(&settings, name),
        Command::Evict { what } => remote::evict(&settings, what),
    }
}

/// Writes to standard output; a reader that has gone is no error.
fn say(text: &str) -> Ended {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(true)
}
