use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use registry::IndexPath;

use crate::absent_names::{AbsentNames, younger};
use crate::backoff::Backoff;
use crate::upstream_sparse::Failure;

/// Past this many, what is of no use any more is dropped.
const SWEEP_AT: usize = 50_000;

/// What can be asked of upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Asked {
    Config,
    File(IndexPath),
}

/// What a request was let through with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    upstream: u64,
    own: u64,
}

/// When upstream was asked for what and how that went. In memory only: after a start everything is old.
#[derive(Debug)]
pub(crate) struct Freshness {
    max_age: Duration,
    checked: HashMap<Asked, SystemTime>,
    absent: AbsentNames,
    failing: HashMap<Asked, Backoff>,
    upstream: Backoff,
    pub(crate) last_success: Option<SystemTime>,
    pub(crate) last_error: Option<(SystemTime, String)>,
}

impl Freshness {
    pub(crate) fn new(max_age: Duration, absent_names: usize) -> Self {
        Self {
            max_age,
            checked: HashMap::new(),
            absent: AbsentNames::new(absent_names),
            failing: HashMap::new(),
            upstream: Backoff::default(),
            last_success: None,
            last_error: None,
        }
    }

    /// Whether upstream answered this less than `max_age` ago.
    pub(crate) fn is_fresh(&self, asked: &Asked, now: SystemTime) -> bool {
        self.checked
            .get(asked)
            .is_some_and(|at| younger(*at, now, self.max_age))
    }

    /// Whether upstream said less than `max_age` ago that it has no such crate.
    pub(crate) fn is_absent(&self, path: &IndexPath, now: SystemTime) -> bool {
        self.absent.contains(path, now, self.max_age)
    }

    pub(crate) fn absent_names(&self) -> usize {
        self.absent.len()
    }

    pub(crate) fn set_absent(&mut self, path: &IndexPath, now: SystemTime) {
        self.absent.insert(path.clone(), now);
    }

    pub(crate) fn forget_absent(&mut self, path: &IndexPath) {
        self.absent.forget(path);
    }

    /// Lets a request through, or says what failed a moment ago. `insist` lets every one through.
    pub(crate) fn admit(&mut self, asked: &Asked, now: SystemTime, insist: bool) -> Result<Ticket, Arc<str>> {
        if !insist && self.upstream.is_open(now) {
            self.upstream.admit(now)?;
        }
        let own = match self.failing.get_mut(asked) {
            Some(own) => own
                .admit(now)
                .or_else(|why| if insist { Ok(u64::MAX) } else { Err(why) })?,
            None => 0,
        };
        let upstream = self
            .upstream
            .admit(now)
            .or_else(|why| if insist { Ok(u64::MAX) } else { Err(why) })?;
        Ok(Ticket { upstream, own })
    }

    /// Upstream is there: it answered something. True if it was not before.
    pub(crate) fn reached(&mut self) -> bool {
        self.upstream.succeeded()
    }

    /// The answer could be used.
    pub(crate) fn succeeded(&mut self, asked: &Asked, now: SystemTime) {
        self.failing.remove(asked);
        self.last_success = Some(now);
        if self.checked.len() >= SWEEP_AT {
            let max_age = self.max_age;
            self.checked.retain(|_, at| younger(*at, now, max_age));
        }
        self.checked.insert(asked.clone(), now);
    }

    /// There was no answer, or none that could be used. True if the whole upstream has just become unreachable.
    pub(crate) fn failed(&mut self, asked: &Asked, ticket: Ticket, now: SystemTime, failure: &Failure) -> bool {
        self.last_error = Some((now, failure.why.clone()));
        if failure.unreachable || failure.retry_after.is_some() {
            return self
                .upstream
                .failed(ticket.upstream, now, failure.retry_after, &failure.why);
        }
        if self.failing.len() >= SWEEP_AT {
            self.failing.retain(|_, own| own.is_open(now));
        }
        let own = self.failing.entry(asked.clone()).or_default();
        own.failed(ticket.own, now, None, &failure.why);
        false
    }
}
