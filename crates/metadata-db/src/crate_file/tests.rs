use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tar::Header;

use super::*;
use crate::{DependencyKind, Manifest};

const MINIMAL: &str = "[package]\nname = \"a\"\nversion = \"1.0.0\"\n";

/// An archive made block by block, since a well-meaning library would refuse most of what is tested here.
#[derive(Clone, Default)]
struct Tarball(Vec<u8>);

impl Tarball {
    fn header(path: &[u8], kind: EntryType, size_bytes: u64) -> Header {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.set_entry_type(kind);
        header.set_size(size_bytes);
        header.set_mode(0o644);
        header.set_cksum();
        header
    }

    fn raw(mut self, header: &Header, content: &[u8]) -> Self {
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn entry(self, path: &str, kind: EntryType, content: &[u8]) -> Self {
        let header = Self::header(path.as_bytes(), kind, content.len() as u64);
        self.raw(&header, content)
    }

    fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry(path, EntryType::Regular, content.as_ref())
    }

    fn pax(self, path: &str, records: &[(&str, &str)]) -> Self {
        let mut content = String::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            let length = (1..).find(|length: &usize| length.to_string().len() + rest.len() == *length);
            content += &format!("{}{rest}", length.unwrap());
        }
        self.entry(path, EntryType::XHeader, content.as_bytes())
    }

    fn tar(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    fn gz(self) -> Vec<u8> {
        gzip(&self.tar())
    }

    fn read(self) -> ManifestState {
        read(&self.gz())
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn tarball() -> Tarball {
    Tarball::default()
}

/// A crate `a` 1.0.0 with nothing but its Cargo.toml.
fn minimal() -> Tarball {
    tarball().file("a-1.0.0/Cargo.toml", MINIMAL)
}

fn read(bytes: &[u8]) -> ManifestState {
    read_crate_file(bytes, &"a".parse().unwrap(), &"1.0.0".parse().unwrap())
}

#[track_caller]
fn manifest(state: ManifestState) -> Manifest {
    match state {
        ManifestState::Read(manifest) => *manifest,
        ManifestState::Unparsable(why) => panic!("{why}"),
    }
}

#[track_caller]
fn refused(state: ManifestState, because: &str) {
    match state {
        ManifestState::Read(manifest) => panic!("it was read: {manifest:?}"),
        ManifestState::Unparsable(why) => assert!(why.contains(because), "{why}"),
    }
}

/// The manifest of a crate whose Cargo.toml goes on like this.
fn with_toml(rest: &str) -> ManifestState {
    tarball().file("a-1.0.0/Cargo.toml", format!("{MINIMAL}{rest}")).read()
}

const FULL: &str = r##"
description = "Does things"
keywords = ["one", "two"]
categories = ["parsing"]
license = "MIT OR Apache-2.0"
license-file = "LICENSE"
homepage = "h"
documentation = "d"
repository = "javascript:alert(1)"
links = "z"
rust-version = "1.70"
edition = "2021"
authors = ["A <a@example.com>"]
readme = "docs/Intro.md"

[package.metadata.docs.rs]
all-features = true

[features]
default = ["std"]
std = ["dep:b"]

[dependencies]
plain = "1"
b = { version = "0.2.1", optional = true, default-features = false, features = ["x"], package = "b-real" }

[dev-dependencies.check]
version = ">=1, <3"

[build-dependencies]
cc = "1.0"

[target.'cfg(unix)'.dependencies]
libc = "0.2"
"##;

#[test]
fn everything_that_a_cargo_toml_says_is_read() {
    let found = tarball()
        .entry("a-1.0.0/", EntryType::Directory, b"")
        .file("a-1.0.0/Cargo.toml", format!("{MINIMAL}{FULL}"))
        .file("a-1.0.0/README.md", "not this one")
        .file("a-1.0.0/docs/Intro.md", "# A")
        .file("a-1.0.0/sub/Cargo.toml", "not at the root")
        .read();
    let found = manifest(found);
    assert_eq!(found.description.as_deref(), Some("Does things"));
    assert_eq!(found.keywords, ["one", "two"]);
    assert_eq!(found.categories, ["parsing"]);
    assert_eq!(found.license.as_deref(), Some("MIT OR Apache-2.0"));
    assert_eq!(found.license_file.as_deref(), Some("LICENSE"));
    assert_eq!(found.repository.as_deref(), Some("javascript:alert(1)"));
    assert_eq!(
        (found.homepage.as_deref(), found.documentation.as_deref()),
        (Some("h"), Some("d"))
    );
    assert_eq!(
        (found.links.as_deref(), found.rust_version.as_deref()),
        (Some("z"), Some("1.70"))
    );
    assert_eq!(found.edition, "2021");
    assert_eq!(found.authors, ["A <a@example.com>"]);
    assert_eq!(found.features["std"], ["dep:b"]);
    let readme = found.readme.unwrap();
    assert_eq!((readme.path.as_str(), readme.text.as_str()), ("docs/Intro.md", "# A"));
    assert!(!readme.cut && !found.partial);

    let by_name = |name: &str| {
        found
            .dependencies
            .iter()
            .find(|dependency| dependency.name == name)
            .unwrap()
    };
    assert_eq!(found.dependencies.len(), 5);
    let b = by_name("b");
    assert_eq!((b.package.as_deref(), b.req.as_str()), (Some("b-real"), "^0.2.1"));
    assert!(b.optional && !b.default_features);
    assert_eq!(b.features, ["x"]);
    assert_eq!(by_name("plain").kind, DependencyKind::Normal);
    assert_eq!(
        (by_name("check").kind, by_name("check").req.as_str()),
        (DependencyKind::Dev, ">=1, <3")
    );
    assert_eq!(by_name("cc").kind, DependencyKind::Build);
    assert_eq!(by_name("libc").target.as_deref(), Some("cfg(unix)"));
}

#[test]
fn a_bare_cargo_toml_is_enough() {
    let found = manifest(minimal().read());
    assert_eq!((found.edition.as_str(), found.readme), ("2015", None));
    let lower = tarball().file("a-1.0.0/cargo.toml", MINIMAL);
    manifest(lower.read());
}

#[test]
fn the_folder_has_the_name_as_the_cargo_toml_spells_it() {
    let toml = "[package]\nname = \"My-Crate\"\nversion = \"1.0.0+b.1\"\n";
    let bytes = tarball().file("My-Crate-1.0.0+b.1/Cargo.toml", toml).gz();
    let read =
        |name: &str, version: &str| read_crate_file(&bytes[..], &name.parse().unwrap(), &version.parse().unwrap());
    manifest(read("My-Crate", "1.0.0+b.1"));
    manifest(read("my_crate", "1.0.0+b.1"));
    refused(read("my_crate2", "1.0.0+b.1"), "not below `my_crate2-1.0.0+b.1/`");
    refused(read("My-Crate", "1.0.0"), "not below");
    let other = tarball().file("My_Crate-1.0.0+b.1/Cargo.toml", toml).gz();
    let state = read_crate_file(&other[..], &"My-Crate".parse().unwrap(), &"1.0.0+b.1".parse().unwrap());
    refused(state, "speaks of `My-Crate`");
}

// Threat T1: the gzip stream.

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    let zeros = vec![0; 80 << 20];
    refused(tarball().file("a-1.0.0/big", &zeros).read(), "inflates to more than");
    let late = minimal().file("a-1.0.0/README.md", "hi").file("a-1.0.0/big", &zeros);
    let found = manifest(late.read());
    assert!(found.partial && found.readme.is_some());
    let mut endless = minimal().tar();
    endless.extend_from_slice(&zeros);
    assert!(manifest(read(&gzip(&endless))).partial, "zeros behind the archive");
}

#[test]
fn a_file_that_ends_at_the_limit_is_whole() {
    let bytes = minimal().tar();
    let pad = MAX_INFLATED_BYTES as usize - bytes.len();
    for (more, partial) in [(0, false), (1, true)] {
        let mut padded = bytes.clone();
        padded.resize(bytes.len() + pad + more, 0);
        assert_eq!(manifest(read(&gzip(&padded))).partial, partial);
    }
}

#[test]
fn a_broken_gzip_stream_is_refused() {
    let whole = minimal().file("a-1.0.0/README.md", "some text").gz();
    manifest(read(&whole));
    for length in 0..whole.len() {
        refused(read(&whole[..length]), "");
    }
    let mut wrong_crc = whole.clone();
    let at = whole.len() - 8;
    wrong_crc[at] ^= 1;
    refused(read(&wrong_crc), "cannot be unpacked");
    refused(
        read(&[whole.as_slice(), b"x"].concat()),
        "follows the end of the gzip stream",
    );
    refused(
        read(&[whole.as_slice(), &whole].concat()),
        "follows the end of the gzip stream",
    );
    refused(read(&gzip(&whole)), "");
    refused(read(b"PK\x03\x04 a zip file"), "cannot be unpacked");
    refused(read(b"\xfd7zXZ\0"), "cannot be unpacked");
    let mut hidden = minimal().tar();
    hidden.extend_from_slice(&minimal().tar());
    refused(read(&gzip(&hidden)), "follows the end of the archive");
}

#[test]
fn a_reader_that_fails_is_a_reason() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let state = read_crate_file(Failing, &"a".parse().unwrap(), &"1.0.0".parse().unwrap());
    refused(state, "the disk is gone");
}

