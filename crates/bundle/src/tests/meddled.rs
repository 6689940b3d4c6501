//! Tars that are right for tar and wrong for us.

use tar::{EntryType, Header};

use crate::testing::{Entry, Sample, description, hand_made, join, noise, read, split};
use crate::{Error, Manifest, MemberName, Total, Trust, check, open};

fn entries() -> Vec<Entry> {
    split(&Sample::new(None, None).part(1))
}

fn refused(entries: &[Entry]) -> String {
    let bytes = join(entries);
    let error = read(&bytes, Trust::Anyone).unwrap_err().to_string();
    assert_eq!(check(bytes.as_slice(), Trust::Anyone).unwrap_err().to_string(), error);
    error
}

fn set_name(header: &mut Header, name: &str) {
    let field = &mut header.as_old_mut().name;
    field.fill(0);
    field[..name.len()].copy_from_slice(name.as_bytes());
}

#[test]
fn members_that_lack_or_move_or_come_twice_are_named() {
    let entries = entries();
    let last = entries.len() - 1;
    assert_eq!(join(&entries), Sample::new(None, None).part(1));
    for number in 0..=last {
        let name = entries[number].name();
        let mut lacking = entries.clone();
        lacking.remove(number);
        assert!(
            refused(&lacking).starts_with(&format!("where {name} should begin: ")),
            "{name}"
        );
        let mut twice = entries.clone();
        twice.insert(number, entries[number].clone());
        let next = twice.get(number + 2).map_or_else(|| "the end".to_owned(), Entry::name);
        assert!(
            refused(&twice).starts_with(&format!("where {next} should begin: ")),
            "{name}"
        );
        if number < last {
            let mut moved = entries.clone();
            moved.swap(number, number + 1);
            let error = refused(&moved);
            assert_eq!(
                error,
                format!(
                    "where {name} should begin: there is {}",
                    shortened(&entries[number + 1].name())
                )
            );
        }
    }
}

fn shortened(name: &str) -> String {
    if name.len() > 60 {
        format!("{}…", &name[..60])
    } else {
        name.to_owned()
    }
}

#[test]
fn other_names_are_refused_wherever_they_point() {
    let entries = entries();
    for name in [
        "../crates/x",
        "/etc/passwd",
        "crates/../../x",
        "./MANIFEST.json",
        "",
        "x",
        "crates/",
        "C:\\x",
        "crates/\u{1b}[2J",
        "SHA256SUMS",
    ] {
        for number in [0, 3, entries.len() - 1] {
            let mut renamed = entries.clone();
            let expected = renamed[number].name();
            renamed[number] = renamed[number].clone().with(|header| set_name(header, name));
            let error = refused(&renamed);
            assert!(
                error.starts_with(&format!("where {expected} should begin: there is ")),
                "{name:?}: {error}"
            );
            assert!(!error.contains('\u{1b}'));
            let mut extra = entries.clone();
            extra.push(Entry::new(name, b"more"));
            let error = refused(&extra);
            assert!(
                error.starts_with("where the end should begin: there is one more member"),
                "{error}"
            );
        }
    }
}

#[test]
fn a_prefix_is_a_name_as_well() {
    let mut entries = entries();
    let number = entries.len() - 1;
    for prefix in ["..", "/", "a"] {
        let changed = entries[number].clone().with(|header| {
            let field = &mut header.as_ustar_mut().unwrap().prefix;
            field[..prefix.len()].copy_from_slice(prefix.as_bytes());
        });
        entries[number] = changed;
        assert!(refused(&entries).contains("there is "), "{prefix}");
    }
}

#[test]
fn only_plain_files_are_taken() {
    let entries = entries();
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::Directory,
        EntryType::Continuous,
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::GNUSparse,
        EntryType::XGlobalHeader,
        EntryType::XHeader,
        EntryType::new(b'?'),
    ] {
        for number in [0, 1, 2, entries.len() - 1] {
            let mut changed = entries.clone();
            changed[number] = changed[number].clone().with(|header| {
                header.set_entry_type(kind);
                header.set_link_name("/etc/passwd").unwrap();
            });
            let error = refused(&changed);
            assert!(error.contains("only plain files may be in it"), "{kind:?}: {error}");
            assert!(
                error.starts_with(&format!("where {} should begin", entries[number].name())),
                "{error}"
            );
        }
    }
}

#[test]
fn a_long_name_before_a_member_is_refused() {
    let mut entries = entries();
    let long =
        Entry::new("././@LongLink", b"../../etc/passwd\0").with(|header| header.set_entry_type(EntryType::GNULongName));
    entries.insert(4, long);
    assert!(refused(&entries).contains("only plain files"));
}

#[test]
fn older_headers_and_broken_ones_are_refused() {
    let mut old = entries();
    old[0] = old[0].clone().with(|header| header.as_mut_bytes()[257..265].fill(0));
    assert!(refused(&old).contains("older than ustar"));
    let mut broken = entries();
    broken[2].header.as_mut_bytes()[100] ^= 1;
    assert!(refused(&broken).contains("no tar header, or it is damaged"));
    for text in ["not a tar at all", "PK\u{3}\u{4}"] {
        let error = read(text.repeat(1000).as_bytes(), Trust::Anyone)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("where MANIFEST.json should begin: there is no tar header"),
            "{error}"
        );
    }
}

