//! A sparse registry on 127.0.0.1 that does what a test wants.

mod content;
mod fault;
mod gate;
mod instead;
mod named;
mod play;
mod request_log;
mod server;
mod state;
mod validators;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::Socket;

pub use fault::{Fault, Times};
pub use gate::Gate;
pub use named::{Effect, NamedFault};
pub use request_log::LoggedRequest;
use state::Shared;
pub use validators::Validators;

use crate::{BuiltCrate, port};

/// A sparse registry with its downloads, on a port of its own on 127.0.0.1. It ends when it is dropped.
///
/// The index is below `/index/`, crate files are at `/dl/{crate}/{version}/download` unless `dl` says otherwise. Where a
/// method takes a path, it is what stands in the request: `/index/se/rd/serde`. Where it takes a pattern, this is such a path or,
/// with a `/` at its end, everything below it: `/index/`, `/`.
#[derive(Debug)]
pub struct FakeUpstream {
    shared: Arc<Shared>,
    address: SocketAddr,
    power: Mutex<Power>,
}

#[derive(Debug)]
enum Power {
    On(JoinHandle<()>),
    /// Bound, but not listening: nobody else gets the port, and clients are refused.
    Off(Socket),
    Ended,
}

impl FakeUpstream {
    /// Starts an empty one. Panics if the machine has no port left.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("127.0.0.1 always has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::new(format!("http://{address}")));
        let power = Mutex::new(Power::On(accept(listener, &shared)));
        Self { shared, address, power }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `sparse+http://127.0.0.1:PORT/index/`.
    pub fn sparse_url(&self) -> String {
        format!("sparse+{}/index/", self.base_url())
    }

    /// `127.0.0.1:PORT`.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// The path of an index file: `/index/se/rd/serde`. Panics if `name` is no crate name.
    pub fn index_path(name: &str) -> String {
        format!("/index/{}", crate::krate::index_path(name))
    }

    /// The path of a crate file as long as `dl` is what it was at first.
    pub fn download_path(name: &str, version: &str) -> String {
        format!("/dl/{name}/{version}/download")
    }

    /// Publishes a version, or puts it in the place of the same version.
    pub fn add(&self, krate: &BuiltCrate) {
        self.shared.change(|state| state.content.add(krate));
    }

    /// Publishes other bytes under a version that is there: the line's checksum changes with them.
    pub fn republish(&self, krate: &BuiltCrate) {
        self.add(krate);
    }

    /// Yanks a version or takes the yank back; nothing else in its line changes. Panics if it is not there.
    pub fn yank(&self, name: &str, version: &str, yanked: bool) {
        self.shared.change(|state| state.content.yank(name, version, yanked));
    }

    /// Removes a version, line and crate file; the index file too if it was the last one.
    pub fn remove_version(&self, name: &str, version: &str) {
        self.shared.change(|state| state.content.remove_version(name, version));
    }

    /// Removes a crate with all its versions.
    pub fn remove_crate(&self, name: &str) {
        self.shared.change(|state| state.content.remove_crate(name));
    }

    /// Puts any bytes in the place of an index file, by its path in the index: `se/rd/serde`.
    pub fn set_index_file(&self, path: &str, bytes: &[u8]) {
        self.shared.change(|state| state.content.set_index_file(path, bytes));
    }

    /// The bytes of an index file, by its path in the index.
    pub fn index_file(&self, path: &str) -> Option<Vec<u8>> {
        self.shared.lock().content.index_file(path)
    }

    /// Other bytes for a crate file; the index still names the right checksum.
    pub fn replace_crate_bytes(&self, name: &str, version: &str, bytes: &[u8]) {
        self.shared
            .change(|state| state.content.replace_crate_bytes(name, version, bytes));
    }

    /// Serves `bytes` at any path, which comes before everything else.
    pub fn serve_at(&self, path: &str, bytes: &[u8]) {
        self.shared.change(|state| state.content.serve_at(path, bytes));
    }

    /// Any `config.json`; if it has a `dl`, crate files are where that says.
    pub fn set_config_json(&self, bytes: &[u8]) {
        self.shared.change(|state| state.content.set_config_json(bytes));
    }

    /// Another `dl`, with cargo's markers or without: an address, or a path on this upstream.
    pub fn set_dl(&self, template: &str) {
        self.shared.change(|state| state.content.set_dl(template));
    }

