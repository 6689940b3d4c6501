//! The programs that an admin has decide what is right.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::testing::{Sample, read, split};
use crate::{PublicKey, SecretKey, Total, Trust, check};

/// Runs a program in a folder; what it printed, if it ended well.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let output = output.map_err(|error| format!("{program} does not run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!(
        "{program} {arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Whether minisign is here; says so if not.
fn has_minisign() -> bool {
    let is_here = Command::new("minisign")
        .arg("-v")
        .output()
        .is_ok_and(|output| output.status.success());
    if !is_here {
        println!("skipped: minisign is not installed (apt-get install minisign)");
    }
    is_here
}

fn unpacked(sample: &Sample) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("b.tar"), sample.part(1)).unwrap();
    run(folder.path(), "tar", &["xf", "b.tar", "--no-same-owner"]).unwrap();
    folder
}

#[test]
fn tar_lists_and_unpacks_and_sha256sum_checks() {
    let sample = Sample::new(Some(SecretKey::generate().unwrap()), None);
    let folder = unpacked(&sample);
    let listed = run(folder.path(), "tar", &["tf", "b.tar"]).unwrap();
    let names: Vec<_> = split(&sample.part(1)).iter().map(crate::testing::Entry::name).collect();
    assert_eq!(listed.lines().collect::<Vec<_>>(), names);
    let long = run(folder.path(), "tar", &["tvf", "b.tar", "--utc", "--numeric-owner"]).unwrap();
    assert!(
        long.lines()
            .all(|line| line.starts_with("-rw-r--r-- 0/0") && line.contains("2026-11-20 12:00")),
        "{long}"
    );
    let checked = run(folder.path(), "sha256sum", &["--strict", "-c", "SHA256SUMS"]).unwrap();
    assert_eq!(checked.lines().count(), sample.files.len() + 3);
    assert!(checked.lines().all(|line| line.ends_with(": OK")));
    let changes = run(folder.path(), "gzip", &["-dc", "index/changes.gz"]).unwrap_or_else(|error| error);
    assert!(changes.contains("\"path\":\"to/ki/tokio\",\"removed\":true"));
    run(folder.path(), "gzip", &["-t", "index/decisions.jsonl.gz"]).unwrap();
}

#[test]
fn what_tar_packs_again_is_taken() {
    let sample = Sample::new(Some(SecretKey::generate().unwrap()), None);
    let whole = read(&sample.part(1), Trust::Anyone).unwrap();
    let folder = unpacked(&sample);
    let names = run(folder.path(), "tar", &["tf", "b.tar"]).unwrap();
    fs::write(folder.path().join("names"), names).unwrap();
    for format in ["--format=ustar", "--format=gnu"] {
        run(folder.path(), "tar", &[format, "-cf", "again.tar", "-T", "names"]).unwrap();
        let again = fs::read(folder.path().join("again.tar")).unwrap();
        assert_eq!(read(&again, Trust::Anyone).unwrap(), whole, "{format}");
    }
}

#[test]
fn minisign_checks_what_we_sign_and_we_what_it_signs() {
    if !has_minisign() {
        return;
    }
    let key = SecretKey::generate().unwrap();
    let (public, secret) = (key.public_key(), key.to_file_text());
    let sample = Sample::new(Some(key), None);
    let folder = unpacked(&sample);
    let verify = ["-V", "-P", &public.to_string(), "-m", "SHA256SUMS"];
    let said = run(folder.path(), "minisign", &verify).unwrap();
    assert!(
        said.contains(&sample.plan.parts()[0].manifest.trusted_comment()),
        "{said}"
    );
    fs::write(folder.path().join("key.pub"), public.to_file_text()).unwrap();
    run(folder.path(), "minisign", &["-V", "-p", "key.pub", "-m", "SHA256SUMS"]).unwrap();
    let mut sums = fs::read(folder.path().join("SHA256SUMS")).unwrap();
    sums[0] ^= 1;
    fs::write(folder.path().join("SHA256SUMS"), &sums).unwrap();
    run(folder.path(), "minisign", &verify).unwrap_err();
    // It signs with our key.
    fs::write(folder.path().join("key.sec"), secret).unwrap();
    run(
        folder.path(),
        "minisign",
        &["-S", "-H", "-W", "-s", "key.sec", "-m", "SHA256SUMS", "-t", "by hand"],
    )
    .unwrap();
    let text = fs::read_to_string(folder.path().join("SHA256SUMS.minisig")).unwrap();
    let signature = crate::Signature::parse(&text).unwrap();
    public.verify(crate::testing::hashed(&sums), &signature).unwrap();
    assert_eq!(signature.trusted_comment(), "by hand");
}

#[test]
fn keys_that_minisign_made_sign_here() {
    if !has_minisign() {
        return;
    }
    let folder = TempDir::new().unwrap();
    run(folder.path(), "minisign", &["-G", "-W", "-p", "k.pub", "-s", "k.key"]).unwrap();
    let secret = SecretKey::from_file_text(&fs::read_to_string(folder.path().join("k.key")).unwrap()).unwrap();
    let text = fs::read_to_string(folder.path().join("k.pub")).unwrap();
    assert_eq!(PublicKey::from_file_text(&text).unwrap(), secret.public_key());
    assert!(text.contains(&secret.public_key().id().to_string()), "{text}");
}

/// The shell in docs/AIR-GAP.md, "By hand".
fn shell_of_the_page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/AIR-GAP.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, by_hand) = page.split_once("\n### By hand\n").expect("the page has the chapter");
    let (_, shell) = by_hand.split_once("\n```sh\n").expect("the chapter has shell");
    shell.split_once("\n```\n").expect("which ends").0.to_owned()
}

#[test]
fn a_bundle_made_by_hand_is_taken() {
    if !has_minisign() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    for (name, text) in [
        ("files/hello-1.0.0.crate", "a crate file"),
        ("files/a-0.1.0.crate", "another one"),
        ("index-files/he/ll/hello", "{\"name\":\"hello\",\"vers\":\"1.0.0\"}\n"),
        ("index-files/1/a", "{\"name\":\"a\",\"vers\":\"0.1.0\"}\n"),
    ] {
        let file = path.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    run(path, "sh", &["-c", &shell_of_the_page()]).unwrap();
    let key = PublicKey::from_file_text(&fs::read_to_string(path.join("mirror.pub")).unwrap()).unwrap();
    let bundle = fs::File::open(path.join("by-hand.bundle")).unwrap();
    let report = check(bundle, Trust::Keys(&[key])).unwrap();
    assert_eq!(
        (report.crates, report.index_changed),
        (Total { files: 2, bytes: 23 }, 2)
    );
    assert_eq!(
        report.signed.unwrap().trusted_comment,
        report.manifest.trusted_comment()
    );
}
