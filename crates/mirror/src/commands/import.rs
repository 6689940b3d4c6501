//! `mirror import`: the command reads the stick and verifies it; who has the data directory takes in what came.

mod bundles;
mod checking;
mod loose;
mod receipt;
mod trust;

use super::doer::with_doer;
use super::{Ended, finish, say};
use crate::bundles::{Sources, Staging, who};
use crate::cli::ImportArgs;
use crate::control::Request;
use crate::settings::Settings;
use bundles::Session;

/// Imports what is named; or checks it; or writes the newest receipt.
pub fn import(settings: Settings, args: &ImportArgs) -> Ended {
    if let (true, Some(path)) = (args.files.is_empty(), &args.receipt) {
        return with_doer(settings, |doer, _| {
            let reply = doer.ask(Request::Receipt { site: None })?;
            if !reply.ok {
                return finish(&reply);
            }
            receipt::write(path, &reply.message)?;
            say(&format!("{}: written\n", path.display()))
        });
    }
    let sources = Sources::find(&args.files)?;
    if args.check {
        return checking::check(&sources);
    }
    with_doer(settings, |doer, settings| {
        let session = Session {
            doer,
            settings,
            args,
            staging: Staging::lock(&settings.data_dir)?,
            who: who(settings),
        };
        if !sources.bundles.is_empty() {
            session.import_bundles(&sources.bundles)?;
        }
        if sources.crates.is_empty() && sources.vendored.is_empty() {
            return Ok(true);
        }
        session.import_loose(&sources)
    })
}
