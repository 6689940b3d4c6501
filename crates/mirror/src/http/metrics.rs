//! What the mirror counts, in OpenMetrics.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use index_sync::{FollowStatus, PackLogState};
use metadata_db::ImportResult;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::appliance::Appliance;
use crate::free_space::free_bytes;

/// The text of `/metrics` at this moment. Blocks for the database.
pub fn encode(appliance: Arc<Appliance>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("mirror");
    registry.register_collector(Box::new(Readings(appliance)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Readings(Arc<Appliance>);

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut encoder;
        self.crate_files(out)?;
        self.care(out)?;
        self.air_gap(out)?;
        self.index(out)?;
        self.following(out)?;
        self.git(out)?;
        self.connections(out)
    }
}

fn counter(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = ConstCounter::new(value);
    metric.encode(out.encode_descriptor(name, help, None, prometheus_client::metrics::MetricType::Counter)?)
}

fn gauge(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    metric.encode(out.encode_descriptor(name, help, None, prometheus_client::metrics::MetricType::Gauge)?)
}

impl Readings {
    fn crate_files(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (statistics, cache) = (&self.0.statistics, self.0.cache.stats());
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        counter(
            out,
            "crate_hits",
            "Crate files answered from what is kept",
            load(&statistics.hits),
        )?;
        counter(
            out,
            "crate_misses",
            "Crate files that had to be fetched",
            load(&statistics.misses),
        )?;
        counter(out, "fills_ok", "Fills that brought the right bytes", cache.fills_ok)?;
        counter(out, "fills_failed", "Fills that failed", cache.fills_failed)?;
        counter(
            out,
            "fills_not_kept",
            "Fills passed on but not kept",
            cache.fills_not_kept,
        )?;
        counter(
            out,
            "fill_retries",
            "Attempts of fills that failed and were repeated",
            cache.retries,
        )?;
        counter(
            out,
            "fill_waiters_joined",
            "Requests that joined a running fill",
            cache.waiters_joined,
        )?;
        counter(
            out,
            "upstream_crate_bytes",
            "Bytes of crate files from upstream",
            cache.bytes_fetched,
        )?;
        counter(
            out,
            "memory_hits",
            "Crate files that were given from memory",
            cache.memory_hits,
        )?;
        gauge(
            out,
            "memory_bytes",
            "Small crate files in memory, in bytes",
            cache.memory_bytes,
        )?;
        gauge(out, "fills_running", "Fills under way", cache.fills_running)?;
        gauge(
            out,
            "fills_waiting",
            "Fills that wait for their turn",
            cache.fills_waiting,
        )?;
        if let Ok(totals) = self.0.metadata.totals() {
            gauge(out, "kept_files", "Crate files kept", totals.files)?;
            gauge(out, "kept_bytes", "Their size in bytes", totals.bytes)?;
            gauge(out, "kept_crates", "Different crates among them", totals.crates)?;
        }
        if let Ok(free) = free_bytes(self.0.data_dir()) {
            gauge(out, "disk_free_bytes", "Free bytes where the data directory is", free)?;
        }
        Ok(())
    }

    /// The budget, and what is done against rot.
    fn care(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (budget, scrubbed) = (&self.0.budget, &self.0.scrubbed);
        if let Some(max_bytes) = self.0.settings.cache.max_bytes {
            gauge(
                out,
                "budget_bytes",
                "What may be kept of crate files, in bytes",
                max_bytes,
            )?;
        }
        counter(
            out,
            "evicted_files",
            "Crate files that went to make room",
            budget.evicted_files.load(Relaxed),
        )?;
        counter(
            out,
            "evicted_bytes",
            "Their size in bytes",
            budget.evicted_bytes.load(Relaxed),
        )?;
        counter(
            out,
            "bad_files",
            "Kept files that had wrong bytes and were set aside",
            self.0.cache.stats().bad_files,
        )?;
        counter(
            out,
            "missing_files",
            "Files that are recorded and were found missing in the background",
            scrubbed.missing.load(Relaxed),
        )?;
        counter(
            out,
            "repaired_files",
            "Bad and missing files that were fetched again by themselves",
            scrubbed.repaired.load(Relaxed),
        )?;
        counter(
            out,
            "scrubbed_files",
            "Kept files that were hashed again in the background",
            scrubbed.files.load(Relaxed),
        )?;
        counter(
            out,
            "scrubbed_bytes",
            "Their size in bytes",
            scrubbed.bytes.load(Relaxed),
        )?;
        counter(
            out,
            "unreadable_files",
            "Kept files that the disk could not read in the background",
            scrubbed.unreadable.load(Relaxed),
        )
    }

    /// What is wanted, and what came.
    fn air_gap(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let asked = self.0.wanted.noted();
        counter(
            out,
            "wanted_requests",
            "Requests for what is not here, while offline",
            asked,
        )?;
        if let Ok(wanted) = self.0.decisions.count_wanted() {
            gauge(
                out,
                "wanted",
                "Crate files and index files on the list of what is wanted",
                wanted,
            )?;
        }
        if let Ok(counts) = self.0.decisions.import_counts() {
            let of = |wanted| {
                counts
                    .iter()
                    .find(|(result, _)| *result == wanted)
                    .map_or(0, |(_, count)| *count)
            };
            let (whole, refused) = (of(ImportResult::Imported), of(ImportResult::Refused));
            counter(out, "imports", "Bundles that were imported, since the log began", whole)?;
            counter(
                out,
                "imports_refused",
                "Imports that were refused, since the log began",
                refused,
            )?;
        }
        Ok(())
    }

    fn index(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (statistics, index) = (&self.0.statistics, self.0.index.status());
        let seconds = |time: SystemTime| time.elapsed().unwrap_or_default().as_secs();
        counter(
            out,
            "index_answers",
            "Index files answered",
            statistics.index_answers.load(Relaxed),
        )?;
        counter(
            out,
            "index_not_modified",
            "Of them with 304",
            statistics.index_not_modified.load(Relaxed),
        )?;
        counter(
            out,
            "upstream_index_requests",
            "Index requests sent upstream",
            index.requests,
        )?;
        counter(
            out,
            "upstream_index_not_modified",
            "Of them answered with 304",
            index.not_modified,
        )?;
        counter(
            out,
            "upstream_index_refused",
            "Answers of upstream that were refused",
            index.refused,
        )?;
        gauge(out, "index_files", "Index files published", index.files)?;
        gauge(
            out,
            "index_pending",
            "Index files that wait for their commit",
            index.pending as u64,
        )?;
        gauge(
            out,
            "index_held",
            "Changes of upstream that are held for the operator",
            index.held,
        )?;
        gauge(out, "index_memory_bytes", "Index files in memory", index.memory_bytes)?;
        if let Some(success) = index.last_upstream_success {
            gauge(
                out,
                "upstream_success_age_seconds",
                "Since upstream last answered well",
                seconds(success),
            )?;
        }
        Ok(())
    }

    fn following(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.0.index.follow_status();
        let of = |read: fn(&FollowStatus) -> u64| status.as_ref().map_or(0, read);
        gauge(
            out,
            "index_whole",
            "1 once the whole index has come from upstream's git repository",
            of(|status| status.synced.into()),
        )?;
        gauge(
            out,
            "follow_failing",
            "1 while the last round of following upstream's git repository failed",
            of(|status| status.last_error.is_some().into()),
        )?;
        counter(
            out,
            "follow_rounds",
            "Rounds of following that went well",
            of(|status| status.rounds),
        )?;
        counter(
            out,
            "follow_unreadable_files",
            "Files of upstream's git repository with lines that could not be read",
            of(|status| status.unreadable_files),
        )?;
        if let Some(success) = status.and_then(|status| status.last_success) {
            gauge(
                out,
                "follow_success_age_seconds",
                "Since a round of following went well",
                success.elapsed().unwrap_or_default().as_secs(),
            )?;
        }
        Ok(())
    }

    fn git(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let statistics = &self.0.statistics;
        counter(
            out,
            "git_packs",
            "Packs begun for git clients, clones and updates",
            statistics.git_packs.load(Relaxed),
        )?;
        counter(
            out,
            "git_refused",
            "Git clients that were told why they get no index",
            statistics.git_refused.load(Relaxed),
        )?;
        let bytes = match self.0.index.pack_log() {
            Some(PackLogState::Ready(log)) => Some(log.view().payload_bytes()),
            _ => None,
        };
        gauge(
            out,
            "git_ready",
            "1 while the pack log is there to serve git clients from",
            bytes.is_some().into(),
        )?;
        gauge(
            out,
            "git_pack_log_bytes",
            "Objects in the pack log, deflated",
            bytes.unwrap_or(0),
        )?;
        gauge(
            out,
            "git_packs_running",
            "Packs being sent to git clients, or about to be",
            self.0.git_clones.running() as u64,
        )
    }

    fn connections(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let connections = &self.0.connections;
        counter(
            out,
            "connections_http1",
            "Connections that spoke HTTP/1",
            connections.http1(),
        )?;
        counter(
            out,
            "connections_http2",
            "Connections with HTTP/2 by prior knowledge",
            connections.http2(),
        )?;
        counter(
            out,
            "connections_upgraded",
            "Connections upgraded to HTTP/2",
            connections.upgraded(),
        )?;
        counter(
            out,
            "connections_refused",
            "Connections refused because there were too many",
            connections.refused(),
        )?;
        counter(
            out,
            "connections_cut",
            "Connections cut because the client took or sent too little",
            connections.cut(),
        )?;
        gauge(out, "connections_open", "Connections open now", connections.open())
    }
}
