//! From a request's bytes to the answer's.

use std::{io, sync::Arc};

use bytes::Bytes;

use crate::{
    Error, Limits, Plan, Protocol, Request, advertise,
    negotiate::{self, negotiate},
    pack_log::View,
    parse,
};

/// What a post is answered with: a few lines, and a pack if one follows.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What is said first.
    pub head: Bytes,
    /// The pack.
    pub plan: Option<Plan>,
}

impl Answer {
    pub(crate) fn only(head: Bytes) -> Answer {
        Answer { head, plan: None }
    }

    /// The whole answer in pieces of at most 64 KiB (the head may be longer). Reading blocks on the disk.
    pub fn pieces(self) -> impl Iterator<Item = io::Result<Bytes>> + Send {
        let head =
            Some(Ok(self.head)).filter(|head: &io::Result<Bytes>| head.as_ref().is_ok_and(|head| !head.is_empty()));
        head.into_iter().chain(self.plan.into_iter().flat_map(Plan::stream))
    }
}

/// Answers the body of a post to `git-upload-pack`, after gzip was undone.
///
/// # Errors
/// Those of [`parse`]: the request is at fault.
pub fn respond(view: &Arc<View>, protocol: Protocol, body: &[u8], limits: &Limits) -> Result<Answer, Error> {
    Ok(match parse(protocol, body, limits)? {
        Request::Probe => negotiate::nothing(),
        Request::LsRefs(asked) => Answer::only(advertise::ls_refs(&asked, view.head().map(|head| head.id))),
        Request::Fetch(fetch) => negotiate(view, &fetch),
    })
}
