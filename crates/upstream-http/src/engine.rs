//! One request from its first address to its last: connections, retries, redirects.

use std::{cell::RefCell, collections::HashSet, error, io, rc::Rc, sync::Arc, time::Duration};

use awc::{
    Client, ClientRequest, ClientResponse,
    error::{ConnectError, SendRequestError},
    http::{
        Method, StatusCode, Uri, Version,
        header::{self, TRANSFER_ENCODING},
    },
};

use crate::{
    Authority, Error, Proxy, ProxyChoice, Request, Token, UpstreamUrl,
    body::Limits,
    client::Shared,
    connect::{ATTEMPT, Attempt, Connector, Dialler, tls_error},
    head::Head,
    redirect::redirect,
    request::Post,
};

/// A response whose head has been judged and whose body is still to come.
pub(crate) struct Arrived {
    pub head: Head,
    pub response: ClientResponse,
    pub attempt: Rc<Attempt>,
    pub limits: Limits,
}

/// Everything that lives on the client's thread.
pub(crate) struct Engine {
    pub shared: Arc<Shared>,
    pub dialler: Rc<Dialler>,
    /// awc lays TLS: HTTP/2 where upstream has it.
    any: Client,
    /// The connector lays TLS: HTTP/1.1, with the end of each connection in sight.
    http1: Client,
    /// Who was found to speak HTTP/1.1 over TLS.
    without_http2: RefCell<HashSet<Authority>>,
}

/// Which client a try is made with.
#[derive(Clone, Copy)]
struct How {
    http1: bool,
    fresh: bool,
}

impl Engine {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let dialler = Rc::new(Dialler {
            trust: Arc::clone(&shared.trust),
            connect_timeout: shared.config.connect_timeout,
        });
        Self {
            any: client(&shared, &dialler, false),
            http1: client(&shared, &dialler, true),
            without_http2: RefCell::default(),
            shared,
            dialler,
        }
    }

    pub(crate) async fn ask(&self, request: &Request, post: Option<&Post>) -> Result<Arrived, Error> {
        let mut url = request.url.clone();
        let mut hops = 0;
        loop {
            self.shared.tls.check(&url)?;
            let (response, attempt) = self.ask_once(&url, request, post).await?;
            let Some(next) = redirect(&url, &response)? else {
                return self.accept(&url, request, response, attempt);
            };
            if post.is_some() {
                return Err(Error::Redirect {
                    url: url.shown(),
                    target: next.shown(),
                    reason: "what is posted is sent nowhere else".to_owned(),
                });
            }
            hops += 1;
            if hops > self.shared.config.max_redirects {
                return Err(Error::Redirect {
                    url: url.shown(),
                    target: next.shown(),
                    reason: format!("more than {} redirects", hops - 1),
                });
            }
            log::debug!("{} redirects to {}", url.shown(), next.shown());
            url = next;
        }
    }

    fn accept(
        &self,
        url: &UpstreamUrl,
        request: &Request,
        response: ClientResponse,
        attempt: Rc<Attempt>,
    ) -> Result<Arrived, Error> {
        let head = Head::read(&response, url, request)?;
        let limits = Limits {
            url: url.shown(),
            framing: head.framing,
            max_body: request.max_body,
            stall_timeout: self.shared.config.stall_timeout,
            deadline: request.deadline,
        };
        Ok(Arrived {
            head,
            response,
            attempt,
            limits,
        })
    }

    /// One hop, asked again at most once because a pooled connection had been closed, and at most once because awc's own TLS hides where an
    /// HTTP/1.1 body ends.
    async fn ask_once(
        &self,
        url: &UpstreamUrl,
        request: &Request,
        post: Option<&Post>,
    ) -> Result<(ClientResponse, Rc<Attempt>), Error> {
        let route = self.shared.proxies.choose(url);
        self.dialler.check_proxied(url, &route)?;
        let mut how = How {
            http1: self.wants_http1(url),
            fresh: request.fresh_connection,
        };
        let mut may_retry = true;
        loop {
            let attempt = Attempt::new(url.clone(), route.clone());
            let sent = self.send(&attempt, request, post, how).await;
            match sent {
                Err(error @ Error::Disconnected { .. }) if may_retry && attempt.was_pooled() => {
                    log::debug!("{} is asked again: {error}", url.shown());
                    may_retry = false;
                    how.fresh = true;
                }
                Ok(response) if url.is_https() && !how.http1 && is_http1(&response) => {
                    self.without_http2.borrow_mut().insert(url.authority().clone());
                    if !response.headers().contains_key(TRANSFER_ENCODING) {
                        return Ok((response, attempt));
                    }
                    how.http1 = true;
                }
                other => return Ok((other?, attempt)),
            }
        }
    }

    /// The host's token, which no redirect may lure into plain http.
    fn token(&self, url: &UpstreamUrl, request: &Request) -> Option<Token> {
        let asked_so = !request.url.is_https() && request.url.authority() == url.authority();
        let token = self.shared.trust.token(url.authority());
        token.filter(|_| url.is_https() || asked_so)
    }

    fn wants_http1(&self, url: &UpstreamUrl) -> bool {
        url.is_https()
            && (!self.shared.config.http2
                || url.authority().ip().is_some_and(|ip| ip.is_ipv6())
                || self.without_http2.borrow().contains(url.authority()))
    }

    async fn send(
        &self,
        attempt: &Rc<Attempt>,
        request: &Request,
        post: Option<&Post>,
        how: How,
    ) -> Result<ClientResponse, Error> {
        let url = &attempt.url;
        let ask = self.compose(attempt, request, how)?;
        let ask = match post {
            None => ask.send(),
            Some(post) => {
                let ask = ask.method(Method::POST).content_type(post.content_type.clone());
                ask.send_body(post.body.clone())
            }
        };
        let waited = self.shared.config.head_timeout;
        let sent = ATTEMPT.scope(Rc::clone(attempt), tokio::time::timeout(waited, ask));
        let response = match sent.await {
            Ok(sent) => sent.map_err(|error| send_error(error, attempt))?,
            Err(_) => {
                let url = url.shown();
                return Err(Error::HeadTimeout { url, waited });
            }
        };
        attempt.head_arrived();
        let refused = response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        match attempt.plain_proxy() {
            Some(proxy) if refused => Err(Error::ProxyRefused {
                proxy: proxy.to_string(),
                target: url.shown(),
                status: 407,
                status_line: response.status().to_string(),
            }),
            _ => Ok(response),
        }
    }

    fn compose(&self, attempt: &Attempt, request: &Request, how: How) -> Result<ClientRequest, Error> {
        let url = &attempt.url;
        let client = match (how.fresh, how.http1) {
            (true, http1) => client(&self.shared, &self.dialler, http1),
            (false, true) => self.http1.clone(),
            (false, false) => self.any.clone(),
        };
        let mut ask = client
            .get(target(url, &attempt.route, how.http1)?)
            .insert_header((header::HOST, url.host_header()))
            .insert_header((header::USER_AGENT, self.shared.user_agent()))
            .insert_header((header::ACCEPT_ENCODING, "identity"));
        for (name, value) in request.checked_headers()? {
            ask = ask.append_header((name, value));
        }
        if let Some(token) = self.token(url, request) {
            ask = ask.insert_header((header::AUTHORIZATION, token.header_value()));
        }
        if let Some(authorization) = attempt.plain_proxy().and_then(Proxy::authorization) {
            ask = ask.insert_header((header::PROXY_AUTHORIZATION, authorization));
        }
        Ok(ask)
    }
}

