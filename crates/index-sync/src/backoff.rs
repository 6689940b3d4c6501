use std::time::{Duration, SystemTime};

/// The pause after the first failure; it doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause, unless upstream asks for more.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest pause that upstream may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// How long to leave somebody alone who failed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backoff {
    failures: u32,
    /// Counts changes, so that many failures of the same moment count once.
    turn: u64,
    until: Option<SystemTime>,
    why: String,
}

impl Backoff {
    /// Lets a request through, or says why not. After a pause one request is let through to try, the others wait for it.
    pub(crate) fn admit(&mut self, now: SystemTime) -> Result<u64, String> {
        if self.is_open(now) {
            return Err(self.why.clone());
        }
        if self.failures > 0 {
            self.until = Some(now + self.pause());
        }
        Ok(self.turn)
    }

    /// Whether requests would be refused.
    pub(crate) fn is_open(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// A request that was let through at `turn` failed. True if that is news: all was well before.
    pub(crate) fn failed(&mut self, turn: u64, now: SystemTime, asked: Option<Duration>, why: &str) -> bool {
        if turn != self.turn {
            return false;
        }
        self.turn += 1;
        self.failures = self.failures.saturating_add(1);
        let asked = asked.unwrap_or_default().min(LONGEST_ASKED);
        self.until = Some(now + self.pause().max(asked));
        why.clone_into(&mut self.why);
        self.failures == 1
    }

    /// A request was answered. True if that is news: there were failures before.
    pub(crate) fn succeeded(&mut self) -> bool {
        let news = self.failures > 0;
        if news {
            *self = Self {
                turn: self.turn + 1,
                ..Self::default()
            };
        }
        news
    }

    fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(5);
        (FIRST * (1 << doublings)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let mut backoff = Backoff::default();
        let mut now = 1000;
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            let turn = backoff.admit(at(now)).unwrap();
            assert_eq!(backoff.failed(turn, at(now), None, "gone"), pause == 1);
            assert_eq!(backoff.admit(at(now + pause - 1)).unwrap_err(), "gone");
            now += pause;
        }
        assert!(backoff.succeeded());
        assert!(!backoff.succeeded());
        assert!(backoff.admit(at(now)).is_ok());
    }

    #[test]
    fn failures_of_the_same_moment_count_once() {
        let mut backoff = Backoff::default();
        let turns: Vec<u64> = (0..64).map(|_| backoff.admit(at(0)).unwrap()).collect();
        for turn in turns {
            backoff.failed(turn, at(0), None, "gone");
        }
        assert!(backoff.admit(at(1)).is_ok());
        assert!(backoff.admit(at(1)).is_err(), "one request tries, the others wait");
    }

    #[test]
    fn upstream_may_ask_for_a_longer_pause_but_not_for_ever() {
        let mut backoff = Backoff::default();
        backoff.failed(0, at(0), Some(Duration::from_secs(20)), "busy");
        assert!(backoff.is_open(at(19)) && !backoff.is_open(at(20)));
        let turn = backoff.admit(at(20)).unwrap();
        backoff.failed(turn, at(20), Some(Duration::MAX), "busy");
        assert!(!backoff.is_open(at(321)));
    }
}
