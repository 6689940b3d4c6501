//! Long work by command: the line of progress.

use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::say;
use crate::appliance::StartError;
use crate::control::{Reply, Request, ask};
use crate::prefetch::Watcher;
use crate::settings::Settings;

/// Plain lines of progress come so often.
const PLAIN_LINES: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(200);

/// One line that is written over on a terminal, and lines now and then elsewhere.
pub struct Bar {
    terminal: bool,
    shown: Option<(Instant, String)>,
}

impl Bar {
    /// On standard error.
    pub fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            shown: None,
        }
    }

    /// Says how far it is.
    pub fn show(&mut self, words: &str) {
        let due = match &self.shown {
            None => true,
            Some((at, before)) => before != words && (self.terminal || at.elapsed() >= PLAIN_LINES),
        };
        if due {
            let line = if self.terminal {
                format!("\r\x1b[K{words}")
            } else {
                format!("{words}\n")
            };
            write_to_stderr(&line);
            self.shown = Some((Instant::now(), words.to_owned()));
        }
    }

    /// Takes the line away, before something else is printed.
    pub fn clear(&self) {
        if self.terminal && self.shown.is_some() {
            write_to_stderr("\r\x1b[K");
        }
    }
}

fn write_to_stderr(text: &str) {
    use std::io::Write;
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Follows work that the server does, by asking `progress` until it is over. `announce` gets what the work says once, before it
/// begins in earnest.
pub fn watch(
    settings: &Settings,
    bar: &mut Bar,
    progress: &Request,
    announce: impl FnMut(&mut Bar, &str),
) -> Result<Reply, StartError> {
    let tell = || ask(&settings.data_dir, progress)?.ok_or_else(|| "the server ended before the work did".into());
    watch_by(tell, bar, announce)
}

/// Follows work by asking `tell` until it is over.
pub fn watch_by(
    mut tell: impl FnMut() -> Result<Reply, StartError>,
    bar: &mut Bar,
    mut announce: impl FnMut(&mut Bar, &str),
) -> Result<Reply, StartError> {
    let mut announced = false;
    loop {
        let mut reply = tell()?;
        let running = reply.message.strip_prefix("… ").map(str::to_owned);
        if let Some(words) = running {
            if let Some(text) = reply.report.take().filter(|_| !announced) {
                announced = true;
                announce(bar, &text);
            }
            bar.show(&words);
        } else {
            bar.clear();
            return Ok(reply);
        }
        std::thread::sleep(POLL);
    }
}

/// Has the server do the work that is begun by `request`, and shows how it goes; `None` if no server runs.
pub fn done_by_server(settings: &Settings, request: &Request) -> Result<Option<Reply>, StartError> {
    let begun = match ask(&settings.data_dir, request)? {
        Some(begun) if begun.ok => begun,
        other => return Ok(other),
    };
    let ticket = begun.message.parse()?;
    let announce = |bar: &mut Bar, text: &str| {
        bar.clear();
        let _ = say(&format!("{text}\n"));
    };
    watch(settings, &mut Bar::new(), &Request::Progress { ticket }, announce).map(Some)
}

/// Shows progress where the work is done.
pub struct OwnWatcher(Mutex<Bar>);

impl OwnWatcher {
    /// On standard error.
    pub fn new() -> Self {
        Self(Mutex::new(Bar::new()))
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.bar().clear();
    }

    fn bar(&self) -> MutexGuard<'_, Bar> {
        self.0.lock().expect("nothing panics while it shows progress")
    }
}

impl Watcher for OwnWatcher {
    fn say(&self, words: String) {
        self.bar().show(&words);
    }

    fn announce(&self, text: String) {
        self.clear();
        let _ = say(&format!("{text}\n"));
    }

    fn is_over(&self) -> bool {
        false
    }
}
