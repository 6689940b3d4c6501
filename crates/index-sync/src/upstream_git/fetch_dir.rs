//! The repository that is fetched into: made anew for each fetch, with the objects of `index.git` behind it. What a killed
//! fetch leaves is in here and in nobody's way.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::{CommitId, Error};

/// No object of an index comes near the limit; one that upstream made to fill our memory does.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n\
                      [gitoxide \"objects\"]\n\tallocLimit = 67108864\n";
/// From `index.git/mirror-fetch/objects`.
const ALTERNATES: &str = "../../objects\n";
const FETCHED: &str = "refs/mirror/upstream";

/// Removed when it is dropped.
#[derive(Debug)]
pub(crate) struct FetchDir {
    path: PathBuf,
}

/// Removes what a killed fetch left behind.
pub(crate) fn remove(git_dir: &Path) -> Result<(), Error> {
    let path = git_dir.join("mirror-fetch");
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
        _ => Ok(()),
    }
}

impl FetchDir {
    /// An empty repository that has `known` commits, but nothing of their history: so upstream sends whatever else a new commit
    /// needs, and upkeep of `index.git` may drop that history meanwhile.
    pub(super) fn create(git_dir: &Path, known: &[CommitId]) -> Result<Self, Error> {
        remove(git_dir)?;
        let dir = Self {
            path: git_dir.join("mirror-fetch"),
        };
        for part in ["objects/info", "objects/pack", "refs/heads", "refs/mirror"] {
            let path = dir.path.join(part);
            fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        dir.write("config", CONFIG)?;
        dir.write("HEAD", "ref: refs/heads/master\n")?;
        dir.write("objects/info/alternates", ALTERNATES)?;
        for (number, id) in known.iter().enumerate() {
            let name = match number {
                0 => FETCHED.to_owned(),
                other => format!("refs/mirror/known-{other}"),
            };
            dir.write(&name, &format!("{id}\n"))?;
        }
        if !known.is_empty() {
            let mut lines: Vec<String> = known.iter().map(|id| format!("{id}\n")).collect();
            lines.sort();
            lines.dedup();
            dir.write("shallow", &lines.concat())?;
        }
        Ok(dir)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Upstream's newest commit, as the fetch found it.
    pub(super) fn fetched(&self) -> Result<CommitId, Error> {
        let path = self.path.join(FETCHED);
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        text.trim().parse()
    }

    /// The commits without their parents, one to a line.
    pub(super) fn shallow(&self) -> Result<Vec<u8>, Error> {
        let path = self.path.join("shallow");
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(Error::io("read", &path)),
        }
    }

    fn write(&self, name: &str, content: &str) -> Result<(), Error> {
        let path = self.path.join(name);
        fs::write(&path, content).map_err(Error::io("write", &path))
    }
}

impl Drop for FetchDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            log::warn!(
                "{} cannot be removed, the next fetch will try: {error}",
                self.path.display()
            );
        }
    }
}
