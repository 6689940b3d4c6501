use std::sync::Arc;

use bytes::Bytes;
use registry::UpstreamConfig;

use super::Inner;
use crate::Error;
use crate::memory::locked;
use crate::published::{entry, object, tip_at};
use crate::repository::upstream_commit;
use crate::upstream_sparse::{Failure, UpstreamSparse, with_sources};

/// The upstream that all states of index files are of.
const UPSTREAM_FACT: &str = "sparse upstream";

impl Inner {
    /// Brings back the last good `config.json` from before the start.
    pub(super) fn recall_config(&self) -> Result<(), Error> {
        let Some(upstream) = &self.upstream else {
            return Ok(());
        };
        let bytes = self.metadata.fact(&fact_name(upstream))?;
        *locked(&self.upstream_config) = bytes.and_then(|bytes| UpstreamConfig::parse(&bytes).ok());
        Ok(())
    }

    /// The `config.json` in upstream's git tree, as of the last round; for a mirror that has no sparse upstream.
    pub(super) fn config_from_git(&self) -> Result<UpstreamConfig, Error> {
        let unknown = |why: String| Error::Unavailable { why };
        let commit = upstream_commit(self.tree.dir())?
            .ok_or_else(|| unknown("upstream's git repository has not come yet".to_owned()))?;
        let bytes = self.tree.with_git(|git| {
            let found = entry(git, tip_at(git, commit)?.tree, "config.json")?;
            found.map(|id| Ok(object(git, id)?.detach().data)).transpose()
        })?;
        let bytes = bytes.ok_or_else(|| unknown("upstream's git repository has no config.json".to_owned()))?;
        UpstreamConfig::parse(&bytes).map_err(|error| unknown(error.to_string()))
    }

    /// Another upstream's validators would earn a "not modified" that means nothing: with a new address all of them go.
    pub(super) fn forget_another_upstream(&self) -> Result<(), Error> {
        let Some(upstream) = &self.upstream else {
            return Ok(());
        };
        let base = upstream.base().to_string();
        let before = self.metadata.fact(UPSTREAM_FACT)?;
        if before.as_deref() == Some(base.as_bytes()) {
            return Ok(());
        }
        let mut paths = Vec::new();
        if before.is_some() {
            log::info!("the sparse upstream is {base} now: every index file will be asked for as a whole once");
            self.tree.for_each_file(|path, _| paths.push(path))?;
        }
        for path in paths {
            self.metadata.forget_upstream_state(&path)?;
        }
        Ok(self.metadata.set_fact(UPSTREAM_FACT, base.as_bytes())?)
    }

    /// Asks for `config.json` and remembers a good one.
    pub(super) async fn fetch_config(self: &Arc<Self>, upstream: &UpstreamSparse) -> Result<(), Failure> {
        let bytes = upstream.config_json().await?;
        let is_here = locked(&self.upstream_config).is_some();
        let config = UpstreamConfig::parse(&bytes).map_err(|error| self.refused("config.json", is_here, &error))?;
        if locked(&self.upstream_config).replace(config.clone()).as_ref() != Some(&config) {
            log::info!(
                "upstream's config.json says that crate files are at {}",
                config.download.as_str()
            );
            self.remember_config(fact_name(upstream), bytes).await;
        }
        Ok(())
    }

    async fn remember_config(self: &Arc<Self>, fact: String, bytes: Bytes) {
        let inner = Arc::clone(self);
        let remembered = self.blocking(move || Ok(inner.metadata.set_fact(&fact, &bytes)?)).await;
        if let Err(error) = remembered {
            log::warn!("failed to remember upstream's config.json: {}", with_sources(&error));
        }
    }
}

/// One per upstream: another one's would send requests to the wrong place.
fn fact_name(upstream: &UpstreamSparse) -> String {
    format!("config.json of {}", upstream.base())
}
