//! What this process knows of kept files: which of the large ones have been hashed, and which are being read.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use registry::Checksum;

use crate::disk::Identity;

/// Beyond this many it begins anew: a file is hashed once more, and memory stays bounded.
const MOST_CHECKED: usize = 1 << 16;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Files whose bytes were right when they were read here, as long as nobody has touched them since.
#[derive(Debug, Default)]
pub(crate) struct Checked(Mutex<HashMap<Checksum, Identity>>);

impl Checked {
    pub(crate) fn has(&self, checksum: &Checksum, identity: Identity) -> bool {
        locked(&self.0).get(checksum) == Some(&identity)
    }

    pub(crate) fn add(&self, checksum: Checksum, identity: Identity) {
        let mut checked = locked(&self.0);
        if checked.len() >= MOST_CHECKED {
            checked.clear();
        }
        checked.insert(checksum, identity);
    }

    pub(crate) fn forget(&self, checksum: &Checksum) {
        locked(&self.0).remove(checksum);
    }
}

/// Kept files that are open, with how many readers each has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readers(Arc<Mutex<HashMap<Checksum, usize>>>);

impl Readers {
    pub(crate) fn add(&self, checksum: Checksum) -> Reading {
        *locked(&self.0).entry(checksum).or_default() += 1;
        Reading {
            readers: self.clone(),
            checksum,
        }
    }

    pub(crate) fn has(&self, checksum: &Checksum) -> bool {
        locked(&self.0).contains_key(checksum)
    }
}

/// One reader of a file, until this is dropped.
#[derive(Debug)]
pub(crate) struct Reading {
    readers: Readers,
    checksum: Checksum,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut readers = locked(&self.readers.0);
        if let Some(count) = readers.get_mut(&self.checksum) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&self.checksum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_readers_until_the_last_one_leaves() {
        let (readers, checksum) = (Readers::default(), Checksum::of(b"x"));
        let one = readers.add(checksum);
        let other = readers.add(checksum);
        drop(one);
        assert!(readers.has(&checksum) && !readers.has(&Checksum::of(b"y")));
        drop(other);
        assert!(!readers.has(&checksum) && locked(&readers.0).is_empty());
    }

    #[test]
    fn what_was_checked_holds_for_that_file_alone_and_in_bounds() {
        let identity = |path: &std::path::Path| Identity::of(&std::fs::metadata(path).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "bytes").unwrap();
        let (checked, checksum) = (Checked::default(), Checksum::of(b"bytes"));
        checked.add(checksum, identity(&path));
        assert!(checked.has(&checksum, identity(&path)));
        let other = folder.path().join("b");
        std::fs::write(&other, "bytes").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(!checked.has(&checksum, identity(&path)), "another file is in its place");
        for number in 0..MOST_CHECKED {
            checked.add(Checksum::of(&number.to_le_bytes()), identity(&path));
        }
        assert!(locked(&checked.0).len() <= MOST_CHECKED);
        checked.add(checksum, identity(&path));
        checked.forget(&checksum);
        assert!(!checked.has(&checksum, identity(&path)));
    }
}
