use super::*;
use crate::FakeUpstream;

/// The shell plays the binary: `sh serve --listen ...` runs the script `serve` in its working directory.
fn stand_in(upstream: &FakeUpstream, script: &str) -> MirrorBuilder {
    MirrorProcess::builder(Path::new("/bin/sh"))
        .upstream(upstream)
        .env("AT", &upstream.authority())
        .file("serve", script)
}

const SERVES: &str = "
trap 'kill $child; echo the last words >&2; exit 7' TERM
env >&2; echo \"args $*\" >&2
tail -f /dev/null & child=$!
echo \"listening on http://$AT\"; wait";

#[test]
fn starts_talks_and_ends() {
    let upstream = FakeUpstream::start();
    upstream.serve_at("/hello", b"hello");
    let mirror = stand_in(&upstream, SERVES).arg("--offline").start();
    assert!(mirror.wait_for_log("args --listen 127.0.0.1:0 --offline\n", Duration::from_secs(10)));
    let sparse = format!("MIRROR_UPSTREAM__SPARSE={}\n", upstream.sparse_url());
    assert!(
        mirror.log().contains(&sparse) && !mirror.log().contains("CARGO"),
        "{}",
        mirror.log()
    );
    let reply = mirror.get("/hello");
    assert_eq!(
        (reply.status, reply.text(), reply.complete),
        (200, "hello".to_owned(), true)
    );
    assert_eq!(mirror.stdout(), format!("listening on {}\n", mirror.url("")));
    assert!(mirror.peak_rss_bytes() >= mirror.rss_bytes() && mirror.rss_bytes() > 0);
    assert_eq!(mirror.terminate().code(), Some(7));
    assert!(mirror.log().ends_with("the last words\n"));
    assert!(!mirror.is_running());
}

#[test]
fn starts_again_on_the_same_data() {
    let upstream = FakeUpstream::start();
    let script = "echo x >> \"$MIRROR_DATA_DIR\"; echo \"listening on http://$AT\"; exec tail -f /dev/null";
    let mut mirror = stand_in(&upstream, script).start();
    let first = mirror.id();
    mirror.kill9();
    mirror.restart();
    assert_ne!(mirror.id(), first);
    assert_eq!(std::fs::read_to_string(mirror.data_dir()).unwrap(), "x\nx\n");
    let output = mirror.run(&["-c", "echo $MIRROR_DATA_DIR"]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().trim(),
        mirror.data_dir().to_str().unwrap()
    );
}

#[test]
#[should_panic(expected = "no such setting")]
fn a_refused_start_shows_its_log() {
    let upstream = FakeUpstream::start();
    stand_in(&upstream, "echo no such setting >&2; exit 2").start();
}

#[test]
fn a_wildcard_is_reached_by_loopback() {
    for (line, authority) in [
        ("listening on http://127.0.0.1:5\n", Some("127.0.0.1:5")),
        ("listening on http://0.0.0.0:5\n", Some("127.0.0.1:5")),
        ("listening on http://[::]:5\n", Some("[::1]:5")),
        ("listening on http://127.0.0.1:5", None),
        ("something else\n", None),
    ] {
        assert_eq!(listening_on(line).as_deref(), authority, "{line}");
    }
}
