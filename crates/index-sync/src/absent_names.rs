use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use registry::IndexPath;

/// Names that upstream lacked when it was asked; the oldest make room.
#[derive(Debug)]
pub(crate) struct AbsentNames {
    limit: usize,
    known: HashMap<IndexPath, (SystemTime, u64)>,
    order: BTreeMap<u64, IndexPath>,
    next: u64,
}

impl AbsentNames {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            known: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
        }
    }

    pub(crate) fn insert(&mut self, path: IndexPath, now: SystemTime) {
        self.forget(&path);
        while self.known.len() >= self.limit {
            let Some((_, oldest)) = self.order.pop_first() else {
                return;
            };
            self.known.remove(&oldest);
        }
        self.order.insert(self.next, path.clone());
        self.known.insert(path, (now, self.next));
        self.next += 1;
    }

    pub(crate) fn forget(&mut self, path: &IndexPath) {
        if let Some((_, place)) = self.known.remove(path) {
            self.order.remove(&place);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.known.clear();
        self.order.clear();
    }

    /// Whether upstream said less than `max_age` ago that it has no such crate.
    pub(crate) fn contains(&self, path: &IndexPath, now: SystemTime, max_age: Duration) -> bool {
        self.known.get(path).is_some_and(|(at, _)| younger(*at, now, max_age))
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

/// Whether `at` is less than `max_age` before `now`; not if the clock went back behind it.
pub(crate) fn younger(at: SystemTime, now: SystemTime, max_age: Duration) -> bool {
    now.duration_since(at).is_ok_and(|age| age < max_age)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(n: usize) -> IndexPath {
        IndexPath::of(&format!("krate{n}").parse().unwrap())
    }

    #[test]
    fn the_oldest_make_room_and_age_ends_it() {
        let (start, minute) = (SystemTime::UNIX_EPOCH, Duration::from_secs(60));
        let mut names = AbsentNames::new(3);
        for n in 0..3 {
            names.insert(path(n), start);
        }
        names.insert(path(0), start + minute / 2);
        names.insert(path(3), start + minute / 2);
        assert_eq!(names.len(), 3);
        assert!(!names.contains(&path(1), start, minute), "the oldest stayed");
        assert!(names.contains(&path(2), start, minute));
        assert!(!names.contains(&path(2), start + minute, minute), "a minute is too old");
        assert!(
            names.contains(&path(0), start + minute, minute),
            "asked again half a minute ago"
        );
        names.forget(&path(0));
        assert!(!names.contains(&path(0), start + minute, minute));
        assert_eq!((names.len(), names.order.len()), (2, 2));
    }

    #[test]
    fn no_room_is_no_names() {
        let mut names = AbsentNames::new(0);
        names.insert(path(0), SystemTime::UNIX_EPOCH);
        assert_eq!(names.len(), 0);
    }
}
