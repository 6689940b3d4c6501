//! Manifests of bundles: any bytes are taken or refused, and what is taken keeps the rules and survives its own text.
#![no_main]

use bundle::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match Manifest::parse(bytes) {
        Ok(manifest) => {
            manifest.check().expect("what was parsed keeps the rules");
            assert_eq!(Manifest::parse(&manifest.to_json()).expect("what is written is read"), manifest);
        }
        Err(error) => assert!(error.to_string().chars().all(|letter| !letter.is_control())),
    }
});
