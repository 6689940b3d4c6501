use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::content::Content;
use super::fault::Faults;
use super::gate::Gates;
use super::request_log::LoggedRequest;

/// What the threads of one upstream share: one lock, and one condition that is told of every change.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) content: Content,
    pub(super) faults: Faults,
    pub(super) gates: Gates,
    pub(super) log: Vec<LoggedRequest>,
    pub(super) accepting: bool,
    /// Connections since the log was last cleared.
    pub(super) accepted: u64,
    next_connection: u64,
    open: HashMap<u64, Arc<TcpStream>>,
}

impl State {
    pub(super) fn connect(&mut self, stream: &Arc<TcpStream>) -> u64 {
        let id = self.next_connection;
        self.next_connection += 1;
        self.accepted += 1;
        self.open.insert(id, Arc::clone(stream));
        id
    }

    pub(super) fn disconnect(&mut self, id: u64) {
        self.open.remove(&id);
    }

    pub(super) fn disconnect_all(&mut self) {
        for (_, stream) in self.open.drain() {
            // It may be closed already, which is what is wanted.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn is_open(&self, id: u64) -> bool {
        self.open.contains_key(&id)
    }

    pub(super) fn open_connections(&self) -> usize {
        self.open.len()
    }
}

impl Shared {
    pub(super) fn new(base: String) -> Self {
        Self {
            state: Mutex::new(State {
                content: Content::new(base),
                faults: Faults::default(),
                gates: Gates::default(),
                log: Vec::new(),
                accepting: true,
                accepted: 0,
                next_connection: 0,
                open: HashMap::new(),
            }),
            changed: Condvar::new(),
        }
    }

    /// A test that failed while it looked at the state must not make others fail.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `done`; `false` if it was not within `timeout`.
    pub(super) fn wait(&self, timeout: Duration, mut done: impl FnMut(&State) -> bool) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), timeout, |state| !done(state));
        let (_state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        !waited.timed_out()
    }

    /// Holds connection `id` for as long as `held`; fails if the connection was ended meanwhile.
    pub(super) fn hold(&self, id: u64, held: impl Fn(&State) -> bool) -> io::Result<()> {
        let state = self
            .changed
            .wait_while(self.lock(), |state| state.is_open(id) && held(state))
            .unwrap_or_else(PoisonError::into_inner);
        if state.is_open(id) {
            Ok(())
        } else {
            Err(io::ErrorKind::ConnectionAborted.into())
        }
    }
}
