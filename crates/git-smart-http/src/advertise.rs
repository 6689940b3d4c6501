//! What a client is told about refs and capabilities.

use bytes::{Bytes, BytesMut};

use crate::{LsRefs, ObjectId, Protocol, pkt_line};

const BRANCH: &str = "refs/heads/master";

/// The answer to `info/refs?service=git-upload-pack`: the ref advertisement, or for v2 the capabilities.
///
/// `agent` is the product and version, without spaces.
pub fn advertise(protocol: Protocol, head: Option<ObjectId>, agent: &str) -> Bytes {
    let mut out = BytesMut::new();
    match protocol {
        Protocol::V2 => capabilities(&mut out, agent),
        Protocol::V0 | Protocol::V1 => refs(&mut out, protocol, head, agent),
    }
    pkt_line::flush(&mut out);
    out.freeze()
}

fn capabilities(out: &mut BytesMut, agent: &str) {
    pkt_line::data(out, b"version 2\n");
    pkt_line::data(out, format!("agent={agent}\n").as_bytes());
    for line in [
        "ls-refs=unborn\n",
        "fetch=shallow wait-for-done\n",
        "object-format=sha1\n",
    ] {
        pkt_line::data(out, line.as_bytes());
    }
}

fn refs(out: &mut BytesMut, protocol: Protocol, head: Option<ObjectId>, agent: &str) {
    pkt_line::data(out, b"# service=git-upload-pack\n");
    pkt_line::flush(out);
    if protocol == Protocol::V1 {
        pkt_line::data(out, b"version 1\n");
    }
    let does = "multi_ack side-band side-band-64k ofs-delta shallow deepen-relative no-progress include-tag \
                multi_ack_detailed no-done allow-tip-sha1-in-want allow-reachable-sha1-in-want";
    let Some(head) = head else {
        let line = format!(
            "{} capabilities^{{}}\0{does} object-format=sha1 agent={agent}\n",
            ObjectId::NULL
        );
        return pkt_line::data(out, line.as_bytes());
    };
    let line = format!("{head} HEAD\0{does} symref=HEAD:{BRANCH} object-format=sha1 agent={agent}\n");
    pkt_line::data(out, line.as_bytes());
    pkt_line::data(out, format!("{head} {BRANCH}\n").as_bytes());
}

/// The answer to the v2 command `ls-refs`.
pub fn ls_refs(asked: &LsRefs, head: Option<ObjectId>) -> Bytes {
    let mut out = BytesMut::new();
    let symref = if asked.symrefs {
        format!(" symref-target:{BRANCH}")
    } else {
        String::new()
    };
    if asked.wants("HEAD") {
        match head {
            Some(head) => pkt_line::data(&mut out, format!("{head} HEAD{symref}\n").as_bytes()),
            None if asked.unborn => pkt_line::data(&mut out, format!("unborn HEAD{symref}\n").as_bytes()),
            None => {}
        }
    }
    if let Some(head) = head.filter(|_| asked.wants(BRANCH)) {
        pkt_line::data(&mut out, format!("{head} {BRANCH}\n").as_bytes());
    }
    pkt_line::flush(&mut out);
    out.freeze()
}
