//! What goes to the client: when it may, in which order, and for how long we wait to get rid of it.

use std::{
    io::{ErrorKind, Result},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use tokio::{io::AsyncWrite, time::Instant};

use super::{Io, READ_LEN, Side, poll_tcp};

impl Io {
    /// Waits until anything may be written, and says how much. What it waits for is the client's preface, which it reads
    /// itself: the h2 crate does not read while it is kept from writing.
    pub(super) fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize>> {
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
    pub(super) fn poll_outbox(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
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

    /// Cuts a client that does not let us write, or takes too little at a time.
    pub(super) fn poll_moving(&mut self, cx: &mut Context<'_>, wrote: Poll<Result<usize>>) -> Poll<Result<usize>> {
        let (limit, least) = (self.config.write_stall, self.config.min_bytes_per_second);
        if let Poll::Ready(result) = wrote {
            self.writing.stop();
            return match result {
                Ok(count) if !self.takes.moved(count, limit, least) => {
                    self.cut(&format!("it took less than {least} bytes a second"))
                }
                result => Poll::Ready(result),
            };
        }
        self.takes.waits();
        ready!(self.writing.poll_or_start(cx, Instant::now() + limit));
        self.cut(&format!("it took not a byte for {limit:?}"))
    }

    /// The end of a client that does not move.
    pub(super) fn cut<T>(&mut self, why: &str) -> Poll<Result<T>> {
        self.opened.connections.count_cut();
        let peer = self.tcp.peer_addr().ok();
        log::info!("connection of {peer:?} cut: {why}");
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}
