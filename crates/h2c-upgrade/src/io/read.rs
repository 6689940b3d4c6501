//! What a client sends: read, rewritten or refused, and waited for no longer than it may take.

use std::{
    io::{Error, ErrorKind, Result},
    task::{Context, Poll, ready},
};

use actix_rt::net::TcpStream;
use tokio::time::Instant;

use super::{Io, READ_LEN, Side, poll_tcp};
use crate::rewrite::Owed;

/// Bytes of a refused client that are read and dropped, so that its answer is not lost by a reset.
const DISCARD_LIMIT: usize = 1024 * 1024;

impl Io {
    pub(super) fn poll_read_http1(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
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
            let (window, least) = (self.config.write_stall, self.config.min_bytes_per_second);
            if before == Owed::Body && !self.sends.moved(bytes.len(), window, least) {
                return self.cut(&format!("its request's body came at less than {least} bytes a second"));
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
            Owed::Body => {
                self.sends.waits();
                self.config.write_stall
            }
        };
        ready!(self.reading.poll_or_start(cx, Instant::now() + limit));
        log::debug!("connection ended: {owed:?} did not come within {limit:?}");
        match owed {
            // As if the client had closed: what was asked before is still answered.
            Owed::Head(_) => Poll::Ready(Ok(())),
            _ => Poll::Ready(Err(ErrorKind::TimedOut.into())),
        }
    }

    pub(super) fn poll_read_http2(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
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
