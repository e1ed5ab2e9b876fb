//! What clients send to the world: their frames, forwarded by a gate, become inputs of the line of their player.

use proto::{
    ClientMessage, Frame,
    client::{Fault, FaultCode, MailList, MailSend, MailTake, Move, Say},
    event::{FaultShown, event::Body},
    ids::PlayerId,
    kinds::Delivery,
    link::LinkFrame,
};
use service::Link;

use crate::{
    scene::Scene,
    world::{Input, Request},
};

impl Scene {
    /// A client's frame, for the line of its player.
    pub(crate) fn on_forward(&self, link: &Link, forwarded: &LinkFrame) {
        let Ok(frame) = Frame::from_bytes(forwarded.body.clone()) else {
            return tracing::warn!(peer = %link.peer().id, "forwarded bytes that are no frame");
        };
        let route = self.players().route(forwarded.id, link.number());
        let Some((player, line)) = route.and_then(|(player, line)| Some((player, self.line(line)?))) else {
            return refuse(link, forwarded.id, &frame, &Fault::retry(FaultCode::Unavailable, "your character is not here", 1_000));
        };
        if matches!(frame.kind(), MailSend::KIND | MailList::KIND | MailTake::KIND) {
            return self.on_mail(player, &line, frame);
        }
        let fault = match input_of(PlayerId(player), &frame) {
            Ok(input) => {
                if line.input(input, frame.bytes().len()) {
                    return;
                }
                metrics::counter!("paifang_scene_inputs_refused_total").increment(1);
                Fault::retry(FaultCode::Busy, "the world is busy", 500)
            }
            Err(malformed) => malformed,
        };
        refuse(link, forwarded.id, &frame, &fault);
        let shown = FaultShown { code: fault.code, text: fault.text };
        self.events().emit(&self.players().subject(player, line.facts()), Body::FaultShown(shown));
    }
}

/// What a client's frame means to a world.
fn input_of(player: PlayerId, frame: &Frame) -> Result<Input, Fault> {
    let malformed = |name: &str| Fault::new(FaultCode::Malformed, format!("the body is no {name}"));
    let seq = frame.seq();
    match frame.kind() {
        Move::KIND => {
            let message: Move = frame.decode().map_err(|_| malformed("Move"))?;
            let to = message.to.ok_or_else(|| malformed("Move: it has no `to`"))?;
            Ok(Input::Move { player, seq, to: to.into() })
        }
        Say::KIND => {
            let message: Say = frame.decode().map_err(|_| malformed("Say"))?;
            Ok(Input::Say { player, seq, text: message.text })
        }
        kind => Ok(Input::Request(Request { player, seq, kind, body: frame.body() })),
    }
}

/// Answers a frame that can't be taken; one whose newest counts is dropped, unless it is no message at all.
fn refuse(link: &Link, session: u64, frame: &Frame, fault: &Fault) {
    let droppable = frame.info().is_some_and(|info| info.delivery == Delivery::Frame);
    if droppable && fault.code() != FaultCode::Malformed {
        return;
    }
    // A gate that is gone has lost the session anyway.
    let _ = link.deliver(session, Frame::encode(frame.seq(), fault));
}

#[cfg(test)]
mod tests {
    use proto::client::{Attack, Position};

    use super::*;

    #[test]
    fn frames_are_read_once_at_the_edge() {
        let player = PlayerId(1);
        let moved = Frame::encode(7, &Move { to: Some(Position { x: i32::MIN, y: i32::MAX }) });
        assert!(matches!(input_of(player, &moved), Ok(Input::Move { seq: 7, to, .. }) if to.x == i32::MIN));
        for bad in
            [Frame::from_body(Move::KIND, 1, &[0xff; 8]), Frame::encode(1, &Move { to: None }), Frame::from_body(Say::KIND, 1, &[0x0a, 9])]
        {
            assert_eq!(input_of(player, &bad).unwrap_err().code(), FaultCode::Malformed);
        }
        let request = input_of(player, &Frame::encode(3, &Attack { entity: 5 })).unwrap();
        assert!(matches!(request, Input::Request(Request { kind: Attack::KIND, seq: 3, .. })), "the rules' own go to the rules unread");
    }
}
