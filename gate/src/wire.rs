//! The short way to a client on plain TCP: whoever has something for it writes at once, without waking its task.
//!
//! What the kernel does not take stays here, and is the task's to write when the socket takes again. TLS and WebSocket have no wire:
//! their bytes pass through their connection's own task.

use std::{io, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use service::net::TcpStream;

use crate::metrics::Metrics;

/// The connection, and what of the last write it did not take.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Arc<TcpStream>,
    rest: Bytes,
}

impl Wire {
    /// Nothing was written yet.
    pub(crate) fn new(stream: Arc<TcpStream>) -> Self {
        Self { stream, rest: Bytes::new() }
    }

    /// Whether all that was given is written.
    pub(crate) fn is_free(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes wait.
    pub(crate) fn waiting(&self) -> usize {
        self.rest.len()
    }

    /// Writes what the kernel takes now, and keeps the rest. Only when it is free.
    ///
    /// # Errors
    /// When the connection broke.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let taken = self.try_write(bytes)?;
        if taken < bytes.len() {
            self.rest = Bytes::copy_from_slice(&bytes[taken..]);
        }
        Ok(())
    }

    /// Writes what the kernel takes of the rest.
    ///
    /// # Errors
    /// When the connection broke.
    pub(crate) fn write_rest(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            match self.try_write(&self.rest)? {
                0 => break,
                taken => self.rest.advance(taken),
            }
        }
        Ok(())
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.try_write(bytes) {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }
}

/// What whoever writes to many clients needs for each of them, and counts.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Kept for its memory: what is written next.
    pub buffer: BytesMut,
    writes: u64,
    bytes: u64,
    dropped: u64,
}

impl Written {
    /// So many bytes went out in one write.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.writes += 1;
        self.bytes += bytes as u64;
    }

    /// So many frames will never go out.
    pub(crate) fn count_dropped(&mut self, frames: u64) {
        self.dropped += frames;
    }

    /// Adds what was counted to the gate's metrics.
    pub(crate) fn settle(&mut self, metrics: &Metrics) {
        metrics.writes.increment(std::mem::take(&mut self.writes));
        metrics.sent_bytes.increment(std::mem::take(&mut self.bytes));
        metrics.dropped.increment(std::mem::take(&mut self.dropped));
    }
}