fn client(shared: &Shared, dialler: &Rc<Dialler>, http1: bool) -> Client {
    let connector = Connector {
        dialler: Rc::clone(dialler),
        tls: http1.then(|| Arc::clone(&shared.tls.http1)),
    };
    let connect_timeout = shared.config.connect_timeout;
    // The connector has time-outs of its own, with evidence; awc's must not come first.
    let unreached = connect_timeout.saturating_mul(2).saturating_add(Duration::from_secs(5));
    let connector = awc::Connector::new()
        .connector(connector)
        .timeout(unreached)
        .handshake_timeout(connect_timeout)
        .rustls_0_23(Arc::clone(&shared.tls.any));
    Client::builder()
        .connector(connector)
        .disable_timeout()
        .disable_redirects()
        .finish()
}

/// What stands in the request line: all of the address where a proxy is asked for plain http, else its path.
fn target(url: &UpstreamUrl, route: &ProxyChoice, http1: bool) -> Result<Uri, Error> {
    let invalid = |_| Error::InvalidUrl {
        url: url.shown(),
        reason: "it is no URL",
    };
    if url.is_https() || route.proxy().is_none() {
        let text = if http1 { url.as_plain() } else { url.to_string() };
        return text.parse().map_err(|_| invalid(()));
    }
    let whole = url.to_string();
    let mut parts = whole.parse::<Uri>().map_err(|_| invalid(()))?.into_parts();
    parts.path_and_query = Some(whole.parse().map_err(|_| invalid(()))?);
    Uri::from_parts(parts).map_err(|_| invalid(()))
}

fn is_http1(response: &ClientResponse) -> bool {
    response.version() != Version::HTTP_2
}

fn send_error(error: SendRequestError, attempt: &Attempt) -> Error {
    if let Some(failure) = attempt.take_failure() {
        return failure;
    }
    let url = attempt.url.shown();
    let target = attempt.url.authority();
    match error {
        // What fails once there is a connection, and before the request goes out, is TLS.
        SendRequestError::Connect(ConnectError::Io(source)) => tls_error(target, source),
        SendRequestError::Connect(ConnectError::Timeout) if attempt.is_connected() => {
            tls_error(target, io::ErrorKind::TimedOut.into())
        }
        SendRequestError::Connect(
            error @ (ConnectError::Disconnected | ConnectError::H2(_) | ConnectError::Timeout),
        ) => Error::Disconnected {
            url,
            source: error.to_string().into(),
        },
        SendRequestError::Send(source) => Error::Disconnected {
            url,
            source: source.into(),
        },
        SendRequestError::H2(source) => Error::Disconnected {
            url,
            source: source.into(),
        },
        SendRequestError::Response(source) if is_io(&source) => Error::Disconnected {
            url,
            source: source.to_string().into(),
        },
        other => Error::Framing {
            url,
            status: None,
            reason: other.to_string(),
        },
    }
}

fn is_io(error: &(dyn error::Error + 'static)) -> bool {
    error.source().is_some_and(|source| source.is::<io::Error>())
}
