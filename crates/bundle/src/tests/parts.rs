use std::collections::BTreeSet;

use crate::testing::{Sample, noise, read};
use crate::{Contents, CrateFile, Error, FAT32_FILE_BYTES, MemberName, PartSet, Plan, SecretKey, Total, Trust, check};

fn sample(split: u64) -> Sample {
    let files = (0..40)
        .map(|seed| noise(seed, usize::try_from(seed).unwrap() * 97))
        .collect();
    Sample::with_files(Some(SecretKey::generate().unwrap()), Some(split), files)
}

#[test]
fn parts_hold_all_once_and_none_is_too_large() {
    for split in [10_240, 20_480, 30_720, 50_000, 1 << 20] {
        let sample = sample(split);
        let mut seen = BTreeSet::new();
        let mut set = PartSet::new();
        for part in 1..=sample.plan.parts().len() {
            let part = u16::try_from(part).unwrap();
            let bytes = sample.part(part);
            assert!(bytes.len() as u64 <= split);
            let given = read(&bytes, Trust::Keys(&[sample.key.as_ref().unwrap().public_key()])).unwrap();
            check(bytes.as_slice(), Trust::Anyone).unwrap();
            for (name, bytes) in given.members {
                assert_eq!(bytes, sample.source(name));
                assert!(seen.insert(name.to_string()), "{name} twice");
                assert!(part == 1 || matches!(name, MemberName::Crate(_)));
            }
            assert!(!set.is_complete());
            set.add(given.manifest).unwrap();
        }
        assert!(set.is_complete());
        assert_eq!(seen.len(), sample.files.len() + 2);
        assert_eq!(sample.plan.parts().len() == 1, split == 1 << 20);
    }
}

#[test]
fn what_fits_into_no_part_is_named() {
    let contents = |sample: &Sample| sample.plan.contents.clone();
    let whole = sample(1 << 20);
    let error = Plan::new(contents(&whole), Some(10_239)).unwrap_err();
    assert!(
        matches!(
            &error,
            Error::DoesNotFit {
                member: MemberName::Changes,
                limit_bytes: 10_239,
                ..
            }
        ),
        "{error}"
    );
    let large = Sample::with_files(None, None, vec![noise(1, 10), noise(2, 60_000)]);
    let error = Plan::new(contents(&large), Some(40_960)).unwrap_err();
    let expected = large
        .plan
        .contents
        .crates
        .iter()
        .find(|file| file.bytes == 60_000)
        .unwrap()
        .checksum;
    assert!(
        matches!(&error, Error::DoesNotFit { member: MemberName::Crate(checksum), needs_bytes: 71_680, .. } if *checksum == expected),
        "{error}"
    );
}

#[test]
fn four_gibibytes_mean_what_fat32_can_hold() {
    let files = (0_u32..30).map(|number| CrateFile {
        checksum: registry::Checksum::of(&number.to_be_bytes()),
        bytes: 700 << 20,
    });
    let mut bundle = crate::testing::description(1);
    bundle.index = None;
    let contents = Contents {
        bundle,
        changes: None,
        decisions: None,
        crates: files.collect(),
    };
    let plan = Plan::new(contents.clone(), Some(4 << 30)).unwrap();
    assert!(plan.parts().iter().all(|part| part.bytes <= FAT32_FILE_BYTES));
    assert_eq!(plan.parts().len(), 6);
    let exact = Plan::new(contents.clone(), Some(plan.parts()[0].bytes)).unwrap();
    assert_eq!(
        exact.parts().len(),
        6,
        "a part may have exactly the size that is asked for"
    );
    let error = Plan::new(
        Contents {
            crates: vec![],
            ..contents
        },
        Some(1000),
    )
    .unwrap_err();
    assert!(matches!(
        error,
        Error::DoesNotFit {
            member: MemberName::Manifest,
            ..
        }
    ));
}

#[test]
fn more_than_999_parts_are_refused() {
    let files = (0..1001).map(|seed| noise(seed, 9000)).collect();
    let sample = Sample::with_files(None, None, files);
    let error = Plan::new(sample.plan.contents.clone(), Some(20_480)).unwrap_err();
    assert!(error.to_string().contains("999"), "{error}");
}

#[test]
fn parts_come_in_any_order_and_belong_together() {
    let sample = sample(30_720);
    let manifests: Vec<_> = sample.plan.parts().iter().map(|part| part.manifest.clone()).collect();
    let last = manifests.len() - 1;
    let mut set = PartSet::new();
    assert!(set.missing().is_empty() && !set.is_complete());
    for manifest in manifests[1..].iter().rev() {
        set.add(manifest.clone()).unwrap();
    }
    assert_eq!(set.missing(), [1]);
    let refused = |set: &mut PartSet, change: &dyn Fn(&mut crate::Manifest)| {
        let mut manifest = manifests[0].clone();
        change(&mut manifest);
        set.add(manifest).unwrap_err().to_string()
    };
    assert!(refused(&mut set, &|it| it.bundle.id = it.bundle.site).contains("it is of bundle"));
    assert!(refused(&mut set, &|it| it.bundle.serial += 1).contains("does not agree"));
    assert!(refused(&mut set, &|it| it.parts += 1).contains("does not agree"));
    assert!(refused(&mut set, &|it| it.bundle.key = None).contains("does not agree"));
    assert!(refused(&mut set, &|it| *it = manifests[last].clone()).contains("twice"));
    assert!(refused(&mut set, &|it| it.part_crates.bytes -= 1).contains("add up"));
    assert!(
        refused(&mut set, &|it| it.part_crates = Total {
            files: u64::MAX,
            bytes: 0
        })
        .contains("add up")
    );
    set.add(manifests[0].clone()).unwrap();
    assert!(set.is_complete());
}
