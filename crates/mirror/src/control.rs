//! How commands reach the running server: one JSON object a line over `control.sock`, one back. Empty lines before it say that
//! the server is still at it.

mod client;

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bundle::Id;
use registry::{CrateName, CrateVersion};
use selection::Selected;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;

use crate::appliance::{Appliance, StartError, control_socket};
use crate::bundles::{self, Arrival, ExportWish, Loose, Noted};
use crate::commands::{Word, carry_out_pins, carry_out_wanted, checked, decide, imports_text, removed_text};
use crate::error::chain;
use crate::prefetch::Wish;
use crate::selected::Named;
use crate::settings::Mode;
pub use client::ask;

/// What a command asks of the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Whether it is ready.
    Health,
    /// The mode; with one given, switch to it.
    Mode {
        /// The mode to switch to.
        to: Option<Mode>,
    },
    /// Begin to bring the whole index up to date, unless that is under way.
    Sync,
    /// How that goes.
    SyncProgress,
    /// Where the published index differs from upstream's.
    VerifyAgainstUpstream,
    /// Ask upstream for an index file now.
    Refresh {
        /// The crate.
        name: CrateName,
    },
    /// What upstream changed its mind about.
    Removed {
        /// As JSON.
        json: bool,
    },
    /// What the operator says to that.
    Decide {
        /// The word.
        word: Word,
        /// The crate.
        name: CrateName,
        /// Only this version.
        version: Option<CrateVersion>,
    },
    /// Begin to fetch crate files ahead of need, after those that were asked for before; the reply is a ticket.
    Prefetch {
        /// Which.
        wish: Wish,
    },
    /// How work goes that was begun with a ticket.
    Progress {
        /// Which.
        ticket: u64,
    },
    /// Whether crate files are here.
    Check {
        /// Which.
        crates: Vec<Selected>,
        /// What is not looked for.
        elsewhere: Vec<String>,
        /// As JSON.
        json: bool,
    },
    /// Begin to make these the files of a pin; the reply is a ticket.
    Pin {
        /// Its name.
        name: String,
        /// Which.
        named: Named,
    },
    /// Delete a pin.
    Unpin {
        /// Its name.
        name: String,
    },
    /// The pins.
    Pins,
    /// Forget kept files.
    Evict {
        /// The crate.
        name: CrateName,
        /// Only this version.
        version: Option<CrateVersion>,
    },
    /// Begin to hash all that is kept, unless that is under way.
    Verify {
        /// Fetch again what is bad or missing.
        repair: bool,
    },
    /// How that goes.
    VerifyProgress,
    /// Begin to evict what is beyond the budget; the reply is a ticket.
    Prune {
        /// The budget, if the command has one.
        max_bytes: Option<u64>,
    },
    /// What clients asked for in vain.
    Wanted {
        /// As JSON.
        json: bool,
    },
    /// Empty that list.
    ClearWanted,
    /// The log of imports.
    Imports {
        /// As JSON lines.
        json: bool,
    },
    /// Begin to plan an export; the reply is a ticket.
    Export {
        /// What is to be carried.
        wish: ExportWish,
    },
    /// A planned export was written.
    ExportDone {
        /// Its bundle.
        id: Id,
    },
    /// Whether a bundle may be imported.
    ImportCheck {
        /// The bundle.
        arrival: Arrival,
        /// Nothing is logged.
        is_try: bool,
    },
    /// Something for the log of imports.
    ImportNote {
        /// What.
        noted: Noted,
    },
    /// Begin to say what a bundle would change; the reply is a ticket.
    ImportChanges {
        /// The bundle.
        arrival: Arrival,
        /// Where its index payload is staged.
        folder: String,
    },
    /// Begin to take in a bundle that is staged; the reply is a ticket.
    Import {
        /// The bundle.
        arrival: Arrival,
    },
    /// Take in crate files that are staged.
    ImportFiles {
        /// Where.
        loose: Loose,
    },
    /// Crate files that could not be imported, and are wanted.
    ImportWanted {
        /// Which.
        wanted: Vec<(CrateName, CrateVersion)>,
    },
    /// What is here of a site's bundles.
    Receipt {
        /// The site; the one that something came from last, if none is named.
        site: Option<Id>,
    },
    /// Who fetched a crate.
    Who {
        /// The crate.
        name: CrateName,
        /// Only this version.
        version: Option<CrateVersion>,
    },
}

