//! Conditional and range requests (RFC 9110, sections 13 and 14): pure functions over header texts.

/// At most so much of a header is looked at.
const MAX_HEADER_BYTES: usize = 4096;

/// Whether an `If-None-Match` names one of `tags`, which are quoted as in an `ETag`; weak forms match as well.
pub fn names_any(if_none_match: &str, tags: &[&str]) -> bool {
    let header = if_none_match.get(..MAX_HEADER_BYTES).unwrap_or(if_none_match);
    header
        .split(',')
        .map(str::trim)
        .any(|given| given == "*" || tags.contains(&given.trim_start_matches("W/")))
}

/// What part of a body a `Range` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: no range, several ranges, or one that is not understood.
    All,
    /// The bytes from `first` up to but not including `end`.
    Part {
        /// The first byte.
        first: u64,
        /// One behind the last byte.
        end: u64,
    },
    /// A range that lies behind the end.
    Unsatisfiable,
}

/// Reads a `Range` header for a body of `size_bytes`. Only a single range is given as a part.
pub fn wanted(range: Option<&str>, size_bytes: u64) -> Wanted {
    let Some(spec) = range.and_then(|range| range.trim().strip_prefix("bytes=")) else {
        return Wanted::All;
    };
    let Some((first, last)) = spec.trim().split_once('-') else {
        return Wanted::All;
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() <= 19;
    if spec.contains(',') || !digits(first) || !digits(last) {
        return Wanted::All;
    }
    let (first, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.saturating_add(1).min(size_bytes)),
        (Ok(_), Ok(_)) => return Wanted::All,
        (Ok(first), Err(_)) => (first, size_bytes),
        (Err(_), Ok(0)) => return Wanted::Unsatisfiable,
        (Err(_), Ok(count)) => (size_bytes.saturating_sub(count), size_bytes),
        (Err(_), Err(_)) => return Wanted::All,
    };
    if first >= size_bytes {
        Wanted::Unsatisfiable
    } else {
        Wanted::Part { first, end }
    }
}

/// Whether a client takes gzip, by its `Accept-Encoding`.
pub fn takes_gzip(accept_encoding: &str) -> bool {
    let header = accept_encoding.get(..MAX_HEADER_BYTES).unwrap_or(accept_encoding);
    header.split(',').any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let named = parts.next().is_some_and(|coding| coding.eq_ignore_ascii_case("gzip"));
        let refused = parts.any(|part| {
            part.strip_prefix("q=")
                .and_then(|q| q.trim().parse::<f32>().ok())
                .is_some_and(|q| q <= 0.0)
        });
        named && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_tags() {
        let tags = ["\"a\"", "\"a-gzip\""];
        for yes in ["\"a\"", "W/\"a\"", "\"x\", \"a-gzip\"", "*"] {
            assert!(names_any(yes, &tags), "{yes}");
        }
        let flood = "\"x\",".repeat(50_000);
        for no in ["", "a", "\"b\"", "\"a", flood.as_str()] {
            assert!(!names_any(no, &tags), "{no:.20}");
        }
    }

    #[test]
    fn reads_single_ranges() {
        let part = |first, end| Wanted::Part { first, end };
        for (range, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-", part(0, 10)),
            ("bytes=3-5", part(3, 6)),
            ("bytes=3-999", part(3, 10)),
            ("bytes=-4", part(6, 10)),
            ("bytes=-999", part(0, 10)),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=9999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=5-3", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=0-1,3-4", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("lines=0-1", Wanted::All),
            ("bytes=99999999999999999999999-", Wanted::All),
        ] {
            assert_eq!(wanted(Some(range), 10), expected, "{range}");
        }
        assert_eq!(wanted(None, 10), Wanted::All);
    }

    #[test]
    fn knows_who_takes_gzip() {
        for yes in ["gzip", "deflate, gzip", "GZIP;q=0.5", "br, gzip ; q=1"] {
            assert!(takes_gzip(yes), "{yes}");
        }
        for no in ["", "deflate", "gzip;q=0", "gzip; q=0.0", "x-gzip", "identity"] {
            assert!(!takes_gzip(no), "{no}");
        }
    }
}
