//! Writing a kept file, and which version speaks for its crate.

use registry::CrateVersion;
use rusqlite::{OptionalExtension, Transaction};

use crate::columns::{parsed, signed, to_json};
use crate::search::index_crate;
use crate::{KeptFile, Manifest, ManifestState};

/// Writes a kept file and, if it is the newest of its crate, what the search knows.
pub(crate) fn record(transaction: &Transaction<'_>, file: &KeptFile) -> rusqlite::Result<()> {
    // The update that changes nothing makes RETURNING speak for a crate that is known already.
    let crate_id: i64 = transaction
        .prepare_cached(
            "INSERT INTO crates (canonical, name, newest_version) VALUES (?1, ?2, '')
             ON CONFLICT (canonical) DO UPDATE SET canonical = canonical RETURNING id",
        )?
        .query_row((file.name.canonical(), file.name.as_str()), |row| row.get(0))?;
    let file_id = record_row(transaction, crate_id, file)?;
    transaction
        .prepare_cached("DELETE FROM crate_texts WHERE file_id = ?1")?
        .execute([file_id])?;
    if let ManifestState::Read(manifest) = &file.manifest {
        record_texts(transaction, file_id, manifest)?;
    }
    refresh_crate(transaction, crate_id, Some(&file.version))
}

/// The small row of a kept file; gives its id.
fn record_row(transaction: &Transaction<'_>, crate_id: i64, file: &KeptFile) -> rusqlite::Result<i64> {
    let unparsable = match &file.manifest {
        ManifestState::Read(_) => None,
        ManifestState::Unparsable(why) => Some(why),
    };
    transaction
        .prepare_cached(
            "INSERT INTO kept_files (crate_id, name, version, checksum, size_bytes, kept_at, unparsable)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (crate_id, version) DO UPDATE SET name = excluded.name, checksum = excluded.checksum,
                 size_bytes = excluded.size_bytes, kept_at = excluded.kept_at, unparsable = excluded.unparsable
             RETURNING id",
        )?
        .query_row(
            (
                crate_id,
                file.name.as_str(),
                file.version.as_str(),
                &file.checksum.as_bytes()[..],
                signed(file.size_bytes),
                file.kept_at,
                unparsable,
            ),
            |row| row.get(0),
        )
}

fn record_texts(transaction: &Transaction<'_>, file_id: i64, manifest: &Manifest) -> rusqlite::Result<()> {
    let readme = manifest.readme.as_ref();
    transaction
        .prepare_cached(
            "INSERT INTO crate_texts (file_id, manifest, readme_path, readme_cut, readme) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((
            file_id,
            to_json(manifest),
            readme.map(|readme| &readme.path),
            readme.is_some_and(|readme| readme.cut),
            readme.map(|readme| &readme.text),
        ))?;
    Ok(())
}

/// Makes the crate's row and search entry speak of its newest kept version; a crate without one goes.
/// `touched` is the version whose texts changed: if that is not the newest one, the search entry still stands.
pub(crate) fn refresh_crate(
    transaction: &Transaction<'_>,
    id: i64,
    touched: Option<&CrateVersion>,
) -> rusqlite::Result<()> {
    let newest = transaction
        .prepare_cached("SELECT version, id FROM kept_files WHERE crate_id = ?1")?
        .query_map([id], |row| Ok((parsed::<CrateVersion>(row, 0)?, row.get::<_, i64>(1)?)))?
        .collect::<rusqlite::Result<Vec<_>>>()?
        .into_iter()
        .max_by(|(a, _), (b, _)| rank(a).cmp(&rank(b)));
    let indexed: Option<String> = transaction
        .prepare_cached("SELECT newest_version FROM crates WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let Some((version, file_id)) = newest else {
        remove_entry(transaction, id)?;
        transaction
            .prepare_cached("DELETE FROM crates WHERE id = ?1")?
            .execute([id])?;
        return Ok(());
    };
    if indexed.as_deref() == Some(version.as_str()) && touched != Some(&version) {
        return Ok(());
    }
    remove_entry(transaction, id)?;
    index_crate(transaction, id, file_id)
}

fn remove_entry(transaction: &Transaction<'_>, id: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM crate_search WHERE rowid = ?1")?
        .execute([id])?;
    Ok(())
}

/// Releases before pre-releases, then by precedence: the greatest is the newest.
pub(crate) fn rank(version: &CrateVersion) -> (bool, &CrateVersion) {
    (!version.is_prerelease(), version)
}
