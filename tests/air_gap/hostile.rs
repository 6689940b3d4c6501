//! Bundles that were tampered with, by the whole program: each is refused with the first thing that is wrong, and nothing that anybody can see changes.

use serde_json::{Value, json};
use testkit::{BuiltCrate, CrateBuilder, MirrorProcess, said};

use crate::sides::{Log, Outside, app_and_lib, index_of, key_of, office, ok, refused, same_as_outside, text, visible};
use crate::tarball::{BLOCK, CHANGES, MANIFEST, Member, SIGNATURE, SUMS, Tarball, bomb};

/// No input makes the server larger than that.
const MOST_MEMORY: u64 = 256 << 20;

/// An office that has the first week, and the good bundle of the second.
pub struct Scene {
    pub outside: Outside,
    pub office: MirrorProcess,
    pub crates: Vec<BuiltCrate>,
    pub good: std::path::PathBuf,
    pub first: std::path::PathBuf,
    /// What an import is given besides the file.
    pub flags: &'static [&'static str],
    pub log: Log,
}

impl Scene {
    pub fn signed() -> Self {
        Self::new(&[], &[])
    }

    /// Nobody signs here, so that whoever tampers may make all sums anew.
    pub fn unsigned() -> Self {
        Self::new(&["--unsigned"], &["--allow-unsigned"])
    }

    fn new(export: &[&str], flags: &'static [&'static str]) -> Self {
        let mut crates = app_and_lib("1.0.0", "first");
        crates.push(CrateBuilder::new("gone", "1.0.0").build());
        let outside = Outside::with(&crates);
        outside.keep(&crates);
        let first = outside.export("first.tar", export);
        let (office, mut log) = (office(), Log::default());
        let key = if export.is_empty() {
            outside.key()
        } else {
            String::new()
        };
        let trust: &[&str] = if export.is_empty() { &["--trust", &key] } else { flags };
        ok(&office.run(&[&["import", text(&first)], trust].concat()));
        log.grown(&office);
        let mut second = app_and_lib("1.1.0", "second");
        second.extend(["large", "wide"].map(|name| CrateBuilder::new(name, "1.0.0").padding(70_000).build()));
        outside.publish(&second);
        outside.files.remove_crate("gone");
        outside.files.yank("lib", "1.0.0", true);
        outside.follow(&["gone", "lib"]);
        outside.keep(&second);
        let good = outside.export("second.tar", &[&["--since", text(&first)], export].concat());
        crates.extend(second);
        Self {
            outside,
            office,
            crates,
            good,
            first,
            flags,
            log,
        }
    }

    pub fn import(&self, file: &std::path::Path) -> std::process::Output {
        self.office.run(&[&["import", text(file)], self.flags].concat())
    }

    /// As if no import had been tried: what one has verified and staged is not read from the stick again.
    pub fn forget_staged(&self) {
        for entry in std::fs::read_dir(self.office.data_dir().join("imports")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                std::fs::remove_dir_all(path).unwrap();
            }
        }
    }

    /// It is refused in these words, and nothing changes but the log of imports.
    fn is_refused(&mut self, what: &str, bytes: &[u8], words: &[&str]) {
        let before = visible(&self.office, &self.crates);
        let file = self.outside.on_stick("tampered.tar");
        std::fs::write(&file, bytes).unwrap();
        self.forget_staged();
        let output = self.import(&file);
        assert_eq!(output.status.code(), Some(1), "{what}: {}", said(&output));
        let told = refused(&output);
        for word in words {
            assert!(told.contains(word), "{what}: not {word:?} but {told}");
        }
        assert_eq!(visible(&self.office, &self.crates), before, "{what}");
        let rows = self.log.grown(&self.office);
        let is_refusal = |row: &Value| row["result"] == "refused" && row["why"].is_string();
        assert!(rows.len() == 1 && rows.iter().all(is_refusal), "{what}: {rows:?}");
    }

    /// After all of it the good one goes in, and the office is as it should be.
    pub fn ends_well(mut self) {
        ok(&self.import(&self.good));
        let rows = self.log.grown(&self.office);
        assert_eq!(rows.last().unwrap()["result"], json!("imported"), "{rows:?}");
        self.has_the_good_one();
    }

    /// The good one is in, and nothing is left over.
    pub fn has_the_good_one(self) {
        let imports = self.office.data_dir().join("imports");
        self.has_all_of_it();
        let left: Vec<_> = std::fs::read_dir(imports).unwrap().collect();
        assert!(left.len() <= 1, "what was staged is gone, but for the lock: {left:?}");
    }

    fn has_all_of_it(&self) {
        let carried: Vec<_> = self
            .crates
            .iter()
            .filter(|krate| krate.name != "gone")
            .cloned()
            .collect();
        same_as_outside(&self.outside.mirror, &self.office, &carried);
        let log = self.office.log();
        assert!(!log.contains("panicked") && !log.contains(" ERROR "), "{log}");
        let peak = self.office.peak_rss_bytes();
        assert!(peak < MOST_MEMORY, "{peak} bytes of memory");
        crate::oracles::disk_is_sound(&self.office);
    }
}

