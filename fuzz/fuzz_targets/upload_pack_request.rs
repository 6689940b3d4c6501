//! Bodies of git-upload-pack: any bytes are taken or refused, and what is taken keeps to the limits.
#![no_main]

use git_smart_http::{Limits, Protocol, Request, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { body_bytes: 1 << 16, lines: 500, wants: 8, haves: 64, shallows: 16, ref_prefixes: 8 };
    for protocol in [Protocol::V0, Protocol::V1, Protocol::V2] {
        match parse(protocol, bytes, &limits) {
            Ok(Request::Fetch(fetch)) => {
                assert!(fetch.wants.len() <= 8 && fetch.haves.len() <= 64 && fetch.shallows.len() <= 16);
                assert!(fetch.protocol == protocol && fetch.depth != Some(0));
            }
            Ok(Request::LsRefs(asked)) => assert!(protocol == Protocol::V2 && asked.prefixes.len() <= 8),
            Ok(Request::Probe) => assert!(bytes.is_empty() || bytes.starts_with(b"0000")),
            Err(error) => {
                assert!(error.is_request());
                assert!(error.pkt_line().len() < 1_005);
            }
        }
    }
});
