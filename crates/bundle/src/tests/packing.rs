use std::io::{self, Cursor, Read};

use registry::Checksum;

use crate::testing::{Sample, description, edits, noise, read};
use crate::{Contents, CrateFile, Error, MemberName, Plan, Records, SecretKey, Trust, check, open};

fn with_crates(crates: Vec<CrateFile>) -> Contents {
    let mut bundle = description(1);
    bundle.index = None;
    Contents {
        bundle,
        changes: None,
        decisions: None,
        crates,
    }
}

/// A crate file that is never packed.
fn imagined(number: u32, bytes: u64) -> CrateFile {
    CrateFile {
        checksum: Checksum::of(&number.to_be_bytes()),
        bytes,
    }
}

#[test]
fn what_is_packed_comes_out_again() {
    for key in [None, Some(SecretKey::generate().unwrap())] {
        let sample = Sample::new(key, None);
        let given = read(&sample.part(1), Trust::Anyone).unwrap();
        assert_eq!(given.manifest, sample.plan.parts()[0].manifest);
        assert_eq!(given.members.len(), 2 + sample.files.len());
        assert_eq!(given.members[0].0, MemberName::Changes);
        assert_eq!(given.members[1].0, MemberName::Decisions);
        for (name, bytes) in &given.members {
            assert_eq!(bytes, sample.source(*name), "{name}");
        }
        let report = check(sample.part(1).as_slice(), Trust::Anyone).unwrap();
        assert_eq!(
            (report.crates, report.manifest),
            (given.manifest.crates, given.manifest)
        );
        assert_eq!(
            (report.index_changed, report.index_removed, report.decisions),
            (2, 1, 1)
        );
    }
}

#[test]
fn a_bundle_may_hold_nothing_at_all() {
    let plan = Plan::new(with_crates(Vec::new()), None).unwrap();
    let writer = plan.write_part(1, Vec::new(), None).unwrap();
    assert!(writer.wanted().is_none());
    let bytes = writer.finish().unwrap();
    assert_eq!(plan.total_bytes(), bytes.len() as u64);
    assert!(read(&bytes, Trust::Anyone).unwrap().members.is_empty());
}

#[test]
fn records_can_be_read_out_of_a_member() {
    let bytes = Sample::new(None, None).part(1);
    let mut members = open(bytes.as_slice()).unwrap().trusting(Trust::Anyone).unwrap();
    let index = members.manifest().bundle.index.clone().unwrap();
    let mut member = members.next_member().unwrap().unwrap();
    let records: Result<Vec<_>, _> = Records::new(&mut member, &index, true).collect();
    assert_eq!(records.unwrap(), edits());
}

#[test]
fn what_is_not_read_is_hashed_and_what_is_skipped_is_not() {
    let sample = Sample::new(None, None);
    let mut bytes = sample.part(1);
    // The last crate file with bytes of its own gets another one.
    let place = bytes.len() - 10_240;
    let place = (0..place).rev().find(|at| bytes[*at] != 0).unwrap();
    bytes[place] ^= 1;
    let mut members = open(bytes.as_slice()).unwrap().trusting(Trust::Anyone).unwrap();
    let error = loop {
        match members.next_member() {
            Ok(Some(mut member)) => member.read_exact(&mut []).unwrap(),
            Ok(None) => panic!("the damage was not seen"),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            error,
            Error::Content {
                member: MemberName::Crate(_),
                ..
            }
        ),
        "{error}"
    );
    let mut members = open(Cursor::new(&bytes)).unwrap().trusting(Trust::Anyone).unwrap();
    let mut skipped = 0;
    while let Some(member) = members.next_member().unwrap() {
        member.skip().unwrap();
        skipped += 1;
    }
    assert_eq!(skipped, 2 + sample.files.len());
}

