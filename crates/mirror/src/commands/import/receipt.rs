//! Where a receipt goes: beside the bundle, if that can be.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::appliance::StartError;

/// Writes it where somebody says.
pub fn write(path: &Path, text: &str) -> Result<(), StartError> {
    write_with(File::options().create(true).truncate(true).write(true), path, text)
}

/// Writes it on the stick, and through no link that is there: whoever made the stick does not choose what is written over.
pub fn write_beside(path: &Path, text: &str) -> Result<(), StartError> {
    let mut options = File::options();
    let no_links = OFlags::NOFOLLOW.bits().cast_signed();
    write_with(
        options.create(true).truncate(true).write(true).custom_flags(no_links),
        path,
        text,
    )
}

fn write_with(options: &OpenOptions, path: &Path, text: &str) -> Result<(), StartError> {
    let written = options.open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        // the stick is pulled next
        file.sync_all()
    });
    written.map_err(|error| format!("{} cannot be written: {error}", path.display()).into())
}

/// The name of a bundle's receipt: that of its file, without the number of a part.
pub fn beside(bundle: &Path) -> PathBuf {
    let is_part = |extension: &std::ffi::OsStr| {
        let extension = extension.to_string_lossy();
        extension.len() == 3 && extension.bytes().all(|byte| byte.is_ascii_digit())
    };
    let mut name = match bundle.extension() {
        Some(extension) if is_part(extension) => bundle.with_extension("").into_os_string(),
        _ => bundle.as_os_str().to_owned(),
    };
    name.push(".receipt");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_on_the_stick_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (link, target) = (dir.path().join("week.tar.receipt"), dir.path().join("precious"));
        std::fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(write_beside(&link, "receipt").is_err());
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
        std::fs::remove_file(&link).unwrap();
        write_beside(&link, "a longer receipt").unwrap();
        write_beside(&link, "receipt").unwrap();
        assert_eq!(std::fs::read_to_string(&link).unwrap(), "receipt");
    }

    #[test]
    fn parts_of_a_bundle_have_one_receipt() {
        let name = |bundle: &str| beside(Path::new(bundle)).to_str().unwrap().to_owned();
        assert_eq!(name("/media/stick/week.tar"), "/media/stick/week.tar.receipt");
        assert_eq!(name("week.tar.012"), "week.tar.receipt");
        assert_eq!(name("week"), "week.receipt");
        assert_eq!(name("week.47"), "week.47.receipt");
    }
}
