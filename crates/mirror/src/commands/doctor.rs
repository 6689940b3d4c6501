//! `mirror doctor`: what an administrator or a bug report needs, each line a fact, each problem a line that says so.

use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;

use index_sync::PublishedTree;
use registry::UpstreamConfig;
use upstream_http::{Request, UpstreamHttp, UpstreamUrl};

use super::{Ended, say};
use crate::appliance::upstream_client;
use crate::control::{self, ask};
use crate::data_dir::check_format;
use crate::error::chain;
use crate::free_space::{file_system, free_bytes};
use crate::settings::{Follow, Settings};

/// A clock before this is wrong: the day this was written, in Unix seconds.
const NOT_BEFORE: u64 = 1_795_132_800;

/// Looks at everything and prints it. Fails if something is wrong that keeps the mirror from its work.
pub fn doctor(settings: Settings) -> Ended {
    let mut report = Report::default();
    versions(&mut report);
    disk(&mut report, &settings);
    clock(&mut report);
    server(&mut report, &settings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        upstream(&mut report, &settings).await;
        upstream_git(&mut report, &settings).await;
    });
    let problems = report.problems;
    let verdict = match problems {
        0 => "no problem found\n".to_owned(),
        1 => "1 problem found\n".to_owned(),
        _ => format!("{problems} problems found\n"),
    };
    say(&(report.text + "\n" + &verdict))?;
    Ok(problems == 0)
}

#[derive(Default)]
struct Report {
    text: String,
    problems: usize,
}

impl Report {
    fn section(&mut self, title: &str) {
        let _ = writeln!(self.text, "{}{title}", if self.text.is_empty() { "" } else { "\n" });
    }

    fn fact(&mut self, what: &str, value: impl std::fmt::Display) {
        let value: String = value
            .to_string()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let _ = writeln!(self.text, "  {what:<24} {value}");
    }

    fn problem(&mut self, what: &str, why: impl std::fmt::Display) {
        self.problems += 1;
        self.fact(what, format!("PROBLEM: {why}"));
    }

    fn result(&mut self, what: &str, result: Result<impl std::fmt::Display, impl std::fmt::Display>) {
        match result {
            Ok(value) => self.fact(what, value),
            Err(why) => self.problem(what, why),
        }
    }
}

fn versions(report: &mut Report) {
    report.section("Versions");
    report.fact("mirror", env!("CARGO_PKG_VERSION"));
    report.fact("SQLite", metadata_db::sqlite_version());
    let system = rustix::system::uname();
    let (name, release) = (system.sysname().to_string_lossy(), system.release().to_string_lossy());
    report.fact("system", format!("{name} {release} {}", std::env::consts::ARCH));
}

fn disk(report: &mut Report, settings: &Settings) {
    report.section("Data directory");
    let dir = &settings.data_dir;
    let shown = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
    report.fact(
        "path",
        format!("{} (from {})", shown.display(), settings.layers.get("data_dir").source),
    );
    if let Err(error) = check_format(dir) {
        report.problem("format", error);
    }
    let there = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("."));
    report.result("file system", file_system(there));
    match free_bytes(there) {
        Ok(free) if free < settings.min_free_bytes => report.problem(
            "free",
            format!(
                "{free} bytes, less than cache.min_free ({}): nothing new is kept",
                settings.min_free_bytes
            ),
        ),
        free => report.result("free", free.map(|free| format!("{free} bytes"))),
    }
    if !dir.is_dir() {
        return report.fact("state", "not there yet; `mirror serve` makes it");
    }
    match PublishedTree::open_read_only(&dir.join("index.git")).and_then(|tree| Ok((tree.tip()?, tree.count_files()?)))
    {
        Ok((tip, files)) => {
            let commit = tip.map_or("no commit yet".to_owned(), |tip| tip.commit.to_string());
            report.fact("index", format!("{files} crates at {commit}"));
        }
        Err(error) => report.problem("index", chain(&error)),
    }
    let totals = metadata_db::MetadataDb::open_read_only(&dir.join("mirror.db")).and_then(|db| db.totals());
    let totals = totals.map(|totals| {
        format!(
            "{} files of {} crates, {} bytes",
            totals.files, totals.crates, totals.bytes
        )
    });
    report.result("kept", totals.map_err(|error| chain(&error)));
}

