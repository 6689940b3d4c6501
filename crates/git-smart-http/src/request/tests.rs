//! Requests as real clients sent them, and what nobody sends on purpose.

use proptest::prelude::*;

use super::*;

const HEAD: &str = "96e7eeb82b4ad4415c061f2d145dd1fc0d2dbdf3";
const OLD: &str = "29b674837426058e3be8da70737eb39e8414e134";

fn of(protocol: Protocol, body: impl AsRef<[u8]>) -> Result<Request, Error> {
    parse(protocol, body.as_ref(), &Limits::default())
}

fn fetch(protocol: Protocol, body: impl AsRef<[u8]>) -> Fetch {
    match of(protocol, body) {
        Ok(Request::Fetch(fetch)) => fetch,
        other => panic!("{other:?}"),
    }
}

fn ids(ids: &[&str]) -> Vec<ObjectId> {
    ids.iter()
        .map(|id| ObjectId::from_hex(id.as_bytes()).unwrap())
        .collect()
}

fn pkt(line: &str) -> String {
    format!("{:04x}{line}", line.len() + 4)
}

#[test]
fn libgit2_clones() {
    let body =
        format!("0074want {HEAD} multi_ack_detailed side-band-64k include-tag thin-pack ofs-delta \n00000009done\n");
    let fetch = fetch(Protocol::V0, &body);
    assert_eq!((&fetch.wants, fetch.end), (&ids(&[HEAD]), End::Done));
    assert_eq!(fetch.haves, []);
    let caps = Caps {
        acks: Acks::Detailed,
        side_band: SideBand::Large,
        ofs_delta: true,
        thin_pack: true,
        ..Caps::default()
    };
    assert_eq!(fetch.caps, caps);
}

#[test]
fn libgit2_updates() {
    let body = format!(
        "0074want {HEAD} multi_ack_detailed side-band-64k include-tag thin-pack ofs-delta \n\
         00000032have {OLD}\n0009done\n"
    );
    let fetch = fetch(Protocol::V0, &body);
    assert_eq!((fetch.haves, fetch.end), (ids(&[OLD]), End::Done));
}

#[test]
fn git_asks_for_refs() {
    let body = b"0014command=ls-refs\n0014agent=git/2.47.30016object-format=sha100010009peel\n000csymrefs\n\
        000bunborn\n0014ref-prefix HEAD\n0019ref-prefix refs/HEAD\n001eref-prefix refs/tags/HEAD\n\
        001fref-prefix refs/heads/HEAD\n0021ref-prefix refs/remotes/HEAD\n0026ref-prefix refs/remotes/HEAD/HEAD\n0000";
    let Ok(Request::LsRefs(asked)) = of(Protocol::V2, body) else {
        panic!("not taken")
    };
    assert!(asked.symrefs && asked.unborn && asked.wants("HEAD") && !asked.wants("refs/heads/master"));
    assert_eq!(asked.prefixes.len(), 6);
}

#[test]
fn git_fetches_with_v2() {
    let body = format!(
        "0011command=fetch0014agent=git/2.47.30016object-format=sha10001000dthin-pack000fno-progress000dofs-delta\
         0032want {HEAD}\n0032have {OLD}\n0000"
    );
    let fetch = fetch(Protocol::V2, &body);
    assert_eq!(
        (fetch.wants, fetch.haves, fetch.end),
        (ids(&[HEAD]), ids(&[OLD]), End::Flush)
    );
    assert!(fetch.caps.no_progress && fetch.caps.side_band == SideBand::Large);
}

#[test]
fn gitoxide_clones_shallow() {
    let body = format!(
        "0012command=fetch\n001bagent=git/oxide-0.83.0\n0001000ethin-pack\n000eofs-delta\n0010include-tag\n\
         000ddeepen 1\n0032want {HEAD}\n0009done\n0000"
    );
    let fetch = fetch(Protocol::V2, &body);
    assert_eq!((fetch.depth, fetch.end), (Some(1), End::Done));
}

#[test]
fn git_deepens_with_v0() {
    let first = pkt(&format!(
        "want {HEAD} multi_ack_detailed no-done side-band-64k deepen-relative agent=git/2.47.3\n"
    ));
    let body = format!("{first}{}{}0000", pkt(&format!("shallow {OLD}")), pkt("deepen 3"));
    let fetch = fetch(Protocol::V0, &body);
    assert_eq!(
        (fetch.shallows, fetch.depth, fetch.end),
        (ids(&[OLD]), Some(3), End::AfterWants)
    );
    assert!(fetch.deepen_relative && fetch.caps.no_done);
}