type Spoil = fn(&mut Tarball);

fn try_all(scene: &mut Scene, faults: &[(&str, &[&str], Spoil)]) {
    let good = Tarball::read(&scene.good);
    for (what, words, spoil) in faults {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert!(bad.bytes() != good.bytes(), "{what} changes nothing");
        scene.is_refused(what, &bad.bytes(), words);
    }
}

#[test]
fn a_bundle_that_was_cut_off_anywhere_names_where() {
    let mut scene = Scene::unsigned();
    let whole = Tarball::read(&scene.good);
    let bytes = whole.bytes();
    for (name, at, size) in whole.places() {
        for cut in [
            at,
            at + BLOCK / 2,
            at + BLOCK,
            at + BLOCK + size / 2,
            at + BLOCK + size - 1,
        ] {
            scene.is_refused(&format!("{name} cut at {cut}"), &bytes[..cut], &[&name]);
        }
    }
    let (_, at, size) = whole.places().pop().unwrap();
    let end = at + BLOCK + size.next_multiple_of(BLOCK);
    scene.is_refused("cut before the end", &bytes[..end], &["the end"]);
    scene.ends_well();
}

#[test]
fn members_that_are_not_what_should_stand_there_are_refused() {
    if !crate::oracles::there_are_judges() {
        return;
    }
    let mut scene = Scene::unsigned();
    try_all(&mut scene, ORDER);
    try_all(&mut scene, NAMES);
    try_all(&mut scene, KINDS);
    try_all(&mut scene, SIZES);
    scene.ends_well();
}

const ORDER: &[(&str, &[&str], Spoil)] = &[
    ("sums first", &[MANIFEST], |t| t.0.swap(0, 1)),
    ("crates first", &[CHANGES], |t| {
        let (at, krate) = (t.at(CHANGES), t.crate_at(0));
        t.0.swap(at, krate);
    }),
    ("two crates exchanged", &["crates/"], |t| {
        let (one, two) = (t.crate_at(0), t.crate_at(1));
        t.0.swap(one, two);
    }),
    ("two crates exchanged, and their sums", &[SUMS, "ascending"], |t| {
        let (one, two) = (t.crate_at(0), t.crate_at(1));
        t.0.swap(one, two);
        t.sum_again();
    }),
    ("a crate twice", &["crates/"], |t| {
        let at = t.crate_at(0);
        t.0.insert(at, t.0[at].clone());
    }),
    ("a crate twice, and its sum", &[SUMS], |t| {
        let at = t.crate_at(0);
        t.0.insert(at, t.0[at].clone());
        t.sum_again();
    }),
    ("the manifest twice", &[SUMS], |t| t.0.insert(1, t.0[0].clone())),
    ("the sums twice", &[CHANGES], |t| t.0.insert(2, t.0[1].clone())),
    ("a crate is missing", &["crates/"], |t| drop(t.0.remove(t.crate_at(1)))),
    ("the last crate is missing", &["crates/", "ends"], |t| drop(t.0.pop())),
    ("a crate is missing, and its sum", &[SUMS, "manifest says"], |t| {
        t.0.remove(t.crate_at(1));
        t.sum_again();
    }),
    ("the index is missing", &[CHANGES], |t| drop(t.0.remove(t.at(CHANGES)))),
    ("no manifest", &[MANIFEST], |t| drop(t.0.remove(0))),
    ("something more at the end", &["one more member"], |t| {
        t.0.push(Member::new("more", b"more"))
    }),
    ("a crate more, with its sum", &[SUMS], |t| {
        let sum = registry::Checksum::of(b"more").to_hex();
        t.0.push(Member::new(&format!("crates/{sum}.crate"), b"more"));
        t.sum_again();
    }),
];

