//! The folders of the data directory that a command writes into beside the server.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use bundle::{Id, Manifest};

use crate::appliance::StartError;
use crate::settings::Settings;

/// What the folder begins with in which a bundle is looked at.
pub const TRY: &str = "try-";
/// What the folder begins with in which crate files are that came without a bundle.
pub const LOOSE: &str = "files-";

/// Makes a folder of the data directory that nobody else may look into.
pub fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(path)
}

/// Whom the data directory belongs to, if that is somebody else than who makes files in it, which is root then: the server has to
/// be able to move them.
#[derive(Debug, Clone, Copy)]
pub struct Owner(Option<(u32, u32)>);

impl Owner {
    /// Of a data directory.
    pub fn of(data_dir: &Path) -> io::Result<Self> {
        let owner = std::fs::metadata(data_dir)?;
        let own = rustix::process::geteuid();
        let is_other = own.is_root() && owner.uid() != own.as_raw();
        Ok(Self(is_other.then(|| (owner.uid(), owner.gid()))))
    }

    /// Gives it what was made.
    pub fn give(self, path: &Path) -> io::Result<()> {
        match self.0 {
            Some((user, group)) => chown(path, Some(user), Some(group)),
            None => Ok(()),
        }
    }

    /// Gives it all of the data directory that is root's.
    pub fn give_all(self, data_dir: &Path) -> io::Result<()> {
        if self.0.is_none() {
            return Ok(());
        }
        let mut folders = vec![data_dir.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                let found = entry.metadata()?;
                // what a link names is not ours to give
                if found.uid() == 0 && !found.is_symlink() {
                    self.give(&entry.path())?;
                }
                if found.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        Ok(())
    }
}

/// Who gives the command, for the log.
pub fn who(settings: &Settings) -> String {
    let names = ["SUDO_USER", "USER", "LOGNAME"];
    let named = names.into_iter().find_map(|name| settings.environment.get(name));
    named.map_or_else(
        || format!("uid {}", rustix::process::getuid().as_raw()),
        |name| name.chars().filter(|c| !c.is_control()).take(100).collect(),
    )
}

/// `imports/`, while one command works in it.
#[derive(Debug)]
pub struct Staging {
    /// Who gets what is staged.
    pub owner: Owner,
    path: PathBuf,
    #[expect(dead_code, reason = "it is held, not read")]
    lock: File,
}

impl Staging {
    /// Refuses if another import is under way.
    pub fn lock(data_dir: &Path) -> Result<Self, StartError> {
        let path = data_dir.join("imports");
        make(&path)?;
        let owner = Owner::of(data_dir)?;
        owner.give(&path)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o640)
            .open(path.join("LOCK"))?;
        owner.give(&path.join("LOCK"))?;
        match lock.try_lock() {
            Ok(()) => {
                let staging = Self { owner, path, lock };
                staging.clean_up()?;
                Ok(staging)
            }
            Err(TryLockError::WouldBlock) => {
                Err("another `mirror import` is under way here: wait until it is done".into())
            }
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// What a command left behind that was killed, and that nobody takes up again: all but parts of bundles.
    fn clean_up(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(TRY) || name.starts_with(LOOSE) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Removes parts of bundles that are of no use any more: those of a site that are older than what was imported from it.
    pub fn forget_older(&self, site: Id, serial: u64) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            let folder = entry?.path();
            if folder.is_dir() && manifests(&folder).any(|one| one.bundle.site == site && one.bundle.serial <= serial) {
                std::fs::remove_dir_all(&folder)?;
            }
        }
        Ok(())
    }

    /// The folder of a bundle, made if need be.
    pub fn folder(&self, id: &str) -> io::Result<PathBuf> {
        let path = self.path.join(id);
        make(&path)?;
        self.owner.give(&path)?;
        Ok(path)
    }

    /// Removes a folder with all that is in it.
    pub fn remove(&self, id: &str) -> io::Result<()> {
        match std::fs::remove_dir_all(self.path.join(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// The manifests of parts that are staged in a folder.
fn manifests(folder: &Path) -> impl Iterator<Item = Manifest> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let json = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("MANIFEST."));
    json.filter_map(|entry| Manifest::parse(&std::fs::read(entry.path()).ok()?).ok())
}

/// Where a bundle is staged.
pub fn staged(data_dir: &Path, id: &str) -> PathBuf {
    data_dir.join("imports").join(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_root_made_is_given_to_the_owner_of_the_directory() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can give files away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let blobs = dir.path().join("blobs/ab");
        make(&blobs).unwrap();
        std::fs::write(blobs.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        Owner::of(dir.path()).unwrap().give_all(dir.path()).unwrap();
        assert_eq!(std::fs::metadata(&blobs).unwrap().uid(), 0, "it is root's own");
        chown(dir.path(), Some(65_534), Some(65_533)).unwrap();
        Owner::of(dir.path()).unwrap().give_all(dir.path()).unwrap();
        for path in [&blobs, &blobs.join("file"), &dir.path().join("blobs")] {
            let found = std::fs::metadata(path).unwrap();
            assert_eq!((found.uid(), found.gid()), (65_534, 65_533), "{}", path.display());
        }
        assert_eq!(std::fs::metadata("/etc/passwd").unwrap().uid(), 0);
    }

    #[test]
    fn one_import_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let staging = Staging::lock(dir.path()).unwrap();
        std::fs::write(staging.folder("one").unwrap().join("file"), "").unwrap();
        let second = Staging::lock(dir.path()).unwrap_err().to_string();
        assert!(second.contains("another `mirror import` is under way"), "{second}");
        staging.remove("one").unwrap();
        staging.remove("one").unwrap();
        assert!(!staged(dir.path(), "one").exists());
        let older = staging.folder("older").unwrap();
        std::fs::write(older.join("MANIFEST.2.json"), manifest(3).to_json()).unwrap();
        let newer = staging.folder("newer").unwrap();
        std::fs::write(newer.join("MANIFEST.1.json"), manifest(5).to_json()).unwrap();
        staging.forget_older(Id::from_bytes([9; 16]), 9).unwrap();
        assert!(older.exists() && newer.exists(), "they are of another site");
        staging.forget_older(SITE, 4).unwrap();
        assert!(!older.exists() && newer.exists());
        let (tried, loose) = (staging.folder("try-one").unwrap(), staging.folder("files-one").unwrap());
        drop(staging);
        Staging::lock(dir.path()).unwrap();
        assert!(newer.exists() && !tried.exists() && !loose.exists());
    }

    const SITE: Id = Id::from_bytes([5; 16]);

    fn manifest(serial: u64) -> Manifest {
        Manifest {
            bundle: bundle::Description {
                id: Id::from_bytes([1; 16]),
                site: SITE,
                serial,
                parent: None,
                created: bundle::Time::from_unix(0),
                creator: "a test".to_owned(),
                key: None,
                index: None,
                wanted_missing: 0,
            },
            part: 1,
            parts: 2,
            crates: bundle::Total::default(),
            part_crates: bundle::Total::default(),
        }
    }
}
