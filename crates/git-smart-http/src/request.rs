//! What a client asks: bodies of `git-upload-pack`, decoded and bounded.

mod v0;
mod v2;

use crate::{Error, ObjectId};

/// `deepen` with this number means the whole history.
pub const INFINITE_DEPTH: u32 = i32::MAX as u32;

/// The protocol version that the `Git-Protocol` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The oldest, and the one of clients that say nothing.
    V0,
    /// As v0, with a line that says so.
    V1,
    /// Commands instead of a conversation.
    V2,
}

impl Protocol {
    /// The highest version that the header names and this server knows; v0 without one, as git does it.
    pub fn from_header(header: Option<&str>) -> Protocol {
        let keys = header.unwrap_or_default().split(':').map(str::trim);
        keys.fold(Protocol::V0, |best, key| match (key, best) {
            ("version=2", _) => Protocol::V2,
            ("version=1", Protocol::V0) => Protocol::V1,
            _ => best,
        })
    }
}

/// How much one request may hold. More is refused, whatever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the body, after gzip was undone.
    pub body_bytes: usize,
    /// Pkt-lines of any kind.
    pub lines: usize,
    /// Different commits wanted.
    pub wants: usize,
    /// Commits named as had.
    pub haves: usize,
    /// Commits named as boundaries of a shallow clone.
    pub shallows: usize,
    /// `ref-prefix` lines of `ls-refs`.
    pub ref_prefixes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes: 8 << 20,
            lines: 100_000,
            wants: 64,
            haves: 65_536,
            shallows: 4_096,
            ref_prefixes: 1_024,
        }
    }
}

/// One decoded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A lone flush, or nothing: git's question whether a post gets through. The answer is empty.
    Probe,
    /// Which refs there are (v2 only).
    LsRefs(LsRefs),
    /// Objects.
    Fetch(Fetch),
}

/// The arguments of `ls-refs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LsRefs {
    /// Say where `HEAD` points.
    pub symrefs: bool,
    /// Say where `HEAD` points even if there is no commit.
    pub unborn: bool,
    /// Only refs that begin with one of these; none: all.
    pub prefixes: Vec<Vec<u8>>,
}

impl LsRefs {
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| name.as_bytes().starts_with(prefix))
    }
}

/// A request for objects, complete in itself: nothing is remembered between two posts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The version that the request came in, and that the answer speaks.
    pub protocol: Protocol,
    /// Commits asked for, each once.
    pub wants: Vec<ObjectId>,
    /// Commits that the client says it has, in its order.
    pub haves: Vec<ObjectId>,
    /// Commits whose parents the client lacks.
    pub shallows: Vec<ObjectId>,
    /// How many commits deep the client wants to have the history; [`INFINITE_DEPTH`] is all of it.
    pub depth: Option<u32>,
    /// `depth` counts from the client's boundary.
    pub deepen_relative: bool,
    /// How the request ended.
    pub end: End,
    /// v2: no pack before `done`.
    pub wait_for_done: bool,
    /// What the client understands.
    pub caps: Caps,
}

/// How a request for objects ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Behind the wants (v0 and v1): the client only wants to hear of the shallow boundary.
    AfterWants,
    /// With a flush: there are more haves where these came from.
    Flush,
    /// With `done`: the pack, please.
    Done,
}

/// What the client said it understands; v2 has these by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// How it wants to hear of common commits.
    pub acks: Acks,
    /// The pack may follow before `done`.
    pub no_done: bool,
    /// How the pack is framed.
    pub side_band: SideBand,
    /// Deltas may name their base by offset. There are none yet.
    pub ofs_delta: bool,
    /// Deltas may have bases outside of the pack. There are none yet.
    pub thin_pack: bool,
    /// No text on band 2.
    pub no_progress: bool,
}

/// How common commits are acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// The first one.
    #[default]
    First,
    /// `multi_ack`: each, as `continue`.
    Multi,
    /// `multi_ack_detailed`: each, as `common` or `ready`.
    Detailed,
}

/// How the pack is framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SideBand {
    /// Not at all.
    #[default]
    None,
    /// `side-band`: lines of up to 1,000 bytes.
    Small,
    /// `side-band-64k`: lines of up to 65,520 bytes.
    Large,
}

/// Decodes the body of a post to `git-upload-pack`, after gzip was undone.
///
/// # Errors
/// Those for which [`Error::is_request`] holds, with the evidence.
pub fn parse(protocol: Protocol, body: &[u8], limits: &Limits) -> Result<Request, Error> {
    if body.len() > limits.body_bytes {
        return Err(Error::TooMany {
            what: "bytes",
            limit: limits.body_bytes,
        });
    }
    match protocol {
        Protocol::V2 => v2::parse(body, limits),
        Protocol::V0 | Protocol::V1 => v0::parse(protocol, body, limits),
    }
}

impl Fetch {
    fn new(protocol: Protocol) -> Fetch {
        let side_band = if protocol == Protocol::V2 {
            SideBand::Large
        } else {
            SideBand::None
        };
        Fetch {
            protocol,
            wants: Vec::new(),
            haves: Vec::new(),
            shallows: Vec::new(),
            depth: None,
            deepen_relative: false,
            end: End::AfterWants,
            wait_for_done: false,
            caps: Caps {
                side_band,
                ..Caps::default()
            },
        }
    }

    /// Takes a line that both versions write alike, and says whether it was one.
    fn take(&mut self, line: &[u8], limits: &Limits) -> Result<bool, Error> {
        if let Some(hex) = line.strip_prefix(b"want ") {
            let want = id(hex, line)?;
            if !self.wants.contains(&want) {
                add(&mut self.wants, want, "wants", limits.wants)?;
            }
        } else if let Some(hex) = line.strip_prefix(b"have ") {
            add(&mut self.haves, id(hex, line)?, "haves", limits.haves)?;
        } else if let Some(hex) = line.strip_prefix(b"shallow ") {
            add(&mut self.shallows, id(hex, line)?, "shallow commits", limits.shallows)?;
        } else if let Some(number) = line.strip_prefix(b"deepen ") {
            self.depth = Some(depth(number, line)?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}

fn add(list: &mut Vec<ObjectId>, id: ObjectId, what: &'static str, limit: usize) -> Result<(), Error> {
    if list.len() == limit {
        return Err(Error::TooMany { what, limit });
    }
    list.push(id);
    Ok(())
}

fn id(hex: &[u8], line: &[u8]) -> Result<ObjectId, Error> {
    ObjectId::from_hex(hex).ok_or_else(|| Error::unexpected("forty hex digits", line))
}

fn depth(number: &[u8], line: &[u8]) -> Result<u32, Error> {
    let digits = std::str::from_utf8(number)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let depth = digits
        .and_then(|text| text.parse().ok())
        .filter(|depth| (1..=INFINITE_DEPTH).contains(depth));
    depth.ok_or_else(|| Error::unexpected("a depth from 1 to 2147483647", line))
}

#[cfg(test)]
mod tests;
