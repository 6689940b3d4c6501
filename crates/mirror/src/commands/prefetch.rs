//! `mirror prefetch`: by the running server, or here if none runs.

use std::sync::Mutex;

use super::own_appliance::with_own_appliance;
use super::progress::{Bar, watch};
use super::{Ended, by_lockfiles, finish, say};
use crate::cli::PrefetchArgs;
use crate::control::{Request, ask};
use crate::data_dir::check_format;
use crate::prefetch::{Watcher, What, Wish, prefetch as fetch};
use crate::selected::{Named, NamedDependencies};
use crate::settings::Settings;

/// Fetches what is named, or what could not be fetched before if nothing is.
pub fn prefetch(settings: Settings, args: &PrefetchArgs) -> Ended {
    check_format(&settings.data_dir)?;
    let wish = wish(&settings, args)?;
    let mut bar = Bar::new();
    let announce = |bar: &mut Bar, text: &str| {
        bar.clear();
        let _ = say(&format!("{text}\n"));
    };
    let reply = match ask(&settings.data_dir, &Request::Prefetch { wish: wish.clone() })? {
        Some(begun) if !begun.ok => begun,
        Some(begun) => {
            let ticket = begun.message.parse()?;
            watch(&settings, &mut bar, &Request::PrefetchProgress { ticket }, announce)?
        }
        None => {
            let own = OwnWatcher(Mutex::new(bar));
            let reply = with_own_appliance(settings, async |appliance| Ok(fetch(appliance, wish, &own).await))?;
            own.0
                .into_inner()
                .expect("nothing panics while it shows progress")
                .clear();
            reply
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

/// Shows progress where the work is done.
struct OwnWatcher(Mutex<Bar>);

impl OwnWatcher {
    fn bar(&self) -> std::sync::MutexGuard<'_, Bar> {
        self.0.lock().expect("nothing panics while it shows progress")
    }
}

impl Watcher for OwnWatcher {
    fn say(&self, words: String) {
        self.bar().show(&words);
    }

    fn announce(&self, text: String) {
        self.bar().clear();
        let _ = say(&format!("{text}\n"));
    }

    fn is_over(&self) -> bool {
        false
    }
}