// Threat T2: the archive.

#[test]
fn only_files_and_directories_count() {
    let kinds = [
        (EntryType::Symlink, "is a symlink"),
        (EntryType::Link, "is a hard link"),
        (EntryType::Char, "is a device"),
        (EntryType::Block, "is a device"),
        (EntryType::Fifo, "is a fifo"),
        (EntryType::Continuous, "neither file nor directory"),
        (EntryType::XGlobalHeader, "neither file nor directory"),
        (EntryType::new(b'V'), "neither file nor directory"),
    ];
    for (kind, why) in kinds {
        refused(minimal().entry("a-1.0.0/x", kind, b"").read(), why);
        refused(tarball().entry("a-1.0.0/Cargo.toml", kind, b"").read(), why);
        refused(minimal().entry("a-1.0.0/README.md", kind, b"").read(), why);
    }
    refused(minimal().entry("a-1.0.0/x", EntryType::GNUSparse, b"").read(), "");
}

#[test]
fn every_path_is_plain_and_below_the_crates_folder() {
    let outside = [
        "/etc/passwd",
        "b-1.0.0/x",
        "a-1.0.1/x",
        "A-1.0.0/x",
        "x",
        "../a-1.0.0/x",
        "a-1.0.0x/y",
    ];
    for path in outside {
        refused(minimal().file(path, "x").read(), "not below");
    }
    for path in [
        "a-1.0.0/../x",
        "a-1.0.0/..",
        "a-1.0.0//x",
        "a-1.0.0/./Cargo.toml",
        "a-1.0.0/",
        "a-1.0.0",
        "a-1.0.0/d/",
    ] {
        refused(minimal().file(path, "x").read(), "not a plain path");
    }
    let odd = Tarball::header(b"a-1.0.0/\xff\xfe", EntryType::Regular, 0);
    refused(minimal().raw(&odd, b"").read(), r"`a-1.0.0/\xff\xfe` is not UTF-8");
    let directories =
        minimal()
            .entry("a-1.0.0", EntryType::Directory, b"")
            .entry("a-1.0.0/src/", EntryType::Directory, b"");
    manifest(directories.read());
}

