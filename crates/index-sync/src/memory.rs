use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use metadata_db::UpstreamState;
use registry::IndexPath;

use crate::IndexEntry;

/// The lock, also after a panic elsewhere: what these locks guard is whole between any two statements.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that waits for its commit.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    /// `None`: it leaves the tree.
    pub(crate) entry: Option<Arc<IndexEntry>>,
    /// What is remembered of upstream once the file is committed.
    pub(crate) state: Option<UpstreamState>,
    /// The order of changes.
    pub(crate) place: u64,
    pub(crate) since: Instant,
}

impl Pending {
    fn bytes(&self) -> u64 {
        self.entry.as_ref().map_or(0, |entry| entry.bytes.len() as u64)
    }
}

/// What memory knows of a file.
#[derive(Debug)]
pub(crate) enum Remembered {
    /// This is published, or will be with the next commit; `None` if it leaves the tree.
    Here(Option<Arc<IndexEntry>>),
    /// The tree has to be read. The number goes with what was read there to [`Memory::read_from_tree`].
    AskTree(u64),
}

/// Index files in memory: those that wait for their commit, and those that were read of late, up to a limit.
#[derive(Debug)]
pub(crate) struct Memory {
    pending: HashMap<IndexPath, Pending>,
    pending_bytes: u64,
    changes: u64,
    recent: HashMap<IndexPath, (Arc<IndexEntry>, u64)>,
    order: BTreeMap<u64, IndexPath>,
    uses: u64,
    recent_bytes: u64,
    limit_bytes: u64,
}

