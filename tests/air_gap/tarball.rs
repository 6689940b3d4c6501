//! A bundle taken apart and put together again, right or wrong, with no code of the mirror's that reads or writes bundles.

use std::path::Path;

use registry::Checksum;
use serde_json::Value;

pub const BLOCK: usize = 512;
const RECORD: usize = 10_240;
pub const MANIFEST: &str = "MANIFEST.json";
pub const SUMS: &str = "SHA256SUMS";
pub const SIGNATURE: &str = "SHA256SUMS.minisig";
pub const CHANGES: &str = "index/changes.gz";

/// One member: its header as it stands in the tar, and its bytes, which need not fit together.
#[derive(Clone)]
pub struct Member {
    header: [u8; BLOCK],
    pub bytes: Vec<u8>,
}

impl Member {
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        let mut header = [0; BLOCK];
        header[100..107].copy_from_slice(b"0000644");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[136..147].copy_from_slice(b"14000000000");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let mut member = Self {
            header,
            bytes: Vec::new(),
        };
        member.rename(name);
        member.set_bytes(bytes.to_vec());
        member
    }

    pub fn name(&self) -> String {
        let end = self.header[..100].iter().position(|byte| *byte == 0).unwrap_or(100);
        String::from_utf8(self.header[..end].to_vec()).unwrap()
    }

    pub fn rename(&mut self, name: &str) {
        self.header[..100].fill(0);
        self.header[..name.len()].copy_from_slice(name.as_bytes());
        self.sum_header();
    }

    pub fn set_bytes(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
        self.say_size(format!("{:011o}\0", self.bytes.len()).as_bytes());
    }

    /// What the header says of the size, whatever the bytes are.
    pub fn say_size(&mut self, field: &[u8]) {
        self.header[124..136].copy_from_slice(field);
        self.sum_header();
    }

    /// What kind of thing it says it is: `2` for a symbolic link and so on; links lead to `/etc/passwd`.
    pub fn say_kind(&mut self, kind: u8) {
        self.header[156] = kind;
        self.header[157..257].fill(0);
        if matches!(kind, b'1' | b'2') {
            self.header[157..168].copy_from_slice(b"/etc/passwd");
        }
        self.sum_header();
    }

    fn sum_header(&mut self) {
        self.header[148..156].fill(b' ');
        let sum: u32 = self.header.iter().map(|byte| u32::from(*byte)).sum();
        self.header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// All members in their order.
#[derive(Clone)]
pub struct Tarball(pub Vec<Member>);

impl Tarball {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let (mut at, mut members) = (0, Vec::new());
        while bytes[at] != 0 {
            let header: [u8; BLOCK] = bytes[at..at + BLOCK].try_into().unwrap();
            let size = std::str::from_utf8(&header[124..135]).unwrap();
            let size = usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).unwrap();
            let content = bytes[at + BLOCK..at + BLOCK + size].to_vec();
            members.push(Member { header, bytes: content });
            at += BLOCK + size.next_multiple_of(BLOCK);
        }
        Self(members)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for member in &self.0 {
            bytes.extend(member.header);
            bytes.extend(&member.bytes);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.resize((bytes.len() + 2 * BLOCK).next_multiple_of(RECORD), 0);
        bytes
    }

    /// Each member's name, where its header begins, and how many bytes it has.
    pub fn places(&self) -> Vec<(String, usize, usize)> {
        let mut at = 0;
        let place = |member: &Member| {
            let begin = at;
            at += BLOCK + member.bytes.len().next_multiple_of(BLOCK);
            (member.name(), begin, member.bytes.len())
        };
        self.0.iter().map(place).collect()
    }

    pub fn at(&self, name: &str) -> usize {
        let found = self.0.iter().position(|member| member.name() == name);
        found.unwrap_or_else(|| panic!("there is no {name} in the bundle"))
    }

    pub fn member(&mut self, name: &str) -> &mut Member {
        let at = self.at(name);
        &mut self.0[at]
    }

    /// The place of the crate file with this number.
    pub fn crate_at(&self, number: usize) -> usize {
        let mut crates = (0..self.0.len()).filter(|at| self.0[*at].name().starts_with("crates/"));
        crates.nth(number).unwrap()
    }

    pub fn krate(&mut self, number: usize) -> &mut Member {
        let at = self.crate_at(number);
        &mut self.0[at]
    }

    pub fn manifest(&self) -> Value {
        serde_json::from_slice(&self.0[self.at(MANIFEST)].bytes).unwrap()
    }

    /// Changes the manifest and what `SHA256SUMS` says of it.
    pub fn with_manifest(&mut self, change: impl FnOnce(&mut Value)) {
        let mut manifest = self.manifest();
        change(&mut manifest);
        self.member(MANIFEST).set_bytes(manifest.to_string().into_bytes());
        self.sum_again();
    }

    /// Makes `SHA256SUMS` fit what is there.
    pub fn sum_again(&mut self) {
        let summed = self.0.iter().filter(|member| !member.name().starts_with(SUMS));
        let line = |member: &Member| format!("{}  {}\n", Checksum::of(&member.bytes).to_hex(), member.name());
        let text: String = summed.map(line).collect();
        self.member(SUMS).set_bytes(text.into_bytes());
    }

    /// Puts other records in the place of the index payload, and sums that fit.
    pub fn with_changes(&mut self, records: &[u8]) {
        self.member(CHANGES).set_bytes(gzip(records));
        self.sum_again();
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, bytes).unwrap();
    gzip.finish().unwrap()
}

/// So many zeros, which take a thousandth of it.
pub fn bomb(size_bytes: u64) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), size_bytes), &mut gzip).unwrap();
    gzip.finish().unwrap()
}
