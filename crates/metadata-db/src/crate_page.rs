//! Everything that is known of one crate, in one snapshot.

use registry::{CrateName, CrateVersion};
use rusqlite::{OptionalExtension, Transaction};

use crate::columns::json;
use crate::kept_files::{Found, find_version, rows_only, versions_of};
use crate::record::rank;
use crate::{Error, KeptRow, Manifest, ManifestState, MetadataDb, Readme};

/// Everything that a page about a crate shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrateDetails {
    /// The highest kept version, releases before pre-releases.
    pub newest: VersionDetails,
    /// All kept versions by descending precedence; never empty.
    pub versions: Vec<KeptRow>,
}

/// Everything that is known of one kept version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionDetails {
    /// The file.
    pub row: KeptRow,
    /// What was read out of it, README included.
    pub manifest: ManifestState,
}

impl MetadataDb {
    /// What is known of a crate, by its name in any case and with `-` or `_`; `None` if no version of it is kept.
    pub fn crate_details(&self, name: &CrateName) -> Result<Option<CrateDetails>, Error> {
        self.database().read("read about a crate", |snapshot| {
            let versions = versions_of(snapshot, name)?;
            let newest = versions
                .iter()
                .max_by(|(a, _), (b, _)| rank(&a.version).cmp(&rank(&b.version)));
            let Some(newest) = newest.cloned() else {
                return Ok(None);
            };
            Ok(Some(CrateDetails {
                newest: details(snapshot, newest)?,
                versions: rows_only(versions),
            }))
        })
    }

    /// What is known of one version, by its exact text and the crate's name in any spelling.
    pub fn version_details(&self, name: &CrateName, version: &CrateVersion) -> Result<Option<VersionDetails>, Error> {
        self.database().read("read about a version", |snapshot| {
            find_version(snapshot, name, version)?
                .map(|found| details(snapshot, found))
                .transpose()
        })
    }
}

fn details(snapshot: &Transaction<'_>, (row, file_id): Found) -> rusqlite::Result<VersionDetails> {
    let texts = snapshot
        .prepare_cached("SELECT manifest, readme_path, readme_cut, readme FROM crate_texts WHERE file_id = ?1")?
        .query_row([file_id], |row| {
            let mut manifest: Manifest = json(row, 0)?;
            if let (Some(path), Some(text)) = (row.get(1)?, row.get(3)?) {
                let cut = row.get(2)?;
                manifest.readme = Some(Readme { path, text, cut });
            }
            Ok(manifest)
        })
        .optional()?;
    let manifest = match texts {
        Some(manifest) => ManifestState::Read(Box::new(manifest)),
        None => ManifestState::Unparsable(row.unparsable.clone().unwrap_or_default()),
    };
    Ok(VersionDetails { row, manifest })
}

#[cfg(test)]
mod tests {
    use crate::metadata::tests::{kept, manifest_of, name, scratch, version};
    use crate::{ManifestState, Readme};

    #[test]
    fn a_crate_shows_its_newest_release_and_all_versions() {
        let (_dir, db) = scratch();
        assert_eq!(db.crate_details(&name("serde")).unwrap(), None);
        for vers in ["1.9.0", "2.0.0-rc.1", "1.10.0"] {
            db.record_kept(&kept("serde", vers)).unwrap();
        }
        let found = db.crate_details(&name("SERDE")).unwrap().unwrap();
        assert_eq!(found.newest.row.version.as_str(), "1.10.0");
        let versions: Vec<_> = found.versions.iter().map(|row| row.version.as_str()).collect();
        assert_eq!(versions, ["2.0.0-rc.1", "1.10.0", "1.9.0"]);
    }

    #[test]
    fn what_was_read_comes_back_as_it_was() {
        let (_dir, db) = scratch();
        let mut file = kept("serde", "1.0.0");
        let manifest = manifest_of(&mut file);
        manifest.readme = Some(Readme {
            path: "README.md".to_owned(),
            text: "# It's \u{1f980}\0".to_owned(),
            cut: true,
        });
        manifest.features.insert("derive".to_owned(), vec!["dep:x".to_owned()]);
        db.record_kept(&file).unwrap();
        let found = db.version_details(&name("serde"), &version("1.0.0")).unwrap().unwrap();
        assert_eq!(found.manifest, file.manifest);

        file.manifest = ManifestState::Unparsable("a symlink".to_owned());
        db.record_kept(&file).unwrap();
        let found = db.version_details(&name("serde"), &version("1.0.0")).unwrap().unwrap();
        assert_eq!(found.manifest, file.manifest);
        assert_eq!(db.version_details(&name("serde"), &version("1.0.1")).unwrap(), None);
    }
}
