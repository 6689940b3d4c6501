use std::collections::BTreeMap;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{CrateBuilder, manifest};

/// The time that cargo itself gives to files in a crate file.
const MTIME: u64 = 1_153_704_088;

/// The crate file's bytes, the same for the same crate whenever it is built.
pub(super) fn crate_file(krate: &CrateBuilder) -> Vec<u8> {
    let mut files = BTreeMap::from([
        ("Cargo.toml".to_owned(), manifest::manifest(krate).into_bytes()),
        ("src/lib.rs".to_owned(), krate.lib.clone().into_bytes()),
    ]);
    if let Some(readme) = &krate.readme {
        files.insert("README.md".to_owned(), readme.clone().into_bytes());
    }
    if krate.padding_bytes > 0 {
        let seed = format!("{}-{}", krate.name, krate.version);
        files.insert("padding.bin".to_owned(), noise(&seed, krate.padding_bytes));
    }
    files.extend(krate.files.clone());

    // Noise would only grow by being compressed, and slowly.
    let compression = if krate.padding_bytes > 0 {
        Compression::none()
    } else {
        Compression::fast()
    };
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), compression));
    for (path, bytes) in &files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(MTIME);
        let path = format!("{}-{}/{path}", krate.name, krate.version);
        tar.append_data(&mut header, path, bytes.as_slice())
            .expect("writing to memory cannot fail");
    }
    let gzip = tar.into_inner().expect("writing to memory cannot fail");
    gzip.finish().expect("writing to memory cannot fail")
}

/// Bytes that look random and are the same for the same seed (xorshift64*).
fn noise(seed: &str, size_bytes: usize) -> Vec<u8> {
    let mut state = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }) | 1;
    let mut bytes = Vec::with_capacity(size_bytes + 8);
    while bytes.len() < size_bytes {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(size_bytes);
    bytes
}