#[test]
fn probes_are_no_requests() {
    for protocol in [Protocol::V0, Protocol::V1, Protocol::V2] {
        for body in ["", "0000"] {
            assert_eq!(of(protocol, body).unwrap(), Request::Probe);
        }
    }
}

#[test]
fn the_header_chooses_the_version() {
    let versions = [
        (None, Protocol::V0),
        (Some("version=1"), Protocol::V1),
        (Some("version=2"), Protocol::V2),
        (Some("version=2:version=1"), Protocol::V2),
        (Some("object-format=sha1:version=2"), Protocol::V2),
        (Some("version=9"), Protocol::V0),
        (Some(""), Protocol::V0),
    ];
    for (header, version) in versions {
        assert_eq!(Protocol::from_header(header), version, "{header:?}");
    }
}

#[test]
fn what_is_not_done_is_refused_in_words() {
    let want = format!("want {HEAD}");
    let v2 = |line: &str| format!("{}0001{}{}0000", pkt("command=fetch"), pkt(&want), pkt(line));
    let v0 = |line: &str| format!("{}{}00000009done\n", pkt(&want), pkt(line));
    let sha256 = pkt(&format!("{want} object-format=sha256"));
    let bodies = [
        (
            Protocol::V2,
            v2("filter blob:none"),
            "filter blob:none is not supported",
        ),
        (Protocol::V2, v2("deepen-since 1"), "deepen-since 1 is not supported"),
        (Protocol::V2, v2("want-ref refs/heads/master"), "is not supported"),
        (Protocol::V2, v2("packfile-uris https"), "is not supported"),
        (Protocol::V2, v2("deepen 0"), "a depth from 1"),
        (Protocol::V2, v2("deepen 2147483648"), "a depth from 1"),
        (Protocol::V2, v2("deepen -1"), "a depth from 1"),
        (Protocol::V2, v2("want 12"), "forty hex digits"),
        (Protocol::V2, v2("have \u{1}"), "have \\x01"),
        (
            Protocol::V2,
            pkt("command=push") + "0000",
            "command=push is not supported",
        ),
        (
            Protocol::V2,
            pkt("command=fetch") + &pkt("command=ls-refs") + "0000",
            "one command",
        ),
        (
            Protocol::V2,
            pkt("command=fetch") + &pkt("object-format=sha256") + "0000",
            "sha256 is not supported",
        ),
        (
            Protocol::V2,
            pkt("command=fetch") + "0001",
            "the request ended where a flush",
        ),
        (Protocol::V2, pkt("command=fetch") + "00010001", "an argument"),
        (Protocol::V2, pkt("command=fetch") + "0002", "a response end"),
        (Protocol::V2, "00010000".to_owned(), "a command should follow"),
        (
            Protocol::V0,
            v0("filter blob:none"),
            "filter blob:none is not supported",
        ),
        (Protocol::V0, v0("deepen-not refs/heads/x"), "is not supported"),
        (
            Protocol::V0,
            v0("hello"),
            "expected want, shallow, deepen or a flush, got \"hello\"",
        ),
        (Protocol::V0, sha256 + "0000", "object-format=sha256 is not supported"),
        (
            Protocol::V0,
            pkt(&format!("{want}x")) + "0000",
            "a space and capabilities",
        ),
        (Protocol::V0, pkt(&want) + "00000001", "have, done or a flush"),
        (Protocol::V0, pkt(&want), "the request ended where a flush"),
        (
            Protocol::V0,
            pkt(&want) + "0000" + &pkt(&format!("have {OLD}")),
            "done or a flush",
        ),
        (Protocol::V0, pkt("deepen 1") + "0000", "a want should follow"),
        (Protocol::V0, pkt("command=fetch") + "0000", "command=fetch"),
    ];
    for (protocol, body, text) in bodies {
        let error = of(protocol, &body).unwrap_err();
        assert!(
            error.is_request() && error.to_string().contains(text),
            "{body}: {error}"
        );
        assert!(error.pkt_line().starts_with(b"00"), "{error}");
    }
}

#[test]
fn lists_end_at_their_limits() {
    let limits = Limits {
        body_bytes: 4_000,
        lines: 60,
        wants: 3,
        haves: 4,
        shallows: 2,
        ref_prefixes: 2,
    };
    let numbered = |word: &str, count: usize| (0..count).map(|n| pkt(&format!("{word} {n:040x}"))).collect::<String>();
    let v2 = |command: &str, lines: String| pkt(&format!("command={command}")) + "0001" + &lines + "0000";
    let cases = [
        ("wants", 3, v2("fetch", numbered("want", 4))),
        ("haves", 4, v2("fetch", numbered("have", 5))),
        ("shallow commits", 2, v2("fetch", numbered("shallow", 3))),
        ("ref prefixes", 2, v2("ls-refs", numbered("ref-prefix", 3))),
        ("lines", 60, v2("fetch", pkt("done").repeat(80))),
        ("bytes", 4_000, "0000".repeat(2_000)),
    ];
    for (name, number, body) in cases {
        let error = parse(Protocol::V2, body.as_bytes(), &limits).unwrap_err();
        assert!(
            matches!(error, Error::TooMany { what, limit } if what == name && limit == number),
            "{name}: {error}"
        );
    }
    let twice = v2("fetch", numbered("want", 3) + &numbered("want", 3));
    assert!(
        parse(Protocol::V2, twice.as_bytes(), &limits).is_ok(),
        "the same want again is no other one"
    );
}

