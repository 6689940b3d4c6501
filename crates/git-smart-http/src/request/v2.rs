//! Version 2: a command, capabilities, a delimiter, arguments and a flush.

use super::{End, Fetch, Limits, LsRefs, Protocol, Request};
use crate::{
    Error,
    pkt_line::{Line, Lines},
};

#[derive(Clone, Copy)]
enum Command {
    LsRefs,
    Fetch,
}

pub(super) fn parse(body: &[u8], limits: &Limits) -> Result<Request, Error> {
    let mut lines = Lines::new(body, limits.lines);
    let mut command = None;
    let mut any = false;
    loop {
        let line = match lines.next_line()? {
            None | Some(Line::Flush) if !any => return Ok(Request::Probe),
            None => return Err(Error::Unfinished { expected: "a flush" }),
            Some(Line::Flush) => return arguments(needed(command)?, &mut Lines::new(b"0000", 1), limits),
            Some(Line::Delim) => return arguments(needed(command)?, &mut lines, limits),
            Some(line) => line
                .text()
                .ok_or_else(|| Error::unexpected("a command", b"a response end"))?,
        };
        any = true;
        header(line, &mut command)?;
    }
}

fn needed(command: Option<Command>) -> Result<Command, Error> {
    command.ok_or(Error::Unfinished { expected: "a command" })
}

fn header(line: &[u8], command: &mut Option<Command>) -> Result<(), Error> {
    match line {
        _ if line.starts_with(b"command=") && command.is_some() => {
            return Err(Error::unexpected("one command", line));
        }
        b"command=ls-refs" => *command = Some(Command::LsRefs),
        b"command=fetch" => *command = Some(Command::Fetch),
        b"object-format=sha1" => {}
        _ if line.starts_with(b"agent=") || line.starts_with(b"session-id=") => {}
        _ => return Err(Error::unsupported(line)),
    }
    Ok(())
}

fn arguments(command: Command, lines: &mut Lines<'_>, limits: &Limits) -> Result<Request, Error> {
    match command {
        Command::LsRefs => ls_refs(lines, limits).map(Request::LsRefs),
        Command::Fetch => fetch(lines, limits).map(Request::Fetch),
    }
}

/// The next argument, or none at the flush. What is behind the flush is not read.
fn argument<'a>(lines: &mut Lines<'a>) -> Result<Option<&'a [u8]>, Error> {
    match lines.next_line()? {
        None => Err(Error::Unfinished { expected: "a flush" }),
        Some(Line::Flush) => Ok(None),
        Some(line) => line
            .text()
            .map(Some)
            .ok_or_else(|| Error::unexpected("an argument", b"a delimiter")),
    }
}

fn ls_refs(lines: &mut Lines<'_>, limits: &Limits) -> Result<LsRefs, Error> {
    let mut asked = LsRefs::default();
    while let Some(line) = argument(lines)? {
        match line {
            b"symrefs" => asked.symrefs = true,
            b"unborn" => asked.unborn = true,
            // There are no tags to peel.
            b"peel" => {}
            _ => match line.strip_prefix(b"ref-prefix ") {
                Some(_) if asked.prefixes.len() == limits.ref_prefixes => {
                    return Err(Error::TooMany {
                        what: "ref prefixes",
                        limit: limits.ref_prefixes,
                    });
                }
                Some(prefix) => asked.prefixes.push(prefix.to_vec()),
                None => return Err(Error::unsupported(line)),
            },
        }
    }
    Ok(asked)
}

fn fetch(lines: &mut Lines<'_>, limits: &Limits) -> Result<Fetch, Error> {
    let mut fetch = Fetch::new(Protocol::V2);
    fetch.end = End::Flush;
    while let Some(line) = argument(lines)? {
        match line {
            b"done" => fetch.end = End::Done,
            b"wait-for-done" => fetch.wait_for_done = true,
            b"thin-pack" => fetch.caps.thin_pack = true,
            b"ofs-delta" => fetch.caps.ofs_delta = true,
            b"no-progress" => fetch.caps.no_progress = true,
            b"deepen-relative" => fetch.deepen_relative = true,
            // There are no tags to include.
            b"include-tag" => {}
            _ if fetch.take(line, limits)? => {}
            _ => return Err(Error::unsupported(line)),
        }
    }
    Ok(fetch)
}
