//! `keys/`: the key that this mirror signs bundles with, and those whose bundles it takes.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bundle::{PublicKey, SecretKey};

use super::folders::{Owner, make};
use crate::appliance::StartError;

/// More than any key has.
const MAX_BYTES: u64 = 64 << 10;

/// The keys of a data directory.
#[derive(Debug)]
pub struct Keyring {
    data_dir: PathBuf,
}

impl Keyring {
    /// Of this data directory, whether it has any or not.
    pub fn of(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
        }
    }

    fn folder(&self) -> PathBuf {
        self.data_dir.join("keys")
    }

    /// Where the own public key is.
    pub fn own_public_path(&self) -> PathBuf {
        self.folder().join("mirror.pub")
    }

    /// The key that signs, if there is one.
    pub fn own(&self) -> Result<Option<SecretKey>, StartError> {
        let path = self.folder().join("mirror.key");
        let text = read_if_there(&path)?;
        let key = text.map(|text| SecretKey::from_file_text(&text)).transpose();
        Ok(key.map_err(|error| format!("{}: {error}", path.display()))?)
    }

    /// The key that signs, and whether it was made just now.
    pub fn own_or_new(&self) -> Result<(SecretKey, bool), StartError> {
        match self.own()? {
            Some(key) => Ok((key, false)),
            None => Ok((self.make_own(false)?, true)),
        }
    }

    /// Makes the key that signs.
    pub fn make_own(&self, replace: bool) -> Result<SecretKey, StartError> {
        if self.own()?.is_some() && !replace {
            return Err("there is a key already, which offices may trust: `mirror keys list` shows it, --replace makes another one".into());
        }
        let key = SecretKey::generate()?;
        self.write(&self.folder().join("mirror.key"), 0o600, &key.to_file_text())?;
        self.write(&self.own_public_path(), 0o640, &key.public_key().to_file_text())?;
        Ok(key)
    }

    /// The keys whose bundles are taken, by their ids.
    pub fn trusted(&self) -> Result<Vec<PublicKey>, StartError> {
        let folder = self.folder().join("trusted");
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(format!("{} cannot be read: {error}", folder.display()).into()),
        };
        let mut keys = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "pub") {
                keys.push(key_in(&path)?);
            }
        }
        keys.sort_unstable_by_key(PublicKey::id);
        Ok(keys)
    }

    /// Takes bundles of this key from now on; says whether that is new.
    pub fn trust(&self, key: &PublicKey) -> Result<bool, StartError> {
        if self.trusted()?.contains(key) {
            return Ok(false);
        }
        let path = self.folder().join("trusted").join(format!("{}.pub", key.id()));
        if path.exists() {
            return Err(format!(
                "another key with the id {} is trusted already: take {} away first",
                key.id(),
                path.display()
            )
            .into());
        }
        self.write(&path, 0o640, &key.to_file_text())?;
        Ok(true)
    }

    /// All of it or nothing, and for the owner of the data directory.
    fn write(&self, path: &Path, mode: u32, text: &str) -> io::Result<()> {
        let parent = path.parent().unwrap_or(&self.data_dir);
        make(parent)?;
        let owner = Owner::of(&self.data_dir)?;
        owner.give(&self.folder())?;
        owner.give(parent)?;
        let fresh = path.with_extension("new");
        let _ = std::fs::remove_file(&fresh);
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(mode)
            .open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        owner.give(&fresh)?;
        std::fs::rename(&fresh, path)?;
        std::fs::File::open(parent)?.sync_all()
    }
}

/// A key by its text, or in a file.
pub fn key_by(text: &str) -> Result<PublicKey, StartError> {
    match text.parse() {
        Ok(key) => Ok(key),
        Err(error) if !Path::new(text).exists() => {
            Err(format!("{text} is neither a key nor a file with one: {error}").into())
        }
        Err(_) => key_in(Path::new(text)),
    }
}

fn key_in(path: &Path) -> Result<PublicKey, StartError> {
    let text = read_if_there(path)?.ok_or_else(|| format!("{} is not there", path.display()))?;
    let key = PublicKey::from_file_text(&text);
    Ok(key.map_err(|error| format!("{}: {error}", path.display()))?)
}

fn read_if_there(path: &Path) -> Result<Option<String>, StartError> {
    let failed = |error: &dyn std::fmt::Display| format!("{} cannot be read: {error}", path.display());
    match std::fs::metadata(path) {
        Ok(found) if found.len() > MAX_BYTES => Err(failed(&"it is too large for a key").into()),
        Ok(_) => Ok(Some(std::fs::read_to_string(path).map_err(|error| failed(&error))?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&error).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_own_key_is_made_once_and_read_by_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keyring::of(dir.path());
        assert!(keys.own().unwrap().is_none());
        let (made, is_new) = keys.own_or_new().unwrap();
        assert!(is_new);
        let (again, is_new) = keys.own_or_new().unwrap();
        assert!(!is_new && again.public_key() == made.public_key());
        let mode = std::fs::metadata(dir.path().join("keys/mirror.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(keys.make_own(false).unwrap_err().to_string().contains("--replace"));
        assert_ne!(keys.make_own(true).unwrap().public_key(), made.public_key());
    }

    #[test]
    fn keys_are_trusted_by_text_and_by_file() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, office) = (Keyring::of(&dir.path().join("a")), Keyring::of(&dir.path().join("b")));
        let key = outside.own_or_new().unwrap().0.public_key();
        assert_eq!(key_by(&key.to_string()).unwrap(), key);
        assert_eq!(key_by(outside.own_public_path().to_str().unwrap()).unwrap(), key);
        assert!(
            key_by("RWnonsense")
                .unwrap_err()
                .to_string()
                .contains("neither a key nor a file")
        );
        assert!(office.trusted().unwrap().is_empty());
        assert!(office.trust(&key).unwrap() && !office.trust(&key).unwrap());
        assert_eq!(office.trusted().unwrap(), [key]);
    }
}
