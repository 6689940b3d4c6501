//! What the operator says to upstream's changes of mind.

use std::sync::Arc;

use metadata_db::{DecisionKind, DecisionRow};
use registry::{Checksum, CrateName, CrateVersion, Decision, Decisions, IndexFile, IndexPath, published_lines};

use super::answer::Before;
use super::refresh::internal;
use super::{Index, Inner};
use crate::memory::locked;
use crate::upstream_sparse::Failure;
use crate::{Ask, Error, IndexEntry};

/// What became of a version by the operator's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// It was left out and is published again.
    Again,
    /// Its line stays in force, whatever upstream says.
    Stays,
    /// Upstream's line took the place of the one that was in force.
    Changed,
    /// It is left out from now on.
    LeftOut,
    /// What upstream says of it counts again, with its next answer.
    AsUpstream,
}

impl Decided {
    /// For the log, after the version.
    fn words(self) -> &'static str {
        match self {
            Self::Again => "is published again and kept",
            Self::Stays => "is kept as it is here",
            Self::Changed => "is taken as upstream changed it",
            Self::LeftOut => "is left out, as upstream does",
            Self::AsUpstream => "is kept no longer; upstream's next answer counts",
        }
    }
}

/// The operator's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Keep,
    Accept,
}

/// What a word changes.
#[derive(Debug, Default)]
struct Change {
    put: Vec<DecisionRow>,
    lines: Decisions,
    decided: Vec<(String, Decided)>,
}

impl Index {
    /// Everything that is decided or waits for the operator, by index path and version.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn decided(&self) -> Result<Vec<(IndexPath, DecisionRow)>, Error> {
        let own = self.clone();
        self.inner.blocking(move || own.decided_now()).await
    }

    /// The same. Blocks.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn decided_now(&self) -> Result<Vec<(IndexPath, DecisionRow)>, Error> {
        Ok(self.inner.decisions.all()?)
    }

    /// The crate files that upstream may not have any more: those of versions that are removed, held or kept against it. Blocks.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn irreplaceable(&self) -> Result<Vec<Checksum>, Error> {
        let rows = self.inner.decisions.all()?.into_iter();
        let disputed = rows.filter(|(_, row)| row.kind != DecisionKind::Accepted);
        Ok(disputed.map(|(_, row)| row.checksum).collect())
    }

    /// Goes on serving a version that upstream removed, or with the checksum that it changed; of all versions of the crate that are
    /// disputed if none is named. Published at once, with the next batch.
    ///
    /// # Errors
    /// [`Error::NothingToDecide`] if upstream has not changed its mind; else a database or the tree cannot be read.
    pub async fn keep(
        &self,
        name: &CrateName,
        version: Option<&CrateVersion>,
    ) -> Result<Vec<(String, Decided)>, Error> {
        self.decide(name, version, Word::Keep).await
    }

    /// Takes upstream's word: a changed checksum, a removal that is held, or an end of what was kept. Published at once, with
    /// the next batch, as far as upstream's word is known.
    ///
    /// # Errors
    /// As those of [`keep`](Self::keep).
    pub async fn accept(
        &self,
        name: &CrateName,
        version: Option<&CrateVersion>,
    ) -> Result<Vec<(String, Decided)>, Error> {
        let decided = self.decide(name, version, Word::Accept).await?;
        if decided.iter().any(|(_, decided)| *decided == Decided::AsUpstream) {
            // Without an answer now, the next one decides.
            let _ = self.file(&IndexPath::of(name), Ask::Now).await;
        }
        Ok(decided)
    }

    async fn decide(
        &self,
        name: &CrateName,
        version: Option<&CrateVersion>,
        word: Word,
    ) -> Result<Vec<(String, Decided)>, Error> {
        let path = IndexPath::of(name);
        let vers = version.map(|version| version.as_str().to_owned());
        let work = {
            let (inner, path) = (Arc::clone(&self.inner), path.clone());
            move || Arc::clone(&inner).decide_in_turn(path.clone(), vers.clone(), word)
        };
        let outcome = self.inner.in_turn(&path, work).await?;
        outcome.map_err(|why| Error::NothingToDecide {
            what: version.map_or_else(|| name.to_string(), |version| format!("{name} {version}")),
            why,
        })
    }
}