#[test]
fn a_skip_in_the_middle_goes_to_the_next_member() {
    let sample = Sample::new(None, None);
    let bytes = sample.part(1);
    let mut members = open(Cursor::new(&bytes)).unwrap().trusting(Trust::Anyone).unwrap();
    let mut names = Vec::new();
    while let Some(mut member) = members.next_member().unwrap() {
        names.push(member.name());
        if member.size_bytes() > 100 {
            member.read_exact(&mut [0; 100]).unwrap();
            member.skip().unwrap();
        }
    }
    assert_eq!(
        names,
        open(bytes.as_slice())
            .unwrap()
            .sums()
            .members()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_file_that_is_not_what_its_name_says_is_named() {
    let sample = Sample::with_files(None, None, vec![noise(1, 100)]);
    let right = &sample.files[0];
    let damaged: Vec<u8> = right.iter().map(|byte| byte ^ 1).collect();
    let longer = [right.as_slice(), b"x"].concat();
    for (bytes, why) in [
        (right[..99].to_vec(), "fewer than its 100 bytes"),
        (longer, "more than its 100 bytes"),
        (damaged, "it is damaged"),
    ] {
        let mut writer = sample.plan.write_part(1, Vec::new(), None).unwrap();
        writer.put(sample.changes.as_slice()).unwrap();
        writer.put(sample.decisions.as_slice()).unwrap();
        let error = writer.put(bytes.as_slice()).unwrap_err().to_string();
        assert!(
            error.contains(why) && error.contains(&Checksum::of(right).to_hex()),
            "{error}"
        );
    }
    let writer = sample.plan.write_part(1, Vec::new(), None).unwrap();
    assert!(writer.finish().unwrap_err().to_string().contains("index/changes.gz"));
}

#[test]
fn a_full_disk_is_an_error() {
    struct Full(usize);
    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let sample = Sample::with_files(None, None, vec![noise(1, 3 << 20)]);
    let mut writer = sample.plan.write_part(1, Full(1 << 20), None).unwrap();
    let mut put = || -> Result<(), Error> {
        while let Some((member, _)) = writer.wanted() {
            writer.put(sample.source(member))?;
        }
        Ok(())
    };
    let error = put().unwrap_err();
    assert!(
        matches!(&error, Error::Write { source } if source.kind() == io::ErrorKind::StorageFull),
        "{error}"
    );
}

#[test]
fn only_the_key_of_the_manifest_signs() {
    let sample = Sample::new(Some(SecretKey::generate().unwrap()), None);
    let other = SecretKey::generate().unwrap();
    assert!(sample.plan.write_part(1, Vec::new(), None).is_err());
    assert!(sample.plan.write_part(1, Vec::new(), Some(&other)).is_err());
    assert!(
        Sample::new(None, None)
            .plan
            .write_part(1, Vec::new(), Some(&other))
            .is_err()
    );
}

#[test]
fn contents_that_make_no_bundle_are_refused() {
    let twice = vec![imagined(1, 10), imagined(1, 10)];
    assert!(
        Plan::new(with_crates(twice), None)
            .unwrap_err()
            .to_string()
            .contains("twice")
    );
    let large = vec![imagined(1, 1 << 33)];
    assert!(
        Plan::new(with_crates(large), None)
            .unwrap_err()
            .to_string()
            .contains("8 GiB")
    );
    let mut without = with_crates(Vec::new());
    without.bundle = description(1);
    assert!(Plan::new(without, None).unwrap_err().to_string().contains("payload"));
    let mut zero = with_crates(Vec::new());
    zero.bundle.serial = 0;
    assert!(Plan::new(zero, None).unwrap_err().to_string().contains("serial"));
}

#[test]
fn a_million_files_are_the_most_of_one_part() {
    let too_many: Vec<_> = (0..=1 << 20_u32)
        .map(|number: u32| {
            let mut name = [0; 32];
            name[..4].copy_from_slice(&number.to_be_bytes());
            CrateFile {
                checksum: Checksum::from_bytes(name),
                bytes: 30_000,
            }
        })
        .collect();
    let error = Plan::new(with_crates(too_many.clone()), None).unwrap_err();
    assert!(error.to_string().contains("--split"), "{error}");
    let plan = Plan::new(with_crates(too_many), Some(u64::MAX)).unwrap();
    let files: Vec<_> = plan
        .parts()
        .iter()
        .map(|part| part.manifest.part_crates.files)
        .collect();
    assert_eq!(files, [1 << 20, 1]);
}
