//! How far many files are that are read or written here: bytes, rate and time left.

use std::time::{Duration, Instant};

use super::progress::Bar;
use crate::prefetch::size;

/// So often it is looked at whether there is something new to show.
const EVERY: Duration = Duration::from_millis(100);

/// Files on their way.
pub struct Transfer {
    what: &'static str,
    total: u64,
    in_words: fn(u64) -> String,
    bar: Bar,
    began: Instant,
    shown: Option<Instant>,
}

impl Transfer {
    /// `what` is done with so many bytes.
    pub fn new(what: &'static str, total_bytes: u64) -> Self {
        Self {
            what,
            total: total_bytes,
            in_words: size,
            bar: Bar::new(),
            began: Instant::now(),
            shown: None,
        }
    }

    /// `what` is done with so many index files.
    pub fn counting(what: &'static str, files: u64) -> Self {
        Self {
            in_words: |files| format!("{files} index files"),
            ..Self::new(what, files)
        }
    }

    /// So much is done.
    pub fn show(&mut self, done: u64) {
        if self.shown.is_some_and(|shown| shown.elapsed() < EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let words = words(self.what, done, self.total, self.in_words, self.began.elapsed());
        self.bar.show(&words);
    }

    /// Says something else in its place.
    pub fn say(&mut self, words: &str) {
        self.bar.show(words);
    }

    /// Takes the line away, and gives how long it took.
    pub fn end(self) -> Duration {
        self.bar.clear();
        self.began.elapsed()
    }
}

fn words(what: &str, done: u64, total: u64, in_words: fn(u64) -> String, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100).min(100);
    let filled = (percent / 5) as usize;
    let bar = format!("{}{}", "#".repeat(filled), ".".repeat(20 - filled));
    let mut words = format!("[{bar}] {percent} %: {what} {} of {}", in_words(done), in_words(total));
    if seconds >= 1.0 {
        words.push_str(&format!(", {}/s", in_words((done as f64 / seconds) as u64)));
    }
    if done > 0 && seconds >= 2.0 {
        let left = total.saturating_sub(done) as f64 * seconds / done as f64;
        words.push_str(&format!(", about {left:.0} s left"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_far_it_is_how_fast_and_how_long_it_takes() {
        let words = |bytes, seconds| words("wrote", bytes, 4_000_000, size, Duration::from_secs(seconds));
        assert_eq!(words(0, 0), "[....................] 0 %: wrote 0 bytes of 4.0 MB");
        assert_eq!(
            words(1_000_000, 2),
            "[#####...............] 25 %: wrote 1.0 MB of 4.0 MB, 500.0 KB/s, about 6 s left"
        );
        assert!(words(5_000_000, 2).starts_with("[####################] 100 %"));
    }
}