impl Inner {
    /// While nobody else changes this file. First the decisions, which are truth, then the file.
    async fn decide_in_turn(
        self: Arc<Self>,
        path: IndexPath,
        vers: Option<String>,
        word: Word,
    ) -> Result<Result<Vec<(String, Decided)>, &'static str>, Failure> {
        let _no_import = self.imports.read().await;
        let before = self.before(&path).await?;
        let change = match Change::new(&before, &path, vers.as_deref(), word, self.now_unix()) {
            Ok(change) => change,
            Err(why) => return Ok(Err(why)),
        };
        let (inner, own_path, put) = (Arc::clone(&self), path.clone(), change.put);
        let write = move || {
            inner.decisions.put_all(&own_path, &put, &[])?;
            inner.count_held()
        };
        self.blocking(write).await.map_err(internal)?;
        locked(&self.freshness).forget_absent(&path);
        let published = before.bytes();
        let now = published_lines(published, &path, &change.lines);
        if now != published {
            let entry = (!now.is_empty()).then(|| Arc::new(IndexEntry::new(now)));
            // What upstream said last stays what it said last.
            let submitted = self.publisher.submit(&path, entry, before.state).await;
            submitted.map_err(internal)?;
        }
        for (vers, decided) in &change.decided {
            log::info!("{}: by command, version {vers} {}", path.file_name(), decided.words());
        }
        Ok(Ok(change.decided))
    }
}

impl Change {
    fn new(
        before: &Before,
        path: &IndexPath,
        vers: Option<&str>,
        word: Word,
        now_unix: i64,
    ) -> Result<Self, &'static str> {
        let mut change = Self::default();
        let rows = before.decisions.iter();
        for row in rows.filter(|row| vers.is_none_or(|vers| vers == row.vers)) {
            match word {
                Word::Keep => change.keep(row, now_unix),
                Word::Accept => change.accept(row, now_unix),
            }
        }
        if let (Word::Keep, Some(vers)) = (word, vers)
            && change.decided.is_empty()
        {
            change.keep_missing(before, path, vers, now_unix);
        }
        if change.decided.is_empty() {
            return Err(match (word, before.decisions.is_empty()) {
                (_, true) => "upstream has not changed its mind about it",
                (Word::Keep, false) => "it is kept already, or upstream has not changed its mind about it",
                (Word::Accept, false) => "upstream's word counts already",
            });
        }
        Ok(change)
    }

    fn keep(&mut self, row: &DecisionRow, now_unix: i64) {
        let decided = match row.kind {
            DecisionKind::Removed => Decided::Again,
            DecisionKind::HeldChecksum | DecisionKind::HeldRemoval | DecisionKind::Accepted => Decided::Stays,
            DecisionKind::Kept => return,
        };
        self.put(row, DecisionKind::Kept, now_unix, decided);
        let line = Decision::Keep(row.line.clone());
        self.lines.insert(row.vers.clone(), line);
    }

    fn accept(&mut self, row: &DecisionRow, now_unix: i64) {
        match (row.kind, &row.held_line) {
            (DecisionKind::Removed, _) => {}
            // The hour of the hold counts, and not this one, for how many may be removed in an hour.
            (DecisionKind::HeldRemoval, _) => {
                self.put(row, DecisionKind::Removed, row.decided_at, Decided::LeftOut);
                self.lines.insert(row.vers.clone(), Decision::Omit);
            }
            (DecisionKind::HeldChecksum | DecisionKind::Kept | DecisionKind::Accepted, Some(held)) => {
                self.put(row, DecisionKind::Accepted, now_unix, Decided::Changed);
                self.lines.insert(row.vers.clone(), Decision::Keep(held.clone()));
            }
            (DecisionKind::HeldChecksum | DecisionKind::Kept | DecisionKind::Accepted, None) => {
                self.put(row, DecisionKind::Accepted, now_unix, Decided::AsUpstream);
            }
        }
    }

    fn put(&mut self, row: &DecisionRow, kind: DecisionKind, decided_at: i64, decided: Decided) {
        self.put.push(DecisionRow {
            kind,
            decided_at,
            ..row.clone()
        });
        self.decided.push((row.vers.clone(), decided));
    }

    /// A version that upstream lacks, but not for long enough to count as removed.
    fn keep_missing(&mut self, before: &Before, path: &IndexPath, vers: &str, now_unix: i64) {
        let is_missing = before
            .state
            .as_ref()
            .is_some_and(|state| state.missing.contains_key(vers));
        let file = IndexFile::parse_readable(before.bytes(), path);
        if let (true, Some(line)) = (is_missing, file.find(vers)) {
            let row = DecisionRow {
                vers: vers.to_owned(),
                kind: DecisionKind::Kept,
                whole_crate: false,
                line: line.raw.to_vec(),
                held_line: None,
                checksum: line.checksum,
                new_checksum: None,
                decided_at: now_unix,
            };
            self.put(&row, DecisionKind::Kept, now_unix, Decided::Stays);
        }
    }
}
