//! How far a fill is, as its waiters see it: the rule that lets no complete wrong body out.

use std::time::Duration;

use crate::Error;

/// The end of a file that waits for the comparison. Files up to this size are not begun before they are whole.
pub(crate) const HELD_BACK: u64 = 64 << 10;
/// The first bytes are told of as they come, so that nobody waits longer than needed for a first byte.
const FIRST: u64 = 32 << 10;
/// After that, waking waiters is what costs.
const STEP: u64 = 128 << 10;
/// Unless upstream is slow: clients give up on a connection that carries nothing.
pub(crate) const SLOW: Duration = Duration::from_millis(200);

#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Waiters may have this much. It never shrinks.
    pub released: u64,
    pub state: State,
}

#[derive(Clone, Debug)]
pub(crate) enum State {
    /// It waits for its turn, or upstream has not answered yet.
    Waiting,
    /// The body arrives; the length is what upstream said.
    Running {
        total: Option<u64>,
    },
    Done {
        total: u64,
    },
    Failed(Error),
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            released: 0,
            state: State::Waiting,
        }
    }

    /// What a response can begin with: its length, if that is known. `None` while it is too early to tell.
    pub(crate) fn head(&self) -> Option<Result<Option<u64>, Error>> {
        match &self.state {
            State::Failed(error) => Some(Err(error.clone())),
            State::Done { total } => Some(Ok(Some(*total))),
            State::Running { total: Some(total) } if *total > HELD_BACK => Some(Ok(Some(*total))),
            State::Running { total: None } if self.released > 0 => Some(Ok(None)),
            State::Running { .. } | State::Waiting => None,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Done { .. } | State::Failed(_))
    }
}

/// How much of `written` bytes may go out before the hash is known.
pub(crate) fn releasable(written: u64, total: Option<u64>) -> u64 {
    match total {
        Some(total) => written.min(last_before_check(total)),
        None => written.saturating_sub(HELD_BACK),
    }
}

/// The most that may ever go out of a file of this size before the hash is known.
fn last_before_check(total: u64) -> u64 {
    total.saturating_sub(HELD_BACK)
}

/// Whether waiters should be woken for these bytes now.
pub(crate) fn worth_telling(told: u64, releasable: u64, total: Option<u64>, since_last: Duration) -> bool {
    releasable > told
        && (told < FIRST
            || releasable - told >= STEP
            || since_last >= SLOW
            || total.is_some_and(|total| releasable == last_before_check(total)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_held_back() {
        for total in [0, 1, HELD_BACK - 1, HELD_BACK] {
            assert_eq!(releasable(total, Some(total)), 0);
            assert_eq!(releasable(total, None), 0);
        }
        assert_eq!(releasable(10, Some(HELD_BACK + 20)), 10);
        assert_eq!(releasable(HELD_BACK + 20, Some(HELD_BACK + 20)), 20);
        assert_eq!(releasable(HELD_BACK + 20, None), 20);
        // A body that is longer than it said.
        assert_eq!(releasable(10 * HELD_BACK, Some(HELD_BACK + 20)), 20);
    }

    #[test]
    fn first_bytes_are_told_at_once_and_later_ones_in_steps() {
        let total = Some(1 << 20);
        let quick = Duration::ZERO;
        assert!(worth_telling(0, 1, total, quick));
        assert!(worth_telling(FIRST - 1, FIRST, total, quick));
        assert!(!worth_telling(FIRST, FIRST + STEP - 1, total, quick));
        assert!(worth_telling(FIRST, FIRST + STEP, total, quick));
        assert!(worth_telling(FIRST, FIRST + 1, total, SLOW));
        assert!(!worth_telling(FIRST, FIRST, total, SLOW), "nothing new");
        let last = (1 << 20) - HELD_BACK;
        assert!(worth_telling(last - 1, last, total, quick));
    }

    #[test]
    fn a_response_begins_when_its_outcome_is_safe() {
        let head = |released, state| Progress { released, state }.head().map(Result::unwrap);
        assert_eq!(head(0, State::Waiting), None);
        let small = State::Running { total: Some(HELD_BACK) };
        assert_eq!(head(0, small), None);
        let large = State::Running {
            total: Some(HELD_BACK + 1),
        };
        assert_eq!(head(0, large), Some(Some(HELD_BACK + 1)));
        assert_eq!(head(0, State::Running { total: None }), None);
        assert_eq!(head(1, State::Running { total: None }), Some(None));
        assert_eq!(head(7, State::Done { total: 7 }), Some(Some(7)));
    }
}
