//! TLS with certificates that are made on the spot, if there is an `openssl` to make them.

use std::{fs, path::Path, process::Command, sync::Arc};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tempfile::TempDir;

use super::{
    config, fetch, run,
    server::{Reply, Server, ok, redirect_to},
    start,
};
use crate::{Error, ProxyConfig, UpstreamHttp, UpstreamUrl, tls};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";

/// A root certificate, and a server's that it issued.
pub(super) struct Issued {
    folder: TempDir,
    pub server: Arc<ServerConfig>,
}

impl Issued {
    /// `None` if there is no `openssl`, which the caller says and returns.
    fn new(names: &str) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            let ran = command.args(arguments.split(' ')).current_dir(folder.path()).output();
            match ran {
                Ok(output) => assert!(output.status.success(), "{output:?}"),
                Err(error) => {
                    eprintln!("skipped: no openssl to make certificates with: {error}");
                    return None;
                }
            }
            Some(())
        };
        fs::write(folder.path().join("names"), format!("subjectAltName={names}\n")).unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(&format!(
            "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /O=Acme/CN=Inspector"
        ))?;
        openssl(&format!("req {key} -keyout key.pem -out request.pem -subj /CN=server"))?;
        openssl(
            "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile names",
        )?;
        let server = server_config(folder.path());
        Some(Self { folder, server })
    }

    pub fn localhost() -> Option<Self> {
        Self::new("DNS:localhost,IP:127.0.0.1")
    }

    pub fn client(&self) -> UpstreamHttp {
        let mut config = config();
        config.ca_file = Some(self.folder.path().join("ca.pem"));
        start(config)
    }

    fn server(&self, script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Server {
        Server::start_tls(Arc::clone(&self.server), move |seen| script(seen.target()))
    }
}

fn server_config(folder: &Path) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(folder.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    Arc::new(config)
}

pub(super) fn https(server: &Server, path: &str) -> UpstreamUrl {
    format!("https://127.0.0.1:{}{path}", server.port()).parse().unwrap()
}

pub(super) fn trusted(client: UpstreamHttp, server: &Server) -> UpstreamHttp {
    client.trust(server.authority(), None);
    client
}

#[test]
fn the_ca_file_is_believed_and_connections_are_kept() {
    let Some(issued) = Issued::localhost() else { return };
    let server = issued.server(|_| Reply::Keep(ok("hello")));
    let client = trusted(issued.client(), &server);
    for _ in 0..3 {
        assert_eq!(run(fetch(&client, https(&server, "/"))).unwrap().1, b"hello");
    }
    // The first one showed that this host speaks HTTP/1.1 only.
    assert_eq!(server.connections(), 2);
}

#[test]
fn other_certificates_are_refused() {
    let Some(issued) = Issued::localhost() else { return };
    let server = issued.server(|_| Reply::Keep(ok("hello")));
    let error = run(fetch(&trusted(start(config()), &server), https(&server, "/"))).unwrap_err();
    assert!(matches!(error, Error::Tls { certificate: true, .. }), "{error:?}");
    assert!(
        error.to_string().contains("upstream.ca_file") && !error.is_transient(),
        "{error}"
    );

    let Some(elsewhere) = Issued::new("DNS:elsewhere.example") else {
        return;
    };
    let server = elsewhere.server(|_| Reply::Keep(ok("hello")));
    let client = trusted(elsewhere.client(), &server);
    let error = run(fetch(&client, https(&server, "/"))).unwrap_err();
    assert!(matches!(error, Error::Tls { certificate: true, .. }), "{error:?}");
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn a_server_without_tls_is_a_tls_error() {
    let server = Server::saying(|| Reply::Close(Vec::new()));
    let answering = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = answering.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for io in answering.incoming() {
            std::io::Write::write_all(&mut io.unwrap(), b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        }
    });
    let client = trusted(start(config()), &server);
    client.trust(format!("127.0.0.1:{port}").parse().unwrap(), None);
    let url = format!("https://127.0.0.1:{port}/").parse().unwrap();
    let error = run(fetch(&client, url)).unwrap_err();
    assert!(matches!(error, Error::Tls { certificate: false, .. }), "{error:?}");
}

