//! Commands that the running server carries out.

use registry::{CrateName, CrateVersion};

use super::{Ended, say};
use crate::control::{Reply, Request, ask};
use crate::data_dir::{DataDir, check_format};
use crate::fetch_log;
use crate::maintenance::evict_stopped;
use crate::settings::{Mode, Settings};

/// Exits with 0 if the server is ready.
pub fn healthcheck(settings: &Settings) -> Ended {
    required(settings, &Request::Health)
}

/// Shows or switches the mode.
pub fn mode(settings: &Settings, to: Option<Mode>) -> Ended {
    required(settings, &Request::Mode { to })
}

/// Asks upstream for an index file now.
pub fn refresh(settings: &Settings, name: &str) -> Ended {
    let name = name.parse::<CrateName>()?;
    required(settings, &Request::Refresh { name })
}

/// Forgets kept files: by the running server, or here if none runs.
pub fn evict(settings: &Settings, what: &str) -> Ended {
    let (name, version) = name_and_version(what)?;
    check_format(&settings.data_dir)?;
    let request = Request::Evict {
        name: name.clone(),
        version: version.clone(),
    };
    if let Some(reply) = ask(&settings.data_dir, &request)? {
        return report(&reply);
    }
    if !settings.data_dir.join("FORMAT").is_file() {
        let dir = settings.data_dir.display();
        return Err(format!("{dir} is not a mirror's data directory: nothing is kept there").into());
    }
    let named_by = settings.layers.get("data_dir").source.to_string();
    let data_dir = DataDir::lock(&settings.data_dir, &named_by)?;
    report(&evict_stopped(&data_dir, &name, version.as_ref())?)
}

/// Says who fetched a crate: by the running server, or by the log on disk if none runs.
pub fn who(settings: &Settings, what: &str) -> Ended {
    let (name, version) = name_and_version(what)?;
    check_format(&settings.data_dir)?;
    let request = Request::Who {
        name: name.clone(),
        version: version.clone(),
    };
    match ask(&settings.data_dir, &request)? {
        Some(reply) => report(&reply),
        None => {
            let text = fetch_log::who(&settings.data_dir, None, &name, version.as_ref())?;
            say(&format!("{text}\n"))
        }
    }
}

/// `NAME` or `NAME@VERSION`.
fn name_and_version(what: &str) -> Result<(CrateName, Option<CrateVersion>), registry::Error> {
    let (name, version) = what
        .split_once('@')
        .map_or((what, None), |(name, version)| (name, Some(version)));
    Ok((name.parse()?, version.map(str::parse).transpose()?))
}

fn required(settings: &Settings, request: &Request) -> Ended {
    match ask(&settings.data_dir, request)? {
        Some(reply) => report(&reply),
        None => Err(format!("no server is running on {}", settings.data_dir.display()).into()),
    }
}

fn report(reply: &Reply) -> Ended {
    if reply.ok {
        return say(&format!("{}\n", reply.message));
    }
    Err(reply.message.clone().into())
}
