//! Long work by command in the server: what its command is told of it, and that it ends when nobody asks any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::appliance::Appliance;
use crate::control::Reply;

/// Whoever watches work asks five times a second: one who has not asked for so long is gone.
const ABANDONED: Duration = Duration::from_secs(10);
/// So many are under way or waiting at most.
const MOST: usize = 64;
/// How work ended is told for so long.
const TOLD_FOR: Duration = Duration::from_secs(60);

/// Work by several commands at once, by the tickets that they got.
#[derive(Debug, Default)]
pub struct Jobs(Mutex<Tickets>);

#[derive(Debug, Default)]
struct Tickets {
    last: u64,
    jobs: BTreeMap<u64, Arc<Job>>,
}

impl Jobs {
    /// Begins work in the background; the reply is its ticket. The work asks its job whether anybody wants it still.
    pub fn begin<F: Future<Output = Reply> + Send + 'static>(
        appliance: &Arc<Appliance>,
        what: &'static str,
        work: impl FnOnce(Arc<Appliance>, Arc<Job>) -> F,
    ) -> Reply {
        let Some((ticket, job)) = appliance.jobs.add() else {
            return Reply::failed(format!(
                "{MOST} such commands are under way or waiting in the running server"
            ));
        };
        let (own, work) = (Arc::clone(appliance), work(Arc::clone(appliance), Arc::clone(&job)));
        tokio::spawn(async move {
            job.run(what, work).await;
            tokio::time::sleep(TOLD_FOR).await;
            own.jobs.tickets().jobs.remove(&ticket);
        });
        Reply::ok(ticket.to_string())
    }

    /// How the one with this ticket goes.
    pub fn tell(&self, ticket: u64) -> Reply {
        let job = self.tickets().jobs.get(&ticket).cloned();
        job.map_or_else(|| Reply::failed("no such work is under way"), |job| job.tell())
    }

    fn add(&self) -> Option<(u64, Arc<Job>)> {
        let mut tickets = self.tickets();
        let unfinished = tickets.jobs.values().filter(|job| job.is_running());
        if unfinished.count() >= MOST {
            return None;
        }
        tickets.last += 1;
        let (ticket, job) = (tickets.last, Arc::new(Job::default()));
        job.begin();
        tickets.jobs.insert(ticket, Arc::clone(&job));
        Some((ticket, job))
    }

    fn tickets(&self) -> MutexGuard<'_, Tickets> {
        self.0.lock().expect("nothing panics while it holds this lock")
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

    /// Does the work, and whoever watches it hears of its end: of a panic too.
    async fn run(&self, what: &str, work: impl Future<Output = Reply> + Send + 'static) {
        let reply = tokio::spawn(work).await;
        let reply = reply.unwrap_or_else(|panic| Reply::failed(format!("{what} by command broke off: {panic}")));
        match reply.ok {
            true => log::info!("{what} by command has ended well"),
            false => log::warn!("{what} by command has ended: {}", reply.message),
        }
        self.end(reply);
    }

    fn is_running(&self) -> bool {
        self.state().running
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_watches_work_hears_of_its_panic() {
        let job = Job::default();
        job.begin();
        assert!(job.is_running() && job.tell().ok);
        job.run("a test", async { panic!("out of luck") }).await;
        let told = job.tell();
        assert!(
            !told.ok && told.message.contains("a test by command broke off"),
            "{told:?}"
        );
        assert!(!job.is_running(), "it counts no more");
    }
}
