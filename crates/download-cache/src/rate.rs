//! Whether upstream gives bytes fast enough to be worth a place among the fills.

use std::time::Duration;

use crate::Config;

/// Bytes against the time spent waiting for them. It is judged when bytes come: that none come at all is a stall, which
/// upstream-http ends, and the time that our own disk takes is not upstream's.
#[derive(Debug)]
pub(crate) struct Rate {
    min_bytes_per_second: u64,
    period: Duration,
    bytes: u64,
    waited: Duration,
}

/// What came in a period in which too little did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooSlow {
    pub bytes: u64,
    pub waited: Duration,
}

impl Rate {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            min_bytes_per_second: config.min_bytes_per_second,
            period: config.slow_for,
            bytes: 0,
            waited: Duration::ZERO,
        }
    }

    /// Adds what came and how long that took; each full period is judged on its own.
    pub(crate) fn add(&mut self, bytes: u64, waited: Duration) -> Result<(), TooSlow> {
        self.bytes += bytes;
        self.waited += waited;
        if self.waited < self.period {
            return Ok(());
        }
        let (bytes, waited) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.waited));
        let least = u128::from(self.min_bytes_per_second) * waited.as_millis();
        if u128::from(bytes) * 1000 < least {
            return Err(TooSlow { bytes, waited });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate() -> Rate {
        Rate::new(&Config::new(""))
    }

    #[test]
    fn a_kibibyte_a_second_is_enough() {
        let mut rate = rate();
        for _ in 0..100 {
            assert_eq!(rate.add(1024, SECOND), Ok(()));
        }
    }

    #[test]
    fn less_is_not_once_a_period_is_over() {
        let mut rate = rate();
        for _ in 0..29 {
            assert_eq!(rate.add(1024, SECOND), Ok(()));
        }
        let slow = TooSlow {
            bytes: 30 * 1024 - 1,
            waited: 30 * SECOND,
        };
        assert_eq!(rate.add(1023, SECOND), Err(slow));
    }

    #[test]
    fn a_good_beginning_does_not_pay_for_what_follows() {
        let mut rate = rate();
        assert_eq!(rate.add(100 << 20, 30 * SECOND), Ok(()));
        assert_eq!(rate.add(1, 29 * SECOND), Ok(()));
        assert!(rate.add(1, SECOND).is_err());
    }
}