impl Memory {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Self {
            pending: HashMap::new(),
            pending_bytes: 0,
            changes: 0,
            recent: HashMap::new(),
            order: BTreeMap::new(),
            uses: 0,
            recent_bytes: 0,
            limit_bytes,
        }
    }

    pub(crate) fn get(&mut self, path: &IndexPath) -> Remembered {
        if let Some(pending) = self.pending.get(path) {
            return Remembered::Here(pending.entry.clone());
        }
        let Some((entry, place)) = self.recent.get_mut(path) else {
            return Remembered::AskTree(self.changes);
        };
        self.uses += 1;
        self.order.remove(place);
        *place = self.uses;
        self.order.insert(self.uses, path.clone());
        Remembered::Here(Some(Arc::clone(entry)))
    }

    /// Keeps what was read from the tree, unless something changed meanwhile and it may be old already.
    pub(crate) fn read_from_tree(&mut self, path: &IndexPath, entry: &Arc<IndexEntry>, changes: u64) {
        if changes == self.changes {
            self.keep(path, entry);
        }
    }

    /// A change that waits for its commit from now on.
    pub(crate) fn submit(&mut self, path: &IndexPath, entry: Option<Arc<IndexEntry>>, state: Option<UpstreamState>) {
        self.changes += 1;
        self.drop_recent(path);
        if let Some(entry) = &entry {
            self.keep(path, entry);
        }
        let since = self.pending.get(path).map_or_else(Instant::now, |before| before.since);
        let pending = Pending {
            entry,
            state,
            place: self.changes,
            since,
        };
        self.pending_bytes += pending.bytes();
        if let Some(before) = self.pending.insert(path.clone(), pending) {
            self.pending_bytes -= before.bytes();
        }
    }

    /// Files that were committed without having waited here: what was read of them before is worth nothing.
    pub(crate) fn replaced<'a>(&mut self, paths: impl Iterator<Item = &'a IndexPath>) {
        self.changes += 1;
        paths.for_each(|path| self.drop_recent(path));
    }

    /// The waiting change of a file.
    pub(crate) fn pending(&self, path: &IndexPath) -> Option<&Pending> {
        self.pending.get(path)
    }

    /// Changes what will be remembered of upstream, if the file waits for its commit. That is a change of its own: a commit
    /// that is under way has the old state.
    pub(crate) fn set_pending_state(&mut self, path: &IndexPath, state: Option<&UpstreamState>) -> bool {
        let Some(pending) = self.pending.get_mut(path) else {
            return false;
        };
        self.changes += 1;
        pending.place = self.changes;
        pending.state = state.cloned();
        true
    }

    /// The oldest waiting changes, at most `limit`.
    pub(crate) fn batch(&self, limit: usize) -> Vec<(IndexPath, Pending)> {
        let mut batch: Vec<_> = self.pending.iter().collect();
        batch.sort_unstable_by_key(|(_, pending)| pending.place);
        batch
            .into_iter()
            .take(limit)
            .map(|(path, pending)| (path.clone(), pending.clone()))
            .collect()
    }

    /// The order of the newest change.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// How many of the changes up to that one wait.
    pub(crate) fn waiting_up_to(&self, change: u64) -> usize {
        self.pending.values().filter(|pending| pending.place <= change).count()
    }

    /// Forgets what was committed, but not what changed again since.
    pub(crate) fn committed(&mut self, batch: &[(IndexPath, Pending)]) {
        for (path, committed) in batch {
            if self
                .pending
                .get(path)
                .is_some_and(|pending| pending.place == committed.place)
            {
                self.pending.remove(path);
                self.pending_bytes -= committed.bytes();
            }
        }
    }

    /// Since when the oldest change waits.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.since).min()
    }

    pub(crate) fn pending_len(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// What all of this takes, about, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.recent_bytes + self.pending_bytes
    }

    fn keep(&mut self, path: &IndexPath, entry: &Arc<IndexEntry>) {
        self.drop_recent(path);
        if entry.weight() > self.limit_bytes {
            return;
        }
        self.uses += 1;
        self.order.insert(self.uses, path.clone());
        self.recent.insert(path.clone(), (Arc::clone(entry), self.uses));
        self.recent_bytes += entry.weight();
        while self.recent_bytes > self.limit_bytes {
            let Some((_, oldest)) = self.order.first_key_value() else {
                return;
            };
            let oldest = oldest.clone();
            self.drop_recent(&oldest);
        }
    }

    fn drop_recent(&mut self, path: &IndexPath) {
        if let Some((entry, place)) = self.recent.remove(path) {
            self.order.remove(&place);
            self.recent_bytes -= entry.weight();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(n: usize) -> IndexPath {
        IndexPath::of(&format!("krate{n}").parse().unwrap())
    }

    fn entry(size: usize) -> Arc<IndexEntry> {
        Arc::new(IndexEntry::new(vec![b'x'; size]))
    }

    fn ask_tree(memory: &mut Memory, path: &IndexPath) -> u64 {
        match memory.get(path) {
            Remembered::AskTree(changes) => changes,
            Remembered::Here(entry) => panic!("{path} is remembered: {entry:?}"),
        }
    }

    #[test]
    fn what_was_read_least_lately_makes_room() {
        let mut memory = Memory::new(3 * entry(100).weight());
        for n in 0..3 {
            let changes = ask_tree(&mut memory, &path(n));
            memory.read_from_tree(&path(n), &entry(100), changes);
        }
        assert!(matches!(memory.get(&path(0)), Remembered::Here(Some(_))));
        memory.read_from_tree(&path(3), &entry(100), 0);
        ask_tree(&mut memory, &path(1));
        assert!(matches!(memory.get(&path(0)), Remembered::Here(Some(_))));
        memory.read_from_tree(&path(4), &entry(100_000), 0);
        ask_tree(&mut memory, &path(4));
        assert_eq!(memory.bytes(), 3 * entry(100).weight());
    }

    #[test]
    fn a_slow_reader_does_not_bring_back_what_was_replaced() {
        let mut memory = Memory::new(1 << 20);
        let changes = ask_tree(&mut memory, &path(0));
        memory.submit(&path(0), None, None);
        memory.committed(&memory.batch(10));
        memory.read_from_tree(&path(0), &entry(1), changes);
        ask_tree(&mut memory, &path(0));
    }

    #[test]
    fn what_was_read_before_an_import_is_forgotten() {
        let mut memory = Memory::new(1 << 20);
        let changes = ask_tree(&mut memory, &path(0));
        memory.read_from_tree(&path(0), &entry(1), changes);
        let slow = ask_tree(&mut memory, &path(1));
        memory.replaced([path(0)].iter());
        memory.read_from_tree(&path(1), &entry(1), slow);
        ask_tree(&mut memory, &path(0));
        ask_tree(&mut memory, &path(1));
    }

    #[test]
    fn a_change_during_the_commit_goes_on_waiting() {
        let mut memory = Memory::new(0);
        memory.submit(&path(0), Some(entry(10)), None);
        memory.submit(&path(1), Some(entry(20)), None);
        let batch = memory.batch(1);
        assert_eq!(batch[0].0, path(0), "the oldest first");
        memory.submit(&path(0), Some(entry(30)), None);
        memory.committed(&batch);
        assert_eq!((memory.pending_len(), memory.pending_bytes()), (2, 50));
        let batch = memory.batch(9);
        let state = UpstreamState::default();
        assert!(memory.set_pending_state(&path(0), Some(&state)));
        memory.committed(&batch);
        assert_eq!(
            memory.pending(&path(0)).unwrap().state,
            Some(state),
            "the commit had the old state"
        );
        memory.committed(&memory.batch(9));
        assert!(!memory.set_pending_state(&path(0), None));
        assert_eq!((memory.pending_len(), memory.pending_bytes()), (0, 0));
        assert!(memory.waiting_since().is_none());
    }
}
