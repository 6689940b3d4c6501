use std::process::Command;

use crate::support::{Running, config, start};

/// What curl prints for these options, or `None` without curl.
fn curl(server: &Running, options: &[&str], paths: &[&str]) -> Option<String> {
    let mut command = Command::new("curl");
    command
        .args(["-sS", "--max-time", "20", "--noproxy", "*"])
        .args(options);
    for path in paths {
        command.arg(format!("http://{}{path}", server.address));
    }
    match command.output() {
        Err(_) => {
            println!("skipped: no curl on PATH");
            None
        }
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            Some(String::from_utf8(output.stdout).unwrap())
        }
    }
}

#[test]
fn curl_speaks_all_three() {
    let server = start(config());
    let counts = || {
        let connections = &server.connections;
        (connections.http1(), connections.http2(), connections.upgraded())
    };
    let twice = &["/head"; 2][..];
    for (option, version, paths, due) in [
        ("--http1.1", "HTTP/1.1", twice, (1, 0, 0)),
        ("--http2", "HTTP/2.0", twice, (1, 0, 1)),
        // curl 7.88 cannot use such a connection twice, whatever the server.
        ("--http2-prior-knowledge", "HTTP/2.0", &twice[1..], (1, 1, 1)),
    ] {
        let Some(text) = curl(&server, &[option], paths) else {
            return;
        };
        let answers = text.matches(&format!("GET {version}\n")).count();
        assert_eq!(answers, paths.len(), "{text}");
        assert_eq!(counts(), due, "{option}");
    }
}

#[test]
fn curl_posts_over_http1_and_stays() {
    let server = start(config());
    let options = ["--http2", "-d", "connection: upgrade"];
    let Some(text) = curl(&server, &options, &["/body", "/body"]) else {
        return;
    };
    assert_eq!(text, "connection: upgradeconnection: upgrade");
    assert_eq!(server.connections.http1() + server.connections.upgraded(), 1);
}
