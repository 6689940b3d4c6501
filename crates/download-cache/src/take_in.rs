//! Crate files that came by another way than a fill, such as on a stick: whole and hashed before they are here.

use std::{collections::BTreeSet, io, path::Path};

use registry::Checksum;

use crate::{DownloadCache, Error, blobs::Blobs};

impl DownloadCache {
    /// Keeps files that are in `folder` as `<checksum>.crate`, on the same file system, with the sizes given. The caller has hashed
    /// them and flushed their bytes; each is renamed, so nothing of it is visible before all of it is. What is kept already with
    /// that size stays as it is. Gives how many are new. After an error some may have come; it may be done again. Blocks for the disk.
    ///
    /// # Errors
    /// [`Error::Disk`] if one is in neither place or cannot be renamed.
    pub fn take_in(&self, folder: &Path, files: &[(Checksum, u64)]) -> Result<u64, Error> {
        let mut touched = BTreeSet::new();
        let mut taken = 0;
        for (checksum, size_bytes) in files {
            if self.inner.blobs.look(checksum)? == Some(*size_bytes) {
                continue;
            }
            self.inner.blobs.take_in(folder, checksum, *size_bytes)?;
            self.inner.table().forget_failure(checksum);
            self.inner.memory.remove(checksum);
            self.inner.checked.forget(checksum);
            touched.insert(checksum.as_bytes()[0]);
            taken += 1;
        }
        for first_byte in touched {
            self.inner.blobs.flush_folder(first_byte)?;
        }
        Ok(taken)
    }
}

impl Blobs {
    fn take_in(&self, folder: &Path, checksum: &Checksum, size_bytes: u64) -> Result<(), Error> {
        let staged = folder.join(format!("{checksum}.crate"));
        let found = self.disk().look(&staged);
        let found = found.map_err(|error| Error::disk("look at", &staged, error))?;
        if !found.is_file() || found.len() != size_bytes || size_bytes == 0 {
            let wrong = io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it is no file of {size_bytes} bytes"),
            );
            return Err(Error::disk("take in", &staged, wrong));
        }
        self.prepare_folder(checksum)?;
        let target = self.path(checksum);
        let renamed = self.disk().rename(&staged, &target);
        renamed.map_err(|error| Error::disk("rename to", &target, error))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
    };

    use rustix::io::Errno;
    use upstream_http::UpstreamHttp;

    use super::*;
    use crate::Config;

    /// Its disk fails once `left` has come to 0; it is there forever at `u64::MAX`.
    fn failing_cache(data: &Path, left: &Arc<AtomicU64>) -> DownloadCache {
        let http = UpstreamHttp::start(upstream_http::Config::new("download-cache's tests")).unwrap();
        let mut config = Config::new(data);
        let left = Arc::clone(left);
        config.fault_hook = Some(Arc::new(move |_| {
            let one_less = |left: u64| (left != 0 && left != u64::MAX).then(|| left - 1);
            match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) {
                Ok(1) => Err(Errno::IO.into()),
                _ => Ok(()),
            }
        }));
        DownloadCache::open(config, http, |_| {}).unwrap()
    }

    fn cache(data: &Path) -> DownloadCache {
        failing_cache(data, &Arc::new(AtomicU64::new(u64::MAX)))
    }

    fn staged(folder: &Path, bytes: &[&[u8]]) -> Vec<(Checksum, u64)> {
        fs::create_dir_all(folder).unwrap();
        let stage = |bytes: &&[u8]| {
            let checksum = Checksum::of(bytes);
            fs::write(folder.join(format!("{checksum}.crate")), bytes).unwrap();
            (checksum, bytes.len() as u64)
        };
        bytes.iter().map(stage).collect()
    }

    #[tokio::test]
    async fn files_are_kept_once_and_a_second_time_is_harmless() {
        let data = tempfile::tempdir().unwrap();
        let cache = cache(data.path());
        let folder = data.path().join("imports/x");
        let files = staged(&folder, &[b"one", b"two", b"three"]);
        assert_eq!(cache.take_in(&folder, &files[..2]).unwrap(), 2);
        assert_eq!(cache.take_in(&folder, &files).unwrap(), 1);
        assert_eq!(cache.take_in(&folder, &files).unwrap(), 0);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        let kept = cache.open_kept(&files[2].0).await.unwrap().unwrap();
        assert_eq!(kept.read_at(0, 10).unwrap(), "three");
    }

    #[tokio::test]
    async fn what_is_missing_or_of_another_size_is_refused() {
        let data = tempfile::tempdir().unwrap();
        let cache = cache(data.path());
        let folder = data.path().join("imports/x");
        let files = staged(&folder, &[b"one"]);
        let other = (Checksum::of(b"other"), 5);
        assert!(cache.take_in(&folder, &[other]).is_err());
        assert!(cache.take_in(&folder, &[(files[0].0, 2)]).is_err());
        assert!(cache.kept(&files[0].0).unwrap().is_none());
        assert_eq!(cache.take_in(&folder, &files).unwrap(), 1);
    }

    #[tokio::test]
    async fn any_call_may_fail_and_the_next_try_takes_the_rest() {
        for fail_at in 0..64 {
            let data = tempfile::tempdir().unwrap();
            let folder = data.path().join("imports/x");
            let left = Arc::new(AtomicU64::new(u64::MAX));
            let cache = failing_cache(data.path(), &left);
            let files = staged(&folder, &[b"one", b"two"]);
            left.store(fail_at + 1, Ordering::Relaxed);
            let first = cache.take_in(&folder, &files);
            let has_failed = left.swap(u64::MAX, Ordering::Relaxed) == 0;
            assert_eq!(first.is_err(), has_failed, "call {fail_at}");
            for (checksum, size_bytes) in &files {
                let size = cache.kept(checksum).unwrap().map(|kept| kept.size_bytes);
                assert!(size.is_none_or(|size| size == *size_bytes), "call {fail_at}");
            }
            cache.take_in(&folder, &files).unwrap();
            for (checksum, _) in &files {
                assert!(cache.kept(checksum).unwrap().is_some(), "call {fail_at}");
            }
            if !has_failed {
                return;
            }
        }
        panic!("it makes too many calls");
    }
}
