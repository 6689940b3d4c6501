//! `mirror serve`: opens everything, listens, and ends in good order.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_service::{IntoServiceFactory, ServiceFactoryExt, map_config};
use actix_web::App;
use actix_web::dev::AppConfig;
use registry::mirror_config;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::Ended;
use crate::appliance::{Appliance, StartError};
use crate::client_config::client_config;
use crate::data_dir::DataDir;
use crate::settings::{Mode, Settings, SettingsError, wrong};
use crate::{budget, control, http, reconcile, recorder, scrubber};

/// Requests that run when the mirror is told to stop have so long.
const SHUTDOWN: Duration = Duration::from_secs(18);
/// Fills that nobody waits for any more have so long after that.
const DRAIN: Duration = Duration::from_secs(4);

/// Runs until SIGTERM or SIGINT.
pub fn serve(settings: Settings) -> Ended {
    let named_by = settings.layers.get("data_dir").source.to_string();
    let data_dir = DataDir::lock(&settings.data_dir, &named_by)?;
    let listeners = listeners(&settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(run(settings, data_dir, listeners))?;
    // threads that still wait for a disk must not hold the end
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(true)
}

async fn run(settings: Settings, data_dir: DataDir, listeners: Vec<TcpListener>) -> Result<(), StartError> {
    let (events, ended_fills) = mpsc::unbounded_channel();
    let (stop, stopped) = watch::channel(false);
    let addresses: Vec<SocketAddr> = listeners
        .iter()
        .filter_map(|listener| listener.local_addr().ok())
        .collect();
    let appliance = Arc::new(Appliance::open(settings, data_dir, events)?);
    appliance
        .index
        .publish_config_json(mirror_config(&appliance.git_base_url()));
    let config = h2c_upgrade::Config {
        shutdown_timeout: SHUTDOWN,
        min_bytes_per_second: appliance.settings.limits.min_bytes_per_second,
        workers: std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8)),
        ..h2c_upgrade::Config::default()
    };
    let shared = Arc::clone(&appliance);
    let app = move || {
        let app = App::new().configure(http::routes(&shared)).into_factory();
        let app = app.map_err(|error: actix_web::Error| error.error_response());
        map_config(http::in_front(app, &shared), |()| AppConfig::default())
    };
    let connections = Arc::clone(&appliance.connections);
    let server = h2c_upgrade::serve(listeners, config, connections, stopped.clone(), app)?;
    let handle = server.handle();
    let recording = tokio::spawn(recorder::record_fills(Arc::clone(&appliance), ended_fills));
    let keeping_budget = tokio::spawn(budget::keep_within(Arc::clone(&appliance), stopped.clone()));
    let scrubbing = tokio::spawn(scrubber::scrub(Arc::clone(&appliance), stopped.clone()));
    let flushing = tokio::spawn(recorder::flush_now_and_then(Arc::clone(&appliance), stopped));
    let reconciled = Arc::clone(&appliance);
    tokio::task::spawn_blocking(move || reconcile::look_through(&reconciled));
    let socket = control::listen(Arc::clone(&appliance))
        .inspect_err(|error| log::warn!("control.sock cannot be used, so commands cannot reach this server: {error}"));
    announce(&appliance, &addresses);

    let mut serving = tokio::spawn(server);
    let ended = tokio::select! {
        asked_by = until_told_to_stop() => {
            log::info!("{}: finishing what is under way", asked_by?);
            stop.send_replace(true);
            handle.stop(true).await;
            serving.await?
        }
        ended = &mut serving => {
            log::error!("the server ended by itself");
            stop.send_replace(true);
            ended?
        }
    };
    appliance.stop(DRAIN).await;
    let _ = tokio::time::timeout(Duration::from_secs(1), flushing).await;
    recording.abort();
    keeping_budget.abort();
    scrubbing.abort();
    drop(socket);
    log::info!("stopped");
    Ok(ended?)
}

async fn until_told_to_stop() -> Result<&'static str, StartError> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    })
}

/// One line on standard output; what a person wants to know on standard error.
fn announce(appliance: &Appliance, addresses: &[SocketAddr]) {
    let settings = &appliance.settings;
    let named: Vec<String> = addresses.iter().map(|address| format!("http://{address}")).collect();
    let line = format!("listening on {}\n", named.join(" and "));
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    let own = addresses.first().map(|address| {
        let ip = if address.ip().is_unspecified() {
            [127, 0, 0, 1].into()
        } else {
            address.ip()
        };
        format!("http://{}", SocketAddr::new(ip, address.port()))
    });
    let base = settings
        .public_url
        .as_ref()
        .map(ToString::to_string)
        .or(own)
        .unwrap_or_else(|| settings.local_url());
    let stanza = client_config(&base);
    let _ = write!(
        std::io::stderr().lock(),
        "\n{base} shows what is kept. Save this as ~/.cargo/config.toml:\n\n{stanza}\n"
    );
    log::info!(
        "mirror {} of {} in {} mode, data in {}",
        env!("CARGO_PKG_VERSION"),
        appliance.upstream_name(),
        appliance.mode().as_str(),
        appliance.data_dir().display()
    );
    if addresses.iter().any(|address| !address.ip().is_loopback()) {
        log::warn!(
            "anyone who can reach {} may read (access = \"public\")",
            named.join(" and ")
        );
    }
    if !settings.upstream.is_there() && appliance.mode() != Mode::Offline {
        log::warn!("there is no upstream: only what is kept is served");
    }
}

fn listeners(settings: &Settings) -> Result<Vec<TcpListener>, SettingsError> {
    let bound = settings
        .listen
        .iter()
        .map(|address| bind(*address).or_else(|error| ipv4_instead(*address, error)));
    bound
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(&settings.layers, "listen", format!("it cannot be listened on: {error}")))
}

/// `[::]` takes IPv4 too, unless the system says otherwise.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A machine without IPv6 cannot have `[::]`.
fn ipv4_instead(address: SocketAddr, error: std::io::Error) -> std::io::Result<TcpListener> {
    let no_ipv6 = matches!(
        error.kind(),
        std::io::ErrorKind::Unsupported | std::io::ErrorKind::AddrNotAvailable
    ) || error.raw_os_error() == Some(97);
    if address.is_ipv6() && address.ip().is_unspecified() && no_ipv6 {
        return bind(SocketAddr::from(([0, 0, 0, 0], address.port())));
    }
    Err(error)
}