const NAMES: &[(&str, &[&str], Spoil)] = &[
    ("a path upwards", &["../../../../etc/passwd"], |t| {
        t.krate(0).rename("../../../../etc/passwd")
    }),
    ("a path upwards inside", &["crates/../../x"], |t| {
        t.krate(0).rename("crates/../../x")
    }),
    ("an absolute path", &["/etc/cron.d/x"], |t| {
        t.krate(0).rename("/etc/cron.d/x")
    }),
    ("a path upwards, summed", &[SUMS], |t| {
        t.krate(0).rename("../../../../etc/passwd");
        t.sum_again();
    }),
    ("a dot before it", &["./MANIFEST.json"], |t| {
        t.member(MANIFEST).rename("./MANIFEST.json")
    }),
    ("another crate's name", &["crates/"], |t| {
        let name = t.krate(1).name();
        t.krate(0).rename(&name);
    }),
    ("the name of what is not in it", &["crates/"], |t| {
        let sum = registry::Checksum::of(b"else").to_hex();
        t.krate(0).rename(&format!("crates/{sum}.crate"));
    }),
    ("a terminal's escapes", &["crates/"], |t| {
        t.krate(0).rename("\u{1b}[2Jgood")
    }),
    ("other bytes", &["damaged"], |t| t.krate(0).bytes[0] ^= 1),
    ("other bytes and their sum", &[SUMS], |t| {
        t.krate(0).bytes[0] ^= 1;
        t.sum_again();
    }),
];

const KINDS: &[(&str, &[&str], Spoil)] = &[
    ("a hard link", &["only plain files"], |t| t.krate(0).say_kind(b'1')),
    ("a symbolic link", &["only plain files"], |t| t.krate(0).say_kind(b'2')),
    ("a character device", &["only plain files"], |t| {
        t.krate(0).say_kind(b'3')
    }),
    ("a block device", &["only plain files"], |t| t.krate(0).say_kind(b'4')),
    ("a directory", &["only plain files"], |t| t.krate(0).say_kind(b'5')),
    ("a pipe", &["only plain files"], |t| t.krate(0).say_kind(b'6')),
    ("a long name of GNU", &["only plain files"], |t| {
        t.member(CHANGES).say_kind(b'L')
    }),
    ("a sparse file of GNU", &["only plain files"], |t| {
        t.krate(0).say_kind(b'S')
    }),
    ("a pax header", &["only plain files"], |t| t.member(SUMS).say_kind(b'x')),
    ("a manifest that is a link", &["only plain files"], |t| {
        t.member(MANIFEST).say_kind(b'2')
    }),
];

