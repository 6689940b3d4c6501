//! Small files that were wanted of late, in memory: a hit is one look behind a lock, and no system call.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use registry::Checksum;

/// What a file costs beside its bytes.
const ENTRY_BYTES: u64 = 256;
/// Files that left the tier may still be on their way to slow clients: this much more than the limit in all.
const BEYOND_BYTES: u64 = 32 << 20;

/// A bounded number of bytes. Which file goes when there are too many: the one that came first and was not asked for since
/// it was last considered.
#[derive(Debug)]
pub(crate) struct Memory {
    limit_bytes: u64,
    tier: Mutex<Tier>,
    /// Bytes of all files that were read whole and are still held by somebody, here or on the way to a client.
    alive: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Tier {
    files: HashMap<Checksum, Entry>,
    /// Each file once.
    order: VecDeque<Checksum>,
    bytes: u64,
    hits: u64,
    removals: u64,
}

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    used: bool,
}

/// Taken before a file is read from disk: a file that is removed meanwhile does not come back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket(u64);

impl Memory {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            tier: Mutex::default(),
            alive: Arc::default(),
        }
    }

    fn tier(&self) -> MutexGuard<'_, Tier> {
        self.tier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, checksum: &Checksum) -> Option<Bytes> {
        if self.limit_bytes == 0 {
            return None;
        }
        let mut tier = self.tier();
        let entry = tier.files.get_mut(checksum)?;
        entry.used = true;
        let bytes = entry.bytes.clone();
        tier.hits += 1;
        Some(bytes)
    }

    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(self.tier().removals)
    }

    /// Whether another file of this size may be read whole.
    pub(crate) fn has_room_for(&self, size_bytes: u64) -> bool {
        self.alive.load(Ordering::Relaxed) + size_bytes <= self.limit_bytes + BEYOND_BYTES
    }

    /// Takes in checked bytes, and gives them in a form that can be shared.
    pub(crate) fn put(&self, checksum: Checksum, bytes: Vec<u8>, ticket: Ticket) -> Bytes {
        let bytes = Bytes::from_owner(Counted::new(bytes, &self.alive));
        let cost = bytes.len() as u64 + ENTRY_BYTES;
        let mut tier = self.tier();
        if cost > self.limit_bytes || ticket.0 != tier.removals || tier.files.contains_key(&checksum) {
            return bytes;
        }
        tier.make_room(self.limit_bytes - cost);
        tier.bytes += cost;
        tier.order.push_back(checksum);
        let entry = Entry {
            bytes: bytes.clone(),
            used: false,
        };
        tier.files.insert(checksum, entry);
        bytes
    }

    pub(crate) fn remove(&self, checksum: &Checksum) {
        let mut tier = self.tier();
        tier.removals += 1;
        if tier.drop_file(checksum) {
            tier.order.retain(|other| other != checksum);
        }
    }

    /// Bytes held, and hits since the start.
    pub(crate) fn bytes_and_hits(&self) -> (u64, u64) {
        let tier = self.tier();
        (tier.bytes, tier.hits)
    }
}

impl Tier {
    fn make_room(&mut self, limit_bytes: u64) {
        while self.bytes > limit_bytes {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            match self.files.get_mut(&oldest) {
                Some(entry) if entry.used => {
                    entry.used = false;
                    self.order.push_back(oldest);
                }
                _ => drop(self.drop_file(&oldest)),
            }
        }
    }

    fn drop_file(&mut self, checksum: &Checksum) -> bool {
        let Some(entry) = self.files.remove(checksum) else {
            return false;
        };
        self.bytes -= entry.bytes.len() as u64 + ENTRY_BYTES;
        true
    }
}

/// Bytes that are counted as long as anybody holds them.
struct Counted {
    bytes: Vec<u8>,
    alive: Arc<AtomicU64>,
}

impl Counted {
    fn new(bytes: Vec<u8>, alive: &Arc<AtomicU64>) -> Self {
        alive.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Self {
            bytes,
            alive: alive.clone(),
        }
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 1000;
    const COST: u64 = SIZE as u64 + ENTRY_BYTES;

    fn put(memory: &Memory, number: u8) -> Checksum {
        let bytes = vec![number; SIZE];
        let checksum = Checksum::of(&bytes);
        assert_eq!(memory.put(checksum, bytes.clone(), memory.ticket()), bytes);
        checksum
    }

    #[test]
    fn holds_so_many_bytes_and_drops_what_nobody_asks_for() {
        let memory = Memory::new(3 * COST);
        let [a, b, c] = [1, 2, 3].map(|number| put(&memory, number));
        assert_eq!(memory.bytes_and_hits(), (3 * COST, 0));
        assert_eq!(memory.get(&a).unwrap(), vec![1; SIZE]);
        let d = put(&memory, 4);
        assert!(
            memory.get(&b).is_none(),
            "it came first of those that were not asked for"
        );
        for there in [a, c, d] {
            assert!(memory.get(&there).is_some());
        }
        assert_eq!(memory.bytes_and_hits(), (3 * COST, 4));
        assert_eq!(memory.tier().order.len(), 3);
        // all of them were asked for: the first one goes all the same
        put(&memory, 5);
        assert!(memory.get(&a).is_none() || memory.get(&c).is_none());
        assert_eq!(memory.bytes_and_hits().0, 3 * COST);
    }

    #[test]
    fn too_large_a_file_is_not_held_nor_any_without_a_tier() {
        for memory in [Memory::new(COST - 1), Memory::new(0)] {
            let checksum = put(&memory, 1);
            assert!(memory.get(&checksum).is_none());
            assert_eq!(memory.bytes_and_hits(), (0, 0));
        }
    }

    #[test]
    fn what_is_removed_while_it_is_read_does_not_come_back() {
        let memory = Memory::new(10 * COST);
        let checksum = put(&memory, 1);
        let ticket = memory.ticket();
        memory.remove(&checksum);
        memory.put(checksum, vec![1; SIZE], ticket);
        assert!(memory.get(&checksum).is_none());
        assert!(memory.tier().order.is_empty());
        put(&memory, 1);
        put(&memory, 1);
        assert_eq!(memory.tier().order.len(), 1);
    }

    #[test]
    fn what_clients_hold_counts_until_they_let_go() {
        let memory = Memory::new(COST);
        let held = memory.put(Checksum::of(b"a"), vec![0; BEYOND_BYTES as usize], memory.ticket());
        assert!(memory.has_room_for(COST) && !memory.has_room_for(COST + 1));
        let part = held.slice(5..6);
        drop(held);
        assert!(!memory.has_room_for(COST + 1));
        drop(part);
        assert!(memory.has_room_for(COST + BEYOND_BYTES));
    }
}
