//! Files that survive a power cut: gix never flushes, so whatever must last is written through here.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::Error;

/// Puts `content` at `path` in one step: a reader, or we after a crash, find all of it or what was there before.
/// `temporary` is in the same directory, does not exist, and serves as a lock while it does.
pub(crate) fn replace_file(path: &Path, temporary: &Path, content: &[u8]) -> Result<(), Error> {
    let mut file = File::create_new(temporary).map_err(Error::io("create", temporary))?;
    let written = file
        .write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(Error::io("write", temporary))
        .and_then(|()| fs::rename(temporary, path).map_err(Error::io("replace", path)));
    if written.is_err() {
        // It is ours, and in the way of the next try. What went wrong first is what is told.
        let _ = fs::remove_file(temporary);
    }
    written?;
    sync_dir(parent(path))
}

/// Flushes a file's content.
pub(crate) fn sync_file(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(Error::io("flush", path))
}

/// Flushes a directory: the names in it.
pub(crate) fn sync_dir(path: &Path) -> Result<(), Error> {
    sync_file(path)
}

/// Removes a file; that it is gone already is as good.
pub(crate) fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// As git leaves its objects: nobody writes to them, everybody may read (a backup under another user, say).
pub(crate) fn make_read_only(path: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o444)).map_err(Error::io("set the mode of", path))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

fn parent(path: &Path) -> &Path {
    path.parent().expect("every path we write has a directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_respects_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let (path, lock) = (dir.path().join("file"), dir.path().join("file.lock"));
        replace_file(&path, &lock, b"one").unwrap();
        replace_file(&path, &lock, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(!lock.exists());
        fs::write(&lock, b"").unwrap();
        assert!(replace_file(&path, &lock, b"three").is_err());
        assert!(lock.exists(), "another's lock was taken away");
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn removing_nothing_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        remove_file(&dir.path().join("absent")).unwrap();
        assert!(remove_file(dir.path()).is_err());
    }
}
