//! The handle that everybody holds, and the thread behind it.

use std::{
    fmt,
    path::PathBuf,
    rc::Rc,
    sync::{Arc, PoisonError, RwLock},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    task::LocalSet,
};

use crate::{
    Authority, Error, Probe, ProxyChoice, ProxyConfig, Request, Response, Roots, Token, UpstreamUrl, body::pump,
    connect::ATTEMPT, engine::Engine, probe, proxy::Proxies, request::Post, tls::Tls, trust::Trust,
};

/// How upstream is spoken to.
#[derive(Clone, Debug)]
pub struct Config {
    /// The whole `User-Agent`; should say how to reach the operator.
    pub user_agent: String,
    /// Which proxies there are.
    pub proxy: ProxyConfig,
    /// A PEM file of root certificates to believe beside the system's.
    pub ca_file: Option<PathBuf>,
    /// For a name's addresses, a connection and a proxy's tunnel; again for TLS.
    pub connect_timeout: Duration,
    /// For one response's head, connecting included.
    pub head_timeout: Duration,
    /// The longest time without a byte of the body.
    pub stall_timeout: Duration,
    /// How many redirects are followed.
    pub max_redirects: u32,
    /// Whether to offer HTTP/2 to https upstreams.
    pub http2: bool,
}

impl Config {
    /// The defaults: no proxy, the system's roots, 10, 20 and 30 seconds, 3 redirects, HTTP/2.
    pub fn new(user_agent: impl Into<String>) -> Self {
        Self {
            user_agent: user_agent.into(),
            proxy: ProxyConfig::default(),
            ca_file: None,
            connect_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(30),
            max_redirects: 3,
            http2: true,
        }
    }
}

/// What the handle and the thread both know.
#[derive(Debug)]
pub(crate) struct Shared {
    pub config: Config,
    /// That of the settings, until another one is set.
    pub user_agent: RwLock<String>,
    pub trust: Arc<Trust>,
    pub proxies: Proxies,
    pub tls: Tls,
}

impl Shared {
    pub(crate) fn user_agent(&self) -> String {
        self.user_agent.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn check_user_agent(user_agent: &str) -> Result<(), Error> {
    if user_agent.is_empty() || !user_agent.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return Err(Error::InvalidHeader {
            name: "user-agent".to_owned(),
            reason: "must be printable ASCII",
        });
    }
    Ok(())
}

enum Job {
    Ask(Request, Option<Post>, oneshot::Sender<Result<Response, Error>>),
    Probe(UpstreamUrl, oneshot::Sender<Probe>),
}

/// The client. Cheap to clone; requests may be made from any thread and any runtime.
#[derive(Clone)]
pub struct UpstreamHttp {
    shared: Arc<Shared>,
    jobs: mpsc::UnboundedSender<Job>,
}

impl UpstreamHttp {
    /// Reads the root certificates and starts the thread that all connections live on. The thread ends once the last handle is
    /// gone and the last body is finished or dropped.
    ///
    /// # Errors
    /// A setting that cannot be used, or no thread. Missing root certificates are logged, and an error for each https request.
    pub fn start(config: Config) -> Result<Self, Error> {
        check_user_agent(&config.user_agent)?;
        let shared = Arc::new(Shared {
            trust: Arc::default(),
            proxies: Proxies::new(&config.proxy)?,
            tls: Tls::load(config.ca_file.as_deref())?,
            user_agent: RwLock::new(config.user_agent.clone()),
            config,
        });
        let (jobs, inbox) = mpsc::unbounded_channel();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Start)?;
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("upstream-http".to_owned())
            .spawn(move || run(&runtime, theirs, inbox))
            .map_err(Error::Start)?;
        Ok(Self { shared, jobs })
    }

    /// Lets a configured host have private addresses, and gets it the token if one is given. May be repeated; what was once given stays.
    pub fn trust(&self, authority: Authority, with_token: Option<Token>) {
        self.shared.trust.add(authority, with_token);
    }

