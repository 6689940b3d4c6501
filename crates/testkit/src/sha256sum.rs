//! `sha256sum`'s word on files that are named by their bytes.

use std::path::PathBuf;

use crate::command::{run_if_there, said};

/// So many paths fit into one command line.
const AT_ONCE: usize = 500;

/// Which of these files are not what their name says, by `sha256sum`; `None` if the machine does not have it. Files that went meanwhile are
/// passed over. Panics if one cannot be read.
pub fn misnamed(files: &[PathBuf]) -> Option<Vec<String>> {
    let mut wrong = Vec::new();
    // asked for nothing it would wait for its input
    run_if_there("sha256sum", &["--version"])?;
    for some in files.chunks(AT_ONCE) {
        let paths: Vec<&str> = some
            .iter()
            .map(|path| path.to_str().expect("paths of tests are text"))
            .collect();
        let output = run_if_there("sha256sum", &[&["--"], &paths[..]].concat())?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        let is_gone = |line: &str| line.ends_with("No such file or directory");
        assert!(stderr.lines().all(is_gone), "{}", said(&output));
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let is_right = line
                .split_once("  ")
                .is_some_and(|(hash, file)| file.ends_with(&format!("/{hash}")));
            if !is_right {
                wrong.push(line.to_owned());
            }
        }
    }
    Some(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_its_name_says_or_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let [right, wrong, gone] = [empty, "wrong", "gone"].map(|name| dir.path().join(name));
        std::fs::write(&right, "").unwrap();
        std::fs::write(&wrong, "").unwrap();
        let Some(found) = misnamed(&[right, wrong.clone(), gone]) else {
            return;
        };
        assert_eq!(found, [format!("{empty}  {}", wrong.display())]);
    }
}
