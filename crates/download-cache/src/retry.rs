//! When a failed attempt is worth another one.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use crate::{Config, Error};

/// No pause is longer; an upstream that asks for more is not asked again in this fill.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What has happened in a fill so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Past {
    /// Attempts that failed, this one included.
    pub failed: u32,
    /// Whether one of the earlier ones brought wrong bytes.
    pub wrong_bytes_before: bool,
    /// Whether waiters have some of the bytes.
    pub released: bool,
}

/// How long to wait before the next attempt; `None`: this is the outcome.
pub(crate) fn pause(error: &Error, past: Past, config: &Config) -> Option<Duration> {
    if past.failed >= config.attempts {
        return None;
    }
    let asked_for = match error {
        Error::Upstream(error) if error.is_transient() => Duration::ZERO,
        Error::Status {
            status: 408 | 429 | 500..=599,
            retry_after,
            ..
        } => retry_after.unwrap_or_default(),
        // A broken edge of a CDN may have given them. If waiters have some of them, nothing can be made good.
        Error::WrongBytes { .. } if !past.released && !past.wrong_bytes_before => Duration::ZERO,
        _ => return None,
    };
    if asked_for > LONGEST_PAUSE {
        return None;
    }
    let doubled = config
        .backoff
        .saturating_mul(1 << past.failed.saturating_sub(1).min(16));
    Some(jittered(doubled).max(asked_for).min(LONGEST_PAUSE))
}

/// Between a half and one and a half of it, so that fills that failed together do not come back together.
fn jittered(duration: Duration) -> Duration {
    // std's hasher is seeded by the system; this needs no better randomness.
    let thousandth = RandomState::new().build_hasher().finish() % 1000;
    let share = 0.5 + thousandth as f64 / 1000.0;
    duration.min(LONGEST_PAUSE).mul_f64(share)
}

#[cfg(test)]
mod tests {
    use registry::Checksum;

    use super::*;

    fn status(status: u16, retry_after: Option<u64>) -> Error {
        Error::Status {
            url: String::new(),
            status,
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    fn after(failed: u32) -> Past {
        Past {
            failed,
            ..Past::default()
        }
    }

    #[test]
    fn transient_trouble_is_tried_again_and_other_is_not() {
        let config = Config::new("");
        for code in [408, 429, 500, 502, 503, 504] {
            assert!(pause(&status(code, None), after(1), &config).is_some(), "{code}");
        }
        for code in [204, 206, 304] {
            assert!(pause(&status(code, None), after(1), &config).is_none(), "{code}");
        }
        let refused = Error::Refused {
            url: String::new(),
            status: 404,
        };
        assert!(pause(&refused, after(1), &config).is_none());
        assert!(pause(&status(500, None), after(config.attempts), &config).is_none());
    }

    #[test]
    fn upstream_says_how_long_to_wait_within_reason() {
        let config = Config::new("");
        let wait = |seconds| pause(&status(503, Some(seconds)), after(1), &config);
        assert_eq!(wait(7), Some(Duration::from_secs(7)));
        assert!(wait(0).is_some_and(|pause| pause >= config.backoff / 2));
        assert_eq!(wait(10), Some(LONGEST_PAUSE));
        assert_eq!(wait(11), None);
    }

    #[test]
    fn wrong_bytes_get_one_more_chance_while_nobody_has_any() {
        let config = Config::new("");
        let wrong = Error::WrongBytes {
            url: String::new(),
            expected: Checksum::of(b"a"),
            actual: Checksum::of(b"b"),
            size_bytes: 1,
        };
        let chance = |wrong_bytes_before, released| {
            let past = Past {
                failed: 1,
                wrong_bytes_before,
                released,
            };
            pause(&wrong, past, &config).is_some()
        };
        assert!(chance(false, false));
        assert!(!chance(true, false));
        assert!(!chance(false, true));
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let mut config = Config::new("");
        config.attempts = u32::MAX;
        for failed in 1..60 {
            let expected = config.backoff.as_secs_f64() * f64::from(1_u32 << (failed - 1).min(16));
            let pause = pause(&status(500, None), after(failed), &config).unwrap();
            assert!(pause <= LONGEST_PAUSE);
            assert!(
                pause.as_secs_f64() >= expected.min(10.0) * 0.5 - 1e-6,
                "{failed}: {pause:?}"
            );
        }
    }
}
