//! Upstream's index, which changes at random.

use std::collections::{BTreeMap, BTreeSet};

use testkit::{GitUpstream, Random};

/// Crates at the start; the walk goes on from there.
const CRATES: u64 = 300;
/// The index file that makes history heavy.
const HEAVY: &str = "walkheavy";
const HEAVY_LINES: usize = 64;
const HEAVY_LINE_BYTES: usize = 64 << 10;
/// So many of it in a round: each weighs in the history, and only the last in the index.
const HEAVY_COMMITS: u64 = 3;

/// Six bits a byte: deflate takes a quarter off and no more.
fn text(random: &mut Random, size_bytes: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(size_bytes + 10);
    while text.len() < size_bytes {
        let bits = random.next(u64::MAX);
        text.extend((0..10).map(|sixth| char::from(ALPHABET[(bits >> (6 * sixth)) as usize & 63])));
    }
    text
}

/// One version of upstream's index.
#[derive(Debug, Clone)]
struct Version {
    number: u64,
    checksum: u64,
    yanked: bool,
}

pub struct Walk {
    pub upstream: GitUpstream,
    pub random: Random,
    /// Whether the next steps rewrite a large index file too.
    pub heavy: bool,
    crates: BTreeMap<String, Vec<Version>>,
    /// Crates that once left the index whole: of these the mirror lets only so many go within an hour.
    removed: BTreeSet<String>,
    published: usize,
}

impl Walk {
    pub fn new(seed: u64) -> Self {
        let mut walk = Self {
            upstream: GitUpstream::start(),
            random: Random::new(seed | 1),
            heavy: false,
            crates: BTreeMap::new(),
            removed: BTreeSet::new(),
            published: 0,
        };
        let names: BTreeSet<String> = (0..CRATES).map(|_| walk.add()).collect();
        walk.commit(&names, &[("config.json", "{\"dl\":\"http://127.0.0.1:1/dl\"}\n")]);
        walk
    }

    /// What happens upstream between two rounds of the mirror.
    pub fn step(&mut self) {
        for _ in 0..1 + self.random.next(3) {
            let changes = 1 + self.random.next(4);
            let names: BTreeSet<String> = (0..changes).map(|_| self.change()).collect();
            self.commit(&names, &[]);
        }
        for _ in 0..if self.heavy { HEAVY_COMMITS } else { 0 } {
            // deflate looks back half a line at most: repeating, it weighs as much as if it was all new
            let text = text(&mut self.random, HEAVY_LINE_BYTES);
            let lines: String = (0..HEAVY_LINES).map(|number| self.heavy_line(number, &text)).collect();
            self.commit(&BTreeSet::new(), &[(&path_of(HEAVY), &lines)]);
        }
        if self.random.next(15) == 0 {
            self.upstream.squash();
            if self.random.next(3) == 0 {
                self.upstream.prune();
            }
        }
    }

    /// No more of the large file.
    pub fn lighten(&mut self) {
        self.heavy = false;
        let line = text_of(HEAVY, &[self.version(0)]);
        self.commit(&BTreeSet::new(), &[(&path_of(HEAVY), &line)]);
    }

    fn version(&mut self, number: u64) -> Version {
        Version {
            number,
            checksum: self.random.next(u64::MAX),
            yanked: false,
        }
    }

    fn heavy_line(&mut self, number: usize, text: &str) -> String {
        let version = self.version(number as u64);
        let features = format!("\"features\":{{\"all\":[\"{text}\"]}}");
        text_of(HEAVY, &[version]).replace("\"features\":{}", &features)
    }

    /// A new crate, or a new version of one that is there.
    fn add(&mut self) -> String {
        let number = self.published;
        self.published += 1;
        let name = match self.some_crate() {
            Some(name) if self.crates.len() as u64 >= CRATES && self.random.next(3) > 0 => name,
            _ => format!("walk{number}"),
        };
        let version = self.version(number as u64);
        self.crates.entry(name.clone()).or_default().push(version);
        name
    }

    fn some_crate(&mut self) -> Option<String> {
        let at = self.random.next(self.crates.len().max(1) as u64);
        self.crates.keys().nth(at as usize).cloned()
    }

    /// One change of upstream's index; gives the crate that it touched.
    fn change(&mut self) -> String {
        let kind = self.random.next(10);
        let Some(name) = self.some_crate().filter(|_| kind >= 4) else {
            return self.add();
        };
        let at = self.random.next(self.crates[&name].len() as u64) as usize;
        let checksum = self.random.next(u64::MAX);
        let versions = self.crates.get_mut(&name).unwrap();
        match kind {
            // the same line as before a yank is the same blob as before
            4..=7 => versions[at].yanked = !versions[at].yanked,
            8 if self.removed.len() < 8 || versions.len() > 1 => {
                versions.remove(at);
                if versions.is_empty() {
                    self.crates.remove(&name);
                    self.removed.insert(name.clone());
                }
            }
            _ => versions[at].checksum = checksum,
        }
        name
    }

    /// These crates as they are now, and other files.
    fn commit(&self, names: &BTreeSet<String>, more: &[(&str, &str)]) {
        let texts: Vec<(String, Option<String>)> = names
            .iter()
            .map(|name| {
                (
                    path_of(name),
                    self.crates.get(name).map(|versions| text_of(name, versions)),
                )
            })
            // one that was added and removed within the round was never there
            .filter(|(path, text)| text.is_some() || self.upstream.dir().join(path).exists())
            .collect();
        let files = texts.iter().map(|(path, text)| (&**path, text.as_deref()));
        let more = more.iter().map(|(path, text)| (*path, Some(*text)));
        self.upstream.commit(&files.chain(more).collect::<Vec<_>>());
    }

    /// Whether the published index may have another file here than upstream.
    pub fn may_differ(&self, path: &str) -> bool {
        path == "config.json" || self.removed.iter().any(|name| path_of(name) == path)
    }
}

fn path_of(name: &str) -> String {
    format!("{}/{}/{name}", &name[..2], &name[2..4])
}

fn text_of(name: &str, versions: &[Version]) -> String {
    let line = |version: &Version| {
        format!(
            "{{\"name\":\"{name}\",\"vers\":\"0.{}.0\",\"deps\":[],\"cksum\":\"{:064x}\",\"features\":{{}},\"yanked\":{}}}\n",
            version.number, version.checksum, version.yanked
        )
    };
    versions.iter().map(line).collect()
}