#[test]
fn there_is_one_cargo_toml() {
    refused(
        minimal().file("a-1.0.0/Cargo.toml", MINIMAL).read(),
        "second Cargo.toml",
    );
    refused(
        minimal().file("a-1.0.0/CARGO.TOML", MINIMAL).read(),
        "second Cargo.toml",
    );
    refused(
        tarball().file("a-1.0.0/CARGO.TOML", MINIMAL).read(),
        "spelled `CARGO.TOML`",
    );
    refused(
        tarball().entry("a-1.0.0/Cargo.toml", EntryType::Directory, b"").read(),
        "is a directory",
    );
    refused(
        minimal().entry("a-1.0.0/Cargo.toml/", EntryType::Directory, b"").read(),
        "is a directory",
    );
    refused(tarball().file("a-1.0.0/src/lib.rs", "").read(), "no Cargo.toml");
    refused(tarball().read(), "no Cargo.toml");
}

#[test]
fn long_names_are_names() {
    let long = format!("a-1.0.0/{}", "deep/".repeat(60));
    let gnu = tarball()
        .entry("././@LongLink", EntryType::GNULongName, format!("{long}x\0").as_bytes())
        .file("cut", "")
        .file("a-1.0.0/Cargo.toml", MINIMAL);
    manifest(gnu.read());
    let hidden = minimal()
        .entry("././@LongLink", EntryType::GNULongName, b"b-1.0.0/x\0")
        .file("a-1.0.0/x", "");
    refused(hidden.read(), "`b-1.0.0/x` is not below");
    let pax = tarball()
        .pax("pax", &[("path", "a-1.0.0/Cargo.toml")])
        .file("a-1.0.0/other", MINIMAL);
    manifest(pax.read());
    let pax = minimal().pax("pax", &[("path", "a-1.0.0/../x")]).file("a-1.0.0/x", "");
    refused(pax.read(), "not a plain path");
}