const SIZES: &[(&str, &[&str], Spoil)] = &[
    ("a crate of a terabyte", &["crates/", "octal"], |t| {
        t.krate(0).say_size(&[0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    }),
    ("a crate of 8 GiB", &["crates/"], |t| {
        t.krate(0).say_size(b"77777777777\0")
    }),
    ("a negative size", &["crates/", "octal"], |t| {
        t.krate(0).say_size(&[0xff; 12])
    }),
    ("a crate that is one longer", &["crates/"], |t| {
        let size = t.krate(0).bytes.len() + 1;
        t.krate(0).say_size(format!("{size:011o}\0").as_bytes());
    }),
    ("a crate that is empty", &["crates/"], |t| {
        t.krate(0).set_bytes(Vec::new())
    }),
    ("a manifest of 2 MiB", &[MANIFEST], |t| {
        t.member(MANIFEST).set_bytes(vec![b' '; 2 << 20])
    }),
    ("sums of 8 GiB", &[SUMS], |t| t.member(SUMS).say_size(b"77777777777\0")),
    ("no size", &[MANIFEST], |t| {
        t.member(MANIFEST).say_size(b"           \0")
    }),
    ("a size in words", &[MANIFEST], |t| {
        t.member(MANIFEST).say_size(b"twelve bytes")
    }),
];

#[test]
fn what_the_bundle_says_of_itself_and_of_the_index_is_not_believed() {
    if !crate::oracles::there_are_judges() {
        return;
    }
    let mut scene = Scene::unsigned();
    try_all(&mut scene, CLAIMS);
    try_all(&mut scene, SAID_SUMS);
    try_all(&mut scene, PAYLOADS);
    scene.ends_well();
}

const CLAIMS: &[(&str, &[&str], Spoil)] = &[
    ("a newer format", &[MANIFEST, "format"], |t| {
        t.with_manifest(|m| m["format"] = json!(2))
    }),
    ("no id", &[MANIFEST], |t| {
        t.with_manifest(|m| m["id"] = json!("../../x"))
    }),
    ("no site", &[MANIFEST], |t| {
        t.with_manifest(|m| drop(m.as_object_mut().unwrap().remove("site")))
    }),
    ("a negative serial", &[MANIFEST], |t| {
        t.with_manifest(|m| m["serial"] = json!(-1))
    }),
    ("part 2 of 1", &[MANIFEST], |t| {
        t.with_manifest(|m| m["part"] = json!(2))
    }),
    ("a thousand parts", &[MANIFEST], |t| {
        t.with_manifest(|m| m["parts"] = json!(1000))
    }),
    ("one crate file more", &[MANIFEST], |t| {
        t.with_manifest(|m| m["crates"]["files"] = json!(99))
    }),
    ("more crate files than numbers have", &[MANIFEST], |t| {
        t.with_manifest(|m| {
            for key in ["crates", "part_crates"] {
                m[key] = json!({ "files": u64::MAX, "bytes": u64::MAX });
            }
        });
    }),
    ("fewer bytes of crate files", &["crates/"], |t| {
        t.with_manifest(|m| {
            for key in ["crates", "part_crates"] {
                m[key]["bytes"] = json!(1000);
            }
        });
    }),
    ("another tree", &["MANIFEST.json says"], |t| {
        t.with_manifest(|m| m["index"]["tree"] = json!("0".repeat(40)))
    }),
    ("no tree at all", &[MANIFEST], |t| {
        t.with_manifest(|m| m["index"]["tree"] = json!("master"))
    }),
    ("one record more", &[CHANGES], |t| {
        t.with_manifest(|m| m["index"]["files"] = json!(m["index"]["files"].as_u64().unwrap() + 1));
    }),
    ("one byte of the index less", &[CHANGES], |t| {
        t.with_manifest(|m| m["index"]["bytes"] = json!(m["index"]["bytes"].as_u64().unwrap() - 1));
    }),
    ("not JSON", &[MANIFEST], |t| {
        t.member(MANIFEST).set_bytes(b"<html>".to_vec());
        t.sum_again();
    }),
    ("JSON deeper than a stack", &[MANIFEST], |t| {
        t.member(MANIFEST).set_bytes("[".repeat(500_000).into_bytes());
        t.sum_again();
    }),
    ("a parent that it has not", &["continues serial 1"], |t| {
        t.with_manifest(|m| m["parent"]["id"] = json!("0".repeat(32)))
    }),
    ("no parent, but pieces of one", &[CHANGES], |t| {
        t.with_manifest(|m| m["parent"] = Value::Null)
    }),
    ("a key, and no signature", &[MANIFEST], |t| {
        t.with_manifest(|m| m["key"] = json!("RWQ"))
    }),
];

const SAID_SUMS: &[(&str, &[&str], Spoil)] = &[
    ("another sum", &["damaged"], |t| {
        let wrong = registry::Checksum::of(b"else").to_hex();
        let manifest = registry::Checksum::of(&t.0[0].bytes).to_hex();
        let sums = String::from_utf8(t.member(SUMS).bytes.clone()).unwrap();
        t.member(SUMS).set_bytes(sums.replace(&manifest, &wrong).into_bytes());
    }),
    ("no sums", &[SUMS, "empty"], |t| t.member(SUMS).set_bytes(Vec::new())),
    ("lines of Windows", &[SUMS], |t| {
        let sums = String::from_utf8(t.member(SUMS).bytes.clone()).unwrap();
        t.member(SUMS).set_bytes(sums.replace('\n', "\r\n").into_bytes());
    }),
    ("a line more", &[SUMS], |t| {
        let mut sums = t.member(SUMS).bytes.clone();
        sums.extend(format!("{}  more\n", "0".repeat(64)).as_bytes());
        t.member(SUMS).set_bytes(sums);
    }),
    ("a line that does not end", &[SUMS], |t| {
        t.member(SUMS).set_bytes(vec![b'0'; 100_000])
    }),
];

const PAYLOADS: &[(&str, &[&str], Spoil)] = &[
    ("a bomb", &[CHANGES], |t| {
        t.member(CHANGES).set_bytes(bomb(256 << 20));
        t.sum_again();
    }),
    ("a bomb that says so", &[CHANGES], |t| {
        t.member(CHANGES).set_bytes(bomb(256 << 20));
        t.with_manifest(|m| m["index"]["bytes"] = json!(256_u64 << 20));
    }),
    ("not gzip", &[CHANGES], |t| {
        t.member(CHANGES).set_bytes(b"not gzip".to_vec());
        t.sum_again();
    }),
    ("gzip with something behind it", &[CHANGES], |t| {
        t.member(CHANGES).bytes.extend(b"more");
        let bytes = t.member(CHANGES).bytes.clone();
        t.member(CHANGES).set_bytes(bytes);
        t.sum_again();
    }),
    ("a path upwards", &[CHANGES], |t| {
        records(t, "{\"path\":\"../../x\",\"pieces\":[{\"new\":2}]}\nx\n\n")
    }),
    ("our own config.json", &[CHANGES], |t| {
        records(t, "{\"path\":\"config.json\",\"pieces\":[{\"new\":3}]}\n{}\n\n")
    }),
    ("a file of 4 GiB", &[CHANGES], |t| {
        records(t, "{\"path\":\"se/rd/serde\",\"pieces\":[{\"new\":4294967296}]}\nx\n")
    }),
    ("a copy from beyond the end", &[CHANGES], |t| {
        records(
            t,
            "{\"path\":\"3/l/lib\",\"pieces\":[{\"copy\":[0,18446744073709551615]}]}\n\n",
        );
    }),
    ("a copy out of nothing", &["zz/zz/zzzz"], |t| {
        records(t, "{\"path\":\"zz/zz/zzzz\",\"pieces\":[{\"copy\":[0,1]}]}\n\n");
    }),
];

/// One record that the manifest counts rightly.
fn records(t: &mut Tarball, records: &str) {
    t.with_changes(records.as_bytes());
    let bytes = records.len();
    t.with_manifest(|m| {
        m["index"]["files"] = json!(1);
        m["index"]["bytes"] = json!(bytes);
    });
}

/// A signature says who made a bundle, and not that it makes sense. Garbage in the place of an index file comes with the right tree when a trusted mirror
/// outside goes mad: it spoils that crate and nothing else, and the next good bundle heals it.
#[test]
fn an_index_file_that_is_none_spoils_its_crate_alone_and_can_be_healed() {
    if !crate::oracles::there_are_judges() {
        return;
    }
    let scene = Scene::unsigned();
    let mut bad = Tarball::read(&scene.good);
    records(&mut bad, "{\"path\":\"3/l/lib\",\"pieces\":[{\"new\":7}]}\n<html>\n\n");
    let tree = tree_with(&scene, "3/l/lib", "<html>\n");
    bad.with_manifest(|m| {
        m["index"]["tree"] = json!(tree);
        m["id"] = json!("0".repeat(32));
    });
    let others = |name: &&str| !name.ends_with("\t3/l/lib");
    let before = index_of(&scene.office.data_dir());
    let file = scene.outside.on_stick("tampered.tar");
    std::fs::write(&file, bad.bytes()).unwrap();
    scene.import(&file);
    let now = index_of(&scene.office.data_dir());
    assert!(now.lines().filter(others).eq(before.lines().filter(others)));
    for krate in scene
        .crates
        .iter()
        .filter(|krate| ["app", "lib", "gone"].contains(&&*krate.name) && krate.version == "1.0.0")
    {
        let reply = scene
            .office
            .get(&format!("/api/v1/crates/{}/1.0.0/download", krate.name));
        let right = reply.status == 200 && reply.body == krate.bytes;
        assert!(
            right || (krate.name == "lib" && reply.status == 404),
            "{}: {}",
            krate.name,
            reply.status
        );
    }
    ok(&scene
        .office
        .run(&["import", text(&scene.good), "--allow-unsigned", "--allow-rollback"]));
    scene.has_the_good_one();
}

/// What git makes of the first week's index with another file in it.
fn tree_with(scene: &Scene, path: &str, content: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| testkit::git_ok(dir.path(), args);
    git(&["init", "-q"]);
    let objects = scene.office.data_dir().join("index.git/objects");
    std::fs::write(
        dir.path().join(".git/objects/info/alternates"),
        format!("{}\n", text(&objects)),
    )
    .unwrap();
    let first = Tarball::read(&scene.first).manifest()["index"]["tree"]
        .as_str()
        .unwrap()
        .to_owned();
    git(&["read-tree", &first]);
    std::fs::write(dir.path().join("content"), content).unwrap();
    let blob = git(&["hash-object", "-w", "content"]);
    git(&["update-index", "--add", "--cacheinfo", &format!("100644,{blob},{path}")]);
    git(&["write-tree"])
}

/// Of the same id, whole by its own sums, and refused at the very end: the index does not come to what it says.
#[test]
fn what_a_refused_bundle_left_is_not_taken_for_the_good_one() {
    if !crate::oracles::there_are_judges() {
        return;
    }
    for late in ["another tree", "another payload"] {
        let mut scene = Scene::unsigned();
        let mut bad = Tarball::read(&scene.good);
        if late == "another tree" {
            bad.with_manifest(|m| m["index"]["tree"] = json!("0".repeat(40)));
        } else {
            // as many records and bytes as there were, and another checksum in one of them
            let mut records = Vec::new();
            let gzip = bad.member(CHANGES).bytes.clone();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&gzip[..]), &mut records).unwrap();
            let at = records.windows(9).position(|part| part == b"\"cksum\":\"").unwrap() + 9;
            records[at] = if records[at] == b'0' { b'1' } else { b'0' };
            bad.with_changes(&records);
        }
        scene.is_refused(late, &bad.bytes(), &["MANIFEST.json says"]);
        scene.ends_well();
    }
}

