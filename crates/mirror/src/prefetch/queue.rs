//! Prefetches by command in a running server: one at a time, and the others wait in the order in which they came.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::{Wish, over, prefetch};
use crate::appliance::Appliance;
use crate::commands::Job;
use crate::control::Reply;

/// So many wait at most.
const MOST: usize = 64;
/// How a prefetch ended is told for so long.
const TOLD_FOR: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(200);

/// The prefetches of a server.
#[derive(Debug, Default)]
pub struct Prefetches {
    tickets: Mutex<Tickets>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Tickets {
    last: u64,
    jobs: BTreeMap<u64, Arc<Job>>,
}

impl Prefetches {
    /// How the one with this ticket goes.
    pub fn tell(&self, ticket: u64) -> Reply {
        let job = self.tickets().jobs.get(&ticket).cloned();
        job.map_or_else(|| Reply::failed("no such prefetch is under way"), |job| job.tell())
    }

    fn add(&self) -> Option<(u64, Arc<Job>)> {
        let mut tickets = self.tickets();
        if tickets.jobs.len() >= MOST {
            return None;
        }
        tickets.last += 1;
        let (ticket, job) = (tickets.last, Arc::new(Job::default()));
        job.begin();
        tickets.jobs.insert(ticket, Arc::clone(&job));
        Some((ticket, job))
    }

    fn tickets(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().expect("nothing panics while it holds this lock")
    }
}

/// Begins to fetch crate files ahead of need, in the background, once those before it are done; it ends when nobody asks any
/// more how it goes. The reply is its ticket.
pub fn begin(appliance: &Arc<Appliance>, wish: Wish) -> Reply {
    let Some((ticket, job)) = appliance.prefetches.add() else {
        return Reply::failed(format!(
            "{MOST} prefetches are under way or waiting in the running server"
        ));
    };
    if appliance.prefetches.turn.try_lock().is_err() {
        log::info!("a prefetch by command waits until another one is done");
        job.say("waiting until another prefetch is done".to_owned());
    }
    let own = Arc::clone(appliance);
    tokio::spawn(async move {
        let reply = in_turn(&own, wish, &job).await;
        match reply.ok {
            true => log::info!("a prefetch by command has ended well"),
            false => log::warn!("a prefetch by command has ended: {}", reply.message),
        }
        job.end(reply);
        tokio::time::sleep(TOLD_FOR).await;
        own.prefetches.tickets().jobs.remove(&ticket);
    });
    Reply::ok(ticket.to_string())
}

async fn in_turn(appliance: &Arc<Appliance>, wish: Wish, job: &Job) -> Reply {
    // made once: who gives up its place in the line goes to its end
    let turn = appliance.prefetches.turn.lock();
    tokio::pin!(turn);
    let _turn = loop {
        tokio::select! {
            biased;
            turn = &mut turn => break turn,
            () = tokio::time::sleep(TICK) => {}
        }
        if let Some(why) = over(appliance, job) {
            return Reply::failed(format!("it was ended before its turn: {why}"));
        }
    };
    prefetch(appliance, wish, job).await
}
