//! Where a receipt goes: beside the bundle, if that can be.

use std::path::{Path, PathBuf};

use crate::appliance::StartError;

/// Writes it.
pub fn write(path: &Path, text: &str) -> Result<(), StartError> {
    std::fs::write(path, text).map_err(|error| format!("{} cannot be written: {error}", path.display()).into())
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
    fn parts_of_a_bundle_have_one_receipt() {
        let name = |bundle: &str| beside(Path::new(bundle)).to_str().unwrap().to_owned();
        assert_eq!(name("/media/stick/week.tar"), "/media/stick/week.tar.receipt");
        assert_eq!(name("week.tar.012"), "week.tar.receipt");
        assert_eq!(name("week"), "week.receipt");
        assert_eq!(name("week.47"), "week.47.receipt");
    }
}