/// The case for which there is a second client: TLS ends properly, the chunks do not.
#[test]
fn a_chunked_body_that_is_cut_within_tls_is_an_error() {
    let Some(issued) = Issued::localhost() else { return };
    let server = issued.server(|path| match path {
        "/cut" => Reply::Close(format!("{CHUNKED}\r\n5\r\nhello\r\n").into_bytes()),
        "/close" => Reply::Close(format!("{CHUNKED}Connection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n").into_bytes()),
        _ => Reply::Keep(format!("{CHUNKED}\r\n5\r\nhello\r\n0\r\n\r\n").into_bytes()),
    });
    // Whether the host is known already or not.
    for known in [false, true] {
        let client = trusted(issued.client(), &server);
        if known {
            assert_eq!(run(fetch(&client, https(&server, "/"))).unwrap().1, b"hello");
        }
        let error = run(fetch(&client, https(&server, "/cut"))).unwrap_err();
        assert!(matches!(error, Error::Truncated { received_bytes: 5, .. }), "{error:?}");
        assert_eq!(run(fetch(&client, https(&server, "/close"))).unwrap().1, b"hello");
    }
}

#[test]
fn https_is_not_left() {
    let Some(issued) = Issued::localhost() else { return };
    let plain = Server::saying(|| Reply::Keep(ok("hello")));
    let target = plain.url("/").to_string();
    let server = issued.server(move |_| Reply::Keep(redirect_to(302, &target)));
    let client = trusted(issued.client(), &server);
    client.trust(plain.authority(), None);
    let error = run(fetch(&client, https(&server, "/"))).unwrap_err();
    assert!(matches!(error, Error::Redirect { .. }), "{error:?}");
    assert!(error.to_string().contains("leaves https"), "{error}");
    assert_eq!(plain.connections(), 0);
}

#[test]
fn https_through_a_tunnel() {
    let Some(issued) = Issued::localhost() else { return };
    let server = issued.server(|_| Reply::Keep(format!("{CHUNKED}\r\n5\r\nhello\r\n0\r\n\r\n").into_bytes()));
    let port = server.port();
    let proxy = Server::saying(move || Reply::Tunnel(port));
    let mut config = config();
    config.ca_file = Some(issued.folder.path().join("ca.pem"));
    config.proxy = ProxyConfig {
        setting: Some(format!("127.0.0.1:{}", proxy.port())),
        ..ProxyConfig::default()
    };
    let client = trusted(start(config), &server);
    for _ in 0..3 {
        assert_eq!(run(fetch(&client, https(&server, "/"))).unwrap().1, b"hello");
    }
    assert_eq!(proxy.connections(), 2);
    let probe = run(client.probe(https(&server, "/"))).unwrap();
    assert_eq!(probe.outcome.unwrap(), 200);
    assert!(probe.addresses.is_empty() && probe.route.proxy().is_some());
}

#[test]
fn a_probe_tells_what_it_saw() {
    let Some(issued) = Issued::localhost() else { return };
    let server = issued.server(|_| Reply::Keep(ok("hello")));
    let probe = run(trusted(issued.client(), &server).probe(https(&server, "/"))).unwrap();
    assert_eq!(probe.certificate_issuer.as_deref(), Some("Inspector (Acme)"));
    assert!(matches!(probe.outcome, Ok(200)), "{probe}");
    assert!(probe.roots.origin.contains("1 of "), "{probe}");
    assert_eq!(probe.peer.unwrap().port(), server.port());
    // Also where it is not believed, which is when it matters.
    let probe = run(trusted(start(config()), &server).probe(https(&server, "/"))).unwrap();
    assert_eq!(probe.certificate_issuer.as_deref(), Some("Inspector (Acme)"));
    assert!(
        matches!(probe.outcome, Err(Error::Tls { certificate: true, .. })),
        "{probe}"
    );
    assert!(probe.to_string().contains("Inspector"), "{probe}");
}

#[test]
fn a_ca_file_that_is_none_is_named() {
    let folder = TempDir::new().unwrap();
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "nothing here\n").unwrap();
    let broken = folder.path().join("broken.pem");
    fs::write(
        &broken,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    for path in [
        empty,
        broken,
        folder.path().join("absent.pem"),
        folder.path().to_owned(),
    ] {
        let mut config = config();
        config.ca_file = Some(path.clone());
        let error = UpstreamHttp::start(config).unwrap_err();
        assert!(matches!(error, Error::CaFile { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}
