//! A call that arrived, and its answer.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use prost::Message;
use proto::{
    internal::{CallFault, CallFaultCode},
    link::{ANSWER, CALL_BODY_MAX, CALLS, Call, flags},
};

use super::{Link, fault};

/// Bytes of calls of one link that may be unanswered. Full? The next call is refused with UNAVAILABLE, and the peer may try again.
const UNANSWERED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What an unanswered call takes beside its body, about.
const CALL_OVERHEAD_BYTES: usize = 256;

/// A call that arrived.
#[derive(Debug)]
pub struct IncomingCall {
    /// Its number ([`Call::KIND`]).
    pub kind: u16,
    /// Its encoded message.
    pub body: Bytes,
    reply: Reply,
}

/// Sees to it that a call has exactly one answer.
#[derive(Debug)]
struct Reply {
    link: Link,
    kind: u16,
    id: u64,
    bytes: usize,
    is_answered: bool,
}

impl IncomingCall {
    /// A call to hand over; `None` when too much is unanswered, which the peer is told.
    pub(super) fn admit(link: &Link, kind: u16, id: u64, body: Bytes) -> Option<Self> {
        let bytes = body.len() + CALL_OVERHEAD_BYTES;
        let before = link.shared.unanswered_bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut reply = Reply { link: link.clone(), kind, id, bytes, is_answered: false };
        if UNANSWERED_BYTES_MAX < before + bytes {
            reply.refuse(&fault(CallFaultCode::CallUnavailable, "too many calls are unanswered"));
            return None;
        }
        Some(Self { kind, body, reply })
    }

    /// The message.
    ///
    /// # Errors
    /// With the fault to answer, when the body is malformed.
    pub fn parse<C: Call>(&self) -> Result<C, CallFault> {
        C::decode(self.body.clone())
            .map_err(|err| CallFault { code: CallFaultCode::CallInvalid.into(), text: format!("malformed {}: {err}", C::NAME) })
    }

    /// Answers. An answer to a link that is down is dropped.
    pub fn answer<C: Call>(mut self, answer: Result<C::Answer, CallFault>) {
        match answer {
            Ok(answer) => self.reply.good(answer.encode_to_vec().into()),
            Err(fault) => self.reply.refuse(&fault),
        }
    }

    /// Answers that this process does not know such a call.
    pub fn unknown(mut self) {
        let text = format!("{} does not know the call {}", self.reply.link.links().config().id, name(self.kind));
        self.reply.refuse(&fault(CallFaultCode::CallUnknown, text));
    }
}

impl Reply {
    fn good(&mut self, body: Bytes) {
        if CALL_BODY_MAX < body.len() {
            let text = format!("the answer to {} has {} bytes, {CALL_BODY_MAX} are allowed", name(self.kind), body.len());
            tracing::error!("{text}");
            return self.refuse(&fault(CallFaultCode::CallLimit, text));
        }
        self.send(0, body);
    }

    fn refuse(&mut self, fault: &CallFault) {
        self.send(flags::FAULT, fault.encode_to_vec().into());
    }

    fn send(&mut self, flags: u16, body: Bytes) {
        self.is_answered = true;
        // The caller of a link that is down knows that it has no answer.
        let _ = self.link.send_body(ANSWER, flags, self.id, body);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.link.shared.unanswered_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.is_answered {
            return;
        }
        if self.link.is_up() {
            tracing::error!(peer = %self.link.peer().id, "the call {} was dropped unanswered", name(self.kind));
        }
        self.refuse(&fault(CallFaultCode::CallInternal, format!("{} was dropped unanswered", name(self.kind))));
    }
}

/// A call's name, or its number if it has none.
fn name(kind: u16) -> String {
    CALLS.iter().find(|(number, _)| *number == kind).map_or_else(|| format!("{kind:#06x}"), |(_, name)| (*name).into())
}
