//! Who carries out what a command asks piece by piece: the running server, or an appliance that the command opens.

use std::sync::Arc;

use super::own_appliance::with_own_appliance;
use super::progress::{Bar, watch_by};
use super::say;
use crate::appliance::{Appliance, StartError};
use crate::bundles::all_recorded;
use crate::control::{Reply, Request, ask, carry_out};
use crate::data_dir::check_format;
use crate::settings::{Settings, Source};

/// The one process that has the data directory.
pub enum Doer<'a> {
    /// The server that runs there.
    Server(&'a Settings),
    /// This one.
    Own(&'a Arc<Appliance>),
}

/// Does `work`, which blocks, with whoever has the data directory.
pub fn with_doer<T>(
    settings: Settings,
    work: impl FnOnce(&Doer<'_>, &Settings) -> Result<T, StartError>,
) -> Result<T, StartError> {
    check_format(&settings.data_dir)?;
    if ask(&settings.data_dir, &Request::Mode { to: None })?.is_some() {
        return work(&Doer::Server(&settings), &settings);
    }
    if settings.layers.get("log").source == Source::Default {
        // what goes wrong is said by the command; a server says it to its log
        log::set_max_level(log::LevelFilter::Error);
    }
    with_own_appliance(settings, async |appliance| {
        let done = tokio::task::block_in_place(|| work(&Doer::Own(appliance), &appliance.settings));
        all_recorded(appliance).await;
        done
    })
}

impl Doer<'_> {
    /// Has one thing done.
    pub fn ask(&self, request: Request) -> Result<Reply, StartError> {
        match self {
            Self::Server(settings) => ask(&settings.data_dir, &request)?
                .ok_or_else(|| "the server ended before the work did: it can be begun again".into()),
            Self::Own(appliance) => Ok(tokio::runtime::Handle::current().block_on(carry_out(appliance, request))),
        }
    }

    /// Has one thing done, and takes its refusal for an error.
    pub fn have_done(&self, request: Request) -> Result<Reply, StartError> {
        let reply = self.ask(request)?;
        if reply.ok { Ok(reply) } else { Err(reply.message.into()) }
    }

    /// Has long work done that is begun by `request`, and shows how it goes.
    pub fn watch(&self, request: Request) -> Result<Reply, StartError> {
        let begun = self.ask(request)?;
        if !begun.ok {
            return Ok(begun);
        }
        let ticket = begun.message.parse()?;
        let announce = |bar: &mut Bar, text: &str| {
            bar.clear();
            let _ = say(&format!("{text}\n"));
        };
        watch_by(|| self.ask(Request::Progress { ticket }), &mut Bar::new(), announce)
    }
}
