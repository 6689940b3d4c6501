use std::io::{self, BufRead, Read};

/// A larger head is refused: no test needs one.
const MAX_BYTES: u64 = 4 << 20;

/// The first line and the headers of a request or an answer.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) first_line: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// The status of an answer; 0 if its first line has none.
    pub(crate) fn status(&self) -> u16 {
        let word = self.first_line.split(' ').nth(1);
        word.and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// The first header of that name, in any case.
pub(crate) fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

/// Reads up to the empty line; `None` if the peer closed before the first byte.
pub(crate) fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut limited = reader.take(MAX_BYTES);
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        limited.read_until(b'\n', &mut line)?;
        if line.is_empty() && lines.is_empty() {
            return Ok(None);
        }
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.is_empty() {
            break;
        }
        lines.push(String::from_utf8_lossy(&line).into_owned());
    }
    let mut lines = lines.into_iter();
    let first_line = lines.next().unwrap_or_default();
    let headers = lines
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().to_owned()))
        })
        .collect();
    Ok(Some(Head { first_line, headers }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Option<Head>> {
        read_head(&mut &*bytes)
    }

    #[test]
    fn a_head_is_read_and_the_body_left() {
        let mut bytes = &b"HTTP/1.1 206 Partial\r\nA: 1\r\nb:two\r\n\r\nbody"[..];
        let head = read_head(&mut bytes).unwrap().unwrap();
        assert_eq!(head.status(), 206);
        assert_eq!(
            (head.header("a"), head.header("B"), head.header("c")),
            (Some("1"), Some("two"), None)
        );
        assert_eq!(bytes, b"body");
    }

    #[test]
    fn an_end_before_and_an_end_within_differ() {
        assert!(read(b"").unwrap().is_none());
        assert!(read(b"GET / HTTP/1.1\r\nA: 1").is_err());
        assert!(read(b"GET / HTTP/1.1\r\n").is_err());
    }
}