fn clock(report: &mut Report) {
    report.section("Clock");
    let seconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    if seconds < NOT_BEFORE {
        report.problem(
            "now",
            format!("{seconds} seconds since 1970 lies in the past: TLS will fail"),
        );
    } else {
        report.fact("now", format!("{seconds} seconds since 1970"));
    }
}

fn server(report: &mut Report, settings: &Settings) {
    report.section("Server");
    match ask(&settings.data_dir, &control::Request::Health) {
        Ok(Some(reply)) if reply.ok => report.fact("running", reply.message),
        Ok(Some(reply)) => report.problem("running", reply.message),
        Ok(None) => report.fact("running", "no"),
        Err(error) => report.problem("control.sock", error),
    }
}

async fn upstream(report: &mut Report, settings: &Settings) {
    report.section("Upstream");
    let source = &settings.layers.get("upstream.sparse").source;
    let Some(base) = &settings.upstream.sparse else {
        return report.fact("sparse index", format!("none (from {source})"));
    };
    report.fact("sparse index", format!("{base} (from {source})"));
    let client = match upstream_client(settings) {
        Ok(client) => client,
        Err(error) => return report.problem("client", chain(&*error)),
    };
    report.fact("calls itself", client.describe().user_agent);
    let Ok(url) = base.parse::<UpstreamUrl>().and_then(|base| base.join("config.json")) else {
        return report.problem("sparse index", "this is no address that can be asked");
    };
    let token = settings
        .upstream
        .token
        .as_deref()
        .and_then(|token| upstream_http::Token::new(token).ok());
    client.trust(url.authority().clone(), token.clone());
    if let Some((_, outcome)) = probe(report, &client, url.clone()).await {
        report.result("answer", outcome);
    }
    let config = match config_json(&client, url.clone()).await {
        Ok(config) => config,
        Err(why) => return report.problem("config.json", why),
    };
    let template = settings.upstream.download.clone().unwrap_or(config.download);
    report.fact("download address", template.as_str());
    one_fetch(report, settings, &client, &template, &url).await;
}

/// The repository that the whole index is followed from. While nobody needs it, one that cannot be reached is a fact.
async fn upstream_git(report: &mut Report, settings: &Settings) {
    report.section("Upstream over git");
    let source = &settings.layers.get("upstream.git").source;
    let Some(base) = &settings.upstream.git else {
        return report.fact("git index", format!("none (from {source})"));
    };
    report.fact("git index", format!("{base} (from {source})"));
    let follow = settings.layers.get("index.follow");
    report.fact("followed", format!("{} (from {})", follow.text, follow.source));
    let client = match upstream_client(settings) {
        Ok(client) => client,
        Err(error) => return report.problem("client", chain(&*error)),
    };
    let Ok(url) = format!("{base}/info/refs?service=git-upload-pack").parse::<UpstreamUrl>() else {
        return report.problem("git index", "this is no address that can be asked");
    };
    let token = settings.upstream.token.as_deref();
    let token = token.and_then(|token| upstream_http::Token::new(token).ok());
    client.trust(url.authority().clone(), token);
    let Some((status, outcome)) = probe(report, &client, url).await else {
        return;
    };
    let outcome = match status {
        Some(200) | None => outcome,
        Some(_) => outcome.and_then(|answer| Err(format!("{answer} where a git repository answers 200"))),
    };
    match outcome {
        Err(why) if settings.follow != Follow::Always => report.fact("answer", format!("none that can be used: {why}")),
        outcome => report.result("answer", outcome),
    }
}