#[test]
fn a_protocol_in_the_clothes_of_another_is_refused() {
    let want = pkt(&format!("want {HEAD}"));
    let bodies = [
        (Protocol::V2, want.clone() + "00000009done\n"),
        (Protocol::V2, pkt("version 1") + &want + "0000"),
        (Protocol::V2, pkt("command=fetch") + &pkt("command=fetch") + "0000"),
        (Protocol::V1, pkt("version 1") + &want + "0000"),
        (Protocol::V1, pkt("command=ls-refs") + "0000"),
        (Protocol::V0, pkt("command=ls-refs") + "0001" + &want + "0000"),
    ];
    for (protocol, body) in bodies {
        let error = of(protocol, &body).unwrap_err();
        assert!(error.is_request(), "{body}: {error}");
    }
    // The same capability again says nothing new.
    let with = |caps: &str| pkt(&format!("want {HEAD} {caps}")) + "00000009done\n";
    let (once, twice) = (
        with("ofs-delta side-band-64k"),
        with("ofs-delta side-band-64k ofs-delta side-band-64k"),
    );
    assert_eq!(fetch(Protocol::V0, once).caps, fetch(Protocol::V0, twice).caps);
}

#[test]
fn what_nobody_offered_is_refused_in_each_form() {
    let want = pkt(&format!("want {HEAD}"));
    let lines = [
        "deepen-not refs/heads/x",
        "deepen-since 99999999999999999999",
        "deepen 4294967296",
        "deepen 99999999999999999999",
        "filter sparse:oid=29b674837426058e3be8da70737eb39e8414e134",
        "filter combine:combine:blob:none+tree:0+combine:tree:1",
        "want-ref refs/heads/x",
        "packfile-uris http,https,ftp",
    ];
    for line in lines {
        let body = format!("{}0001{want}{}0000", pkt("command=fetch"), pkt(line));
        let error = of(Protocol::V2, &body).unwrap_err();
        assert!(error.is_request(), "{line}: {error}");
    }
}

#[test]
fn millions_end_at_the_usual_limits() {
    let limits = Limits::default();
    let many = |word: &str, count: usize| {
        let lines = (0..count).map(|n| pkt(&format!("{word} {n:040x}")));
        pkt("command=fetch") + "0001" + &lines.collect::<String>() + "0000"
    };
    let prefixes = (0..1_000_000).map(|n| pkt(&format!("ref-prefix {n}")));
    let prefixes = pkt("command=ls-refs") + "0001" + &prefixes.collect::<String>() + "0000";
    let cases = [
        many("want", 1_000_000),
        many("want", 65),
        many("have", 1_000_000),
        many("have", 70_000),
        many("shallow", 5_000),
        prefixes,
        "0000".repeat(10_000_000),
    ];
    for body in cases {
        let error = parse(Protocol::V2, body.as_bytes(), &limits).unwrap_err();
        assert!(matches!(error, Error::TooMany { .. }), "{}: {error}", &body[..40]);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        for protocol in [Protocol::V0, Protocol::V1, Protocol::V2] {
            if let Err(error) = of(protocol, &body) {
                prop_assert!(error.is_request());
            }
        }
    }

    #[test]
    fn any_lines_are_taken_or_refused(words in proptest::collection::vec(0_usize..12, 0..12), v2 in any::<bool>()) {
        let want = pkt(&format!("want {HEAD}\n"));
        let have = pkt(&format!("have {OLD}\n"));
        let shallow = pkt(&format!("shallow {OLD}\n"));
        let all = [
            "0000", "0001", "0002", &want, &have, &shallow, "0009done\n", "000ddeepen 1\n", "0011command=fetch",
            "0014command=ls-refs\n", "000csymrefs\n", "0012wait-for-done\n",
        ];
        let body: String = words.iter().map(|word| all[*word]).collect();
        let protocol = if v2 { Protocol::V2 } else { Protocol::V0 };
        if let Err(error) = of(protocol, &body) {
            prop_assert!(error.is_request());
        }
    }
}
