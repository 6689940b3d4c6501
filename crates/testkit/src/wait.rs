//! Waiting on a condition.

use std::time::{Duration, Instant};

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(50);

/// Asks `look` again and again until it finds something, at most for `timeout`; `None` if it never did.
///
/// This is the one place where tests sleep, for 50 ms at most at a time.
pub fn eventually<T>(timeout: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + timeout;
    let mut pause = SHORTEST;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_until_it_finds() {
        let mut looks = 0;
        let found = eventually(Duration::from_secs(10), || {
            looks += 1;
            (looks == 4).then_some("found")
        });
        assert_eq!((found, looks), (Some("found"), 4));
    }

    #[test]
    fn gives_up_after_a_last_look() {
        let mut looks = 0;
        let found = eventually(Duration::from_millis(5), || {
            looks += 1;
            None::<()>
        });
        assert!(found.is_none());
        assert!(looks >= 2, "{looks} looks");
    }
}
