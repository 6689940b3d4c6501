//! What is said of commits that both sides have, in each of the dialects.
//!
//! One commit in common is enough to be ready: the log is a line, and the client names its newest commits first.

use bytes::BytesMut;

use super::{Need, is_common};
use crate::{Acks, End, Fetch, ObjectId, pack_log::History, pkt_line};

/// Versions 0 and 1. Whether the pack follows.
pub(super) fn v0(head: &mut BytesMut, history: &History, fetch: &Fetch, need: &Need) -> bool {
    if fetch.depth.is_some() {
        // In each answer, since nobody remembers that it was said.
        need.lines(head);
        pkt_line::flush(head);
    }
    if fetch.end == End::AfterWants {
        return false;
    }
    let said = acknowledge(head, history, fetch);
    match (fetch.end, said.last) {
        (End::Done, Some(last)) if fetch.caps.acks != Acks::First => ack(head, &last, ""),
        (End::Done, Some(_)) => {}
        (End::Done, None) => nak(head),
        (_, last) => return flushed(head, fetch, last, &said),
    }
    true
}

#[derive(Default)]
struct Said {
    last: Option<ObjectId>,
    ready: bool,
    unknown: bool,
}

fn acknowledge(head: &mut BytesMut, history: &History, fetch: &Fetch) -> Said {
    let mut said = Said::default();
    for have in &fetch.haves {
        let common = is_common(history, have);
        let first = common && said.last.is_none();
        match fetch.caps.acks {
            Acks::First if first => ack(head, have, ""),
            Acks::First => {}
            Acks::Multi if common || said.last.is_some() => ack(head, have, " continue"),
            Acks::Detailed if common => ack(head, have, " common"),
            // An end to a list of commits that lead nowhere.
            Acks::Detailed if said.last.is_some() => {
                ack(head, have, " ready");
                said.ready = true;
            }
            Acks::Multi | Acks::Detailed => {}
        }
        match common {
            true => said.last = Some(*have),
            false => said.unknown = true,
        }
    }
    said
}

fn flushed(head: &mut BytesMut, fetch: &Fetch, last: Option<ObjectId>, said: &Said) -> bool {
    let mut ready = said.ready;
    if let Some(last) = last.filter(|_| fetch.caps.acks == Acks::Detailed && !said.unknown) {
        ack(head, &last, " ready");
        ready = true;
    }
    if last.is_none() || fetch.caps.acks != Acks::First {
        nak(head);
    }
    match last.filter(|_| ready && fetch.caps.no_done) {
        Some(last) => {
            ack(head, &last, "");
            true
        }
        None => false,
    }
}

/// Version 2. Whether the pack follows.
pub(super) fn v2(head: &mut BytesMut, history: &History, fetch: &Fetch, need: &Need) -> bool {
    let done = fetch.end == End::Done;
    let only_asks = fetch.wait_for_done && !fetch.haves.is_empty();
    if fetch.wants.is_empty() && !only_asks {
        return false;
    }
    if !done && !fetch.haves.is_empty() {
        if !acknowledgments(head, history, fetch) {
            pkt_line::flush(head);
            return false;
        }
        pkt_line::delim(head);
    }
    if fetch.wants.is_empty() {
        return false;
    }
    if fetch.depth.is_some() || !fetch.shallows.is_empty() {
        pkt_line::data(head, b"shallow-info\n");
        need.lines(head);
        pkt_line::delim(head);
    }
    pkt_line::data(head, b"packfile\n");
    true
}

/// Whether the pack may follow.
fn acknowledgments(head: &mut BytesMut, history: &History, fetch: &Fetch) -> bool {
    pkt_line::data(head, b"acknowledgments\n");
    let mut any = false;
    for have in fetch.haves.iter().filter(|have| is_common(history, have)) {
        ack(head, have, "");
        any = true;
    }
    if !any {
        nak(head);
    }
    let ready = any && !fetch.wait_for_done;
    if ready {
        pkt_line::data(head, b"ready\n");
    }
    ready
}

fn ack(head: &mut BytesMut, id: &ObjectId, what: &str) {
    pkt_line::data(head, format!("ACK {id}{what}\n").as_bytes());
}

fn nak(head: &mut BytesMut) {
    pkt_line::data(head, b"NAK\n");
}
