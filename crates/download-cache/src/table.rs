//! Which fills run, and which failed a moment ago.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use registry::Checksum;

use crate::{Error, running::Fill};

/// Failures beyond this many are not remembered; a client must not be able to fill the memory.
const FAILURES: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub running: HashMap<Checksum, Arc<Fill>>,
    /// How many fills have left.
    pub ended: u64,
    failures: HashMap<Checksum, Failure>,
    /// How many of the running fills were begun for a client.
    begun_for: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Failure {
    until: Instant,
    error: Error,
}

impl Table {
    /// Counts a fill that is begun for a client, unless it has as many as it may.
    pub(crate) fn begins(&mut self, client: Option<IpAddr>, most: usize) -> Result<(), Error> {
        let Some(client) = client else { return Ok(()) };
        let fills = self.begun_for.entry(client).or_default();
        if *fills >= most {
            return Err(Error::BusyForClient { client, fills: *fills });
        }
        *fills += 1;
        Ok(())
    }

    /// One of them has ended.
    pub(crate) fn leaves(&mut self, client: Option<IpAddr>) {
        if let Some(client) = client
            && let Some(fills) = self.begun_for.get_mut(&client)
        {
            *fills -= 1;
            if *fills == 0 {
                self.begun_for.remove(&client);
            }
        }
    }

    pub(crate) fn remember(&mut self, checksum: Checksum, error: Error, now: Instant, duration: Duration) {
        if duration.is_zero() {
            return;
        }
        if self.failures.len() >= FAILURES {
            self.failures.retain(|_, failure| failure.until > now);
        }
        if self.failures.len() < FAILURES {
            let until = now + duration;
            self.failures.insert(checksum, Failure { until, error });
        }
    }

    pub(crate) fn failure(&mut self, checksum: &Checksum, now: Instant) -> Option<Error> {
        let failure = self.failures.get(checksum)?;
        if failure.until > now {
            return Some(failure.error.clone());
        }
        self.failures.remove(checksum);
        None
    }

    pub(crate) fn forget_failure(&mut self, checksum: &Checksum) {
        self.failures.remove(checksum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_share_of_fills_and_gets_it_back() {
        let mut table = Table::default();
        let [one, other] = [1, 2].map(|last| Some(IpAddr::from([127, 0, 0, last])));
        table.begins(one, 2).unwrap();
        table.begins(one, 2).unwrap();
        assert!(matches!(
            table.begins(one, 2),
            Err(Error::BusyForClient { fills: 2, .. })
        ));
        table.begins(other, 2).unwrap();
        table.begins(None, 0).unwrap();
        table.leaves(one);
        table.begins(one, 2).unwrap();
        [one, one, other, None]
            .into_iter()
            .for_each(|client| table.leaves(client));
        assert!(table.begun_for.is_empty());
    }

    #[test]
    fn failures_are_remembered_for_their_time_and_in_bounds() {
        let mut table = Table::default();
        let now = Instant::now();
        let time = Duration::from_secs(5);
        for number in 0..FAILURES + 10 {
            table.remember(Checksum::of(&number.to_le_bytes()), Error::Abandoned, now, time);
        }
        assert_eq!(table.failures.len(), FAILURES);
        let first = Checksum::of(&0_usize.to_le_bytes());
        assert!(table.failure(&first, now + time / 2).is_some());
        assert!(table.failure(&first, now + time).is_none());
        let last = Checksum::of(b"last");
        table.remember(Checksum::of(b"fills it up again"), Error::Abandoned, now, time);
        table.remember(last, Error::Abandoned, now + time, time);
        assert_eq!(table.failures.len(), 1, "the old ones made room");
        table.forget_failure(&last);
        assert!(table.failure(&last, now).is_none());
    }
}
