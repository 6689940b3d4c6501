//! `mirror wanted`: what clients asked for in vain, as a list for the mirror outside.

use std::path::Path;
use std::sync::Arc;

use super::own_appliance::with_own_appliance;
use super::{Ended, say};
use crate::appliance::{Appliance, StartError};
use crate::control::{Reply, Request, ask};
use crate::data_dir::check_format;
use crate::settings::Settings;
use crate::wanted::{clear, list_json, list_text, listed};

/// Prints the list or writes it into a file, and empties it after that if that is asked for.
pub fn wanted(settings: Settings, output: Option<&Path>, json: bool, clear: bool) -> Ended {
    check_format(&settings.data_dir)?;
    let reply = match ask(&settings.data_dir, &Request::Wanted { json })? {
        Some(reply) => reply,
        // nothing may come between a list and its end
        None => {
            return with_own_appliance(settings, async |appliance| {
                let reply = carry_out_wanted(appliance, Request::Wanted { json }).await?;
                given(&reply, output, json)?;
                if clear {
                    cleared(&carry_out_wanted(appliance, Request::ClearWanted).await?)?;
                }
                Ok(true)
            });
        }
    };
    given(&reply, output, json)?;
    if clear {
        let reply = ask(&settings.data_dir, &Request::ClearWanted)?;
        cleared(&reply.ok_or("the server ended before it had emptied the list")?)?;
    }
    Ok(true)
}

/// What these requests come to.
pub async fn carry_out_wanted(appliance: &Arc<Appliance>, request: Request) -> Result<Reply, StartError> {
    if let Request::Wanted { json } = request {
        let wanted = listed(appliance).await?;
        let text = if json { list_json(&wanted) } else { list_text(&wanted) };
        return Ok(Reply::ok(text));
    }
    let cleared = clear(appliance).await?;
    log::info!("the list of what is wanted was emptied by command: {cleared} entries");
    Ok(Reply::ok(format!("{cleared} entries forgotten")))
}

fn given(reply: &Reply, output: Option<&Path>, json: bool) -> Ended {
    if !reply.ok {
        return Err(reply.message.clone().into());
    }
    let Some(path) = output else {
        return say(&reply.message);
    };
    std::fs::write(path, &reply.message).map_err(|error| format!("{}: {error}", path.display()))?;
    let (path, file) = (path.display(), path.file_name().unwrap_or_default().display());
    say(&if json {
        format!("{path} is written\n")
    } else {
        format!(
            "{path} is written; on the mirror with internet:  mirror export -o BUNDLE --list {file} --with-deps --since RECEIPT\n"
        )
    })
}

/// Said where it does not get into the list.
fn cleared(reply: &Reply) -> Ended {
    use std::io::Write;
    if !reply.ok {
        return Err(reply.message.clone().into());
    }
    let _ = writeln!(std::io::stderr().lock(), "{}", reply.message);
    Ok(true)
}
