//! Whether a client moves fast enough what it has to move, counting only the time in which we wait for it.

use std::time::Duration;

use tokio::time::Instant;

/// What a client moved while we waited for it.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    bytes: u64,
    waited: Duration,
    since: Option<Instant>,
}

impl Pace {
    /// We wait for the client from now on, if we did not before.
    pub(crate) fn waits(&mut self) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
        }
    }

    /// It moved so many bytes. False if it took `window` of waiting for less than `least` bytes a second.
    pub(crate) fn moved(&mut self, bytes: usize, window: Duration, least: u64) -> bool {
        self.bytes += bytes as u64;
        match self.since.take() {
            Some(since) => self.suffices(since.elapsed(), window, least),
            None => true,
        }
    }

    fn suffices(&mut self, waited: Duration, window: Duration, least: u64) -> bool {
        self.waited += waited;
        if self.waited < window {
            return true;
        }
        let (bytes, waited) = (self.bytes, self.waited);
        *self = Self::default();
        bytes as f64 >= least as f64 * waited.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const WINDOW: Duration = Duration::from_secs(60);

    fn waited(pace: &mut Pace, bytes: usize) -> bool {
        assert!(pace.moved(bytes, WINDOW, 100), "nobody waited");
        pace.suffices(SECOND, WINDOW, 100)
    }

    #[test]
    fn slow_ones_are_found_after_a_window_of_waiting() {
        let mut pace = Pace::default();
        assert!((0..59).all(|_| waited(&mut pace, 99)));
        assert!(!waited(&mut pace, 99));
        assert!((0..600).all(|_| waited(&mut pace, 100)), "fast enough");
    }

    #[test]
    fn waiting_is_timed_from_its_beginning() {
        let mut pace = Pace::default();
        pace.waits();
        let began = pace.since;
        pace.waits();
        assert!(began.is_some() && pace.since == began);
        assert!(!pace.moved(1, Duration::ZERO, u64::MAX) && pace.since.is_none());
    }
}
