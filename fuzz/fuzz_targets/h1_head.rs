//! The rewriter of HTTP/1 heads: splits change nothing, what it lets through it would let through
//! again unchanged, and actix-http sees the same requests in it.
#![no_main]

use actix_codec::Decoder;
use actix_http::{
    ServiceConfig,
    h1::{Codec, Message},
};
use bytes::BytesMut;
use h2c_upgrade::Rewriter;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static RUNTIME: actix_rt::SystemRunner = actix_rt::System::new();
    /// One for all runs: each of its own would leave a task behind in the runtime.
    static CONFIG: ServiceConfig = RUNTIME.with(|runtime| runtime.block_on(async { ServiceConfig::default() }));
}

fn rewrite<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (BytesMut, bool) {
    let (mut rewriter, mut out) = (Rewriter::new(), BytesMut::new());
    for piece in pieces {
        rewriter.feed(piece, &mut out);
    }
    (out, rewriter.refused())
}

/// Requests must begin at the same bytes for both, until actix-http gives the connection up.
fn compare_with_actix(bytes: &[u8]) {
    let mut codec = CONFIG.with(|config| Codec::new(config.clone()));
    let (mut rewriter, mut passed) = (Rewriter::new(), BytesMut::new());
    let mut found = 0;
    for byte in bytes {
        rewriter.feed(&[*byte], &mut passed);
        loop {
            match codec.decode(&mut passed) {
                Ok(Some(Message::Item(_))) => found += 1,
                Ok(Some(Message::Chunk(_))) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert_eq!(found, rewriter.heads());
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    let whole = rewrite([bytes]);
    assert_eq!(rewrite(bytes.chunks(usize::from(step) + 1)), whole);
    assert_eq!(rewrite([&whole.0[..]]), whole);
    compare_with_actix(bytes);
});
