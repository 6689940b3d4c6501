//! Whole bundles: any bytes are taken or refused, nothing is read past what is there, and what is taken is what its sums say.
//! The bytes are used twice, as they are and as the contents of an index payload in a bundle whose sums are right.
#![no_main]

use bundle::{Contents, Description, Id, IndexSummary, Plan, Scope, Stored, Time, Trust, check, open};
use libfuzzer_sys::fuzz_target;
use registry::Checksum;

fn with_payload(packed: &[u8]) -> Vec<u8> {
    let index = IndexSummary {
        scope: Scope::Full,
        tree: "4b825dc642cb6eb9a060e54bf8d69288fbee4904".parse().expect("a tree"),
        files: 1 + u64::from(packed.first().copied().unwrap_or_default() % 4),
        bytes: 4096,
        upstream: None,
        whole: true,
    };
    let bundle = Description {
        id: Id::from_bytes([1; 16]),
        site: Id::from_bytes([2; 16]),
        serial: 1,
        parent: None,
        created: Time::from_unix(0),
        creator: String::new(),
        key: None,
        index: Some(index),
        wanted_missing: 0,
    };
    let changes = Some(Stored { checksum: Checksum::of(packed), bytes: packed.len() as u64 });
    let contents = Contents { bundle, changes, decisions: None, crates: Vec::new() };
    let plan = Plan::new(contents, None).expect("this can be planned");
    let mut writer = plan.write_part(1, Vec::new(), None).expect("and written");
    writer.put(packed).expect("whatever it holds");
    writer.finish().expect("to the end")
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(report) = check(bytes, Trust::Anyone) {
        assert_eq!(report.crates, report.manifest.part_crates);
    }
    if let Ok(opened) = open(bytes) {
        let mut members = opened.trusting(Trust::Anyone).expect("anyone is trusted");
        while let Ok(Some(member)) = members.next_member() {
            assert!(member.size_bytes() <= bytes.len() as u64 || member.drain().is_err());
        }
    }
    if bytes.len() < 4096 {
        if let Ok(report) = check(with_payload(bytes).as_slice(), Trust::Anyone) {
            let index = report.manifest.bundle.index.expect("it has one");
            assert_eq!(report.index_changed + report.index_removed, index.files);
        }
    }
});