#[test]
fn parts_that_do_not_belong_together_are_told_apart() {
    if !crate::oracles::there_are_judges() {
        return;
    }
    let mut scene = Scene::unsigned();
    let stick = |name: &str| scene.outside.on_stick(name);
    let split = ["--unsigned", "--split", "100KB", "--since", text(&scene.first)];
    ok(&scene
        .outside
        .mirror
        .run(&[&["export", "-o", text(&stick("whole"))], &split[..]].concat()));
    ok(&scene
        .outside
        .mirror
        .run(&[&["export", "-o", text(&stick("other"))], &split[..]].concat()));
    let parts = ["whole.001", "whole.002"].map(stick);
    let other = std::fs::read(stick("other.002")).unwrap();
    assert!(!stick("whole.003").exists() && parts[1].exists());

    let told = ok(&scene.import(&parts[0]));
    assert!(told.contains("part 2"), "{told}");
    assert_eq!(scene.log.grown(&scene.office)[0]["result"], json!("part"));
    let before = visible(&scene.office, &scene.crates);
    let mut faults: Vec<(&str, Vec<u8>, &str)> = Vec::new();
    let with = |change: &dyn Fn(&mut Tarball)| {
        let mut bad = Tarball::read(&parts[1]);
        change(&mut bad);
        bad.bytes()
    };
    faults.push((
        "no part but the first",
        with(&|t| t.with_manifest(|m| m["part"] = json!(1))),
        SUMS,
    ));
    faults.push((
        "a part too many",
        with(&|t| t.with_manifest(|m| m["part"] = json!(3))),
        MANIFEST,
    ));
    faults.push((
        "cut off",
        std::fs::read(&parts[1]).unwrap()[..20_000].to_vec(),
        "cut off",
    ));
    faults.push(("other bytes", with(&|t| t.krate(0).bytes[9] ^= 4), "damaged"));
    for (what, bytes, says) in faults {
        let file = scene.outside.on_stick("tampered.tar");
        std::fs::write(&file, bytes).unwrap();
        let told = refused(&scene.import(&file));
        assert!(told.contains(says), "{what}: {told}");
        assert_eq!(visible(&scene.office, &scene.crates), before, "{what}");
    }
    // a part of another bundle waits for its own
    let file = scene.outside.on_stick("tampered.tar");
    std::fs::write(&file, other).unwrap();
    let told = ok(&scene.import(&file));
    assert!(told.contains("part 1"), "{told}");
    assert_eq!(visible(&scene.office, &scene.crates), before);
    ok(&scene.import(&parts[1]));
    scene.log.grown(&scene.office);
    scene.has_all_of_it();
}

