use proptest::prelude::*;

use super::*;
use crate::testing::{edits, gzip, index_path};
use crate::{Scope, Trust, check};

fn summary(files: u64, bytes: u64) -> IndexSummary {
    IndexSummary {
        scope: Scope::Full,
        tree: "0".repeat(40).parse().unwrap(),
        files,
        bytes,
        upstream: None,
        whole: false,
    }
}

fn records(text: &[u8], files: u64) -> Result<Vec<(IndexPath, IndexEdit)>, Error> {
    Records::new(gzip(text).as_slice(), &summary(files, text.len() as u64), true).collect()
}

fn refused(text: &str, files: u64) -> String {
    records(text.as_bytes(), files).expect_err(text).to_string()
}

fn packed(edits: &[(IndexPath, IndexEdit)]) -> (Vec<u8>, Total) {
    let mut writer = PayloadWriter::new(Vec::new());
    for (path, edit) in edits {
        writer.push(path, edit).unwrap();
    }
    let (bytes, stored, total) = writer.finish().unwrap();
    assert_eq!(stored, crate::testing::stored(&bytes));
    (bytes, total)
}

#[test]
fn what_is_written_is_read() {
    let (bytes, total) = packed(&edits());
    let read: Result<Vec<_>, _> = Records::new(bytes.as_slice(), &summary(total.files, total.bytes), true).collect();
    assert_eq!(read.unwrap(), edits());
}

#[test]
fn the_form_is_the_one_that_is_written_down() {
    let text = "{\"path\":\"1/a\",\"removed\":true}\n{\"path\":\"se/rd/serde\",\"pieces\":[{\"copy\":[0,7]},{\"new\":3}]}\nabc\n";
    let pieces = vec![Piece::Copy { offset: 0, length: 7 }, Piece::New { length: 3 }];
    let edits = [
        (index_path("a"), IndexEdit::Removed),
        (
            index_path("serde"),
            IndexEdit::Pieces {
                pieces,
                new: b"abc".to_vec(),
            },
        ),
    ];
    assert_eq!(records(text.as_bytes(), 2).unwrap(), edits);
    let (bytes, total) = packed(&edits);
    let mut inflated = String::new();
    GzDecoder::new(bytes.as_slice()).read_to_string(&mut inflated).unwrap();
    assert_eq!(inflated, text);
    assert_eq!(
        total,
        Total {
            files: 2,
            bytes: text.len() as u64
        }
    );
}

#[test]
fn what_breaks_the_rules_is_refused_by_its_record() {
    let removed = |path: &str| format!("{{\"path\":\"{path}\",\"removed\":true}}\n");
    for (text, files, why) in [
        (removed("serde"), 1, "record 1: serde is no path"),
        (removed("../../etc/passwd"), 1, "is no path"),
        (removed("/se/rd/serde"), 1, "is no path"),
        (removed("config.json"), 1, "is no path"),
        (
            removed("2/ab") + &removed("1/a"),
            2,
            "record 2: 1/a does not come after",
        ),
        (removed("1/a") + &removed("1/a"), 2, "record 2: 1/a does not come after"),
        (removed("1/a"), 2, "record 2: it ends early"),
        (
            removed("1/a") + &removed("2/ab"),
            1,
            "record 2: there is less than the manifest",
        ),
        ("{\"path\":\"1/a\"}\n".to_owned(), 1, "either removed or made of pieces"),
        (
            "{\"path\":\"1/a\",\"removed\":true,\"pieces\":[]}\n\n".to_owned(),
            1,
            "either removed or made of pieces",
        ),
        ("{\"path\":\"1/a\",\"later\":1}\n".to_owned(), 1, "unknown field"),
        (
            "{\"path\":\"1/a\",\"pieces\":[{\"new\":3}]}\nab\n".to_owned(),
            1,
            "more than the manifest says",
        ),
        (
            "{\"path\":\"1/a\",\"pieces\":[{\"new\":1}]}\nab\n".to_owned(),
            1,
            "do not end where they should",
        ),
        (
            "{\"path\":\"1/a\",\"pieces\":[{\"new\":-1}]}\n\n".to_owned(),
            1,
            "record 1",
        ),
        (
            "{\"path\":\"1/a\",\"pieces\":[{\"new\":33554433}]}\n\n".to_owned(),
            1,
            "a file of more than",
        ),
        (
            format!("{{\"path\":\"1/a\",\"pieces\":[{{\"copy\":[{0},{0}]}}]}}\n\n", u64::MAX),
            1,
            "beyond any file",
        ),
        (
            "{\"path\":\"1/a\",\"pieces\":[{\"copy\":[0,33554432]},{\"copy\":[0,1]}]}\n\n".to_owned(),
            1,
            "a file of more than",
        ),
        (
            format!(
                "{{\"path\":\"1/a\",\"pieces\":[{}{{\"new\":0}}]}}\n\n",
                "{\"new\":0},".repeat(10_000)
            ),
            1,
            "10001 pieces",
        ),
        (
            format!("{{\"path\":\"{}", "x".repeat(MAX_LINE_BYTES)),
            1,
            "its line is too long",
        ),
        ("[".repeat(100_000) + "\n", 1, "record 1"),
    ] {
        let error = refused(&text, files);
        assert!(error.contains(why), "{error:?} for {:.80}", text);
        assert!(error.len() < 300, "{error}");
    }
}

