//! Clients that ask for crate files and compare what they get with what was published.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use testkit::{BuiltCrate, MirrorProcess, Random, Reply};

/// What came of all downloads. Wrong ones are not counted: the first one ends the test.
#[derive(Debug, Default)]
pub struct Counts {
    whole: AtomicU64,
    parts: AtomicU64,
    cut: AtomicU64,
    refused: AtomicU64,
    left: AtomicU64,
}

impl Counts {
    pub fn asked(&self) -> u64 {
        let all = [&self.whole, &self.parts, &self.cut, &self.refused, &self.left];
        all.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Complete and compared.
    pub fn right(&self) -> u64 {
        self.whole.load(Relaxed) + self.parts.load(Relaxed)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} downloads: {} whole, {} parts, {} cut off, {} refused, {} left by the client, 0 wrong",
            self.asked(),
            self.whole.load(Relaxed),
            self.parts.load(Relaxed),
            self.cut.load(Relaxed),
            self.refused.load(Relaxed),
            self.left.load(Relaxed)
        )
    }
}

/// So many downloads, one after the other; a fourth of them is of the first tenth of all crates.
pub fn client(mirror: &MirrorProcess, crates: &[BuiltCrate], counts: &Counts, mut random: Random, downloads: u64) {
    for _ in 0..downloads {
        let hot = random.next(4) == 0;
        let krate = random.of(if hot { &crates[..crates.len() / 10] } else { crates });
        match random.next(20) {
            0 => leave(mirror, krate, counts),
            1..=4 => part(mirror, krate, counts, &mut random),
            _ => whole(mirror, krate, counts),
        }
    }
}

fn path(krate: &BuiltCrate) -> String {
    format!("/api/v1/crates/{}/1.0.0/download", krate.name)
}

/// Whether all of it comes, and nothing else; for one who asks without a count.
pub fn is_whole(mirror: &MirrorProcess, krate: &BuiltCrate) -> bool {
    let reply = mirror.try_request("GET", &path(krate), &[], b"");
    reply.is_ok_and(|reply| reply.status == 200 && reply.complete && reply.body == krate.bytes)
}

fn whole(mirror: &MirrorProcess, krate: &BuiltCrate, counts: &Counts) {
    judge(mirror, krate, counts, &[], None);
}

/// Any part that there is; the whole is an answer too, which is what comes while the file arrives.
fn part(mirror: &MirrorProcess, krate: &BuiltCrate, counts: &Counts, random: &mut Random) {
    let size = krate.bytes.len() as u64;
    let first = random.next(size);
    let last = first + random.next(size - first);
    let range = format!("bytes={first}-{last}");
    let wanted = &krate.bytes[first as usize..=last as usize];
    judge(mirror, krate, counts, &[("Range", &range)], Some(wanted));
}

fn judge(mirror: &MirrorProcess, krate: &BuiltCrate, counts: &Counts, headers: &[(&str, &str)], part: Option<&[u8]>) {
    let name = &krate.name;
    let count = match mirror.try_request("GET", &path(krate), headers, b"") {
        // cut off before the head was sent
        Err(_) => &counts.cut,
        Ok(reply) if matches!(reply.status, 502 | 503) => {
            is_polite(&reply, name);
            &counts.refused
        }
        Ok(reply) if !reply.complete => &counts.cut,
        Ok(reply) if reply.status == 206 && part.is_some() => {
            assert!(Some(&reply.body[..]) == part, "a complete wrong part of {name}");
            &counts.parts
        }
        Ok(reply) => {
            assert_eq!(reply.status, 200, "{name}: {}", reply.text());
            assert!(reply.body == krate.bytes, "a complete wrong body of {name}");
            &counts.whole
        }
    };
    count.fetch_add(1, Relaxed);
}

/// A refusal says why, in few words, and is not to be kept by anybody.
fn is_polite(reply: &Reply, name: &str) {
    let is_short = reply.complete && reply.body.len() < 1_000 && reply.text().contains("\"detail\"");
    assert!(is_short, "{name}: {} {}", reply.status, reply.text());
    assert_eq!(reply.header("cache-control"), Some("no-store"), "{name}");
}

/// Goes after the first bytes.
fn leave(mirror: &MirrorProcess, krate: &BuiltCrate, counts: &Counts) {
    // it may be refused or cut off before
    let _ = mirror.exchange("GET", &path(krate), &[], b"").read_at_least(1);
    counts.left.fetch_add(1, Relaxed);
}
