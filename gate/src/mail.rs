//! What waits for one client beside its connection: how a message gets into the outbox, and from there to the wire.

use std::sync::Arc;

use bytes::Bytes;
use proto::kinds::Delivery;
use tokio::time::Instant;

use crate::{
    outbox::{FrameKey, Outbox, Verdict},
    socket::{End, Socket},
    wire::{Wire, Written},
};

/// Bytes that are written to a client at once.
pub(crate) const WRITE_BYTES: usize = 64 * 1024;

/// Something for a client.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    /// Which frames it replaces.
    pub key: FrameKey,
    /// How it is delivered.
    pub delivery: Delivery,
    /// The whole frame.
    pub bytes: Bytes,
}

/// What waits for a client, and the connection that it has at the moment.
#[derive(Debug)]
pub(crate) struct Mail {
    /// What waits, and what is not acknowledged.
    pub outbox: Outbox,
    /// None: the client is lost.
    pub socket: Option<Arc<Socket>>,
}

impl Mail {
    /// Whether this is its connection.
    pub(crate) fn is(&self, socket: &Arc<Socket>) -> bool {
        self.socket.as_ref().is_some_and(|own| Arc::ptr_eq(own, socket))
    }

    /// Puts a message into the outbox.
    pub(crate) fn push(&mut self, post: &Post) {
        put(&mut self.outbox, self.socket.as_ref(), post);
    }
}

/// Puts a message into an outbox, and ends the connection of a client that is too slow for it.
pub(crate) fn put(outbox: &mut Outbox, socket: Option<&Arc<Socket>>, post: &Post) {
    let bytes = post.bytes.clone();
    let verdict = match post.delivery {
        Delivery::Session | Delivery::Durable => outbox.push_reliable(bytes),
        Delivery::Frame => {
            outbox.push_frame(post.key, bytes);
            Verdict::Fine
        }
        Delivery::Control => {
            outbox.push_control(bytes);
            Verdict::Fine
        }
    };
    if let Some(socket) = socket
        && verdict == Verdict::TooSlow
    {
        socket.end(End::TooSlow);
    }
}

/// Writes what is in the buffer, and then what waits in the outbox, until the wire is not free. The task is woken when it is to go on.
pub(crate) fn write(outbox: &mut Outbox, socket: &Socket, wire: &mut Wire, written: &mut Written) {
    while wire.is_free() {
        if written.buffer.is_empty() {
            if outbox.wants_ack() {
                outbox.push_control(socket.beat(Instant::now()));
            }
            if !outbox.take(&mut written.buffer, WRITE_BYTES) {
                break;
            }
        }
        if wire.write(&written.buffer).is_err() {
            socket.end(End::Gone("the connection broke"));
            break;
        }
        written.count(written.buffer.len());
        written.buffer.clear();
        outbox.written(wire.waiting());
        written.count_dropped(outbox.dropped_since());
    }
    if !wire.is_free() {
        socket.wake();
    }
}