#[test]
fn an_entry_has_one_size() {
    let sized = |size: &str| minimal().pax("pax", &[("size", size)]).file("a-1.0.0/x", "12345");
    manifest(sized("5").read());
    for size in ["0", "512", "1024", "-1", "05", "99999999999999999999"] {
        refused(sized(size).read(), "");
    }
    refused(sized("0").read(), "two sizes");
    let sparse = minimal().pax("pax", &[("GNU.sparse.major", "1")]).file("a-1.0.0/x", "");
    refused(sparse.read(), "is sparse");
    let malformed = minimal()
        .entry("pax", EntryType::XHeader, b"99 size=5\n")
        .file("a-1.0.0/x", "12345");
    refused(malformed.read(), "");
}

#[test]
fn impossible_sizes_end_the_reading() {
    for digits in [
        *b"77777777777\0",
        *b"-0000000001\0",
        *b"zzzzzzzzzzz\0",
        [0xff; 12],
        *b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let mut header = Tarball::header(b"a-1.0.0/x", EntryType::Regular, 0);
        header.as_old_mut().size = digits;
        header.set_cksum();
        refused(minimal().raw(&header, b"").read(), "");
        refused(
            tarball().raw(&header, b"").file("a-1.0.0/Cargo.toml", MINIMAL).read(),
            "",
        );
    }
}

#[test]
fn ten_million_entries_are_too_many() {
    let mut many = minimal();
    let header = Tarball::header(b"a-1.0.0/x", EntryType::Regular, 0);
    for _ in 0..MAX_ENTRIES {
        many.0.extend_from_slice(header.as_bytes());
    }
    refused(many.read(), "more than 50000 entries");
}

// Threat T3: Cargo.toml and README.

#[test]
fn a_cargo_toml_that_is_no_cargo_toml_is_refused() {
    let long = format!("{MINIMAL}# {}", "x".repeat(MAX_MANIFEST_BYTES));
    refused(
        tarball().file("a-1.0.0/Cargo.toml", &long).read(),
        "longer than 1048576 bytes",
    );
    manifest(tarball().file("a-1.0.0/Cargo.toml", &long[..MAX_MANIFEST_BYTES]).read());
    refused(
        tarball().file("a-1.0.0/Cargo.toml", b"\xff\xfe[").read(),
        "cannot be read",
    );
    refused(tarball().file("a-1.0.0/Cargo.toml", "").read(), "no `[package]`");
    refused(
        tarball().file("a-1.0.0/Cargo.toml", "[workspace]\n").read(),
        "no `[package]`",
    );
    refused(with_toml("description = [["), "cannot be read: unclosed array");
    refused(
        with_toml("[dependencies]\nb = \"not a requirement\"\n"),
        "cannot be read",
    );
    for toml in [
        "name = \"b\"\nversion = \"1.0.0\"",
        "name = \"a\"\nversion = \"1.0.1\"",
        "name = \"A\"\nversion = \"1.0.0\"",
    ] {
        refused(
            tarball()
                .file("a-1.0.0/Cargo.toml", format!("[package]\n{toml}\n"))
                .read(),
            "speaks of",
        );
    }
}