/// The server's answer: lines for standard output, and whether it worked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reply {
    /// Whether it worked.
    pub ok: bool,
    /// What to tell the user.
    pub message: String,
    /// What goes to standard output even if it did not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
}

impl Reply {
    /// It worked.
    pub fn ok(message: impl Into<String>) -> Self {
        Self {
            ok: true,
            message: message.into(),
            report: None,
        }
    }

    /// What came of it.
    pub fn of(outcome: Result<String, index_sync::Error>) -> Self {
        outcome.map_or_else(|error| Self::failed(chain(&error)), Self::ok)
    }

    /// It did not.
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            ok: false,
            message: message.into(),
            report: None,
        }
    }

    /// With lines for standard output.
    pub fn with_report(self, report: String) -> Self {
        Self {
            report: Some(report),
            ..self
        }
    }
}

/// Longer requests are refused. A lockfile has some hundred bytes for each crate.
const MAX_REQUEST_BYTES: u64 = 64 << 20;
/// Neither side waits longer for a word of the other.
const PATIENCE: Duration = Duration::from_secs(60);
/// The server says so often that it is still at it.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// Listens until the runtime ends. The socket is removed by whoever holds the returned guard.
pub fn listen(appliance: Arc<Appliance>) -> io::Result<SocketFile> {
    let path = control_socket(appliance.data_dir());
    let _ = std::fs::remove_file(&path);
    let listener = {
        let (_dir, short) = short_path(&path)?;
        // made unreachable for others before anybody can know of it
        let old = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let bound = std::os::unix::net::UnixListener::bind(short);
        rustix::process::umask(old);
        bound?
    };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(answer(Arc::clone(&appliance), stream))),
                Err(error) => {
                    log::warn!("control.sock: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    });
    Ok(SocketFile(path))
}

/// The socket's file, removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn answer(appliance: Arc<Appliance>, stream: tokio::net::UnixStream) {
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    let mut reading = tokio::io::BufReader::new(reading.take(MAX_REQUEST_BYTES));
    let read = tokio::time::timeout(PATIENCE, reading.read_line(&mut line)).await;
    let reply = match (read, serde_json::from_str(&line)) {
        // whoever asks for its health wants to hear that it hangs
        (Ok(Ok(_)), Ok(Request::Health)) => carry_out(&appliance, Request::Health).await,
        (Ok(Ok(_)), Ok(request)) => with_signs_of_life(carry_out(&appliance, request), &writing, SIGN_OF_LIFE).await,
        _ => Reply::failed("the server did not understand the command: are both of the same version?"),
    };
    let mut json = serde_json::to_vec(&reply).expect("a reply is always JSON");
    json.push(b'\n');
    let _ = writing.write_all(&json).await;
}

/// Work may take longer than anybody waits for silence. It goes on when its command has gone.
async fn with_signs_of_life<T>(work: impl Future<Output = T>, writing: &OwnedWriteHalf, every: Duration) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(every) => drop(writing.try_write(b"\n")),
        }
    }
}

