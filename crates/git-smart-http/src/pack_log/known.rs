//! Which objects the log has, compactly: the writer's memory.

use std::collections::HashSet;

use crate::ObjectId;

/// How many names may wait before they are sorted in.
const RECENT: usize = 16_384;

/// The first eight bytes of each name. Two names may share them: then one is taken for a repeat, which costs
/// a look into the index and does no harm.
#[derive(Debug, Default)]
pub(super) struct KnownObjects {
    sorted: Vec<u64>,
    recent: HashSet<u64>,
}

impl KnownObjects {
    pub(super) fn contains(&self, id: &ObjectId) -> bool {
        let start = start(id);
        self.recent.contains(&start) || self.sorted.binary_search(&start).is_ok()
    }

    pub(super) fn extend(&mut self, ids: impl IntoIterator<Item = ObjectId>) {
        self.recent.extend(ids.into_iter().map(|id| start(&id)));
        if self.recent.len() > RECENT {
            self.sorted.extend(self.recent.drain());
            // The stable sort makes use of what is in order already.
            self.sorted.sort();
            self.sorted.dedup();
            self.recent.shrink_to(RECENT);
        }
    }
}

fn start(id: &ObjectId) -> u64 {
    u64::from_le_bytes(id.0[..8].try_into().expect("eight bytes were cut out"))
}
