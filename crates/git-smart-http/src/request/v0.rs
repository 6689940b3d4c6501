//! The oldest form, and v1, which differs in the advertisement only.

use super::{Acks, End, Fetch, Limits, Protocol, Request, SideBand};
use crate::{
    Error,
    pkt_line::{Line, Lines},
};

pub(super) fn parse(protocol: Protocol, body: &[u8], limits: &Limits) -> Result<Request, Error> {
    let mut lines = Lines::new(body, limits.lines);
    let mut fetch = Fetch::new(protocol);
    if !needs(&mut lines, &mut fetch, limits)? {
        return Ok(Request::Probe);
    }
    haves(&mut lines, &mut fetch, limits)?;
    Ok(Request::Fetch(fetch))
}

/// Everything up to the first flush. False: nothing is wanted.
fn needs(lines: &mut Lines<'_>, fetch: &mut Fetch, limits: &Limits) -> Result<bool, Error> {
    const EXPECTED: &str = "want, shallow, deepen or a flush";
    let mut any = false;
    loop {
        let line = match lines.next_line()? {
            None if !any => return Ok(false),
            None => return Err(Error::Unfinished { expected: "a flush" }),
            Some(Line::Flush) if fetch.wants.is_empty() && any => {
                return Err(Error::Unfinished { expected: "a want" });
            }
            Some(Line::Flush) => return Ok(any),
            Some(line) => line.text().ok_or_else(|| Error::unexpected(EXPECTED, b"a delimiter"))?,
        };
        any = true;
        match line {
            _ if line.starts_with(b"want ") && fetch.wants.is_empty() => {
                let (want, caps) = line.split_at(line.len().min(45));
                fetch.take(want, limits)?;
                capabilities(caps, fetch)?;
            }
            _ if line.starts_with(b"have ") => return Err(Error::unexpected(EXPECTED, line)),
            _ if fetch.take(line, limits)? => {}
            _ if is_refused(line) => return Err(Error::unsupported(line)),
            _ => return Err(Error::unexpected(EXPECTED, line)),
        }
    }
}

fn is_refused(line: &[u8]) -> bool {
    [&b"filter "[..], b"deepen-since ", b"deepen-not "]
        .iter()
        .any(|word| line.starts_with(word))
}

fn capabilities(text: &[u8], fetch: &mut Fetch) -> Result<(), Error> {
    if text.first().is_some_and(|first| *first != b' ') {
        return Err(Error::unexpected("a space and capabilities", text));
    }
    for word in text.split(|byte| *byte == b' ') {
        let caps = &mut fetch.caps;
        match word {
            b"multi_ack_detailed" => caps.acks = Acks::Detailed,
            b"multi_ack" if caps.acks == Acks::First => caps.acks = Acks::Multi,
            b"no-done" => caps.no_done = true,
            b"side-band-64k" => caps.side_band = SideBand::Large,
            b"side-band" if caps.side_band == SideBand::None => caps.side_band = SideBand::Small,
            b"ofs-delta" => caps.ofs_delta = true,
            b"thin-pack" => caps.thin_pack = true,
            b"no-progress" => caps.no_progress = true,
            b"deepen-relative" => fetch.deepen_relative = true,
            b"object-format=sha1" => {}
            _ if word.starts_with(b"object-format=") => return Err(Error::unsupported(word)),
            // As git does: what the client says beyond that changes nothing in the answer.
            _ => {}
        }
    }
    Ok(())
}

/// Up to the next flush or `done`; what is behind it belongs to a conversation that is not held over HTTP.
fn haves(lines: &mut Lines<'_>, fetch: &mut Fetch, limits: &Limits) -> Result<(), Error> {
    const EXPECTED: &str = "have, done or a flush";
    let mut any = false;
    loop {
        let line = match lines.next_line()? {
            None if !any => return Ok(()),
            None => {
                return Err(Error::Unfinished {
                    expected: "done or a flush",
                });
            }
            Some(Line::Flush) => {
                fetch.end = End::Flush;
                return Ok(());
            }
            Some(line) => line.text().ok_or_else(|| Error::unexpected(EXPECTED, b"a delimiter"))?,
        };
        any = true;
        match line {
            b"done" => {
                fetch.end = End::Done;
                return Ok(());
            }
            _ if line.starts_with(b"have ") => _ = fetch.take(line, limits)?,
            _ => return Err(Error::unexpected(EXPECTED, line)),
        }
    }
}
