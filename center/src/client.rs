//! Requests of clients that a gate forwards to center. Those of one session are answered one after another, in their order.

use std::sync::Arc;

use bytes::Bytes;
use proto::{
    ClientMessage, Frame,
    client::{
        Fault, FaultCode, FriendAdd, FriendBlock, FriendList, FriendRemove, FriendUnblock, LineChange, LineList, PartyAccept, PartyChat,
        PartyDecline, PartyInvite, PartyKick, PartyLead, PartyLeave, TradeCancel, TradeConfirm, TradeOpen, TradeSet, Whisper, WorldChat,
    },
    event::{FaultShown, event::Body},
    ids::SessionId,
    internal::CallFaultCode,
};
use service::{CallError, Link, ProcessId, events::Subject};

use crate::{
    center::{Center, subject},
    keyed::Pushed,
    presence::Speaker,
    social::Change,
};

/// Bytes of a fault's text at most; its kind has room for no more.
const TEXT_BYTES_MAX: usize = 800;
/// When a client may try again what center could not do at the moment.
const RETRY_MS: u32 = 1000;

/// A client's request.
#[derive(Debug)]
pub(crate) struct Request {
    gate: ProcessId,
    frame: Frame,
}

impl Center {
    /// Takes a forwarded frame. Never waits.
    pub(crate) fn on_client(self: &Arc<Self>, link: &Link, session: SessionId, frame: Bytes) {
        let gate = link.peer().id.clone();
        let Ok(frame) = Frame::from_bytes(frame) else {
            tracing::warn!(%gate, "passed over a forwarded frame that is none");
            return;
        };
        let seq = frame.seq();
        let busy = || Fault::retry(FaultCode::Busy, "too many of your requests wait", RETRY_MS);
        match self.lanes.push(session.0, Request { gate: gate.clone(), frame }) {
            Pushed::Queued => (),
            Pushed::Full(_) => self.show_fault(&gate, session, seq, None, busy()),
            Pushed::Start(first) => {
                let center = self.clone();
                if !self.spawn_request("client request", async move { center.work_off(session, first).await }) {
                    while self.lanes.next(session.0).is_some() {}
                    self.show_fault(&gate, session, seq, None, busy());
                }
            }
        }
    }

    async fn work_off(self: &Arc<Self>, session: SessionId, first: Request) {
        let mut next = Some(first);
        while let Some(request) = next {
            self.answer(session, request).await;
            next = self.lanes.next(session.0);
        }
    }

    async fn answer(self: &Arc<Self>, session: SessionId, request: Request) {
        let seq = request.frame.seq();
        let speaker = self.speaker(&request.gate, session).await;
        let done = match &speaker {
            Some(speaker) => self.carry_out_request(speaker, &request.frame).await,
            None => Err(Fault::retry(FaultCode::Unavailable, "your character is not in the world", RETRY_MS)),
        };
        if let Err(fault) = done {
            self.show_fault(&request.gate, session, seq, speaker.as_ref(), fault);
        }
    }

    /// Who speaks, once an enter or resume of the session that is under way has ended: the scene tells the client before it tells center.
    async fn speaker(&self, gate: &ProcessId, session: SessionId) -> Option<Speaker> {
        let speaker = self.presence().speaker(gate, session);
        if speaker.is_some() {
            return speaker;
        }
        let account = self.presence().account_of(session)?;
        let _held = self.hold(account).await.ok()?;
        self.presence().speaker(gate, session)
    }

