//! `mirror verify`: by the running server, or here if none runs.

use std::sync::Arc;

use super::own_appliance::with_own_appliance;
use super::progress::{Bar, watch};
use super::{Ended, say};
use crate::appliance::Appliance;
use crate::control::{Reply, Request, ask};
use crate::data_dir::check_format;
use crate::settings::Settings;
use crate::verify;

/// Hashes all that is kept; exit code 1 and a list if anything is bad or missing and was not repaired.
pub fn verify(settings: Settings, repair: bool) -> Ended {
    check_format(&settings.data_dir)?;
    let mut bar = Bar::new();
    let reply = match ask(&settings.data_dir, &Request::Verify { repair })? {
        Some(begun) if !begun.ok => return Err(begun.message.into()),
        Some(_) => watch(&settings, &mut bar, &Request::VerifyProgress, |_, _| {})?,
        None => with_own_appliance(settings, async |appliance: &Arc<Appliance>| {
            let outcome = verify::verify(appliance, repair, |words| bar.show(&words)).await?;
            Ok(reply(outcome))
        })?,
    };
    bar.clear();
    match reply.report {
        Some(report) => {
            say(&format!("{report}\n"))?;
            Ok(reply.ok)
        }
        None => Err(reply.message.into()),
    }
}

/// An outcome as it is told to a command.
pub fn reply(outcome: verify::Outcome) -> Reply {
    let told = if outcome.is_well { Reply::ok } else { Reply::failed };
    Reply {
        report: Some(outcome.text),
        ..told("verified".to_owned())
    }
}
