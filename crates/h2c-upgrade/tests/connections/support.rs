//! The app under test, and clients that see every byte.

use std::{
    fmt::Write as _,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use actix_server::ServerHandle;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, map_config};
use actix_web::{App, HttpRequest, HttpResponse, dev::AppConfig, web};
use h2c_upgrade::{Config, Connections, Limits, serve};
use tokio::sync::{Semaphore, watch};

/// Longer than anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const BIG: usize = 64 * 1024 * 1024;
pub const OFFER: &str = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
    HTTP2-Settings: AAMAAABkAAQAAQAAAAIAAAAA\r\n";

/// A request of cargo 1.95, byte for byte but for the path.
pub fn cargo(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:18311\r\n\
         User-Agent: cargo/1.95.0 (f2d3ce0bd 2026-03-21)\r\nAccept-Encoding: deflate, gzip\r\n\
         {OFFER}cargo-protocol: version=1\r\naccept: text/plain\r\n\r\n"
    )
}

/// Lets a test hold an answer back.
#[derive(Default)]
pub struct Gate {
    pub arrived: std::sync::atomic::AtomicUsize,
    open: Arc<SemaphoreAtZero>,
}

pub struct SemaphoreAtZero(Semaphore);

impl Default for SemaphoreAtZero {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Gate {
    pub fn open(&self) {
        self.open.0.add_permits(100);
    }
}

pub struct Running {
    pub address: SocketAddr,
    pub connections: Arc<Connections>,
    pub gate: Arc<Gate>,
    pub shutdown: watch::Sender<bool>,
    pub handle: ServerHandle,
    ended: mpsc::Receiver<()>,
}

pub fn config() -> Config {
    Config {
        workers: 1,
        ..Config::default()
    }
}

pub fn start(config: Config) -> Running {
    start_limited(config, Limits::default())
}

pub fn start_limited(config: Config, limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(Connections::new(limits));
    let gate = Arc::new(Gate::default());
    let (shutdown, stopping) = watch::channel(false);
    let (tell, told) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    let (counters, data) = (Arc::clone(&connections), web::Data::from(Arc::clone(&gate)));
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.unwrap().block_on(async move {
            let factory = move || {
                let app = app(data.clone());
                map_config(app, |()| AppConfig::default())
            };
            let server = serve(vec![listener], config, counters, stopping, factory).unwrap();
            tell.send(server.handle()).unwrap();
            server.await.unwrap();
        });
        let _ = end.send(());
    });
    let handle = told.recv_timeout(PATIENCE).unwrap();
    Running {
        address,
        connections,
        gate,
        shutdown,
        handle,
        ended,
    }
}

fn app(
    gate: web::Data<Gate>,
) -> impl actix_service::ServiceFactory<
    actix_http::Request,
    Config = AppConfig,
    Response = actix_web::dev::ServiceResponse,
    Error = HttpResponse,
    InitError = (),
> {
    App::new()
        .app_data(gate)
        .app_data(web::PayloadConfig::new(BIG))
        .route("/head", web::route().to(show_head))
        .route(
            "/body",
            web::post().to(|body: web::Bytes| async { HttpResponse::Ok().body(body) }),
        )
        .route(
            "/big",
            web::get().to(|| async { HttpResponse::Ok().body(vec![b'x'; BIG]) }),
        )
        .route("/gate", web::get().to(wait_at_gate))
        .into_factory()
        .map_err(|error: actix_web::Error| error.error_response())
}

/// What the app sees of a request.
async fn show_head(request: HttpRequest, _body: web::Bytes) -> HttpResponse {
    let mut text = format!("{} {:?}\n", request.method(), request.version());
    writeln!(text, "peer {}", request.peer_addr().unwrap()).unwrap();
    writeln!(text, "host {}", request.connection_info().host()).unwrap();
    for (name, value) in request.headers() {
        writeln!(text, "{name}: {}", value.to_str().unwrap()).unwrap();
    }
    HttpResponse::Ok().body(text)
}

async fn wait_at_gate(gate: web::Data<Gate>) -> &'static str {
    gate.arrived.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let _permit = gate.open.0.acquire().await.unwrap();
    "through"
}

impl Running {
    pub fn connect(&self) -> Client {
        let tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { tcp }
    }

    /// Tells the server to stop, without waiting for it.
    pub fn stop(&self) {
        drop(self.handle.stop(true));
    }

    /// How long the server went on.
    pub fn wait_for_end(&self) -> Duration {
        let start = Instant::now();
        self.ended.recv_timeout(PATIENCE).expect("the server ends");
        start.elapsed()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::park_timeout(Duration::from_millis(2));
    }
}

pub struct Client {
    pub tcp: TcpStream,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

impl Client {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.tcp.write_all(bytes.as_ref()).unwrap();
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.tcp.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub fn head(&mut self) -> String {
        let mut head = vec![];
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.bytes(1));
        }
        String::from_utf8(head).unwrap()
    }

    pub fn answer(&mut self) -> Answer {
        let head = self.head().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.split("content-length: ").nth(1);
        let length = length.map_or(0, |rest| rest.split('\r').next().unwrap().parse().unwrap());
        let body = self.bytes(length);
        Answer { status, head, body }
    }

    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request);
        self.answer()
    }

    /// Everything until the server closes; a reset counts as closing.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = vec![];
        match self.tcp.read_to_end(&mut rest) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            _ => rest,
        }
    }
}
