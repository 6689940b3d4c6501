//! How connections are made: names resolved and checked, addresses raced, tunnels asked for.

use std::{
    cell::{Cell, RefCell},
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_rt::net::TcpStream;
use actix_service::Service;
use actix_tls::connect::{
    ConnectError, ConnectInfo, Connection, Host,
    rustls_0_23::{TlsConnector, reexports::AsyncTlsStream},
};
use awc::http::Uri;
use futures_util::future::LocalBoxFuture;
use rustls::ClientConfig;

use crate::{
    Authority, Error, Proxy, ProxyChoice, UpstreamUrl,
    address::blocked,
    race::{lookup, race},
    stream::Watched,
    trust::Trust,
    tunnel::tunnel,
};

/// One try at a request: what the connector is to do, and what it found.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub url: UpstreamUrl,
    pub route: ProxyChoice,
    dialled: Cell<bool>,
    connected: Cell<bool>,
    end: Cell<bool>,
    failure: RefCell<Option<Error>>,
}

impl Attempt {
    pub(crate) fn new(url: UpstreamUrl, route: ProxyChoice) -> Rc<Self> {
        Rc::new(Self {
            url,
            route,
            dialled: Cell::new(false),
            connected: Cell::new(false),
            end: Cell::new(false),
            failure: RefCell::new(None),
        })
    }

    /// The proxy that is asked for all of a plain http address.
    pub(crate) fn plain_proxy(&self) -> Option<&Proxy> {
        self.route.proxy().filter(|_| !self.url.is_https())
    }

    /// Whether a pooled connection was used.
    pub(crate) fn was_pooled(&self) -> bool {
        !self.dialled.get()
    }

    /// Whether TCP, and the tunnel if there is one, came about.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.get()
    }

    /// What the connector failed with.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.failure.take()
    }

    /// Whether the connection's end was seen since the response's head.
    pub(crate) fn saw_end(&self) -> bool {
        self.end.get()
    }

    /// Forgets ends of stale pooled connections, which the pool finds out before it takes a good one.
    pub(crate) fn head_arrived(&self) {
        self.end.set(false);
    }
}

tokio::task_local! {
    /// awc hands nothing but the address to a connector; the attempt goes beside it.
    pub(crate) static ATTEMPT: Rc<Attempt>;
}

/// Called by a connection that has ended. HTTP/2 connections are read by tasks of their own, outside any attempt.
pub(crate) fn note_end() {
    // No attempt: nobody to tell.
    let _ = ATTEMPT.try_with(|attempt| attempt.end.set(true));
}

/// What dialling needs to know.
#[derive(Debug)]
pub(crate) struct Dialler {
    pub trust: Arc<Trust>,
    pub connect_timeout: Duration,
}

impl Dialler {
    /// A connection to upstream, or a tunnel to it, or (for plain http) a connection to the proxy.
    pub(crate) async fn dial(&self, url: &UpstreamUrl, route: &ProxyChoice) -> Result<TcpStream, Error> {
        let target = url.authority();
        let dialling = async {
            let Some(proxy) = route.proxy() else {
                let addresses = self.resolve(target).await?;
                return race(target, addresses).await;
            };
            let addresses = lookup(proxy.authority()).await?;
            let io = race(proxy.authority(), addresses).await?;
            if url.is_https() {
                tunnel(io, proxy, target).await
            } else {
                Ok(io)
            }
        };
        match tokio::time::timeout(self.connect_timeout, dialling).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Connect {
                target: route.proxy().map_or(target, Proxy::authority).to_string(),
                detail: format!("no connection within {:?}", self.connect_timeout),
            }),
        }
    }

    /// The addresses of upstream. All of them must be public unless it is trusted, so that no clever name server chooses.
    pub(crate) async fn resolve(&self, target: &Authority) -> Result<Vec<SocketAddr>, Error> {
        let addresses = lookup(target).await?;
        if !self.trust.contains(target) {
            for address in &addresses {
                refuse_private(target, address.ip())?;
            }
        }
        Ok(addresses)
    }

    /// What can be known about an untrusted target when a proxy resolves its name.
    pub(crate) fn check_proxied(&self, url: &UpstreamUrl, route: &ProxyChoice) -> Result<(), Error> {
        let target = url.authority();
        if route.proxy().is_none() || self.trust.contains(target) {
            return Ok(());
        }
        let host = target.host();
        if host == "localhost" || host.ends_with(".localhost") {
            return refuse_private(target, IpAddr::from([127, 0, 0, 1]));
        }
        target.ip().map_or(Ok(()), |ip| refuse_private(target, ip))
    }
}

/// The name that a certificate must have. actix-tls takes a `String` apart at its first colon, which no IPv6 address survives.
struct ServerHost(String);

impl Host for ServerHost {
    fn hostname(&self) -> &str {
        &self.0
    }

    fn port(&self) -> Option<u16> {
        None
    }
}

/// TLS on a connection; awc does the same where it lays TLS itself.
pub(crate) async fn lay_tls(
    io: TcpStream,
    target: &Authority,
    tls: &Arc<ClientConfig>,
    timeout: Duration,
) -> Result<Box<AsyncTlsStream<TcpStream>>, Error> {
    let host = ServerHost(target.bare_host().to_owned());
    let handshake = TlsConnector::service(Arc::clone(tls)).call(Connection::new(host, io));
    let outcome = match tokio::time::timeout(timeout, handshake).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    match outcome {
        Ok(connection) => Ok(Box::new(connection.into_parts().0)),
        Err(source) => Err(tls_error(target, source)),
    }
}

pub(crate) fn tls_error(target: &Authority, source: io::Error) -> Error {
    let said = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    Error::Tls {
        target: target.to_string(),
        certificate: matches!(said, Some(rustls::Error::InvalidCertificate(_))),
        source,
    }
}

/// The connector service. With `tls`, it lays TLS itself on https, and awc takes the outcome for plain HTTP/1.1.
#[derive(Clone)]
pub(crate) struct Connector {
    pub dialler: Rc<Dialler>,
    pub tls: Option<Arc<ClientConfig>>,
}

impl Connector {
    async fn connect(&self, attempt: &Attempt) -> Result<Watched, Error> {
        attempt.dialled.set(true);
        let url = &attempt.url;
        let io = self.dialler.dial(url, &attempt.route).await?;
        attempt.connected.set(true);
        match &self.tls {
            Some(tls) if url.is_https() => {
                let timeout = self.dialler.connect_timeout;
                let laid = lay_tls(io, url.authority(), tls, timeout).await?;
                Ok(Watched::Tls(laid))
            }
            _ => Ok(Watched::Tcp(io)),
        }
    }
}

impl Service<ConnectInfo<Uri>> for Connector {
    type Response = Connection<Uri, Watched>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let attempt = ATTEMPT.try_with(Rc::clone).map_err(|_| ConnectError::Unresolved)?;
            match connector.connect(&attempt).await {
                Ok(io) => Ok(Connection::new(info.request().clone(), io)),
                Err(error) => {
                    attempt.failure.replace(Some(error));
                    Err(ConnectError::Unresolved)
                }
            }
        })
    }
}

fn refuse_private(target: &Authority, address: IpAddr) -> Result<(), Error> {
    match blocked(address) {
        None => Ok(()),
        Some(why) => Err(Error::Address {
            host: target.host().to_owned(),
            address,
            why,
        }),
    }
}
