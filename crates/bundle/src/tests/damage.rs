//! One bit at a time, and cut off: refused, or what comes out is what went in.

use proptest::prelude::*;

use crate::testing::{Sample, noise, read, split};
use crate::{Error, SecretKey, Trust, check};

/// Flips one bit after the other; returns how many flips were refused.
fn flip(bytes: &[u8], places: impl Iterator<Item = usize>) -> (usize, usize) {
    let whole = read(bytes, Trust::Anyone).unwrap();
    let mut bytes = bytes.to_vec();
    let (mut refused, mut flips) = (0, 0);
    for (number, place) in places.enumerate() {
        let bit = 1 << ((number * 5 + place) % 8);
        bytes[place] ^= bit;
        flips += 1;
        match read(&bytes, Trust::Anyone) {
            Ok(given) => assert!(
                given == whole,
                "bit {bit} of byte {place} was taken and changed something"
            ),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
        bytes[place] ^= bit;
    }
    (refused, flips)
}

#[test]
fn single_bit_flips_are_refused_or_harmless() {
    for (key, step) in [(Some(SecretKey::generate().unwrap()), 1), (None, 5)] {
        let bytes = Sample::new(key, None).part(1);
        assert!(bytes.len() > 16_384, "{}", bytes.len());
        let rest = (8192..bytes.len()).step_by(7 * step);
        let (refused, flips) = flip(&bytes, (0..8192).step_by(step).chain(rest));
        assert!(flips >= 8192 / step, "{flips}");
        // What is harmless are the ends of the numbers in headers, and what the comments of the signature say.
        assert!(refused * 100 > flips * 97, "{refused} of {flips}");
    }
}

#[test]
fn every_bit_of_the_last_record_counts() {
    let bytes = Sample::with_files(None, None, vec![noise(1, 700)]).part(1);
    let from = bytes.len() - 1024;
    let places = (from..bytes.len()).flat_map(|place| std::iter::repeat_n(place, 3));
    let (refused, flips) = flip(&bytes, places);
    assert_eq!((refused, flips), (3072, 3072));
}

#[test]
fn truncations_name_what_was_cut() {
    let sample = Sample::new(Some(SecretKey::generate().unwrap()), None);
    let bytes = sample.part(1);
    let mut start = 0;
    for entry in split(&bytes) {
        let (name, length) = (entry.name(), entry.bytes.len());
        let end = start + 512 + length;
        for cut in [
            start,
            start + 1,
            start + 511,
            start + 512,
            start + 512 + length / 2,
            end - usize::from(length > 0),
        ] {
            let is_whole = cut >= end;
            for result in [
                read(&bytes[..cut], Trust::Anyone).map(drop),
                check(&bytes[..cut], Trust::Anyone).map(drop),
            ] {
                let error = result.unwrap_err();
                let Error::Truncated { what } = &error else {
                    panic!("{error} for {name} cut at {cut}")
                };
                assert!(is_whole || *what == name, "{what} for {name} cut at {cut}");
            }
        }
        start = end.next_multiple_of(512);
    }
    for cut in (start..start + 1024).step_by(31) {
        let error = read(&bytes[..cut], Trust::Anyone).unwrap_err();
        assert!(
            matches!(&error, Error::Truncated { what } if what == "the end"),
            "{error} at {cut}"
        );
    }
    // Only the filling up of tar's record is lacking then.
    let whole = read(&bytes, Trust::Anyone).unwrap();
    assert_eq!(read(&bytes[..start + 1024], Trust::Anyone).unwrap(), whole);
}

#[test]
fn what_stands_behind_the_end_is_refused() {
    let bytes = Sample::new(None, None).part(1);
    for more in [vec![0], vec![1], vec![0; 512], bytes.clone()] {
        let error = read(&[bytes.clone(), more].concat(), Trust::Anyone).unwrap_err();
        assert!(error.to_string().contains("there is more behind it"), "{error}");
    }
    let mut inside = bytes.clone();
    *inside.last_mut().unwrap() = 1;
    assert!(read(&inside, Trust::Anyone).is_err());
}

#[test]
fn a_reader_that_fails_is_said_to() {
    struct Broken<'a>(&'a [u8]);
    impl std::io::Read for Broken<'_> {
        fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(bytes)? {
                0 => Err(std::io::Error::other("the stick was taken out")),
                length => Ok(length),
            }
        }
    }
    let bytes = Sample::new(None, None).part(1);
    for cut in [100, 600, 5000, bytes.len() - 9000] {
        let error = check(Broken(&bytes[..cut]), Trust::Anyone).unwrap_err();
        assert!(
            matches!(&error, Error::Read { source, .. } if source.to_string().contains("stick")),
            "{error}"
        );
    }
}

proptest! {
    // The bodies of the fuzz targets, without their speed.
    #[test]
    fn any_bytes_are_no_bundle(bytes in any::<Vec<u8>>()) {
        prop_assert!(check(bytes.as_slice(), Trust::Anyone).is_err());
    }

    #[test]
    fn a_stretch_of_other_bytes_is_refused_or_harmless(at in any::<prop::sample::Index>(), other in prop::collection::vec(any::<u8>(), 1..600)) {
        let mut bytes = Sample::new(None, None).part(1);
        let whole = read(&bytes, Trust::Anyone).unwrap();
        let at = at.index(bytes.len() - other.len());
        bytes[at..at + other.len()].copy_from_slice(&other);
        if let Ok(given) = read(&bytes, Trust::Anyone) {
            prop_assert_eq!(given, whole);
        }
        let _ = check(bytes.as_slice(), Trust::Anyone);
    }
}
