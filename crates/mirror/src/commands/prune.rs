//! `mirror prune`: by the running server, or here if none runs.

use std::sync::Arc;

use super::own_appliance::with_own_appliance;
use super::{Ended, finish};
use crate::appliance::Appliance;
use crate::budget::{Pruned, prune as prune_to};
use crate::control::{Reply, Request, ask};
use crate::data_dir::check_format;
use crate::settings::Settings;

/// Shrinks the cache to `cache.max_size`, as this command has it or else the server.
pub fn prune(settings: Settings) -> Ended {
    check_format(&settings.data_dir)?;
    let max_bytes = settings.cache.max_bytes;
    let reply = match ask(&settings.data_dir, &Request::Prune { max_bytes })? {
        Some(reply) => reply,
        None => {
            let max_bytes = max_bytes.ok_or(NO_BUDGET)?;
            pruned_reply(with_own_appliance(settings, async |appliance: &Arc<Appliance>| {
                tokio::task::block_in_place(|| prune_to(appliance, max_bytes))
            })?)
        }
    };
    finish(&reply)
}

/// What it came to. It was asked to keep a budget: that it could not is a failure, whatever went.
pub fn pruned_reply(pruned: Pruned) -> Reply {
    let reply = if pruned.kept_bytes > pruned.max_bytes {
        Reply::failed("more is kept than may be")
    } else {
        Reply::ok("")
    };
    reply.with_report(pruned.to_string())
}

/// There is nothing to shrink to.
pub const NO_BUDGET: &str =
    "cache.max_size is not set, so there is no budget to shrink to: --cache-max-size 20GB gives one";