#[test]
fn nothing_is_copied_without_a_parent() {
    let (bytes, total) = packed(&edits());
    let error = Records::new(bytes.as_slice(), &summary(total.files, total.bytes), false)
        .next()
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().contains("continues none"), "{error}");
}

#[test]
fn after_an_error_nothing_comes() {
    let mut records = Records::new([1, 2, 3].as_slice(), &summary(1, 10), true);
    assert!(records.next().unwrap().is_err() && records.next().is_none());
}

#[test]
fn what_follows_the_gzip_is_refused() {
    let (bytes, total) = packed(&edits());
    for more in [b"x".to_vec(), gzip(b"x")] {
        let bytes = [bytes.clone(), more].concat();
        let last = Records::new(bytes.as_slice(), &summary(total.files, total.bytes), true).last();
        assert!(
            last.unwrap()
                .unwrap_err()
                .to_string()
                .contains("more than the manifest says")
        );
    }
}

#[test]
fn a_gzip_bomb_ends_where_the_manifest_says() {
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let bundle = crate::testing::with_payload(&bomb, 1, 4096, 2);
    let error = check(bundle.as_slice(), Trust::Anyone).unwrap_err();
    assert!(error.to_string().contains("index/changes.gz, record 1"), "{error}");
    // One that the manifest does not hide is read in bounded memory, up to the longest line.
    let bundle = crate::testing::with_payload(&bomb, 1, 64 << 20, 2);
    let error = check(bundle.as_slice(), Trust::Anyone).unwrap_err();
    assert!(error.to_string().contains("its line is too long"), "{error}");
}

#[test]
fn a_writer_refuses_what_no_reader_takes() {
    let mut writer = PayloadWriter::new(Vec::new());
    writer.push(&index_path("b"), &IndexEdit::Removed).unwrap();
    assert!(writer.push(&index_path("a"), &IndexEdit::Removed).is_err());
    assert!(writer.push(&index_path("b"), &IndexEdit::Removed).is_err());
    let wrong = IndexEdit::Pieces {
        pieces: vec![Piece::New { length: 2 }],
        new: vec![1],
    };
    assert!(writer.push(&index_path("c"), &wrong).is_err());
}

proptest! {
    #[test]
    fn any_edits_survive(names in prop::collection::btree_set("[a-z][a-z0-9_-]{0,12}", 0..20), sizes in prop::collection::vec(0_usize..2000, 20)) {
        let mut edits: Vec<_> = names.iter().zip(&sizes).map(|(name, size)| {
            let edit = if size % 5 == 0 { IndexEdit::Removed } else { IndexEdit::whole(&crate::testing::noise(*size as u64, *size)) };
            (index_path(name), edit)
        }).collect();
        edits.sort_by(|a, b| a.0.cmp(&b.0));
        let (bytes, total) = packed(&edits);
        let read: Result<Vec<_>, _> = Records::new(bytes.as_slice(), &summary(total.files, total.bytes), false).collect();
        prop_assert_eq!(read.unwrap(), edits);
    }

    #[test]
    fn any_text_is_refused_or_read_whole(text in "(\\{\"path\":\"(1/a|2/ab|x)\",\"(removed|pieces)\":(true|\\[\\{\"new\":[0-3]\\}\\])\\}\n[a-c]{0,3}\n?){0,3}", files in 0_u64..4) {
        if let Ok(records) = records(text.as_bytes(), files) {
            prop_assert_eq!(records.len() as u64, files);
        }
    }
}