/// How `url` is reached, as facts; what it answers is the caller's to judge: its status, and that or the failure in words.
async fn probe(
    report: &mut Report,
    client: &UpstreamHttp,
    url: UpstreamUrl,
) -> Option<(Option<u16>, Result<String, String>)> {
    let probe = client.probe(url).await.ok()?;
    let addresses: Vec<String> = probe.addresses.iter().map(ToString::to_string).collect();
    report.fact(
        "resolves to",
        if addresses.is_empty() {
            "left to the proxy".to_owned()
        } else {
            addresses.join(", ")
        },
    );
    report.fact("route", &probe.route);
    report.fact(
        "root certificates",
        format!("{} ({})", probe.roots.count, probe.roots.origin),
    );
    if let Some(issuer) = &probe.certificate_issuer {
        report.fact("certificate issuer", issuer);
    }
    report.fact("protocol", probe.protocol.as_deref().unwrap_or("http/1.1"));
    let status = probe.outcome.as_ref().ok().copied();
    let outcome = probe
        .outcome
        .map(|status| format!("status {status} in {:.0?}", probe.took));
    Some((status, outcome.map_err(|error| chain(&error))))
}

async fn config_json(client: &UpstreamHttp, url: UpstreamUrl) -> Result<UpstreamConfig, String> {
    let response = client
        .get(Request::get(url, 64 << 10))
        .await
        .map_err(|error| chain(&error))?;
    if response.status != 200 {
        return Err(format!("status {}", response.status));
    }
    let bytes = response.body.collect(64 << 10).await.map_err(|error| chain(&error))?;
    UpstreamConfig::parse(&bytes).map_err(|error| error.to_string())
}

/// One real fetch: a small crate file, checked against the index, and thrown away.
async fn one_fetch(
    report: &mut Report,
    settings: &Settings,
    client: &UpstreamHttp,
    template: &registry::DownloadTemplate,
    config_url: &UpstreamUrl,
) {
    let fetched = async {
        let path: registry::IndexPath = "it/oa/itoa"
            .parse()
            .map_err(|error: registry::Error| error.to_string())?;
        let url = config_url.join(path.as_str()).map_err(|error| error.to_string())?;
        let response = client
            .get(Request::get(url, 32 << 20))
            .await
            .map_err(|error| chain(&error))?;
        if response.status != 200 {
            return Err(format!("status {} for the index file of itoa", response.status));
        }
        let index = response.body.collect(32 << 20).await.map_err(|error| chain(&error))?;
        let file = registry::IndexFile::parse(&index, &path).map_err(|error| error.to_string())?;
        let line = file.lines().last().ok_or("the index file is empty")?;
        let version = line.vers.parse().map_err(|error: registry::Error| error.to_string())?;
        let url: UpstreamUrl = template
            .url(&path.crate_name(), &version, &line.checksum)
            .parse()
            .map_err(|error: upstream_http::Error| error.to_string())?;
        let own = url.authority() == config_url.authority();
        let token = settings.upstream.token.as_deref().filter(|_| own);
        client.trust(
            url.authority().clone(),
            token.and_then(|token| upstream_http::Token::new(token).ok()),
        );
        let started = std::time::Instant::now();
        let response = client
            .get(Request::get(url, settings.max_file_bytes))
            .await
            .map_err(|error| chain(&error))?;
        if response.status != 200 {
            return Err(format!("status {} from {}", response.status, response.url));
        }
        let host = response.url.authority().to_string();
        let bytes = response
            .body
            .collect(settings.max_file_bytes)
            .await
            .map_err(|error| chain(&error))?;
        if registry::Checksum::of(&bytes) != line.checksum {
            return Err(format!("itoa {version} from {host} has the wrong checksum"));
        }
        Ok(format!(
            "itoa {version}, {} bytes from {host} in {:.0?}, checksum right",
            bytes.len(),
            started.elapsed()
        ))
    };
    let fetched: Result<String, String> = fetched.await;
    report.result("one real fetch", fetched);
}
