use crate::testing::{Sample, hand_made, hashed, join, read, split};
use crate::{Error, MemberName, SecretKey, Trust, open};

fn signed() -> (Sample, SecretKey) {
    let key = SecretKey::generate().unwrap();
    let again = SecretKey::from_file_text(&key.to_file_text()).unwrap();
    (Sample::new(Some(key), None), again)
}

#[test]
fn who_is_trusted_is_the_callers_word() {
    let (sample, key) = signed();
    let bytes = sample.part(1);
    let (own, other) = (key.public_key(), SecretKey::generate().unwrap().public_key());
    let opened = open(bytes.as_slice()).unwrap();
    let signed = opened.signed().unwrap();
    assert_eq!(signed.key, own);
    assert_eq!(signed.trusted_comment, opened.manifest().trusted_comment());
    assert!(read(&bytes, Trust::Keys(&[other, own])).is_ok());
    assert!(read(&bytes, Trust::Anyone).is_ok());
    for keys in [&[][..], &[other]] {
        let error = read(&bytes, Trust::Keys(keys)).unwrap_err();
        assert!(matches!(&error, Error::UnknownSigner { key } if *key == own), "{error}");
        assert!(error.to_string().contains(&own.to_string()) && error.to_string().contains(&own.id().to_string()));
    }
    let unsigned = Sample::new(None, None).part(1);
    assert!(open(unsigned.as_slice()).unwrap().signed().is_none());
    assert!(matches!(read(&unsigned, Trust::Keys(&[own])), Err(Error::Unsigned)));
}

#[test]
fn nothing_behind_the_signature_is_read_before_the_caller_spoke() {
    let (sample, _) = signed();
    let bytes = sample.part(1);
    let end: usize = split(&bytes)[..3]
        .iter()
        .map(|entry| 512 + entry.bytes.len().next_multiple_of(512))
        .sum();
    assert!(open(&bytes[..end]).is_ok());
    assert!(matches!(open(&bytes[..end - 512]), Err(Error::Truncated { .. })));
}

#[test]
fn a_signature_over_something_else_is_refused() {
    let (sample, key) = signed();
    let entries = split(&sample.part(1));
    let sign = |bytes: &[u8]| key.sign(hashed(bytes), "comment").to_text();
    let other_sums = [entries[1].bytes.as_slice(), b"\n"].concat();
    for text in [
        sign(&entries[0].bytes),
        sign(&other_sums),
        sign(b""),
        SecretKey::generate()
            .unwrap()
            .sign(hashed(&entries[1].bytes), "comment")
            .to_text(),
        String::new(),
        "untrusted comment: x\n".repeat(4),
        sign(&entries[1].bytes).replace("comment: comment", "comment: another"),
    ] {
        let mut entries = entries.clone();
        entries[2].header.set_size(text.len() as u64);
        entries[2].header.set_cksum();
        entries[2].bytes = text.clone().into_bytes();
        let error = read(&join(&entries), Trust::Anyone).unwrap_err();
        assert!(matches!(error, Error::Signature { .. }), "{error} for {text}");
    }
}

#[test]
fn a_signature_cannot_be_left_out_or_put_in() {
    let (sample, _) = signed();
    let mut entries = split(&sample.part(1));
    let signature = entries.remove(2);
    let error = read(&join(&entries), Trust::Anyone).unwrap_err();
    assert!(
        error.to_string().starts_with("where SHA256SUMS.minisig should begin"),
        "{error}"
    );
    let mut entries = split(&Sample::new(None, None).part(1));
    entries.insert(2, signature);
    let error = read(&join(&entries), Trust::Anyone).unwrap_err();
    assert!(error.to_string().ends_with("there is SHA256SUMS.minisig"), "{error}");
}

#[test]
fn a_bundle_of_the_wrong_signer_is_whole_and_not_trusted() {
    let (sample, own) = signed();
    let thief = SecretKey::generate().unwrap();
    let mut manifest = sample.plan.parts()[0].manifest.clone();
    let members: Vec<_> = sample_members(&sample);
    // The manifest names the right key, and another one signs.
    let forged = hand_made(&manifest, &members, Some(&thief));
    assert!(matches!(read(&forged, Trust::Anyone), Err(Error::Signature { .. })));
    // The manifest names the key that signs.
    manifest.bundle.key = Some(thief.public_key());
    let forged = hand_made(&manifest, &members, Some(&thief));
    assert!(read(&forged, Trust::Anyone).is_ok());
    let error = read(&forged, Trust::Keys(&[own.public_key()])).unwrap_err();
    assert!(matches!(error, Error::UnknownSigner { key } if key == thief.public_key()));
}

fn sample_members(sample: &Sample) -> Vec<(MemberName, &[u8])> {
    let bytes = sample.part(1);
    let opened = open(bytes.as_slice()).unwrap();
    opened
        .sums()
        .members()
        .map(|(name, _)| (name, sample.source(name)))
        .collect()
}

#[test]
fn the_manifest_of_another_part_is_refused() {
    let files = (0..20).map(|seed| crate::testing::noise(seed, 3000)).collect();
    let sample = Sample::with_files(Some(SecretKey::generate().unwrap()), Some(30_720), files);
    let (first, second) = (split(&sample.part(1)), split(&sample.part(2)));
    for (taken, why) in [
        // The manifest alone, then with its sums, then with its signature too.
        (1, "MANIFEST.json is damaged"),
        (2, "SHA256SUMS.minisig"),
        (3, "where crates/"),
    ] {
        let mixed = [&second[..taken], &first[taken..]].concat();
        let error = read(&join(&mixed), Trust::Anyone).unwrap_err().to_string();
        assert!(error.contains(why), "{taken}: {error}");
    }
}
