use std::collections::HashMap;
use std::io::Write;
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use registry::{IndexFile, IndexPath};

use crate::{BlobId, Listed};

/// One index file as it is published.
#[derive(Debug)]
pub struct IndexEntry {
    /// The file.
    pub bytes: Bytes,
    /// Its git blob id, which is also its strong ETag.
    pub id: BlobId,
    etag: Box<str>,
    gzip_etag: Box<str>,
    gzip: OnceLock<Bytes>,
    versions: OnceLock<HashMap<String, Listed>>,
}

impl IndexEntry {
    pub(crate) fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let id = BlobId::of(&bytes);
        Self {
            bytes,
            id,
            etag: format!("\"{id}\"").into(),
            gzip_etag: format!("\"{id}-gzip\"").into(),
            gzip: OnceLock::new(),
            versions: OnceLock::new(),
        }
    }

    /// The `ETag` of the file as it is, quoted.
    pub fn etag(&self) -> &str {
        &self.etag
    }

    /// The `ETag` of its gzip form, quoted.
    pub fn gzip_etag(&self) -> &str {
        &self.gzip_etag
    }

    /// The gzip form, if it was made before.
    pub fn ready_gzip(&self) -> Option<Bytes> {
        self.gzip.get().cloned()
    }

    /// The file as one gzip member; made at the first call.
    pub fn gzip(&self) -> Bytes {
        let compress = || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            let written = encoder.write_all(&self.bytes).and_then(|()| encoder.finish());
            written.expect("writing to memory does not fail").into()
        };
        self.gzip.get_or_init(compress).clone()
    }

    /// What it takes in memory at most, about, in bytes: the file, its gzip form, and a table of its versions that is no
    /// larger than the file.
    pub(crate) fn weight(&self) -> u64 {
        5 * self.bytes.len() as u64 / 2 + 640
    }

    /// The version's line, by its exact text. The first call reads the file, later ones a table.
    pub(crate) fn find(&self, path: &IndexPath, vers: &str) -> Option<&Listed> {
        self.versions.get_or_init(|| self.read(path)).get(vers)
    }

    fn read(&self, path: &IndexPath) -> HashMap<String, Listed> {
        let file = IndexFile::parse_readable(&self.bytes, path);
        let listed = file.lines().iter().filter_map(|line| {
            let spelled = line.name.parse().ok()?;
            let listed = Listed {
                checksum: line.checksum,
                spelled,
                yanked: line.yanked,
            };
            Some((line.vers.as_ref().to_owned(), listed))
        });
        listed.collect()
    }
}