#[test]
fn depth_does_not_overflow_the_stack() {
    let n = 200_000;
    let deep = [
        "[".repeat(n),
        format!("x = {}", "[".repeat(n)),
        format!("x = {}", "{a=".repeat(n)),
        format!("{}b = 1", "a.".repeat(n)),
        format!("[{}b]", "a.".repeat(n)),
        format!("[[{}b]]", "a.".repeat(n)),
        format!("[package.metadata]\nx = {}1{}", "[".repeat(n), "]".repeat(n)),
    ];
    for rest in deep {
        refused(with_toml(&rest), "cannot be read");
    }
    // The deepest that the parser takes, in every place that keeps or skips a value.
    let level = format!("{{{}a=", "a.".repeat(77));
    for depth in [1, 2, 40, 77, 78, 79, 80, 81] {
        let value = format!("{}1{}", level.repeat(depth), "}".repeat(depth));
        for place in [
            "[package.metadata]\nx",
            "[dependencies]\nx",
            "[badges]\nx",
            "keywords",
            "[profile.dev]\nx",
            "[x]\ny",
        ] {
            with_toml(&format!("{place} = {value}\n"));
        }
    }
}

#[test]
fn very_many_keys_are_bounded_by_the_size() {
    let mut toml = format!("{MINIMAL}[dependencies]\n");
    for at in 0.. {
        let line = format!("d{at} = \"1\"\n");
        if toml.len() + line.len() > MAX_MANIFEST_BYTES {
            break;
        }
        toml += &line;
    }
    let found = manifest(tarball().file("a-1.0.0/Cargo.toml", &toml).read());
    assert!(found.dependencies.len() > 50_000);
    let mut tables = String::new();
    while tables.len() < MAX_MANIFEST_BYTES - 1000 {
        tables += &format!("[{}k{}]\n", "a.".repeat(70), tables.len());
    }
    manifest(with_toml(&tables));
}

#[track_caller]
fn readme_of(toml: &str, files: &[(&str, &[u8])]) -> Option<Readme> {
    let mut crate_file = tarball().file("a-1.0.0/Cargo.toml", format!("{MINIMAL}{toml}"));
    for (path, content) in files {
        crate_file = crate_file.file(&format!("a-1.0.0/{path}"), content);
    }
    manifest(crate_file.read()).readme
}

#[test]
fn the_readme_is_the_one_the_cargo_toml_means() {
    let files: &[(&str, &[u8])] = &[
        ("README", b"bare"),
        ("README.txt", b"txt"),
        ("ReadMe.md", b"md"),
        ("x.md", b"x"),
    ];
    let text = |toml| readme_of(toml, files).map(|readme| readme.text);
    assert_eq!(text("").as_deref(), Some("md"));
    assert_eq!(text("readme = true").as_deref(), Some("md"));
    assert_eq!(text("readme = \"./X.md\"").as_deref(), Some("x"));
    assert_eq!(text("readme = \"README\"").as_deref(), Some("bare"));
    for none in [
        "readme = false",
        "readme = \"../../etc/passwd\"",
        "readme = \"/etc/passwd\"",
        "readme = \"\"",
        "readme = \"gone.md\"",
    ] {
        assert_eq!(text(none), None, "{none}");
    }
}

#[test]
fn a_readme_before_the_cargo_toml_is_found() {
    let toml = format!("{MINIMAL}readme = \"docs/about.txt\"");
    let early = tarball()
        .file("a-1.0.0/docs/about.txt", "this")
        .file("a-1.0.0/README.md", "not this")
        .file("a-1.0.0/Cargo.toml", toml);
    assert_eq!(manifest(early.read()).readme.unwrap().text, "this");
}

