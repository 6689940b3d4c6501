//! Bodies that are sent.

use std::io::Read;

use bytes::Bytes;

use super::{
    LIMIT, client_for, run,
    server::{PATIENCE, Server, State, ok, read_head, redirect_to},
    start, url,
};
use crate::{Error, Request, UpstreamHttp};

/// Answers a POST with its head's first line, its type and its body; the first connection ends after one answer without saying so.
fn echoing() -> Server {
    Server::listen(
        |_| unreachable!("this server has no script"),
        |mut io, state: &State, _| {
            io.set_read_timeout(Some(PATIENCE)).unwrap();
            let first = state.count() == 1;
            while let Some(head) = read_head(&mut io) {
                let field = |name: &str| {
                    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
                    line.and_then(|line| line.split_once(": "))
                        .map(|(_, value)| value.to_owned())
                };
                let length: usize = field("content-length:").map_or(0, |length| length.parse().unwrap());
                let mut body = vec![0; length];
                io.read_exact(&mut body).unwrap();
                let line = head.lines().next().unwrap();
                let kind = field("content-type:").unwrap_or_default();
                let echo = format!("{line}|{kind}|{}", String::from_utf8_lossy(&body));
                let typed = String::from_utf8(ok(&echo)).unwrap();
                let typed = typed.replacen("\r\n", "\r\nContent-Type: text/x-echo; charset=x\r\n", 1);
                std::io::Write::write_all(&mut io, typed.as_bytes()).unwrap();
                if first {
                    return;
                }
            }
        },
    )
}

async fn post(
    client: &UpstreamHttp,
    server: &Server,
    body: &'static [u8],
) -> Result<(u16, Option<String>, String), Error> {
    let request = Request::get(server.url("/git-upload-pack"), LIMIT);
    let response = client
        .post(request, "application/x-a", Bytes::from_static(body))
        .await?;
    let (status, kind) = (response.status, response.content_type.clone());
    let text = String::from_utf8(response.body.collect(LIMIT).await?.to_vec()).unwrap();
    Ok((status, kind, text))
}

#[test]
fn a_body_arrives_with_its_type_also_after_a_dead_pooled_connection() {
    let server = echoing();
    let client = client_for(&server);
    run(async {
        for body in [&b"0000"[..], b"", b"0032want"] {
            let text = String::from_utf8_lossy(body);
            let expected = format!("POST /git-upload-pack HTTP/1.1|application/x-a|{text}");
            let answer = post(&client, &server, body).await.unwrap();
            assert_eq!(answer, (200, Some("text/x-echo".to_owned()), expected));
        }
    });
    assert!(server.connections() >= 2, "the first connection was closed");
}

#[test]
fn what_is_posted_is_sent_nowhere_else() {
    let elsewhere = echoing();
    let target = elsewhere.url("/").to_string();
    let server = Server::start(move |_| super::server::Reply::Close(redirect_to(307, &target)));
    let client = client_for(&server);
    client.trust(elsewhere.authority(), None);
    let error = run(post(&client, &server, b"x")).unwrap_err();
    assert!(matches!(error, Error::Redirect { .. }), "{error}");
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn a_type_that_cannot_be_sent_is_refused() {
    let client = start(super::config());
    let request = Request::get(url("http://127.0.0.1:1/"), LIMIT);
    let error = run(client.post(request, "a\nb", Bytes::new())).unwrap_err();
    assert!(matches!(error, Error::InvalidHeader { .. }), "{error}");
}