    /// Other validators than both.
    pub fn set_validators(&self, validators: Validators) {
        self.shared.change(|state| state.content.validators = validators);
    }

    /// Answers 401 to whoever does not send exactly this `Authorization`; `None` lets everybody in again. `config.json`
    /// says `auth-required` with it.
    pub fn require_token(&self, token: Option<&str>) {
        self.shared.change(|state| state.content.require_token(token));
    }

    /// Plays a fault for requests that the pattern means. Of several, the first that is not used up is played.
    pub fn fault(&self, pattern: &str, fault: Fault, times: Times) {
        self.shared.change(|state| state.faults.add(pattern, fault, times));
    }

    /// Asks `choose` for each request, by its path, whether a fault is played, where none of [`fault`](Self::fault) is. `choose` must not call
    /// this upstream.
    pub fn fault_by(&self, choose: impl FnMut(&str) -> Option<Fault> + Send + 'static) {
        self.shared.change(|state| state.faults.choose(Box::new(choose)));
    }

    /// Ends all faults, those as well that are being played.
    pub fn clear_faults(&self) {
        self.shared.change(|state| state.faults.clear());
    }

    /// How many requests have met a fault since the start.
    pub fn faults_played(&self) -> u64 {
        self.shared.lock().faults.played
    }

    /// Holds answers to requests that the pattern means before their first byte, until the gate is opened. What they say is
    /// decided then.
    pub fn hold(&self, pattern: &str) -> Gate {
        self.gate(pattern, None)
    }

    /// Holds such answers after so many bytes of their body. Not those with a fault in how they are sent.
    pub fn hold_after(&self, pattern: &str, size_bytes: usize) -> Gate {
        self.gate(pattern, Some(size_bytes))
    }

    fn gate(&self, pattern: &str, after: Option<usize>) -> Gate {
        let id = self.shared.change(|state| state.gates.close(pattern, after));
        Gate::new(Arc::clone(&self.shared), id)
    }

    /// Every request since the start or since the log was cleared, in the order in which they came.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.shared.lock().log.clone()
    }

    /// How many of them asked for this path.
    pub fn count(&self, path: &str) -> usize {
        let state = self.shared.lock();
        state.log.iter().filter(|request| request.path == path).count()
    }

    /// How many connections were made in that time.
    pub fn connections(&self) -> u64 {
        self.shared.lock().accepted
    }

    /// How many connections are open now.
    pub fn open_connections(&self) -> usize {
        self.shared.lock().open_connections()
    }

    /// Forgets the requests and the count of connections.
    pub fn clear_log(&self) {
        self.shared.change(|state| {
            state.log.clear();
            state.accepted = 0;
        });
    }

    /// Waits until the log is as `done` wants it; `false` if it was not within `timeout`. `done` must not call this upstream.
    pub fn wait_for(&self, mut done: impl FnMut(&[LoggedRequest]) -> bool, timeout: Duration) -> bool {
        self.shared.wait(timeout, |state| done(&state.log))
    }

    /// Ends every connection and refuses new ones, until [`come_back`](Self::come_back).
    pub fn go_down(&self) {
        let mut power = self.power.lock().unwrap_or_else(PoisonError::into_inner);
        if self.switch_off(&mut power) {
            *power = Power::Off(port::bound(self.address));
        }
    }

    /// Takes connections again, on the same port.
    pub fn come_back(&self) {
        let mut power = self.power.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *power, Power::Ended) {
            Power::Off(socket) => {
                socket.listen(1024).expect("the port was kept");
                self.shared.change(|state| state.accepting = true);
                *power = Power::On(accept(socket.into(), &self.shared));
            }
            other => *power = other,
        }
    }

    /// Whether it was on.
    fn switch_off(&self, power: &mut Power) -> bool {
        match std::mem::replace(power, Power::Ended) {
            Power::On(acceptor) => {
                self.shared.change(|state| {
                    state.accepting = false;
                    state.disconnect_all();
                });
                // Wakes the acceptor; if this fails, the queue is full of others that do.
                let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
                // Its panic was printed by itself.
                let _ = acceptor.join();
                true
            }
            other => {
                *power = other;
                false
            }
        }
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        let mut power = self.power.lock().unwrap_or_else(PoisonError::into_inner);
        self.switch_off(&mut power);
    }
}

fn accept(listener: TcpListener, shared: &Arc<Shared>) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || server::accept(&listener, &shared))
}

#[cfg(test)]
mod tests;
