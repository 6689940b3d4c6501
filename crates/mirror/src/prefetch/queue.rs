//! Prefetches by command in a running server: one at a time, and the others wait in the order in which they came.

use std::sync::Arc;
use std::time::Duration;

use super::{Wish, over, prefetch};
use crate::appliance::Appliance;
use crate::commands::{Job, Jobs};
use crate::control::Reply;

const TICK: Duration = Duration::from_millis(200);

/// The turns of a server's prefetches.
#[derive(Debug, Default)]
pub struct Prefetches {
    turn: tokio::sync::Mutex<()>,
}

/// Begins to fetch crate files ahead of need, in the background, once those before it are done; it ends when nobody asks any
/// more how it goes. The reply is its ticket.
pub fn begin(appliance: &Arc<Appliance>, wish: Wish) -> Reply {
    Jobs::begin(appliance, "a prefetch", move |own, job| async move {
        if own.prefetches.turn.try_lock().is_err() {
            log::info!("a prefetch by command waits until another one is done");
            job.say("waiting until another prefetch is done".to_owned());
        }
        in_turn(&own, wish, &job).await
    })
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