#[test]
fn what_is_held_back_for_the_cargo_toml_is_bounded() {
    let (name, version) = ("a".parse().unwrap(), "1.0.0".parse().unwrap());
    let mut reading = Reading::new(&name, &version);
    let mut many = tarball();
    for at in 0..40 {
        many = many.file(&format!("a-1.0.0/{at}.md"), vec![b'x'; MAX_README_BYTES + 10]);
    }
    let bytes = many.gz();
    reading.read_entries(&mut Inflated::new(&bytes[..])).unwrap();
    let held: usize = reading.readmes.values().map(|readme| readme.text.len()).sum();
    assert!(held <= MAX_CANDIDATE_BYTES + MAX_README_BYTES, "{held}");
}

#[test]
fn any_readme_becomes_text_within_the_limit() {
    let one = |content: &[u8]| readme_of("", &[("README.md", content)]).unwrap();
    assert_eq!(one(b"\xef\xbb\xbfhi").text, "hi");
    let split = one(&[b"x", "é".repeat(MAX_README_BYTES).as_bytes()].concat());
    assert!(split.cut && split.text.ends_with('é') && split.text.len() == MAX_README_BYTES - 1);
    assert_eq!(one(b"a\0b\xffc").text, "a\u{fffd}b\u{fffd}c");
    assert_eq!(one(b"\xff\xfeh\0i\0").text, "\u{fffd}\u{fffd}h\u{fffd}i\u{fffd}");
    for (content, cut) in [
        (vec![b'x'; MAX_README_BYTES], false),
        (vec![b'x'; MAX_README_BYTES + 1], true),
        (vec![0xff; MAX_README_BYTES], true),
        ("é".repeat(MAX_README_BYTES).into_bytes(), true),
        (vec![b'x'; 5 << 20], true),
    ] {
        let readme = one(&content);
        assert_eq!(readme.cut, cut);
        assert!(readme.text.len() <= MAX_README_BYTES);
    }
}

#[test]
fn a_reason_is_one_short_line() {
    let long = format!("a-1.0.0/{}\n\u{1b}[31m", "y".repeat(2000));
    let named = minimal()
        .pax("pax", &[("path", &long)])
        .entry("x", EntryType::Fifo, b"");
    match named.read() {
        ManifestState::Unparsable(why) => {
            assert!(
                why.len() <= MAX_REASON_BYTES && !why.contains(char::is_control),
                "{why}"
            );
        }
        ManifestState::Read(_) => panic!("a fifo was read"),
    }
}

fn realistic() -> Tarball {
    tarball()
        .file("a-1.0.0/.cargo_vcs_info.json", "{}")
        .file("a-1.0.0/Cargo.toml", format!("{MINIMAL}{FULL}"))
        .pax("pax", &[("path", "a-1.0.0/docs/Intro.md"), ("size", "9")])
        .file("a-1.0.0/docs/x", "# A\n\nText")
        .entry("././@LongLink", EntryType::GNULongName, b"a-1.0.0/src/lib.rs\0")
        .file("a-1.0.0/s", "fn main() {}\n".repeat(50))
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        refused(read(&bytes), "");
        refused(read(&gzip(&bytes)), "");
    }

    #[test]
    fn any_cargo_toml_is_answered(toml in any::<String>(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        with_toml(&toml);
        tarball().file("a-1.0.0/Cargo.toml", bytes).read();
    }

    #[test]
    fn flipped_bits_are_answered(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..8),
        end in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let flipped = |mut bytes: Vec<u8>| {
            for (at, bit) in &flips {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            if cut {
                bytes.truncate(end.index(bytes.len()));
            }
            bytes
        };
        read(&flipped(realistic().gz()));
        read(&gzip(&flipped(realistic().tar())));
    }
}

#[test]
fn the_realistic_crate_file_is_sound() {
    assert_eq!(manifest(realistic().read()).readme.unwrap().text, "# A\n\nText");
}
