use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use registry::IndexPath;

use crate::absent_names::{AbsentNames, younger};
use crate::backoff::Backoff;
use crate::upstream_sparse::{Extent, Failure};

/// Past this many, what is of no use any more is dropped; then again past twice as many as were left.
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
    sweep_at: usize,
    absent: AbsentNames,
    failing: HashMap<Asked, Backoff>,
    upstream: Backoff,
    /// Upstream let one request time out and has answered nothing since.
    silent: bool,
    pub(crate) last_success: Option<SystemTime>,
    pub(crate) last_error: Option<(SystemTime, String)>,
}

impl Freshness {
    pub(crate) fn new(max_age: Duration, absent_names: usize) -> Self {
        Self {
            max_age,
            checked: HashMap::new(),
            sweep_at: SWEEP_AT,
            absent: AbsentNames::new(absent_names),
            failing: HashMap::new(),
            upstream: Backoff::default(),
            silent: false,
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

    /// The whole index has come: what was absent may be there.
    pub(crate) fn forget_all_absent(&mut self) {
        self.absent.clear();
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

    /// Whether nothing is asked of upstream for the moment, since it does not answer.
    pub(crate) fn is_upstream_gone(&self, now: SystemTime) -> bool {
        self.upstream.is_open(now)
    }

    /// Upstream is there: it answered something. True if it was not before.
    pub(crate) fn reached(&mut self) -> bool {
        self.silent = false;
        self.upstream.succeeded()
    }

    /// The answer could be used.
    pub(crate) fn succeeded(&mut self, asked: &Asked, now: SystemTime) {
        self.failing.remove(asked);
        self.last_success = Some(now);
        if self.checked.len() >= self.sweep_at {
            let max_age = self.max_age;
            self.checked.retain(|_, at| younger(*at, now, max_age));
            self.sweep_at = SWEEP_AT.max(2 * self.checked.len());
        }
        self.checked.insert(asked.clone(), now);
    }

    /// There was no answer, or none that could be used. True if the whole upstream has just become unreachable.
    pub(crate) fn failed(&mut self, asked: &Asked, ticket: Ticket, now: SystemTime, failure: &Failure) -> bool {
        self.last_error = Some((now, failure.why.clone()));
        let is_gone = match failure.extent {
            Extent::One => false,
            // The first may be this one's fault alone.
            Extent::Silence => std::mem::replace(&mut self.silent, true),
            Extent::All => true,
        };
        if failure.extent != Extent::All {
            self.failed_alone(asked, ticket, now, failure);
        }
        is_gone
            && self
                .upstream
                .failed(ticket.upstream, now, failure.retry_after, &failure.why)
    }

    fn failed_alone(&mut self, asked: &Asked, ticket: Ticket, now: SystemTime, failure: &Failure) {
        if self.failing.len() >= SWEEP_AT {
            self.failing.retain(|_, own| own.is_open(now));
        }
        let own = self.failing.entry(asked.clone()).or_default();
        own.failed(ticket.own, now, failure.retry_after, &failure.why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(n: usize) -> Asked {
        Asked::File(IndexPath::of(&format!("krate{n}").parse().unwrap()))
    }

    fn failure(extent: Extent, retry_after: Option<Duration>) -> Failure {
        Failure {
            why: "no".to_owned(),
            extent,
            retry_after,
        }
    }

    fn fresh() -> (Freshness, SystemTime) {
        (Freshness::new(Duration::from_secs(60), 10), SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn what_is_too_old_to_matter_is_swept_out() {
        let (mut freshness, start) = fresh();
        for n in 0..SWEEP_AT {
            freshness.succeeded(&file(n), start);
        }
        freshness.succeeded(&Asked::Config, start + Duration::from_secs(60));
        assert_eq!(freshness.checked.len(), 1);
        assert!(freshness.is_fresh(&Asked::Config, start + Duration::from_secs(119)));
        assert!(!freshness.is_fresh(&Asked::Config, start), "the clock went back");
    }

    #[test]
    fn one_bad_file_stops_no_other_but_an_upstream_that_is_gone_stops_all() {
        let (mut freshness, now) = fresh();
        let ticket = freshness.admit(&file(1), now, false).unwrap();
        assert!(!freshness.failed(&file(1), ticket, now, &failure(Extent::One, None)));
        assert!(freshness.admit(&file(1), now, false).is_err());
        let ticket = freshness.admit(&file(2), now, false).unwrap();
        assert!(freshness.failed(&file(2), ticket, now, &failure(Extent::All, None)));
        assert!(freshness.admit(&file(3), now, false).is_err());
        assert!(freshness.admit(&file(3), now, true).is_ok(), "who insists may");
        assert!(freshness.reached());
        assert!(freshness.admit(&file(3), now, false).is_ok());
    }

    #[test]
    fn an_upstream_that_asks_for_a_pause_gets_it() {
        let (mut freshness, now) = fresh();
        let ticket = freshness.admit(&file(1), now, false).unwrap();
        freshness.failed(
            &file(1),
            ticket,
            now,
            &failure(Extent::All, Some(Duration::from_secs(20))),
        );
        assert!(freshness.admit(&file(2), now + Duration::from_secs(19), false).is_err());
        assert!(freshness.admit(&file(2), now + Duration::from_secs(20), false).is_ok());
    }

    #[test]
    fn a_pause_that_somebody_else_asks_for_is_kept_for_one_name_alone() {
        let (mut freshness, now) = fresh();
        let ticket = freshness.admit(&file(1), now, false).unwrap();
        freshness.failed(
            &file(1),
            ticket,
            now,
            &failure(Extent::One, Some(Duration::from_secs(20))),
        );
        assert!(freshness.admit(&file(1), now + Duration::from_secs(19), false).is_err());
        assert!(freshness.admit(&file(2), now, false).is_ok());
    }

    #[test]
    fn silence_about_one_name_is_nothing_and_silence_twice_is_an_upstream_that_is_gone() {
        let (mut freshness, now) = fresh();
        let silence = failure(Extent::Silence, None);
        let ticket = freshness.admit(&file(1), now, false).unwrap();
        assert!(!freshness.failed(&file(1), ticket, now, &silence));
        assert!(freshness.admit(&file(1), now, false).is_err(), "it waits itself");
        let ticket = freshness.admit(&file(2), now, false).unwrap();
        freshness.reached();
        assert!(
            !freshness.failed(&file(2), ticket, now, &silence),
            "there was an answer in between"
        );
        let ticket = freshness.admit(&file(3), now, false).unwrap();
        assert!(freshness.failed(&file(3), ticket, now, &silence));
        assert!(freshness.admit(&file(4), now, false).is_err());
        assert!(freshness.reached());
        assert!(freshness.admit(&file(4), now, false).is_ok());
    }
}
