//! Crate files that came without a bundle, and vendored sources: taken if the published index says that they are right.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bundle::Id;
use index_sync::{PublishedTree, TreeFile};
use registry::{Checksum, CrateName, CrateVersion, IndexFile, IndexPath};

use super::super::transfer::Transfer;
use super::super::{Ended, finish, say};
use super::bundles::Session;
use crate::appliance::StartError;
use crate::bundles::{LOOSE, Loose, Packed, Sources, blob, flush_all, hash_of, pack_vendored, staged, write_files};
use crate::control::{Reply, Request};

/// The file that is just being looked at.
const UNFINISHED: &str = "unfinished.part";

/// A crate file that is not known to be right yet.
struct Candidate {
    /// As it is called in messages.
    what: String,
    /// What it may be, by its name.
    names: Vec<(CrateName, CrateVersion)>,
    checksum: Checksum,
    bytes: u64,
}

impl Session<'_> {
    /// Imports what the index lists, and says what is left out.
    pub fn import_loose(&self, sources: &Sources) -> Ended {
        let folder = format!("{LOOSE}{}", Id::random()?);
        let path = self.staging.folder(&folder)?;
        let done = self.take_loose(sources, &folder, &path);
        self.staging.remove(&folder)?;
        done
    }

    fn take_loose(&self, sources: &Sources, folder: &str, path: &Path) -> Ended {
        let tree = PublishedTree::open_read_only(&self.settings.data_dir.join("index.git"))?;
        let (mut taken, mut left_out, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        let mut transfer = Transfer::counting("looked at", (sources.crates.len() + sources.vendored.len()) as u64);
        let crates = sources.crates.iter().map(|file| (file, false));
        let all = crates.chain(sources.vendored.iter().map(|folder| (folder, true)));
        for (at, (source, is_vendored)) in (0..).zip(all) {
            transfer.show(at);
            let candidate = match is_vendored {
                false => self.copied(source, path),
                true => self.packed(source, path, &mut wanted),
            };
            let judged = candidate.and_then(|candidate| {
                listed(&tree, &candidate)?.map_err(|why| format!("{}: {why}", candidate.what))?;
                self.place(path, &candidate.checksum)?;
                Ok((candidate.checksum, candidate.bytes))
            });
            match judged {
                Ok(file) => taken.push(file),
                Err(error) => left_out.push(crate::error::chain(&*error)),
            }
        }
        transfer.end();
        for line in &left_out {
            say(&format!("  left out: {line}\n"))?;
        }
        if self.args.dry_run && !wanted.is_empty() {
            say(&format!(
                "{} of them would come onto the list of `mirror wanted`\n",
                wanted.len()
            ))?;
        } else if !wanted.is_empty() {
            let count = wanted.len();
            self.doer.have_done(Request::ImportWanted { wanted })?;
            say(&format!("{count} of them are on the list of `mirror wanted` now\n"))?;
        }
        if taken.is_empty() {
            return Err("nothing was imported".into());
        }
        self.import_taken(taken, left_out.len(), folder, path)
    }

    fn import_taken(&self, mut taken: Vec<(Checksum, u64)>, left_out: usize, folder: &str, path: &Path) -> Ended {
        taken.sort_unstable();
        taken.dedup();
        if self.args.dry_run {
            return say(&format!(
                "{} crate files would be imported, {left_out} left out\n",
                taken.len()
            ));
        }
        let list = path.join(staged::files(1));
        write_files(&list, &taken)?;
        self.staging.owner.give(&list)?;
        flush_all(path)?;
        let loose = Loose {
            folder: folder.to_owned(),
            who: self.who.clone(),
        };
        let reply = self.doer.have_done(Request::ImportFiles { loose })?;
        let message = match left_out {
            0 => String::new(),
            left_out => format!("{left_out} were left out: they are named above"),
        };
        finish(&Reply { message, ..reply })
    }

    /// A crate file, copied to where it can be taken in from.
    fn copied(&self, source: &Path, folder: &Path) -> Result<Candidate, StartError> {
        let what = source.display().to_string();
        let unfinished = folder.join(UNFINISHED);
        let copied = std::fs::copy(source, &unfinished).map_err(|error| format!("{what} cannot be read: {error}"));
        let bytes = copied?;
        let checksum = hash_of(&unfinished)?;
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Candidate {
            what,
            names: names_in(&stem),
            checksum,
            bytes,
        })
    }

    /// Vendored sources, made into the crate file again that they came from.
    fn packed(
        &self,
        source: &Path,
        folder: &Path,
        wanted: &mut Vec<(CrateName, CrateVersion)>,
    ) -> Result<Candidate, StartError> {
        let unfinished = folder.join(UNFINISHED);
        let Packed {
            name,
            version,
            checksum,
            is_same,
        } = pack_vendored(source, &unfinished)?;
        let what = format!("{}: {name} {version}", source.display());
        if blob(&self.settings.data_dir, &checksum).is_file() {
            return Err(format!("{what} is kept here already").into());
        }
        if !is_same {
            wanted.push((name, version));
            return Err(format!(
                "{what}: its .crate file cannot be made again from the vendored sources, byte for byte"
            )
            .into());
        }
        let bytes = std::fs::metadata(&unfinished)?.len();
        Ok(Candidate {
            what,
            names: vec![(name, version)],
            checksum,
            bytes,
        })
    }

    /// The file that was looked at last is right.
    fn place(&self, folder: &Path, checksum: &Checksum) -> Result<(), StartError> {
        let unfinished = folder.join(UNFINISHED);
        std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(0o640))?;
        self.staging.owner.give(&unfinished)?;
        Ok(std::fs::rename(unfinished, folder.join(format!("{checksum}.crate")))?)
    }
}

/// `name-version`, at every place where the version may begin.
fn names_in(stem: &str) -> Vec<(CrateName, CrateVersion)> {
    let hyphens = stem.match_indices('-').map(|(at, _)| at);
    hyphens
        .filter_map(|at| Some((stem[..at].parse().ok()?, stem[at + 1..].parse().ok()?)))
        .collect()
}

/// Whether the published index lists it with this checksum; else why not.
fn listed(tree: &PublishedTree, candidate: &Candidate) -> Result<Result<(), String>, StartError> {
    if candidate.names.is_empty() {
        return Ok(Err(
            "its name is not NAME-VERSION.crate, so nobody knows what it should be".to_owned(),
        ));
    }
    let mut why = "the index here does not list it".to_owned();
    for (name, version) in &candidate.names {
        let path = IndexPath::of(name);
        let Some(file) = tree.read(&TreeFile::Index(path.clone()))? else {
            continue;
        };
        match IndexFile::parse_readable(&file.bytes, &path).find(version.as_str()) {
            Some(line) if line.checksum == candidate.checksum => return Ok(Ok(())),
            Some(line) => {
                why = format!(
                    "it is not the file that the index means: its SHA-256 is {}, and should be {}",
                    candidate.checksum, line.checksum
                );
            }
            None => {}
        }
    }
    Ok(Err(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_split_at_every_place_where_a_version_may_begin() {
        let names = |stem: &str| -> Vec<String> {
            names_in(stem)
                .into_iter()
                .map(|(name, version)| format!("{name} {version}"))
                .collect()
        };
        assert_eq!(names("serde-1.0.0"), ["serde 1.0.0"]);
        assert_eq!(names("tokio-util-0.7.1"), ["tokio-util 0.7.1"]);
        assert_eq!(names("foo-1.0.0-rc.1"), ["foo 1.0.0-rc.1"]);
        assert!(names("download").is_empty());
    }
}
