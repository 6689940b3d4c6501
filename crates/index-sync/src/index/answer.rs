use std::sync::Arc;

use bytes::Bytes;
use metadata_db::{DecisionKind, DecisionRow, UpstreamState, to_registry};
use registry::{Checksum, IndexPath, published_lines};

use crate::IndexEntry;
use crate::upstream_sparse::Condition;

/// What was known before upstream was asked.
#[derive(Debug, Default)]
pub(super) struct Before {
    pub(super) published: Option<Arc<IndexEntry>>,
    pub(super) state: Option<UpstreamState>,
    pub(super) decisions: Vec<DecisionRow>,
}

/// An answer that can be used.
pub(super) struct Good {
    pub(super) path: IndexPath,
    pub(super) before: Before,
    /// `None`: upstream has no such crate.
    pub(super) body: Option<Bytes>,
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
}

impl Before {
    /// What is published; empty if nothing is.
    pub(super) fn bytes(&self) -> &[u8] {
        self.published.as_ref().map_or(b"", |entry| &entry.bytes)
    }

    /// Upstream may say "not modified" only about what is here, whole, and waiting for nothing.
    pub(super) fn condition(&self, path: &IndexPath) -> Condition {
        match &self.state {
            Some(state) if self.may_be_unchanged(path, state) => Condition {
                etag: state.etag.clone(),
                last_modified: state.last_modified.clone(),
            },
            _ => Condition::default(),
        }
    }

    /// Whether nothing is decided that would bring lines in: then what is not published and what upstream lacks is absent.
    pub(super) fn is_nothing(&self) -> bool {
        self.published.is_none() && self.decisions.iter().all(|row| row.kind == DecisionKind::Removed)
    }

    /// A missing version needs the body again and again; a decision that is not published yet needs it once; and a state
    /// that outlived its file (a repository brought back from a backup) is worth nothing.
    fn may_be_unchanged(&self, path: &IndexPath, state: &UpstreamState) -> bool {
        let Some(published) = &self.published else {
            return false;
        };
        if !state.missing.is_empty() || state.absent_since.is_some() {
            return false;
        }
        if self.decisions.is_empty() {
            return *Checksum::of(&published.bytes).as_bytes() == state.digest;
        }
        let accepted = self.decisions.iter().any(|row| row.kind == DecisionKind::Accepted);
        !accepted && published_lines(&published.bytes, path, &to_registry(&self.decisions)) == published.bytes
    }
}

impl Good {
    /// Whether upstream has sent this body before: what changed here since, another source changed.
    pub(super) fn is_last_body(&self) -> bool {
        match (&self.body, &self.before.state) {
            (Some(body), Some(state)) => {
                self.before.published.is_some() && *Checksum::of(body).as_bytes() == state.digest
            }
            _ => false,
        }
    }

    /// Whether this is the body that was merged last.
    pub(super) fn is_same_body(&self) -> bool {
        match (&self.body, &self.before.state) {
            (Some(body), Some(state)) => {
                self.before.may_be_unchanged(&self.path, state) && *Checksum::of(body).as_bytes() == state.digest
            }
            _ => false,
        }
    }
}
