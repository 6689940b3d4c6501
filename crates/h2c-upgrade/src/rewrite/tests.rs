use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

fn rewrite(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut rewriter = Rewriter::new();
    let mut out = BytesMut::new();
    for piece in pieces {
        rewriter.feed(piece, &mut out);
    }
    (out.to_vec(), rewriter.refused())
}

fn split_at(bytes: &[u8], mut cuts: Vec<usize>) -> Vec<&[u8]> {
    cuts.iter_mut().for_each(|cut| *cut %= bytes.len() + 1);
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// One request as it is sent, and as it should arrive.
fn request() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let fields = select(vec![
        ("Connection: Upgrade, HTTP2-Settings\r\n", ""),
        ("connection:upgrade\r\n", ""),
        ("Connection: keep-alive, Upgrade\r\n", "Connection: keep-alive\r\n"),
        ("Connection: close\r\n", "Connection: close\r\n"),
        ("Upgrade: h2c\r\n", ""),
        ("UPGRADE: websocket\r\n", ""),
        ("HTTP2-Settings: AAMAAABkAAQAAQAAAAIAAAAA\r\n", ""),
        ("X-Upgrade: h2c\r\n", "X-Upgrade: h2c\r\n"),
        ("accept: \t*/*  \r\n", "accept: \t*/*  \r\n"),
    ]);
    let text = select(vec![
        &b"connection: upgrade\r\nUpgrade: h2c\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"\r\n0\r\n\r\n",
        b"\0\xff",
    ]);
    let body = vec(text, 0..4).prop_map(|parts| parts.concat());
    (vec(fields, 0..6), body, 0..3u8).prop_map(|(fields, body, kind)| {
        let (mut sent, mut due) = (b"POST /x HTTP/1.1\r\nHost: a\r\n".to_vec(), vec![]);
        due.extend_from_slice(&sent);
        for (field, kept) in fields {
            sent.extend_from_slice(field.as_bytes());
            due.extend_from_slice(kept.as_bytes());
        }
        let rest = match kind {
            0 => b"\r\n".to_vec(),
            1 => [format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat(),
            _ => chunked(&body),
        };
        sent.extend_from_slice(&rest);
        due.extend_from_slice(&rest);
        (sent, due)
    })
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = b"Transfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in body.chunks(7) {
        out.extend_from_slice(format!("{:x};ext\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\nUpgrade: trailer\r\n\r\n");
    out
}

proptest! {
    #[test]
    fn requests_arrive_as_they_should(
        requests in vec(request(), 1..5),
        cuts in vec(any::<usize>(), 0..12),
    ) {
        let (sent, due): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
        let (sent, due) = (sent.concat(), due.concat());
        prop_assert_eq!(rewrite(&split_at(&sent, cuts)), (due, false));
    }

    #[test]
    fn splits_change_nothing(
        parts in vec(select(vec![
            &b"GET / HTTP/1.1\r\n"[..], b"\r\n", b"\n", b"\r", b"Upgrade: h2c\r\n", b"0\r\n\r\n", b"a", b" ",
            b"Connection: upgrade\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"\0",
        ]), 0..24),
        cuts in vec(any::<usize>(), 0..12),
    ) {
        let bytes = parts.concat();
        prop_assert_eq!(rewrite(&split_at(&bytes, cuts)), rewrite(&[&bytes]));
    }
}

#[test]
fn rewriting_twice_changes_nothing_more() {
    let heads = [
        "GET / HTTP/1.1\r\nConnection: Upgrade, a\r\nUpgrade: h2c\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\n".to_owned(),
        format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200)),
    ];
    for head in heads {
        let once = rewrite(&[head.as_bytes()]);
        assert_eq!(rewrite(&[&once.0]), once, "{head}");
    }
}

#[test]
fn nothing_follows_a_refused_head() {
    let both = b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (out, refused) = rewrite(&[both, b"0\r\n\r\nGET /second HTTP/1.1\r\n\r\n"]);
    assert_eq!((&out[..], refused), (&b"\0\r\n\r\n"[..], true));
}

#[test]
fn nothing_follows_a_broken_chunk() {
    let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (out, refused) = rewrite(&[head, b"2\r\nabc", b"GET /second HTTP/1.1\r\n\r\n"]);
    assert_eq!((out, refused), ([&head[..], b"2\r\nabc"].concat(), true));
}

#[test]
fn what_is_owed_is_known() {
    let (mut rewriter, mut out) = (Rewriter::new(), BytesMut::new());
    let steps: [(&[u8], Owed); 6] = [
        (b"\r\n", Owed::Nothing),
        (b"POST / HTTP/1.1\r", Owed::Head(0)),
        (b"\nContent-Length: 2\r\n\r\n", Owed::Body),
        (b"a", Owed::Body),
        (b"b", Owed::Nothing),
        (b"GET / HTTP/1.1\r\n\r\nGET", Owed::Head(2)),
    ];
    for (bytes, owed) in steps {
        rewriter.feed(bytes, &mut out);
        assert_eq!(rewriter.owed(), owed, "{bytes:?}");
    }
}
