//! `mirror prefetch`: by the running server, or here if none runs.

use super::own_appliance::with_own_appliance;
use super::progress::{OwnWatcher, done_by_server};
use super::{Ended, by_lockfiles, finish};
use crate::cli::PrefetchArgs;
use crate::control::Request;
use crate::data_dir::check_format;
use crate::prefetch::{What, Wish, prefetch as fetch};
use crate::selected::{Named, NamedDependencies};
use crate::settings::Settings;

/// Fetches what is named, or what could not be fetched before if nothing is.
pub fn prefetch(settings: Settings, args: &PrefetchArgs) -> Ended {
    check_format(&settings.data_dir)?;
    let wish = wish(&settings, args)?;
    let reply = match done_by_server(&settings, &Request::Prefetch { wish: wish.clone() })? {
        Some(reply) => reply,
        None => {
            let own = OwnWatcher::new();
            let reply = with_own_appliance(settings, async |appliance| Ok(fetch(appliance, wish, &own).await));
            own.clear();
            reply?
        }
    };
    finish(&reply)
}

fn wish(settings: &Settings, args: &PrefetchArgs) -> Result<Wish, crate::appliance::StartError> {
    let nothing = args.named.is_empty() && !args.latest;
    let what = match &args.contact {
        Some(contact) if args.all => What::All {
            contact: contact.clone(),
        },
        _ if nothing && !args.with_deps => What::Failed,
        _ => {
            let (locked, crates) = by_lockfiles(settings, &args.named)?;
            What::Named(Named {
                locked,
                crates,
                latest: args.latest,
                dependencies: args.with_deps.then(|| NamedDependencies {
                    optional: args.optional,
                    dev: args.dev,
                    targets: args.target.clone(),
                }),
            })
        }
    };
    Ok(Wish {
        what,
        dry_run: args.dry_run,
    })
}
