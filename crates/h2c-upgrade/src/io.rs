//! One connection, between its socket and actix-http.

use std::{
    future::Future,
    io::{IoSlice, Result},
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_rt::net::TcpStream;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    config::{Config, Opened},
    http2_side::Http2Side,
    pace::Pace,
    rewrite::{Owed, Rewriter},
    timer::Timer,
};

mod read;
mod write;

/// Bytes read from the socket at once.
const READ_LEN: usize = 8 * 1024;

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
    sends: Pace,
    takes: Pace,
    opened: Opened,
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
            sends: Pace::default(),
            takes: Pace::default(),
            opened,
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
