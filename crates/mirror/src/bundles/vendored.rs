//! Makes the crate file again that vendored sources came from, as cargo makes it: the same files in the same order, with the
//! same times, compressed in the same way. Whether that went well is told by the checksum that `cargo vendor` wrote down.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use registry::{Checksum, CrateName, CrateVersion};
use serde::Deserialize;
use tar::{Builder, EntryType, Header, HeaderMode};

use super::sources::VENDORED;
use super::staging::hash_of;
use crate::appliance::StartError;

/// The time that cargo gives to files that it makes itself: since 2025, and before. Those of the package have the first.
const MADE_TIMES: [u64; 2] = [1_153_704_088, 1];
/// What cargo makes itself.
const MADE: [&str; 3] = [".cargo_vcs_info.json", "Cargo.toml", "Cargo.lock"];

/// What came of it.
#[derive(Debug)]
pub struct Packed {
    /// The crate.
    pub name: CrateName,
    /// Its version.
    pub version: CrateVersion,
    /// What the crate file's SHA-256 is, by `cargo vendor`.
    pub checksum: Checksum,
    /// Whether that is what was written.
    pub is_same: bool,
}

#[derive(Deserialize)]
struct Written {
    package: Option<Checksum>,
}

#[derive(Deserialize)]
struct Manifest {
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    name: CrateName,
    version: CrateVersion,
}

/// Writes the crate file of the sources in `folder` to `out`.
pub fn pack_vendored(folder: &Path, out: &Path) -> Result<Packed, StartError> {
    let failed = |what: &str, why: &dyn std::fmt::Display| format!("{}: {what}: {why}", folder.display());
    let written = std::fs::read(folder.join(VENDORED)).map_err(|error| failed(VENDORED, &error))?;
    let written: Written = serde_json::from_slice(&written).map_err(|error| failed(VENDORED, &error))?;
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).map_err(|error| failed("Cargo.toml", &error))?;
    let Manifest {
        package: Package { name, version },
    } = toml::from_str(&manifest).map_err(|error| failed("Cargo.toml", &error))?;
    let Some(checksum) = written.package else {
        return Err(format!("{}: {name} {version} did not come from a registry", folder.display()).into());
    };
    let base = format!("{name}-{version}");
    let mut is_same = false;
    for made_time in MADE_TIMES {
        pack(folder, &base, made_time, out).map_err(|error| failed("packing it", &error))?;
        is_same = hash_of(out)? == checksum;
        if is_same {
            break;
        }
    }
    Ok(Packed {
        is_same,
        name,
        version,
        checksum,
    })
}

fn pack(folder: &Path, base: &str, made_time: u64, out: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    files_below(folder, Path::new(""), &mut files)?;
    files.sort();
    let out = BufWriter::new(File::create(out)?);
    let gzip = GzBuilder::new()
        .filename(format!("{base}.crate"))
        .write(out, Compression::best());
    let mut archive = Builder::new(gzip);
    for file in files {
        let path = folder.join(&file);
        let found = std::fs::metadata(&path)?;
        let is_made = file.to_str().is_some_and(|name| MADE.contains(&name));
        let mut header = Header::new_gnu();
        if is_made {
            header.set_entry_type(EntryType::Regular);
            header.set_mode(0o644);
            header.set_mtime(made_time);
        } else {
            header.set_metadata_in_mode(&found, HeaderMode::Deterministic);
        }
        header.set_size(found.len());
        header.set_cksum();
        archive.append_data(&mut header, Path::new(base).join(&file), File::open(&path)?)?;
    }
    archive.into_inner()?.finish()?.flush()
}

fn files_below(folder: &Path, below: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            files_below(folder, &path, files)?;
        } else if entry.file_type()?.is_file() && path != Path::new(VENDORED) {
            files.push(path);
        }
    }
    Ok(())
}
