//! actix-http and the rewriter always see the same requests begin at the same bytes.
#![allow(clippy::unwrap_used)]

use actix_codec::Decoder;
use actix_http::{
    ServiceConfig,
    h1::{Codec, Message},
};
use bytes::BytesMut;
use h2c_upgrade::Rewriter;
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};

/// Requests, bodies and what may confuse their borders.
const PARTS: [&[u8]; 34] = [
    b"GET / HTTP/1.1\r\nHost: a\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
    b"POST / HTTP/1.0\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Content-Length: 3\r\n",
    b"content-length:0\r\n",
    b"Content-Length: 3 \t\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding:\tCHUNKED \r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Expect: 100-continue\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b"\0",
    b"\xff",
    b":",
    b"3\r\nabc\r\n",
    b"3;a=b\r\nabc\r\n",
    b"3 \r\nabc\r\n",
    b"5\r\n",
    b"0\r\n\r\n",
    b"0\r\nA: b\r\n\r\n",
    b"0000000000000000003\r\nabc\r\n",
    b"abc",
    b"-1",
    b"+",
];

/// How many requests actix-http finds in `bytes`; an error is the end of a connection.
fn decode(codec: &mut Codec, bytes: &mut BytesMut) -> Result<u64, ()> {
    let mut found = 0;
    loop {
        match codec.decode(bytes) {
            Ok(Some(Message::Item(_))) => found += 1,
            Ok(Some(Message::Chunk(_))) => {}
            Ok(None) => return Ok(found),
            Err(_) => return Err(()),
        }
    }
}

/// Feeds byte after byte to the rewriter, and what it lets through to actix-http.
fn both_see_the_same(bytes: &[u8]) {
    let mut codec = Codec::new(ServiceConfig::default());
    let (mut rewriter, mut passed) = (Rewriter::new(), BytesMut::new());
    let mut found = 0;
    for (at, byte) in bytes.iter().enumerate() {
        rewriter.feed(&[*byte], &mut passed);
        match decode(&mut codec, &mut passed) {
            Ok(more) => found += more,
            Err(()) => return,
        }
        assert_eq!(found, rewriter.heads(), "after {}", bytes[..=at].escape_ascii());
        assert!(!rewriter.refused() || found > 0, "refused, but not by actix-http");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn requests_begin_at_the_same_bytes(
        parts in vec(select(&PARTS[..]), 0..16),
        change in proptest::option::of((any::<Index>(), any::<u8>())),
    ) {
        let mut bytes = parts.concat();
        if let Some((at, byte)) = change && !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        actix_rt::System::new().block_on(async { both_see_the_same(&bytes) });
    }
}
