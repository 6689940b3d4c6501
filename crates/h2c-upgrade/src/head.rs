//! Request heads of HTTP/1, in the strict grammar that this crate lets through.
//!
//! Everything accepted here is read the same way by every HTTP parser; everything that parsers are
//! known to disagree about is refused.

use bytes::{BufMut, BytesMut};

/// Longest head, in bytes.
pub(crate) const HEAD_LIMIT: usize = 64 * 1024;
/// Most header fields; actix-http stops at the same number.
pub(crate) const FIELD_LIMIT: usize = 96;

/// Why the rest of a connection is not read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Malformed,
    TooLarge,
}

/// Finds the end of a head, however its bytes are split, touching each byte once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scanner {
    started: bool,
    after_cr: bool,
    line_len: usize,
    lines: usize,
    total: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    More,
    /// The head ends after this many of the bytes just fed.
    End(usize),
    Refused(Refusal),
}

impl Scanner {
    /// Whether a head has begun; the empty lines that may come before one do not count.
    pub(crate) fn started(&self) -> bool {
        self.started
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Scan {
        for (at, &byte) in bytes.iter().enumerate() {
            self.total += 1;
            if self.total > HEAD_LIMIT {
                return Scan::Refused(Refusal::TooLarge);
            }
            match self.step(byte) {
                Scan::More => {}
                Scan::End(_) => return Scan::End(at + 1),
                refused => return refused,
            }
        }
        Scan::More
    }

    fn step(&mut self, byte: u8) -> Scan {
        const MALFORMED: Scan = Scan::Refused(Refusal::Malformed);
        match byte {
            b'\n' if self.after_cr => {
                self.after_cr = false;
                if self.line_len == 0 && self.started {
                    return Scan::End(0);
                }
                self.lines += usize::from(self.line_len > 0);
                self.line_len = 0;
                if self.lines > FIELD_LIMIT + 1 {
                    return Scan::Refused(Refusal::TooLarge);
                }
            }
            _ if self.after_cr => return MALFORMED,
            b'\r' => self.after_cr = true,
            // Folded lines, and lines that some parsers would skip.
            b' ' | b'\t' if self.line_len == 0 => return MALFORMED,
            _ if is_control(byte) => return MALFORMED,
            _ => {
                self.started = true;
                self.line_len += 1;
            }
        }
        Scan::More
    }
}

fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

pub(crate) fn is_token(text: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(allowed)
}

/// Where the body of a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    pub name: &'a [u8],
    /// Without the white space around it.
    pub value: &'a [u8],
    line: &'a [u8],
}

impl Field<'_> {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The comma-separated options of the value, empty ones left out.
    pub(crate) fn options(&self) -> impl Iterator<Item = &[u8]> {
        let options = self.value.split(|byte| *byte == b',');
        options.map(trim).filter(|option| !option.is_empty())
    }
}

/// A request head that is beyond doubt.
#[derive(Clone, Debug)]
pub(crate) struct Head<'a> {
    request_line: &'a [u8],
    pub method: &'a [u8],
    pub target: &'a [u8],
    pub is_http11: bool,
    pub fields: Vec<Field<'a>>,
    pub framing: Framing,
}

impl<'a> Head<'a> {
    /// Reads what [`Scanner`] found to be one head, its last empty line included.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let mut rest = bytes;
        while let Some(after) = rest.strip_prefix(b"\r\n") {
            rest = after;
        }
        let mut lines = split_lines(rest);
        let request_line = lines.next().ok_or(Refusal::Malformed)?;
        let mut words = request_line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Refusal::Malformed);
        };
        let is_http11 = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            _ => return Err(Refusal::Malformed),
        };
        // What follows a CONNECT is not HTTP, so there would be no telling where it ends.
        if !is_token(method) || target.is_empty() || target.contains(&b'\t') || method == b"CONNECT" {
            return Err(Refusal::Malformed);
        }
        let fields = lines.map(parse_field).collect::<Result<Vec<_>, _>>()?;
        let framing = framing(&fields, is_http11)?;
        Ok(Self {
            request_line,
            method,
            target,
            is_http11,
            fields,
            framing,
        })
    }

    /// The only field of that name; `None` if there are several.
    pub(crate) fn only(&self, name: &str) -> Option<&Field<'a>> {
        let mut found = self.fields.iter().filter(|field| field.is(name));
        found.next().filter(|_| found.next().is_none())
    }

    /// Writes the head without anything that asks for another protocol.
    pub(crate) fn write_without_upgrade(&self, out: &mut BytesMut) {
        write_line(out, self.request_line);
        for field in &self.fields {
            if field.is("upgrade") || field.is("http2-settings") {
                continue;
            }
            if !field.is("connection") || !field.options().any(asks_for_upgrade) {
                write_line(out, field.line);
                continue;
            }
            let kept: Vec<_> = field.options().filter(|o| !asks_for_upgrade(o)).collect();
            if !kept.is_empty() {
                out.put_slice(b"Connection: ");
                write_line(out, &kept.join(&b", "[..]));
            }
        }
        out.put_slice(b"\r\n");
    }
}

fn asks_for_upgrade(option: &[u8]) -> bool {
    option.eq_ignore_ascii_case(b"upgrade") || option.eq_ignore_ascii_case(b"http2-settings")
}

fn write_line(out: &mut BytesMut, line: &[u8]) {
    out.put_slice(line);
    out.put_slice(b"\r\n");
}

/// The lines before the first empty one. The scanner made sure that CR and LF come in pairs.
fn split_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
}

fn parse_field(line: &[u8]) -> Result<Field<'_>, Refusal> {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = line.split_at(colon.ok_or(Refusal::Malformed)?);
    if !is_token(name) {
        return Err(Refusal::Malformed);
    }
    let value = trim(&value[1..]);
    Ok(Field { name, value, line })
}

fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !blank(byte));
    let end = value.iter().rposition(|byte| !blank(byte));
    match (start, end) {
        (Some(start), Some(end)) => &value[start..=end],
        _ => &[],
    }
}

fn framing(fields: &[Field<'_>], is_http11: bool) -> Result<Framing, Refusal> {
    let all = |name: &'static str| fields.iter().filter(move |field| field.is(name));
    let (mut lengths, mut codings) = (all("content-length"), all("transfer-encoding"));
    match (lengths.next(), lengths.next(), codings.next(), codings.next()) {
        (None, None, None, None) => Ok(Framing::None),
        (Some(length), None, None, None) => parse_length(length.value),
        (None, None, Some(coding), None) if is_http11 && coding.value.eq_ignore_ascii_case(b"chunked") => {
            Ok(Framing::Chunked)
        }
        _ => Err(Refusal::Malformed),
    }
}

fn parse_length(value: &[u8]) -> Result<Framing, Refusal> {
    let text = std::str::from_utf8(value).map_err(|_| Refusal::Malformed)?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::Malformed);
    }
    match text.parse::<u64>() {
        Ok(0) => Ok(Framing::None),
        Ok(length) => Ok(Framing::Length(length)),
        Err(_) => Err(Refusal::Malformed),
    }
}

#[cfg(test)]
mod tests;