/// What a request comes to.
pub async fn carry_out(appliance: &Arc<Appliance>, request: Request) -> Reply {
    match request {
        Request::Health => {
            let own = Arc::clone(appliance);
            match tokio::task::spawn_blocking(move || own.trouble()).await {
                Ok(trouble) if trouble.is_empty() => Reply::ok("ready"),
                Ok(trouble) => Reply::failed(format!("not ready: {}", trouble.join("; "))),
                Err(_) => Reply::failed("not ready: the check itself failed"),
            }
        }
        Request::Mode { to } => {
            if let Some(mode) = to {
                appliance.set_mode(mode);
                log::info!("mode switched to {} by command", mode.as_str());
            }
            Reply::ok(appliance.mode().as_str())
        }
        Request::Sync => crate::maintenance::sync(appliance),
        Request::SyncProgress => appliance.sync_job.tell(),
        Request::VerifyAgainstUpstream => crate::maintenance::verify_against_upstream(Arc::clone(appliance)).await,
        Request::Refresh { name } => crate::maintenance::refresh(appliance, &name).await,
        Request::Removed { json } => or_failed(removed_text(appliance, json).await.map(Reply::ok)),
        Request::Decide { word, name, version } => {
            let reply = Reply::of(decide(&appliance.index, word, &name, version.as_ref()).await);
            // what upstream removed stays, and may go once that is accepted
            appliance.budget.look_again();
            reply
        }
        Request::Prefetch { wish } => crate::prefetch::begin(appliance, wish),
        Request::Progress { ticket } => appliance.jobs.tell(ticket),
        Request::Check {
            crates,
            elsewhere,
            json,
        } => or_failed(checked(appliance, crates, &elsewhere, json).await),
        Request::Pin { name, named } => crate::maintenance::pin(appliance, name, named),
        request @ (Request::Unpin { .. } | Request::Pins) => or_failed(carry_out_pins(appliance, request).await),
        Request::Evict { name, version } => crate::maintenance::evict(Arc::clone(appliance), name, version).await,
        Request::Verify { repair } => crate::maintenance::verify(appliance, repair),
        Request::VerifyProgress => appliance.verify_job.tell(),
        Request::Prune { max_bytes } => crate::maintenance::prune(appliance, max_bytes),
        request @ (Request::Wanted { .. } | Request::ClearWanted) => {
            or_failed(carry_out_wanted(appliance, request).await)
        }
        Request::Imports { json } => {
            let own = Arc::clone(appliance);
            match tokio::task::spawn_blocking(move || imports_text(&own.decisions, json)).await {
                Ok(text) => or_failed(text.map(Reply::ok).map_err(Into::into)),
                Err(_) => Reply::failed("reading the log was abandoned"),
            }
        }
        Request::Export { wish } => bundles::begin_export(appliance, wish),
        Request::ExportDone { id } => or_failed(bundles::finish_export(appliance, id).await),
        Request::ImportChanges { arrival, folder } => bundles::begin_comparison(appliance, arrival, folder),
        Request::Import { arrival } => bundles::begin_import(appliance, arrival),
        request @ (Request::ImportCheck { .. }
        | Request::ImportNote { .. }
        | Request::ImportFiles { .. }
        | Request::ImportWanted { .. }
        | Request::Receipt { .. }) => bundles_blocking(appliance, request).await,
        Request::Who { name, version } => crate::maintenance::who(Arc::clone(appliance), name, version).await,
    }
}

/// What is asked about bundles and may wait for the disk.
async fn bundles_blocking(appliance: &Arc<Appliance>, request: Request) -> Reply {
    // the import of a command that was killed may still be coming to its end
    let quiet = matches!(request, Request::ImportCheck { .. });
    let _quiet = if quiet {
        Some(appliance.bundles.quiet().await)
    } else {
        None
    };
    let own = Arc::clone(appliance);
    let done = tokio::task::spawn_blocking(move || match request {
        Request::ImportCheck { arrival, is_try } => bundles::looked_at(&own, &arrival, is_try),
        Request::ImportNote { noted } => bundles::note(&own, noted),
        Request::ImportFiles { loose } => bundles::import_files(&own, &loose),
        Request::ImportWanted { wanted } => bundles::want(&own, wanted),
        Request::Receipt { site } => Ok(Reply::ok(bundles::receipt_of(&own, site)?.to_string())),
        _ => Ok(Reply::failed("this is no request about bundles")),
    });
    match done.await {
        Ok(reply) => or_failed(reply),
        Err(_) => Reply::failed("the work was abandoned"),
    }
}

fn or_failed(reply: Result<Reply, StartError>) -> Reply {
    reply.unwrap_or_else(|error| Reply::failed(chain(&*error)))
}

/// A socket's path may have about a hundred bytes: a longer one is named by its opened directory.
fn short_path(path: &Path) -> io::Result<(Option<std::fs::File>, PathBuf)> {
    if path.as_os_str().len() < 100 {
        return Ok((None, path.to_owned()));
    }
    let (parent, name) = (
        path.parent().unwrap_or(Path::new(".")),
        path.file_name().unwrap_or_default(),
    );
    let dir = std::fs::File::open(parent)?;
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    Ok((Some(dir), short))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_work_says_that_it_goes_on() {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let (_, writing) = theirs.into_split();
        let mut reading = tokio::io::BufReader::new(ours);
        // it ends once it was heard of
        let work = async {
            let mut line = String::new();
            reading.read_line(&mut line).await.unwrap();
            line
        };
        let working = with_signs_of_life(work, &writing, Duration::from_millis(1));
        let heard = tokio::time::timeout(PATIENCE, working).await;
        assert_eq!(heard.expect("somebody hears of it"), "\n");
    }
}
