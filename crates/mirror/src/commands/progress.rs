//! Long work by command: a line of progress here, and in the server what a command is told of it.

use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::appliance::StartError;
use crate::control::{Reply, Request, ask};
use crate::settings::Settings;

/// Plain lines of progress come so often.
const PLAIN_LINES: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(200);
/// Whoever watches work asks every [`POLL`]: one who has not asked for so long is gone.
const ABANDONED: Duration = Duration::from_secs(10);

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
    mut announce: impl FnMut(&mut Bar, &str),
) -> Result<Reply, StartError> {
    let mut announced = false;
    loop {
        let Some(mut reply) = ask(&settings.data_dir, progress)? else {
            return Err("the server ended before the work did".into());
        };
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

/// How work by command goes in the server.
#[derive(Debug, Default)]
pub struct Job(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: bool,
    words: String,
    announced: Option<String>,
    /// Whether somebody heard the announcement.
    told: bool,
    asked: Option<Instant>,
    outcome: Option<Reply>,
}

impl Job {
    /// Begins one unless one is running; the caller then runs it.
    pub fn begin(&self) -> bool {
        let mut state = self.state();
        let begins = !state.running;
        if begins {
            *state = State {
                running: true,
                words: "beginning".to_owned(),
                asked: Some(Instant::now()),
                ..State::default()
            };
        }
        begins
    }

    /// How far it is.
    pub fn say(&self, words: String) {
        self.state().words = words;
    }

    /// What to print before it begins in earnest.
    pub fn announce(&self, text: String) {
        self.state().announced = Some(text);
    }

    /// It is over.
    pub fn end(&self, outcome: Reply) {
        let mut state = self.state();
        // short work is over before anybody has asked
        let untold = state.announced.take().filter(|_| !state.told);
        let report = [untold, outcome.report].into_iter().flatten().collect::<Vec<_>>();
        let report = (!report.is_empty()).then(|| report.join("\n"));
        *state = State {
            outcome: Some(Reply { report, ..outcome }),
            ..State::default()
        };
    }

    /// Whether nobody has asked for its progress for a while: whoever wanted it is gone.
    pub fn is_abandoned(&self) -> bool {
        self.state().asked.is_none_or(|asked| asked.elapsed() > ABANDONED)
    }

    /// What to tell: a line that begins with `… ` while it runs.
    pub fn tell(&self) -> Reply {
        let mut state = self.state();
        state.asked = Some(Instant::now());
        state.told |= state.announced.is_some();
        match &state.outcome {
            Some(outcome) => outcome.clone(),
            None if state.running => Reply {
                report: state.announced.clone(),
                ..Reply::ok(format!("… {}", state.words))
            },
            None => Reply::failed("no such work is under way"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}
