//! References of the mirror's own, which are never published. Each names a commit of which the tree counts and the history
//! does not.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::layout::{list, name_of};
use crate::durable::{remove_file, replace_file, sync_dir};
use crate::{CommitId, Error};

/// What they all begin with.
pub(super) const PREFIX: &str = "refs/mirror/";
/// Where an operator's `git gc` puts references.
const PACKED: &str = "packed-refs";

/// What a reference names; none if there is no such reference.
pub(super) fn mirror_ref(dir: &Path, name: &str) -> Result<Option<CommitId>, Error> {
    let path = dir.join(name);
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let packed = packed_refs(dir)?;
            let found = packed
                .lines()
                .find_map(|line| packed_line(line).filter(|(found, _)| *found == name));
            found.map(|(_, id)| id.parse()).transpose()
        }
        text => text.map_err(Error::io("read", &path))?.trim().parse().map(Some),
    }
}

/// The references of one folder, by their names in it.
pub(super) fn refs_in(dir: &Path, folder: &str) -> Result<BTreeMap<String, CommitId>, Error> {
    let packed = packed_refs(dir)?;
    let mut found = BTreeMap::new();
    for (name, id) in packed.lines().filter_map(packed_line) {
        if let Some(name) = name.strip_prefix(folder) {
            found.insert(name.to_owned(), id.parse()?);
        }
    }
    for path in list(&dir.join(folder))? {
        let name = name_of(&path).to_owned();
        if !name.ends_with(".lock")
            && let Some(id) = mirror_ref(dir, &format!("{folder}{name}"))?
        {
            found.insert(name, id);
        }
    }
    Ok(found)
}

/// Makes a reference name `id`, or makes it. On disk when this returns.
pub(super) fn set_mirror_ref(dir: &Path, name: &str, id: CommitId) -> Result<(), Error> {
    let path = dir.join(name);
    let folder = path.parent().expect("a reference has a folder");
    if !folder.exists() {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let above = folder.ancestors().skip(1).take_while(|above| *above != dir);
        above.collect::<Vec<_>>().into_iter().try_for_each(sync_dir)?;
    }
    replace_file(&path, &path.with_extension("lock"), format!("{id}\n").as_bytes())
}

/// Removes a reference, wherever git put it; that there is none is as good.
pub(super) fn remove_mirror_ref(dir: &Path, name: &str) -> Result<(), Error> {
    // What is packed first: without the reference's own file that would count again.
    let packed = packed_refs(dir)?;
    let is_other = |line: &&str| packed_line(line).is_none_or(|(found, _)| found != name);
    if !packed.lines().all(|line| is_other(&line)) {
        let rest: String = packed.lines().filter(is_other).flat_map(|line| [line, "\n"]).collect();
        replace_file(&dir.join(PACKED), &dir.join("packed-refs.lock"), rest.as_bytes())?;
    }
    remove_file(&dir.join(name))
}

fn packed_refs(dir: &Path) -> Result<String, Error> {
    let path = dir.join(PACKED);
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(Error::io("read", &path)),
    }
}

/// The name and the id in a line of `packed-refs`; none for its first line and those about tags.
fn packed_line(line: &str) -> Option<(&str, &str)> {
    let (id, name) = line.split_once(' ')?;
    (!line.starts_with('#')).then_some((name, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> CommitId {
        CommitId::from_bytes([byte; 20])
    }

    #[test]
    fn a_packed_reference_is_found_replaced_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let (one, two) = ("refs/mirror/sites/one", "refs/mirror/sites/two");
        let packed = format!(
            "# pack-refs with: peeled\n{} {one}\n{} {two}\n{} refs/tags/x\n^{}\n",
            id(1),
            id(2),
            id(3),
            id(4)
        );
        fs::write(dir.join(PACKED), packed).unwrap();
        assert_eq!(mirror_ref(dir, one).unwrap(), Some(id(1)));
        set_mirror_ref(dir, one, id(5)).unwrap();
        let all = refs_in(dir, "refs/mirror/sites/").unwrap();
        assert_eq!(
            all,
            BTreeMap::from([("one".to_owned(), id(5)), ("two".to_owned(), id(2))])
        );
        remove_mirror_ref(dir, one).unwrap();
        remove_mirror_ref(dir, one).unwrap();
        assert_eq!(mirror_ref(dir, one).unwrap(), None);
        assert_eq!(mirror_ref(dir, two).unwrap(), Some(id(2)));
        assert!(
            fs::read_to_string(dir.join(PACKED))
                .unwrap()
                .contains(&format!("refs/tags/x\n^{}\n", id(4)))
        );
    }
}
