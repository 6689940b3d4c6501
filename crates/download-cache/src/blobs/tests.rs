use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
    sync::Arc,
};

use crate::temp_file::TempDirectory;

use super::*;

struct Fixture {
    root: tempfile::TempDir,
    blobs: Blobs,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(root.path().join("blobs"), Disk::default()).unwrap();
        Self { root, blobs }
    }

    fn temp_file(&self, bytes: &[u8]) -> TempFile {
        let directory = TempDirectory::open(self.root.path().to_owned(), Disk::default()).unwrap();
        let temp = TempFile::create(&Arc::new(directory), &Checksum::of(bytes)).unwrap();
        temp.write_at(bytes, 0).unwrap();
        temp
    }

    fn keep(&self, bytes: &[u8]) -> Checksum {
        let checksum = Checksum::of(bytes);
        let temp = self.temp_file(bytes);
        self.blobs.keep(temp, &checksum).unwrap();
        checksum
    }

    /// The place of a checksum, with its folder made.
    fn place(&self, checksum: &Checksum) -> PathBuf {
        let path = self.blobs.path(checksum);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn set_aside(&self) -> usize {
        fs::read_dir(self.root.path().join("blobs").join(BAD)).map_or(0, Iterator::count)
    }
}

#[test]
fn keeps_finds_and_evicts() {
    let fixture = Fixture::new();
    let checksum = fixture.keep(b"hello");
    let path = fixture.blobs.path(&checksum);
    let hex = checksum.to_hex();
    assert!(path.ends_with(format!("blobs/{}/{hex}", &hex[..2])));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);

    let kept = fixture.blobs.find(&checksum).unwrap().unwrap();
    assert_eq!(kept.identity.size_bytes, 5);
    assert_eq!(fixture.blobs.evict(&checksum).unwrap(), Some(5));
    assert_eq!(fixture.blobs.evict(&checksum).unwrap(), None);
    assert!(fixture.blobs.find(&checksum).unwrap().is_none());
    assert_eq!(
        kept.file.read_at(1, 4).unwrap(),
        "ello",
        "an open file outlives its eviction"
    );
}

#[test]
fn what_cannot_be_a_crate_file_is_moved_away() {
    type Make = fn(&Path, &Path);
    let cases: [Make; 6] = [
        |path, _| fs::write(path, "").unwrap(),
        |path, _| fs::create_dir(path).unwrap(),
        |path, target| symlink(target, path).unwrap(),
        |path, _| symlink("nowhere", path).unwrap(),
        |path, _| assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
        |path, _| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
    ];
    for make in cases {
        let fixture = Fixture::new();
        let target = fixture.root.path().join("t");
        fs::write(&target, "hello").unwrap();
        let checksum = Checksum::of(b"hello");
        let path = fixture.place(&checksum);
        for time in 1..=2 {
            // A socket's path has a limit, so it is made in the short one and moved.
            let short = fixture.root.path().join("s");
            make(&short, &target);
            fs::rename(&short, &path).unwrap();
            assert!(fixture.blobs.find(&checksum).unwrap().is_none());
            assert!(fs::symlink_metadata(&path).is_err(), "it is still there");
            assert!((1..=time).contains(&fixture.set_aside()));
        }
        assert_eq!(fixture.keep(b"hello"), checksum);
        assert!(fixture.blobs.find(&checksum).unwrap().is_some());
    }
}

#[test]
fn walks_over_kept_files_only() {
    let fixture = Fixture::new();
    let mut expected: Vec<_> = [&b"a"[..], b"bb", b"ccc"]
        .iter()
        .map(|bytes| (fixture.keep(bytes), bytes.len() as u64))
        .collect();
    let empty = fixture.place(&Checksum::of(b"empty"));
    fs::write(&empty, "").unwrap();
    fs::write(empty.with_file_name("notes.txt"), "x").unwrap();
    // The right name in another folder is not found by that name, so it is not kept.
    let strange = fixture.root.path().join("blobs/zz");
    fs::create_dir(&strange).unwrap();
    fs::write(strange.join(Checksum::of(b"x").to_hex()), "x").unwrap();
    fs::write(fixture.root.path().join("blobs/README"), "x").unwrap();

    let mut found = Vec::new();
    fixture
        .blobs
        .for_each(|checksum, size| found.push((checksum, size)))
        .unwrap();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let first_byte = expected[0].0.as_bytes()[0];
    assert!(fixture.blobs.in_folder(first_byte).unwrap().contains(&expected[0]));
    let empty = (0..=u8::MAX).find(|byte| expected.iter().all(|(checksum, _)| checksum.as_bytes()[0] != *byte));
    assert_eq!(fixture.blobs.in_folder(empty.unwrap()).unwrap(), []);
}

#[test]
fn a_folder_in_the_way_is_an_error_and_leaves_no_temp_file() {
    let fixture = Fixture::new();
    let checksum = Checksum::of(b"hello");
    fs::create_dir_all(fixture.blobs.path(&checksum).join("inner")).unwrap();
    let temp = fixture.temp_file(b"hello");
    let path = temp.path.clone();
    assert!(fixture.blobs.keep(temp, &checksum).is_err());
    assert!(!path.exists());
}
