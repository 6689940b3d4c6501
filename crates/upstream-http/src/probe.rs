//! What `mirror doctor` wants to know about an upstream.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{
    Error, ProxyChoice, Request, Roots, UpstreamUrl,
    certificate::issuer,
    connect::lay_tls,
    engine::Engine,
    tls::{Tls, builder, provider},
};

/// What a try at one address found. Fields that a failure came before are empty.
#[derive(Debug)]
pub struct Probe {
    /// What was tried.
    pub url: UpstreamUrl,
    /// The proxy, and why.
    pub route: ProxyChoice,
    /// Upstream's addresses; empty behind a proxy, which resolves by itself.
    pub addresses: Vec<IpAddr>,
    /// What was connected to: upstream or the proxy.
    pub peer: Option<SocketAddr>,
    /// Who issued the certificate, also if it is not believed.
    pub certificate_issuer: Option<String>,
    /// What ALPN agreed on (`h2`, `http/1.1`).
    pub protocol: Option<String>,
    /// What certificates are checked against.
    pub roots: Roots,
    /// The status of a GET, or what went wrong first.
    pub outcome: Result<u16, Error>,
    /// How long all of it took.
    pub took: Duration,
}

pub(crate) async fn probe(engine: &Engine, url: UpstreamUrl) -> Probe {
    let started = Instant::now();
    let mut probe = Probe {
        route: engine.shared.proxies.choose(&url),
        addresses: Vec::new(),
        peer: None,
        certificate_issuer: None,
        protocol: None,
        roots: engine.shared.tls.roots.clone(),
        outcome: Err(Error::Stopped),
        took: Duration::ZERO,
        url,
    };
    probe.outcome = steps(engine, &mut probe).await;
    probe.took = started.elapsed();
    probe
}

async fn steps(engine: &Engine, probe: &mut Probe) -> Result<u16, Error> {
    engine.shared.tls.check(&probe.url)?;
    let target = probe.url.authority().clone();
    engine.dialler.check_proxied(&probe.url, &probe.route)?;
    if probe.route.proxy().is_none() {
        let addresses = engine.dialler.resolve(&target).await?;
        probe.addresses = addresses.iter().map(SocketAddr::ip).collect();
    }
    let io = engine.dialler.dial(&probe.url, &probe.route).await?;
    probe.peer = io.peer_addr().ok();
    if probe.url.is_https() {
        let (tls, seen) = recording(&engine.shared.tls, engine.shared.config.http2)?;
        let timeout = engine.shared.config.connect_timeout;
        let laid = lay_tls(io, &target, &tls, timeout).await;
        probe.certificate_issuer = seen.issuer();
        let laid = laid?;
        let protocol = laid.get_ref().1.alpn_protocol();
        probe.protocol = protocol.map(|name| String::from_utf8_lossy(name).into_owned());
    }
    let mut request = Request::get(probe.url.clone(), u64::MAX);
    request.fresh_connection = true;
    let arrived = engine.ask(&request, None).await?;
    Ok(arrived.response.status().as_u16())
}

/// The checks of every other connection, with a note of whose certificate was checked.
#[derive(Debug)]
struct Recording {
    inner: Arc<WebPkiServerVerifier>,
    issuer: Mutex<Option<String>>,
}

impl Recording {
    fn issuer(&self) -> Option<String> {
        self.issuer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn recording(tls: &Tls, http2: bool) -> Result<(Arc<ClientConfig>, Arc<Recording>), Error> {
    let store = Arc::clone(&tls.store);
    let inner = WebPkiServerVerifier::builder_with_provider(store, provider())
        .build()
        .map_err(|error| Error::TlsSetup(rustls::Error::General(error.to_string())))?;
    let recording = Arc::new(Recording {
        inner,
        issuer: Mutex::default(),
    });
    let verifier: Arc<dyn ServerCertVerifier> = Arc::clone(&recording) as _;
    // "dangerous" is any verifier that is not rustls's own; this one asks rustls's own.
    let builder = builder()?.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = builder.with_no_client_auth();
    let same = if http2 { &tls.any } else { &tls.http1 };
    config.alpn_protocols.clone_from(&same.alpn_protocols);
    Ok((Arc::new(config), recording))
}

impl ServerCertVerifier for Recording {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = issuer(end_entity);
        *self.issuer.lock().unwrap_or_else(PoisonError::into_inner) = found;
        self.inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = || "unknown".to_owned();
        writeln!(f, "{}", self.url.shown())?;
        writeln!(f, "  route: {}", self.route)?;
        if !self.addresses.is_empty() {
            let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
            writeln!(f, "  addresses: {}", addresses.join(", "))?;
        }
        writeln!(
            f,
            "  connected to: {}",
            self.peer.map_or_else(unknown, |peer| peer.to_string())
        )?;
        if self.url.is_https() {
            writeln!(
                f,
                "  certificate issued by: {}",
                self.certificate_issuer.clone().unwrap_or_else(unknown)
            )?;
            writeln!(f, "  protocol: {}", self.protocol.clone().unwrap_or_else(unknown))?;
            writeln!(f, "  root certificates: {} ({})", self.roots.count, self.roots.origin)?;
        }
        match &self.outcome {
            Ok(status) => writeln!(f, "  answered {status} after {:?}", self.took),
            Err(error) => writeln!(f, "  failed after {:?}: {error}", self.took),
        }
    }
}