#[test]
fn sizes_that_lie_are_refused_before_they_are_read() {
    let entries = entries();
    for number in 0..entries.len() {
        for size in [1 << 33, 1 << 40, u64::MAX >> 1] {
            let mut changed = entries.clone();
            changed[number] = changed[number].clone().with(|header| header.set_size(size));
            assert!(refused(&changed).contains("octal digits"), "{size}");
        }
        let mut changed = entries.clone();
        changed[number] = changed[number].clone().with(|header| header.set_size((1 << 33) - 1));
        let error = refused(&changed);
        assert!(error.contains("it may have"), "{error}");
        let mut changed = entries.clone();
        changed[number] = changed[number]
            .clone()
            .with(|header| header.as_old_mut().size = *b"0000x000000\0");
        assert!(refused(&changed).contains("octal digits"));
    }
}

#[test]
fn crate_files_may_not_have_more_or_less_than_the_manifest_says() {
    let files: Vec<Vec<u8>> = (1..5).map(|seed| noise(seed, 1000)).collect();
    let mut sorted: Vec<_> = files.iter().map(|file| (registry::Checksum::of(file), file)).collect();
    sorted.sort_unstable();
    let members: Vec<_> = sorted
        .iter()
        .map(|(checksum, file)| (MemberName::Crate(*checksum), file.as_slice()))
        .collect();
    let bundle = |files: u64, bytes: u64| {
        let crates = Total { files, bytes };
        let mut bundle = description(1);
        bundle.index = None;
        let manifest = Manifest {
            bundle,
            part: 1,
            parts: 1,
            crates,
            part_crates: crates,
        };
        read(&hand_made(&manifest, &members, None), Trust::Anyone)
    };
    assert_eq!(bundle(4, 4000).unwrap().members.len(), 4);
    let error = bundle(4, 3999).unwrap_err().to_string();
    assert!(
        error.contains("it may have 999 at most") && error.contains(&sorted[3].0.to_hex()),
        "{error}"
    );
    // A manifest that claims a terabyte gets the bytes that are there, and no more.
    assert!(bundle(4, 4001).unwrap_err().to_string().contains("1 bytes less"));
    assert!(
        bundle(4, 30 << 30)
            .unwrap_err()
            .to_string()
            .contains("less than it says")
    );
    assert!(
        bundle(3, 4000)
            .unwrap_err()
            .to_string()
            .contains("where SHA256SUMS should begin: it says that it has")
    );
    assert!(
        bundle(5, 4000)
            .unwrap_err()
            .to_string()
            .contains("4 crate files are listed, and the manifest says 5")
    );
}

/// Changes the sums with the size of the member.
fn with_sums(change: impl FnOnce(&str) -> String) -> Vec<Entry> {
    let mut entries = entries();
    let sums = change(std::str::from_utf8(&entries[1].bytes).unwrap());
    entries[1] = Entry::new("SHA256SUMS", sums.as_bytes());
    entries
}

#[test]
fn sums_are_exactly_what_they_must_be() {
    let swapped = |text: &str, a: usize, b: usize| {
        let mut lines: Vec<_> = text.lines().collect();
        lines.swap(a, b);
        lines.join("\n") + "\n"
    };
    let zeros = "0".repeat(64);
    let cases: Vec<(Vec<Entry>, &str)> = vec![
        (with_sums(|_| String::new()), "line 1: it is empty"),
        (
            with_sums(|text| swapped(text, 0, 1)),
            "line 1: MANIFEST.json should come first",
        ),
        (
            with_sums(|text| swapped(text, 1, 2)),
            "line 2: index/changes.gz should come here",
        ),
        (with_sums(|text| swapped(text, 2, 3)), "line 4"),
        (
            with_sums(|text| swapped(text, 4, 5)),
            "line 6: crate files are not in ascending order",
        ),
        (
            with_sums(|text| text.replacen("  ", " *", 1)),
            "line 1: it is not 64 digits",
        ),
        (with_sums(|text| text.to_uppercase()), "line 1: it does not begin"),
        (with_sums(|text| text.trim_end().to_owned()), "line 11: it has no end"),
        (
            with_sums(|text| text.replace('\n', "\r\n")),
            "where SHA256SUMS should begin: it says",
        ),
        (
            with_sums(|text| text.replacen(".crate", ".cratf", 1)),
            "line 4: crates/",
        ),
        (
            with_sums(|text| text.replacen("crates/", "crates\\", 1)),
            "line 4: crates",
        ),
        (
            with_sums(|text| zeros.clone() + &text[64..]),
            "MANIFEST.json is damaged",
        ),
        (
            with_sums(|text| text.lines().take(10).map(|line| format!("{line}\n")).collect()),
            "7 crate files are listed",
        ),
        (with_sums(|text| format!("\u{e9}{}", &text[2..])), "line 1"),
    ];
    for (entries, why) in cases {
        let error = refused(&entries);
        assert!(error.contains(why), "{error:?} instead of {why:?}");
    }
}

#[test]
fn a_member_that_is_another_one_is_called_damaged() {
    let mut entries = entries();
    for number in 2..entries.len() {
        let right = entries[number].bytes.clone();
        if right.is_empty() {
            continue;
        }
        entries[number].bytes[right.len() / 2] ^= 0x10;
        let error = refused(&entries);
        assert!(
            error.starts_with(&format!("{} is damaged: its SHA-256 is ", entries[number].name())),
            "{error}"
        );
        entries[number].bytes = right;
    }
}

#[test]
fn after_an_error_nothing_comes() {
    let mut damaged = entries();
    damaged[2].bytes[20] ^= 1;
    let mut renamed = entries();
    renamed[4] = renamed[4].clone().with(|header| set_name(header, "x"));
    for entries in [damaged, renamed] {
        let bytes = join(&entries);
        let mut members = open(bytes.as_slice()).unwrap().trusting(Trust::Anyone).unwrap();
        while members.next_member().is_ok() {}
        assert!(matches!(members.next_member(), Err(Error::Broken)));
    }
}