    async fn carry_out_request(self: &Arc<Self>, speaker: &Speaker, frame: &Frame) -> Result<(), Fault> {
        let seq = frame.seq();
        match frame.kind() {
            Whisper::KIND => self.whisper(speaker, seq, decode(frame)?).await,
            WorldChat::KIND => self.world_chat(speaker, seq, decode(frame)?),
            FriendAdd::KIND => self.change_relation(speaker, seq, Change::Friend, decode::<FriendAdd>(frame)?.name).await,
            FriendRemove::KIND => self.change_relation(speaker, seq, Change::Unfriend, decode::<FriendRemove>(frame)?.name).await,
            FriendBlock::KIND => self.change_relation(speaker, seq, Change::Block, decode::<FriendBlock>(frame)?.name).await,
            FriendUnblock::KIND => self.change_relation(speaker, seq, Change::Unblock, decode::<FriendUnblock>(frame)?.name).await,
            TradeOpen::KIND => self.trade_open(speaker, seq, decode(frame)?).await,
            TradeSet::KIND => self.trade_set(speaker, seq, decode(frame)?).await,
            TradeConfirm::KIND => self.trade_confirm(speaker, seq, &decode(frame)?),
            TradeCancel::KIND => self.trade_cancel(speaker, seq, &decode(frame)?),
            FriendList::KIND => {
                decode::<FriendList>(frame)?;
                self.list_friends(speaker, seq).await
            }
            PartyInvite::KIND => self.party_invite(speaker, seq, &decode(frame)?).await,
            PartyAccept::KIND => self.party_accept(speaker, seq, &decode(frame)?),
            PartyDecline::KIND => self.party_decline(speaker, seq, &decode(frame)?),
            PartyLeave::KIND => {
                decode::<PartyLeave>(frame)?;
                self.party_leave(speaker, seq)
            }
            PartyKick::KIND => self.party_kick(speaker, seq, &decode(frame)?),
            PartyLead::KIND => self.party_lead(speaker, seq, &decode(frame)?),
            PartyChat::KIND => self.party_chat(speaker, seq, decode(frame)?),
            LineList::KIND => {
                decode::<LineList>(frame)?;
                self.line_list(speaker, seq);
                Ok(())
            }
            LineChange::KIND => self.line_change(speaker, seq, &decode(frame)?).await,
            kind => Err(Fault::new(FaultCode::UnknownKind, format!("center takes no {kind:#06x}"))),
        }
    }

    /// Sends a message to one client.
    pub(crate) fn tell<M: ClientMessage>(&self, gate: &ProcessId, session: SessionId, seq: u32, message: &M) {
        self.at_gate(gate, |link| link.deliver(session.0, Frame::encode(seq, message)));
    }

    fn show_fault(&self, gate: &ProcessId, session: SessionId, seq: u32, speaker: Option<&Speaker>, fault: Fault) {
        let fault = Fault { text: cut(fault.text), ..fault };
        metrics::counter!("paifang_center_faults_total").increment(1);
        let whom = speaker.map_or_else(|| Subject { session: session.0, ..Subject::default() }, subject);
        self.process.events.emit(&whom, Body::FaultShown(FaultShown { code: fault.code, text: fault.text.clone() }));
        self.tell(gate, session, seq, &fault);
    }
}

/// The fault for a request that dc could not serve.
pub(crate) fn dc_fault(err: &CallError) -> Fault {
    tracing::warn!("failed to ask dc: {err}");
    let text = match err {
        // dc writes it for people: what can't be done, and for how long.
        CallError::Refused(said) if said.code() == CallFaultCode::CallUnavailable => said.text.clone(),
        _ => "this can't be done at the moment".into(),
    };
    Fault::retry(FaultCode::Unavailable, text, RETRY_MS)
}

fn decode<M: ClientMessage>(frame: &Frame) -> Result<M, Fault> {
    frame.decode().map_err(|err| Fault::new(FaultCode::Malformed, err.to_string()))
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_still_fits_a_fault() {
        let text = cut("字".repeat(1000));
        assert!(text.len() <= TEXT_BYTES_MAX);
        let frame = Frame::encode(1, &Fault::new(FaultCode::Invalid, text.clone()));
        assert_eq!(frame.decode::<Fault>().unwrap().text, text);
    }

    #[test]
    fn a_body_that_is_no_message_is_malformed() {
        let frame = Frame::from_body(Whisper::KIND, 7, &[0xff, 0xff, 0xff]);
        assert_eq!(decode::<Whisper>(&frame).unwrap_err().code(), FaultCode::Malformed);
    }
}