#[test]
fn only_a_trusted_hand_may_sign() {
    if !crate::oracles::there_are_judges() {
        return;
    }
    let mut scene = Scene::signed();
    let unsigned = scene
        .outside
        .export("unsigned.tar", &["--unsigned", "--since", text(&scene.first)]);
    let unsigned = std::fs::read(unsigned).unwrap();
    scene.is_refused("nobody signed", &unsigned, &["not signed"]);

    // another mirror outside, with all that it takes
    let stranger = Outside::with(&app_and_lib("1.0.0", "evil"));
    stranger.keep(&app_and_lib("1.0.0", "evil"));
    let theirs = stranger.export("theirs.tar", &[]);
    let key = stranger.key();
    scene.is_refused(
        "a stranger signed",
        &std::fs::read(&theirs).unwrap(),
        &["not trusted", &key],
    );
    let signature = Tarball::read(&theirs).member(SIGNATURE).bytes.clone();
    let of_first = Tarball::read(&scene.first).member(SIGNATURE).bytes.clone();
    let good = Tarball::read(&scene.good);
    let with = |change: &dyn Fn(&mut Tarball)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad.bytes()
    };
    let of_a_stranger = with(&|t| t.member(SIGNATURE).set_bytes(signature.clone()));
    scene.is_refused("a stranger's signature", &of_a_stranger, &[SIGNATURE]);
    let of_another = with(&|t| t.member(SIGNATURE).set_bytes(of_first.clone()));
    scene.is_refused("the signature of another bundle", &of_another, &[SIGNATURE]);
    let taken_off = with(&|t| drop(t.0.remove(t.at(SIGNATURE))));
    scene.is_refused("the signature taken off", &taken_off, &[SIGNATURE]);
    let emptied = with(&|t| t.member(SIGNATURE).set_bytes(Vec::new()));
    scene.is_refused("no signature in it", &emptied, &[SIGNATURE]);
    let renamed = with(&|t| t.with_manifest(|m| m["serial"] = json!(99)));
    scene.is_refused("a changed manifest", &renamed, &[SIGNATURE]);
    let their_key = key.clone();
    let named = with(&|t| {
        t.with_manifest(|m| m["key"] = json!(their_key));
        t.member(SIGNATURE).set_bytes(signature.clone());
    });
    scene.is_refused("their key and their signature", &named, &[SIGNATURE]);
    let comment = with(&|t| {
        let text = String::from_utf8(t.member(SIGNATURE).bytes.clone()).unwrap();
        t.member(SIGNATURE)
            .set_bytes(text.replace("serial 2", "serial 3").into_bytes());
    });
    scene.is_refused("a changed comment", &comment, &[SIGNATURE]);

    // `--trust` is for the key that signed, and no other
    let before = visible(&scene.office, &scene.crates);
    let said = refused(&scene.office.run(&["import", text(&scene.good), "--trust", &key]));
    assert!(
        said.contains(&key_of(&scene.outside.mirror.data_dir())) || said.contains("key"),
        "{said}"
    );
    assert_eq!(visible(&scene.office, &scene.crates), before);
    let listed = ok(&scene.office.run(&["keys", "list"]));
    assert!(
        !listed.contains(&key) && listed.contains(&scene.outside.key()),
        "{listed}"
    );
    scene.ends_well();
}

