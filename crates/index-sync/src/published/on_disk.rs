//! Whether what is on disk is still what is published.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::PoisonError;

use super::PublishedTree;
use crate::Error;
use crate::repository::BRANCH;

impl PublishedTree {
    /// Looks whether the repository on disk is still the one that is published from: its objects are there, and its branch
    /// is where we put it. Two files are looked at, no object is read.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it was deleted, [`Error::BranchMoved`] if it is another one, or it cannot be read.
    pub fn check_on_disk(&self) -> Result<(), Error> {
        let dir = &self.shared.dir;
        let damaged = |why: &str| Error::Damaged {
            path: dir.clone(),
            why: why.to_owned(),
        };
        if !dir.join("objects").is_dir() {
            return Err(damaged("its objects are gone"));
        }
        let mut expected = self.expected();
        loop {
            let found = branch_on_disk(dir)?;
            if expected.contains(&found) {
                return Ok(());
            }
            // A commit may have come in between.
            let before = std::mem::replace(&mut expected, self.expected());
            if before == expected {
                let Some(found) = found else {
                    return Err(damaged("its branch is gone"));
                };
                let expected = expected.swap_remove(0).unwrap_or_else(|| "nothing".to_owned());
                return Err(Error::BranchMoved { expected, found });
            }
        }
    }

    /// What the branch may name on disk: what is published, or what is being published.
    fn expected(&self) -> Vec<Option<String>> {
        let current = self.shared.current.read().unwrap_or_else(PoisonError::into_inner);
        let tip = current.tip.as_ref().map(|tip| tip.commit.to_string());
        std::iter::once(tip)
            .chain(current.next.map(|next| Some(next.to_string())))
            .collect()
    }
}

/// What the branch's file names, or the line for it in `packed-refs`, where `git gc` puts it.
pub(super) fn branch_on_disk(dir: &Path) -> Result<Option<String>, Error> {
    let read = |name: &str| {
        let path = dir.join(name);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            text => text.map(Some).map_err(Error::io("read", &path)),
        }
    };
    if let Some(text) = read(BRANCH)? {
        return Ok(Some(text.trim().to_owned()));
    }
    let packed = read("packed-refs")?.unwrap_or_default();
    let mut lines = packed.lines().filter_map(|line| line.split_once(' '));
    Ok(lines.find(|(_, name)| *name == BRANCH).map(|(id, _)| id.to_owned()))
}
