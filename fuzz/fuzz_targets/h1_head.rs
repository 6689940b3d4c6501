//! The rewriter of HTTP/1 heads: splits change nothing, and what it lets through it would let
//! through again unchanged.
#![no_main]

use bytes::BytesMut;
use h2c_upgrade::Rewriter;
use libfuzzer_sys::fuzz_target;

fn rewrite<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (BytesMut, bool) {
    let (mut rewriter, mut out) = (Rewriter::new(), BytesMut::new());
    for piece in pieces {
        rewriter.feed(piece, &mut out);
    }
    (out, rewriter.refused())
}

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    let whole = rewrite([bytes]);
    assert_eq!(rewrite(bytes.chunks(usize::from(step) + 1)), whole);
    assert_eq!(rewrite([&whole.0[..]]), whole);
});