#[test]
fn what_is_old_comes_back_only_if_it_is_said_so() {
    let mut scene = Scene::signed();
    ok(&scene.import(&scene.good));
    scene.log.grown(&scene.office);
    let after = visible(&scene.office, &scene.crates);
    for (file, times) in [(&scene.first, 2), (&scene.good, 2)] {
        for _ in 0..times {
            let told = ok(&scene.import(file));
            assert!(told.contains("nothing to do"), "{told}");
        }
    }
    assert_eq!(visible(&scene.office, &scene.crates), after);
    let rows = scene.log.grown(&scene.office);
    assert!(
        rows.len() == 4 && rows.iter().all(|row| row["result"] == "unchanged"),
        "{rows:?}"
    );
    let back = scene.office.run(&["import", text(&scene.first), "--allow-rollback"]);
    ok(&back);
    assert!(
        !scene.office.get("/index/3/l/lib").text().contains("1.1.0"),
        "{}",
        said(&back)
    );
    assert_eq!(scene.office.get("/index/go/ne/gone").status, 200);
    assert_eq!(scene.log.grown(&scene.office)[0]["result"], json!("imported"));
    // and forward again
    ok(&scene.import(&scene.good));
    assert_eq!(visible(&scene.office, &scene.crates).index_files(), after.index_files());
}
