//! Puts the acceptor before actix-http, on every listener and worker.

use std::{
    fmt::Debug,
    net::{SocketAddr, TcpListener},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use actix_http::{
    HttpService, Protocol, Request, Response,
    body::{BoxBody, MessageBody},
    error::DispatchError,
};
use actix_rt::net::TcpStream;
use actix_server::{GracefulShutdownSignal, Server, ServerBuilder};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_service};
use tokio::sync::watch;

use crate::{
    config::{Config, Connections, Kind},
    error::Error,
    io::{Io, Stopping},
    sniff,
};

/// How long actix-http reads on after an early answer, so that the client gets to see it.
const LINGER: Duration = Duration::from_secs(1);
/// Per worker; beyond it actix-server leaves connections in the backlog. Ours are limited, and told so, by [`Connections`].
const BEYOND_ALL_LIMITS: usize = 1 << 20;
const WORKERS: RangeInclusive<usize> = 1..=512;

/// Runs the app that `app_factory` makes, once per worker and listener, behind the acceptor.
///
/// Must be called within a tokio or an actix runtime; the workers are threads of their own. The
/// server handles no signals. It stops when its [handle](Server::handle)'s `stop(true)` is called:
/// idle connections end at once, running requests have `shutdown_timeout`. Setting `shutdown` to
/// true ends idle connections even before that.
///
/// `app_factory` gives what actix-http takes. For an `actix_web::App`:
///
/// ```
/// # use actix_service::{IntoServiceFactory, ServiceFactoryExt, map_config};
/// # use actix_web::{App, dev::AppConfig};
/// let app_factory = || {
///     let app = App::new().into_factory();
///     let app = app.map_err(|error: actix_web::Error| error.error_response());
///     map_config(app, |()| AppConfig::default())
/// };
/// ```
///
/// # Errors
///
/// If there is no listener, one cannot be used, or the number of workers is out of range.
pub fn serve<F, A, S, B>(
    listeners: Vec<TcpListener>,
    config: Config,
    connections: Arc<Connections>,
    shutdown: watch::Receiver<bool>,
    app_factory: F,
) -> Result<Server, Error>
where
    F: Fn() -> A + Send + Clone + 'static,
    A: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = ()> + 'static,
    S::Future: 'static,
    S::Error: Into<Response<BoxBody>> + 'static,
    S::InitError: Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let (mut builder, acceptor) = prepare(&listeners, config, connections, shutdown)?;
    for listener in listeners {
        let address = listener.local_addr().ok();
        let (acceptor, app_factory) = (acceptor.clone(), app_factory.clone());
        let service = move || {
            let signal = acceptor.clone();
            let http = HttpService::<Io, S, B>::build()
                .keep_alive(config.keep_alive)
                .client_request_timeout(config.head_timeout)
                .client_disconnect_timeout(LINGER)
                .graceful_shutdown_signal(move || signal.stopping())
                .finish(app_factory());
            let acceptor = acceptor.clone();
            fn_service(move |tcp| acceptor.clone().accept(tcp)).and_then(http)
        };
        builder = builder
            .listen("http", listener, service)
            .map_err(|source| Error::Listen { address, source })?;
    }
    Ok(builder.run())
}

/// The server without its services, and what takes connections in for them.
fn prepare(
    listeners: &[TcpListener],
    config: Config,
    connections: Arc<Connections>,
    shutdown: watch::Receiver<bool>,
) -> Result<(ServerBuilder, Acceptor), Error> {
    if listeners.is_empty() {
        return Err(Error::NoListener);
    }
    let workers = config.workers;
    if !WORKERS.contains(&workers) {
        return Err(Error::Workers { workers });
    }
    let shutdown_secs = config.shutdown_timeout.as_secs_f64().ceil() as u64;
    let builder = Server::build()
        .workers(workers)
        .max_concurrent_connections(BEYOND_ALL_LIMITS)
        .shutdown_timeout(shutdown_secs)
        .disable_signals();
    let acceptor = Acceptor {
        config,
        connections,
        shutdown,
        stop: builder.graceful_shutdown_signal(),
    };
    Ok((builder, acceptor))
}

/// What every worker needs to take a connection in.
#[derive(Clone)]
struct Acceptor {
    config: Config,
    connections: Arc<Connections>,
    shutdown: watch::Receiver<bool>,
    stop: GracefulShutdownSignal,
}

type Accepted = (Io, Protocol, Option<SocketAddr>);

impl Acceptor {
    async fn accept(self, tcp: TcpStream) -> Result<Accepted, DispatchError> {
        let peer = tcp.peer_addr().ok();
        let stopping = self.stopping();
        match sniff::accept(tcp, self.config, &self.connections, stopping).await {
            Ok((io, Kind::Http1)) => Ok((io, Protocol::Http1, peer)),
            Ok((io, Kind::Http2 | Kind::Upgraded)) => Ok((io, Protocol::Http2, peer)),
            Err(error) => {
                log::debug!("connection of {peer:?} ended before its first request: {error}");
                Err(DispatchError::Io(error))
            }
        }
    }

    fn stopping(&self) -> Stopping {
        let (mut shutdown, stop) = (self.shutdown.clone(), self.stop.clone());
        Box::pin(async move {
            tokio::select! {
                Ok(_) = shutdown.wait_for(|stop| *stop) => {}
                () = stop.notified() => {}
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_to_serve(listeners: Vec<TcpListener>, workers: usize) -> Result<Server, Error> {
        let config = Config {
            workers,
            ..Config::default()
        };
        let (_, shutdown) = watch::channel(false);
        let app = || fn_service(|_| async { Ok::<_, actix_http::Error>(Response::ok()) });
        serve(listeners, config, Arc::default(), shutdown, app)
    }

    #[tokio::test]
    async fn impossible_configurations_are_refused() {
        assert!(matches!(try_to_serve(vec![], 1), Err(Error::NoListener)));
        for workers in [0, 513] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let refused = try_to_serve(vec![listener], workers);
            assert!(matches!(refused, Err(Error::Workers { workers: w }) if w == workers));
        }
    }
}
