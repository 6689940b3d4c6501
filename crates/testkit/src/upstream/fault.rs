use std::fmt;
use std::time::Duration;

/// What an upstream can do wrong, or in an unusual way. "The right answer" is what it would have said otherwise, to a
/// request without conditions.
///
/// Stalls and endless answers go on until the faults are cleared, the upstream goes down or is dropped, or the client leaves;
/// then the connection is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status with a short text.
    Status(u16),
    /// This status with `Retry-After` in whole seconds.
    StatusWithRetryAfter(u16, Duration),
    /// A log-in page with status 200.
    Html200,
    /// crates.io's answer to a client that it blocks.
    Json403,
    /// Not HTTP at all: these bytes, then the end.
    Raw(Vec<u8>),
    /// The right answer with these headers too.
    ExtraHeaders(Vec<(String, String)>),
    /// The right answer behind a megabyte of headers.
    HeaderFlood,
    /// A head that never ends: one header line after the other.
    EndlessHead,
    /// The right answer, its head one byte at a time with this pause between.
    SlowHead(Duration),
    /// So many interim answers (`100 Continue`) before the right one.
    Interim(usize),
    /// The right answer, and behind it another one, with other bytes, that nobody asked for; the connection stays open.
    SecondAnswer,
    /// A 304 that nobody asked for.
    NotModified,
    /// A 206 with the first half.
    Partial206,
    /// A 206 of several parts, all bytes among them.
    Multipart206,
    /// A redirect with this status to this address.
    Redirect(u16, String),
    /// A 302 to the same path.
    RedirectLoop,
    /// A right head with the whole length, this many bytes of the body, then the end.
    CutAfter(usize),
    /// The same without a length: the cut looks like the end.
    CutWithoutLength(usize),
    /// The whole right body without a length, ended by the connection's end.
    CloseDelimited,
    /// The right answer in chunks.
    Chunked,
    /// Half of the right answer in chunks, then the end.
    ChunkedCut,
    /// Chunks with a length as well, which is a part of what comes.
    LengthAndChunks,
    /// Half of the right answer in a chunk, and then one whose size is no number.
    BadChunk,
    /// Other bytes in the right number.
    WrongBytes,
    /// The right bytes but for one bit, the last but ten.
    OneBitWrong,
    /// The right bytes and a few more, with a length that fits.
    ExtraBytes,
    /// A 200 without a single byte.
    Empty200,
    /// The right body and then zeros in chunks, for ever.
    Endless,
    /// A length that is 1000 more than what comes before the end.
    ContentLengthTooLarge,
    /// A length that is half of what comes.
    ContentLengthTooSmall,
    /// Two lengths, of which the second is right.
    TwoLengths,
    /// A length of 2^63, the right body, then silence.
    ContentLengthHuge,
    /// `Content-Encoding: gzip` over bytes that are not.
    GzipLie,
    /// The right body, really gzipped, with `Content-Encoding: gzip`.
    GzipEncoded,
    /// This many zeros gzipped, with `Content-Encoding: gzip`: about 1000 to 1.
    GzipBomb(usize),
    /// The right answer after this time.
    Delay(Duration),
    /// The right body, this many bytes at a time.
    Trickle {
        /// How many bytes at a time.
        bytes: usize,
        /// The time between.
        every: Duration,
    },
    /// The right body at about this speed.
    Slow {
        /// The speed.
        bytes_per_second: usize,
    },
    /// Not a byte.
    StallBeforeHead,
    /// The right head, and no more.
    StallAfterHead,
    /// The right head and this many bytes of the body, and no more.
    StallAfter(usize),
    /// The connection is reset instead of an answer.
    Reset,
    /// The connection is reset after the right head and this many bytes of the body. The client's kernel may drop bytes that it
    /// had already.
    ResetAfter(usize),
}

/// How often a fault is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// For the next request.
    Once,
    /// Until the faults are cleared.
    Always,
    /// For so many requests.
    N(u32),
}

#[derive(Debug)]
struct Rule {
    pattern: String,
    fault: Fault,
    /// `None` is for ever.
    left: Option<u32>,
}

/// Decides about each request by its path.
pub(super) type Choose = Box<dyn FnMut(&str) -> Option<Fault> + Send>;

/// The faults to play, in the order in which they were set.
#[derive(Default)]
pub(super) struct Faults {
    rules: Vec<Rule>,
    /// Asked where no rule has a fault.
    choose: Option<Choose>,
    /// Counts the clearings: faults that are being played see theirs pass.
    pub(super) epoch: u64,
    pub(super) played: u64,
}

impl Faults {
    pub(super) fn add(&mut self, pattern: &str, fault: Fault, times: Times) {
        let left = match times {
            Times::Once => Some(1),
            Times::Always => None,
            Times::N(times) => Some(times),
        };
        self.rules.push(Rule {
            pattern: pattern.to_owned(),
            fault,
            left,
        });
    }

    pub(super) fn choose(&mut self, choose: Choose) {
        self.choose = Some(choose);
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
        self.choose = None;
        self.epoch += 1;
    }

    /// The fault for a request to `path`, which uses it up by one.
    pub(super) fn take(&mut self, path: &str) -> Option<Fault> {
        let fault = match self.by_rule(path) {
            Some(fault) => fault,
            None => self.choose.as_mut()?(path)?,
        };
        self.played += 1;
        Some(fault)
    }

    fn by_rule(&mut self, path: &str) -> Option<Fault> {
        let rule = self
            .rules
            .iter_mut()
            .find(|rule| rule.left != Some(0) && matches(&rule.pattern, path))?;
        if let Some(left) = &mut rule.left {
            *left -= 1;
        }
        Some(rule.fault.clone())
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("rules", &self.rules)
            .field("played", &self.played)
            .finish_non_exhaustive()
    }
}

/// Whether `pattern` means `path`: the same path, with or without its query, or a folder above it (it ends with `/`).
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    path == pattern || path.split('?').next() == Some(pattern) || (pattern.ends_with('/') && path.starts_with(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_path_or_a_folder() {
        assert!(matches("/index/se/rd/serde", "/index/se/rd/serde"));
        assert!(!matches("/index/se/rd/serde", "/index/se/rd/serde_json"));
        assert!(matches("/index/", "/index/se/rd/serde"));
        assert!(matches("/dl/a", "/dl/a?x=y"));
        assert!(matches("/dl/a?x=y", "/dl/a?x=y"));
    }

    #[test]
    fn faults_are_used_up_in_their_order() {
        let mut faults = Faults::default();
        faults.add("/a", Fault::Reset, Times::Once);
        faults.add("/a", Fault::Html200, Times::N(2));
        faults.add("/", Fault::Json403, Times::Always);
        let played: Vec<_> = (0..5).map(|_| faults.take("/a").unwrap()).collect();
        assert_eq!(
            played,
            [
                Fault::Reset,
                Fault::Html200,
                Fault::Html200,
                Fault::Json403,
                Fault::Json403
            ]
        );
        faults.choose(Box::new(|path| (path == "/b").then_some(Fault::Reset)));
        assert_eq!(faults.take("/b"), Some(Fault::Json403), "rules come first");
        faults.clear();
        assert_eq!((faults.take("/a"), faults.epoch), (None, 1));
        faults.choose(Box::new(|path| (path == "/b").then_some(Fault::Reset)));
        assert_eq!((faults.take("/a"), faults.take("/b")), (None, Some(Fault::Reset)));
        faults.clear();
        assert_eq!(faults.take("/b"), None);
    }
}
