//! From what a client wants and has to what is said before the pack, and to what the pack holds.

mod acks;
mod client;
mod plan;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::{
    Answer, Fetch, ObjectId, Protocol,
    pack_log::{History, View},
    pkt_line,
};

pub use plan::Plan;

use client::Client;

/// Answers one request for objects. Nothing is read from disk, nothing is remembered.
pub fn negotiate(view: &Arc<View>, fetch: &Fetch) -> Answer {
    let history = view.history();
    let mut wants = Vec::with_capacity(fetch.wants.len());
    for id in &fetch.wants {
        match history.number(id).filter(|number| history.is_complete(*number)) {
            Some(number) => wants.push(number),
            None => return Answer::only(pkt_line::error(&format!("upload-pack: not our ref {id}"))),
        }
    }
    let client = Client::of(history, fetch);
    let need = client.need(history, &wants, fetch);
    let mut head = BytesMut::new();
    let follows = match fetch.protocol {
        Protocol::V2 => acks::v2(&mut head, history, fetch, &need),
        Protocol::V0 | Protocol::V1 => acks::v0(&mut head, history, fetch, &need),
    };
    let plan = follows.then(|| Plan::new(view, &client, &need, fetch.caps));
    Answer {
        head: head.freeze(),
        plan,
    }
}

/// What the client lacks, and how its boundary moves.
#[derive(Debug, Default)]
struct Need {
    /// Rows of commits, both ends included, in order and apart from each other.
    rows: Vec<(u32, u32)>,
    shallow: Vec<ObjectId>,
    unshallow: Vec<ObjectId>,
}

impl Need {
    fn lines(&self, head: &mut BytesMut) {
        for id in &self.shallow {
            pkt_line::data(head, format!("shallow {id}").as_bytes());
        }
        for id in &self.unshallow {
            pkt_line::data(head, format!("unshallow {id}").as_bytes());
        }
    }
}

/// An answer of nothing, to a question whether a post gets through.
pub(crate) fn nothing() -> Answer {
    Answer::only(Bytes::new())
}

fn is_common(history: &History, id: &ObjectId) -> bool {
    history.number(id).is_some()
}
