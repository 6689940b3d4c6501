use std::{
    future::Future,
    io::{Error, ErrorKind, IoSlice, Result},
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_rt::net::TcpStream;
use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::{
    config::{Config, Opened},
    http2_side::Http2Side,
    rewrite::{Owed, Rewriter},
    timer::Timer,
};

/// Bytes read from the socket at once.
const READ_LEN: usize = 8 * 1024;
/// Bytes of a refused client that are read and dropped, so that its answer is not lost by a reset.
const DISCARD_LIMIT: usize = 1024 * 1024;

/// Resolves when the server is told to stop.
pub(crate) type Stopping = Pin<Box<dyn Future<Output = ()>>>;

/// One connection, as actix-http sees it.
pub(crate) struct Io {
    tcp: TcpStream,
    side: Side,
    config: Config,
    /// What actix-http is to read next.
    inbox: BytesMut,
    /// What is to be written before anything else of actix-http's.
    outbox: BytesMut,
    reading: Timer,
    writing: Timer,
    _opened: Opened,
}

enum Side {
    Http1 {
        rewriter: Rewriter,
        owed: Owed,
    },
    Http2 {
        side: Http2Side,
        stopping: Option<Stopping>,
    },
}

impl Io {
    /// HTTP/1, of which `begun` has been read.
    pub(crate) fn http1(tcp: TcpStream, begun: &[u8], config: Config, opened: Opened) -> Self {
        let mut rewriter = Rewriter::new();
        let mut inbox = BytesMut::new();
        rewriter.feed(begun, &mut inbox);
        let owed = rewriter.owed();
        Self::new(tcp, Side::Http1 { rewriter, owed }, inbox, config, opened)
    }

    /// HTTP/2, with `inbox` to be read first by the h2 crate.
    pub(crate) fn http2(
        tcp: TcpStream,
        side: Http2Side,
        inbox: BytesMut,
        stopping: Stopping,
        config: Config,
        opened: Opened,
    ) -> Self {
        let stopping = Some(stopping);
        Self::new(tcp, Side::Http2 { side, stopping }, inbox, config, opened)
    }

    fn new(tcp: TcpStream, side: Side, inbox: BytesMut, config: Config, opened: Opened) -> Self {
        Self {
            tcp,
            side,
            config,
            inbox,
            outbox: BytesMut::new(),
            reading: Timer::default(),
            writing: Timer::default(),
            _opened: opened,
        }
    }

    /// Hands out what is in the inbox; nothing means that this is the end.
    fn deliver(&mut self, out: &mut ReadBuf<'_>) {
        let count = self.inbox.len().min(out.remaining());
        out.put_slice(&self.inbox[..count]);
        self.inbox.advance(count);
        if self.inbox.is_empty() {
            // An idle connection keeps no buffer.
            self.inbox = BytesMut::new();
        }
    }

    fn poll_read_http1(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Side::Http1 { rewriter, owed } = &mut self.side else {
            return Poll::Ready(Ok(()));
        };
        while self.inbox.is_empty() {
            if rewriter.refused() {
                return poll_discard(&mut self.tcp, cx);
            }
            let mut buf = [0; READ_LEN];
            let Poll::Ready(count) = poll_tcp(&mut self.tcp, cx, &mut buf) else {
                return self.poll_owed(cx);
            };
            let bytes = &buf[..count?];
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            rewriter.feed(bytes, &mut self.inbox);
            let before = std::mem::replace(owed, rewriter.owed());
            // A body must move; a head must be whole in time, however it moves.
            if *owed != before || *owed == Owed::Body {
                self.reading.stop();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing came: waits, but not for ever if the client owes us something.
    fn poll_owed(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Side::Http1 { owed, .. } = self.side else {
            return Poll::Pending;
        };
        let limit = match owed {
            Owed::Nothing => return Poll::Pending,
            Owed::Head(_) => self.config.head_timeout,
            Owed::Body => self.config.write_stall,
        };
        ready!(self.reading.poll_or_start(cx, Instant::now() + limit));
        log::debug!("connection ended: {owed:?} did not come within {limit:?}");
        match owed {
            // As if the client had closed: what was asked before is still answered.
            Owed::Head(_) => Poll::Ready(Ok(())),
            _ => Poll::Ready(Err(ErrorKind::TimedOut.into())),
        }
    }

    fn poll_read_http2(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_end(cx)?;
        let Side::Http2 { side, .. } = &mut self.side else {
            return Poll::Ready(Ok(()));
        };
        side.take_drain(&mut self.inbox);
        side.take_credit(&mut self.inbox);
        while self.inbox.is_empty() {
            let mut buf = [0; READ_LEN];
            let count = ready!(poll_tcp(&mut self.tcp, cx, &mut buf))?;
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
            let bytes = side.without_preface(&buf[..count])?;
            side.received(bytes, &mut self.inbox)?;
            side.take_drain(&mut self.inbox);
            side.take_credit(&mut self.inbox);
        }
        Poll::Ready(Ok(()))
    }

    /// Looks whether it is time for the connection to end, and begins with it.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let Side::Http2 { side, stopping } = &mut self.side else {
            return Ok(());
        };
        if let Some(signal) = stopping
            && signal.as_mut().poll(cx).is_ready()
        {
            *stopping = None;
            side.start_drain();
        }
        while self.reading.poll_or_start(cx, side.deadline(&self.config)).is_ready() {
            self.reading.stop();
            if side.deadline(&self.config) > Instant::now() {
                continue;
            }
            if side.draining() {
                return Err(Error::new(ErrorKind::TimedOut, "HTTP/2 stream stalled"));
            }
            side.start_drain();
        }
        match self.poll_outbox(cx) {
            Poll::Ready(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until anything may be written, and says how much. What it waits for is the client's preface, which it reads
    /// itself: the h2 crate does not read while it is kept from writing.
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        let Side::Http2 { side, .. } = &mut self.side else {
            return Poll::Ready(Ok(usize::MAX));
        };
        while side.writable() == 0 {
            let mut buf = [0; READ_LEN];
            let Poll::Ready(count) = poll_tcp(&mut self.tcp, cx, &mut buf) else {
                return self.poll_moving(cx, Poll::Pending);
            };
            let bytes = match count? {
                0 => return Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
                count => side.without_preface(&buf[..count])?,
            };
            side.received(bytes, &mut self.inbox)?;
            // what came with the preface is to be read as well
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(side.writable()))
    }

    /// Writes what goes before anything else.
    fn poll_outbox(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if let Side::Http2 { side, .. } = &mut self.side {
            side.take_notice(&mut self.outbox);
        }
        while !self.outbox.is_empty() {
            let wrote = Pin::new(&mut self.tcp).poll_write(cx, &self.outbox);
            let count = ready!(self.poll_moving(cx, wrote))?;
            self.outbox.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Cuts a client that does not let us write.
    fn poll_moving(&mut self, cx: &mut Context<'_>, wrote: Poll<Result<usize>>) -> Poll<Result<usize>> {
        if wrote.is_ready() {
            self.writing.stop();
            return wrote;
        }
        let limit = self.config.write_stall;
        ready!(self.writing.poll_or_start(cx, Instant::now() + limit));
        let peer = self.tcp.peer_addr().ok();
        log::info!("connection of {peer:?} cut: it took not a byte for {limit:?}");
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        ready!(match this.side {
            Side::Http1 { .. } => this.poll_read_http1(cx),
            Side::Http2 { .. } => this.poll_read_http2(cx),
        })?;
        this.deliver(out);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let this = &mut *self;
        if let Side::Http2 { side, .. } = &mut this.side
            && let Some(first) = bufs.first()
            && let Some(count) = side.settings(first, &mut this.outbox)
        {
            side.sent(bufs, count);
            return Poll::Ready(Ok(count));
        }
        ready!(this.poll_outbox(cx))?;
        let limit = ready!(this.poll_writable(cx))?;
        let wrote = if limit == usize::MAX {
            Pin::new(&mut this.tcp).poll_write_vectored(cx, bufs)
        } else {
            let first = bufs.iter().find(|buf| !buf.is_empty());
            let first = first.map_or(&[][..], |buf| &buf[..buf.len().min(limit)]);
            Pin::new(&mut this.tcp).poll_write(cx, first)
        };
        let count = ready!(this.poll_moving(cx, wrote))?;
        if let Side::Http2 { side, .. } = &mut this.side {
            side.sent(bufs, count);
            if side.credit_due() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_outbox(cx))?;
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_outbox(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

fn poll_tcp(tcp: &mut TcpStream, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize>> {
    let mut buf = ReadBuf::new(buf);
    ready!(Pin::new(tcp).poll_read(cx, &mut buf))?;
    Poll::Ready(Ok(buf.filled().len()))
}

/// Reads on without use for a while, then says that this is the end.
fn poll_discard(tcp: &mut TcpStream, cx: &mut Context<'_>) -> Poll<Result<()>> {
    let (mut buf, mut total) = ([0; READ_LEN], 0);
    while let Poll::Ready(Ok(count @ 1..)) = poll_tcp(tcp, cx, &mut buf)
        && total < DISCARD_LIMIT
    {
        total += count;
    }
    Poll::Ready(Ok(()))
}
