use std::io::Read;

use flate2::read::GzDecoder;
use registry::{IndexFile, IndexPath};

use super::*;

fn read(krate: &BuiltCrate, path: &str) -> Option<String> {
    let mut tar = tar::Archive::new(GzDecoder::new(krate.bytes.as_slice()));
    let path = format!("{}-{}/{path}", krate.name, krate.version);
    tar.entries().unwrap().map(Result::unwrap).find_map(|mut entry| {
        (entry.path_bytes() == path.as_bytes()).then(|| {
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            text
        })
    })
}

fn full() -> CrateBuilder {
    CrateBuilder::new("Full-crate", "1.2.3-rc.1+build")
        .description("quotes \" and\nlines")
        .keyword("one")
        .keyword("two")
        .category("os")
        .author("A <a@example.com>")
        .license("MIT")
        .readme("# hello")
        .links("z")
        .rust_version("1.70")
        .dep("plain", "^1")
        .dep_full(
            Dependency::new("real", "=1.0.0")
                .rename("alias")
                .optional()
                .no_default_features()
                .features(&["std"])
                .target("cfg(unix)"),
        )
        .dep_full(Dependency::new("cc", "1").build())
        .dep_full(Dependency::new("check", "1").dev())
        .feature("default", &["plain/std"])
        .feature("more", &["dep:alias"])
        .lib("pub fn x() {}")
        .file("a/b.txt", b"b")
        .yanked()
}

#[test]
fn the_crate_file_has_what_was_asked_for() {
    let krate = full().build();
    let toml = read(&krate, "Cargo.toml").unwrap();
    for part in [
        "name = \"Full-crate\"\n",
        "version = \"1.2.3-rc.1+build\"\n",
        "description = \"quotes \\\" and\\nlines\"\n",
        "keywords = [\"one\",\"two\"]\n",
        "links = \"z\"\n",
        "rust-version = \"1.70\"\n",
        "\n[dependencies.\"plain\"]\nversion = \"^1\"\n",
        "\n[target.\"cfg(unix)\".dependencies.\"alias\"]\nversion = \"=1.0.0\"\npackage = \"real\"\noptional = true\ndefault-features = false\nfeatures = [\"std\"]\n",
        "\n[build-dependencies.\"cc\"]\n",
        "\n[dev-dependencies.\"check\"]\n",
        "\"more\" = [\"dep:alias\"]\n",
    ] {
        assert!(toml.contains(part), "{part:?} is not in {toml}");
    }
    assert_eq!(read(&krate, "src/lib.rs").unwrap(), "pub fn x() {}");
    assert_eq!(read(&krate, "README.md").unwrap(), "# hello");
    assert_eq!(read(&krate, "a/b.txt").unwrap(), "b");
    assert_eq!(read(&krate, "build.rs").unwrap(), "fn main() {}\n");
}

#[test]
fn the_index_line_is_one_that_the_registry_reads() {
    let krate = full().build();
    assert_eq!(krate.index_path(), "fu/ll/full-crate");
    let path: IndexPath = krate.index_path().parse().unwrap();
    let file = IndexFile::parse(krate.index_line.as_bytes(), &path).unwrap();
    let line = file.find("1.2.3-rc.1+build").unwrap();
    assert_eq!((line.checksum, line.yanked), (krate.checksum, true));
    let json: serde_json::Value = serde_json::from_str(&krate.index_line).unwrap();
    assert_eq!(json["features"], serde_json::json!({"default": ["plain/std"]}));
    assert_eq!(json["features2"], serde_json::json!({"more": ["dep:alias"]}));
    assert_eq!(
        (&json["v"], &json["links"]),
        (&serde_json::json!(2), &serde_json::json!("z"))
    );
    assert_eq!(json["deps"][1]["name"], "alias");
    assert_eq!(json["deps"][1]["package"], "real");
    assert_eq!(json["deps"][3]["kind"], "dev");
}

#[test]
fn the_same_crate_has_the_same_bytes_and_another_has_not() {
    assert_eq!(full().build(), full().build());
    assert_ne!(full().build().bytes, full().lib("").build().bytes);
}

#[test]
fn padding_does_not_compress() {
    let size = CrateBuilder::new("big", "1.0.0").padding(1 << 20).build().bytes.len();
    assert!((1 << 20..(1 << 20) + (32 << 10)).contains(&size), "{size} bytes");
}

#[test]
fn a_file_takes_the_place_of_the_made_one() {
    let krate = CrateBuilder::new("odd", "1.0.0")
        .file("Cargo.toml", b"not toml")
        .build();
    assert_eq!(read(&krate, "Cargo.toml").unwrap(), "not toml");
}
