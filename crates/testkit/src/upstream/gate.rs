use std::sync::Arc;
use std::time::Duration;

use super::fault::matches;
use super::state::Shared;

/// One place where answers are held.
#[derive(Debug)]
pub(super) struct Held {
    id: u64,
    pattern: String,
    /// After how many bytes of the body; `None` is before the head.
    after: Option<usize>,
    reached: usize,
}

/// The places where answers are held now.
#[derive(Debug, Default)]
pub(super) struct Gates {
    held: Vec<Held>,
    next_id: u64,
}

impl Gates {
    pub(super) fn close(&mut self, pattern: &str, after: Option<usize>) -> u64 {
        self.next_id += 1;
        self.held.push(Held {
            id: self.next_id,
            pattern: pattern.to_owned(),
            after,
            reached: 0,
        });
        self.next_id
    }

    /// The gates on the way of a request, with the place of each; those before the head first.
    pub(super) fn on_the_way(&self, path: &str) -> Vec<(u64, Option<usize>)> {
        let gates = self.held.iter().filter(|gate| matches(&gate.pattern, path));
        let mut gates: Vec<_> = gates.map(|gate| (gate.id, gate.after)).collect();
        gates.sort_by_key(|&(_, after)| after);
        gates
    }

    pub(super) fn reach(&mut self, id: u64) {
        if let Some(gate) = self.held.iter_mut().find(|gate| gate.id == id) {
            gate.reached += 1;
        }
    }

    pub(super) fn is_closed(&self, id: u64) -> bool {
        self.held.iter().any(|gate| gate.id == id)
    }
}

/// Holds answers back until it is opened or dropped. Made by [`FakeUpstream::hold`](crate::FakeUpstream::hold).
#[derive(Debug)]
#[must_use = "the gate opens when it is dropped"]
pub struct Gate {
    shared: Arc<Shared>,
    id: u64,
}

impl Gate {
    pub(super) fn new(shared: Arc<Shared>, id: u64) -> Self {
        Self { shared, id }
    }

    /// Waits until `count` answers have come to this gate; `false` if they did not within `timeout`.
    pub fn wait_reached(&self, count: usize, timeout: Duration) -> bool {
        self.shared.wait(timeout, |state| {
            let gate = state.gates.held.iter().find(|gate| gate.id == self.id);
            gate.is_some_and(|gate| gate.reached >= count)
        })
    }

    /// Lets the answers go on, those to come as well.
    pub fn open(self) {
        drop(self);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let id = self.id;
        self.shared
            .change(|state| state.gates.held.retain(|gate| gate.id != id));
    }
}
