//! How upstream is reached, by both of its indexes.

use registry::UpstreamConfig;
use upstream_http::{Request, UpstreamHttp, UpstreamUrl};

use super::Report;
use crate::appliance::upstream_client;
use crate::error::chain;
use crate::settings::{Follow, Settings};

/// Nobody may be asked, and that is as it should be.
pub(super) fn offline(report: &mut Report, settings: &Settings) {
    report.section("Upstream");
    let source = &settings.layers.get("mode").source;
    report.fact("asked", format!("nobody: the mode is offline (from {source})"));
}

/// The sparse index, its download address, and one real fetch.
pub(super) async fn upstream(report: &mut Report, settings: &Settings) {
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
pub(super) async fn upstream_git(report: &mut Report, settings: &Settings) {
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