    /// Says something else in the `User-Agent` of every request from now on.
    ///
    /// # Errors
    /// [`Error::InvalidHeader`] for what is not printable ASCII.
    pub fn set_user_agent(&self, user_agent: &str) -> Result<(), Error> {
        check_user_agent(user_agent)?;
        user_agent.clone_into(&mut self.shared.user_agent.write().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// Asks, follows redirects, and returns once the head of the last response is there. Dropping the future cancels the request.
    ///
    /// # Errors
    /// See [`Error`]; a status is none, whatever it is.
    pub async fn get(&self, request: Request) -> Result<Response, Error> {
        self.ask(request, None).await
    }

    /// The same with a body to send, which must be safe to send twice: if a pooled connection turns out to be closed, it is.
    /// No redirect is followed, since a body is not for whoever upstream names.
    ///
    /// # Errors
    /// See [`Error`]; a status is none, except those of redirects.
    pub async fn post(&self, request: Request, content_type: &str, body: Bytes) -> Result<Response, Error> {
        self.ask(request, Some(Post::new(content_type, body)?)).await
    }

    async fn ask(&self, request: Request, post: Option<Post>) -> Result<Response, Error> {
        request.checked_headers()?;
        let (reply, answer) = oneshot::channel();
        let sent = self.jobs.send(Job::Ask(request, post, reply));
        sent.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    /// How a request for this address would travel.
    pub fn choose(&self, url: &UpstreamUrl) -> ProxyChoice {
        self.shared.proxies.choose(url)
    }

    /// What this client was set up with.
    pub fn describe(&self) -> Description {
        Description {
            user_agent: self.shared.user_agent(),
            roots: self.shared.tls.roots.clone(),
            http2: self.shared.config.http2,
        }
    }

    /// Tries an address step by step and tells what was found, for `mirror doctor`.
    ///
    /// # Errors
    /// [`Error::Stopped`] only; what goes wrong on the way is in the [`Probe`].
    pub async fn probe(&self, url: UpstreamUrl) -> Result<Probe, Error> {
        let (reply, answer) = oneshot::channel();
        let sent = self.jobs.send(Job::Probe(url, reply));
        sent.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)
    }
}

impl fmt::Debug for UpstreamHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpstreamHttp({:?})", self.describe())
    }
}

/// What a client was set up with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What it calls itself.
    pub user_agent: String,
    /// Whom it believes.
    pub roots: Roots,
    /// Whether it offers HTTP/2.
    pub http2: bool,
}

/// Each job is a task of its own, so that the end of one, or its panic, is nothing to the others.
fn run(runtime: &runtime::Runtime, shared: Arc<Shared>, mut inbox: mpsc::UnboundedReceiver<Job>) {
    let tasks = LocalSet::new();
    tasks.spawn_local(async move {
        let engine = Rc::new(Engine::new(shared));
        while let Some(job) = inbox.recv().await {
            let engine = Rc::clone(&engine);
            match job {
                Job::Ask(request, post, reply) => tokio::task::spawn_local(ask(engine, request, post, reply)),
                Job::Probe(url, reply) => tokio::task::spawn_local(async move {
                    // Nobody left to tell.
                    let _ = reply.send(probe::probe(&engine, url).await);
                }),
            };
        }
    });
    runtime.block_on(tasks);
}

async fn ask(
    engine: Rc<Engine>,
    request: Request,
    post: Option<Post>,
    mut reply: oneshot::Sender<Result<Response, Error>>,
) {
    let arrived = tokio::select! {
        arrived = until_deadline(&engine, &request, post.as_ref()) => arrived,
        () = reply.closed() => return,
    };
    match arrived {
        Err(error) => {
            // Nobody left to tell.
            let _ = reply.send(Err(error));
        }
        Ok(arrived) => {
            let (sender, body) = arrived.limits.channel();
            if reply.send(Ok(arrived.head.with(body))).is_ok() {
                let pumping = pump(arrived.response, &arrived.attempt, &arrived.limits, &sender);
                ATTEMPT.scope(Rc::clone(&arrived.attempt), pumping).await;
            }
        }
    }
}

async fn until_deadline(
    engine: &Engine,
    request: &Request,
    post: Option<&Post>,
) -> Result<crate::engine::Arrived, Error> {
    let asking = engine.ask(request, post);
    let Some(deadline) = request.deadline else {
        return asking.await;
    };
    let url = request.url.shown();
    if deadline <= Instant::now() {
        return Err(Error::Deadline { url });
    }
    match tokio::time::timeout_at(deadline.into(), asking).await {
        Ok(arrived) => arrived,
        Err(_) => Err(Error::Deadline { url }),
    }
}
