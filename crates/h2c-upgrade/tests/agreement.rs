//! actix-http and the rewriter always see the same requests begin at the same bytes.

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

const STARTS: [&str; 4] = [
    "GET / HTTP/1.1\r\nHost: a\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\n",
    "POST / HTTP/1.0\r\n",
    "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n",
];
const FIELDS: [&str; 12] = [
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n",
    "Connection: Upgrade\r\nUpgrade: websocket\r\n",
    "Content-Length: 3\r\n",
    "content-length:0\r\n",
    "Content-Length: 8 \t\r\n",
    "Content-Length: +3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding:\tCHUNKED \r\n",
    "Transfer-Encoding: identity\r\n",
    "Expect: 100-continue\r\n",
    "Accept: */*\r\n",
    " folded\r\n",
];
const BODIES: [&str; 12] = [
    "",
    "",
    "abc",
    "3\r\nabc\r\n0\r\n\r\n",
    "3;a=b\r\nabc\r\n00\r\nA: b\r\n\r\n",
    "3 \r\nabc\r\n0\r\n\r\n",
    "0000000000000000003\r\nabc\r\n0\r\n\r\n",
    "5\r\nabc\r\n0\r\n\r\n",
    "3\r\nabcd\r\n0\r\n\r\n",
    "3\nabc\r\n0\r\n\r\n",
    "0\r\nA: b\nC: d\r\n\r\n",
    "\r\n",
];
/// Bytes on which parsers part ways.
const NOISE: &[u8] = b"\r\n \t:\0\xff+-;,0a";

fn request() -> impl Strategy<Value = String> {
    let start = select(&STARTS[..]);
    let fields = vec(select(&FIELDS[..]), 0..3);
    (start, fields, select(&BODIES[..]))
        .prop_map(|(start, fields, body)| format!("{start}{}\r\n{body}", fields.concat()))
}

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
        requests in vec(request(), 1..5),
        change in proptest::option::of((any::<Index>(), select(NOISE), any::<bool>())),
    ) {
        let mut bytes = requests.concat().into_bytes();
        if let Some((at, byte, replace)) = change {
            let at = at.index(bytes.len());
            match replace {
                true => bytes[at] = byte,
                false => bytes.insert(at, byte),
            }
        }
        actix_rt::System::new().block_on(async { both_see_the_same(&bytes) });
    }
}
