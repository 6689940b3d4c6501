//! The client against raw servers on loopback, which say exactly what a script says.

mod bodies;
mod connections;
mod http2;
mod posts;
mod proxies;
mod redirects;
mod server;
mod tls;

use std::{future::Future, path::Path, time::Duration};

use crate::{Config, Error, Request, Response, Token, UpstreamHttp, UpstreamUrl};
use server::Server;

const LIMIT: u64 = 1 << 20;

/// Runs a test, but not for ever.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let bounded = tokio::time::timeout(Duration::from_secs(30), test);
        bounded.await.expect("the test hangs")
    })
}

/// Short time-outs, and a root certificate whatever the system has.
fn config() -> Config {
    let mut config = Config::new("mirror-test (nobody@localhost)");
    config.ca_file = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/root.pem"));
    config.connect_timeout = Duration::from_secs(5);
    config.head_timeout = Duration::from_secs(5);
    config.stall_timeout = Duration::from_secs(5);
    config
}

fn start(config: Config) -> UpstreamHttp {
    UpstreamHttp::start(config).unwrap()
}

/// A client that trusts the server, without a token.
fn client_for(server: &Server) -> UpstreamHttp {
    let client = start(config());
    client.trust(server.authority(), None);
    client
}

fn url(text: &str) -> UpstreamUrl {
    text.parse().unwrap()
}

async fn get(client: &UpstreamHttp, url: UpstreamUrl) -> Result<Response, Error> {
    client.get(Request::get(url, LIMIT)).await
}

/// Head and body; the error of whichever fails.
async fn fetch(client: &UpstreamHttp, url: UpstreamUrl) -> Result<(u16, Vec<u8>), Error> {
    let response = get(client, url).await?;
    let body = response.body.collect(LIMIT).await?;
    Ok((response.status, body.to_vec()))
}
