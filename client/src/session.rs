//! What a client must remember of its session, so that it can be resumed: the count of reliable messages and the newest ticket.
//!
//! Pure: [`Session::note`] is told each frame and says what has to be answered at once.

use std::time::Duration;

use bytes::Bytes;
use proto::{
    ClientMessage, Frame,
    client::{Heartbeat, HeartbeatAck, Resume, ResumeTicket, Resumed, Welcome},
};

/// A session, as its client knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Its number; 0 before the greeting.
    pub id: u64,
    /// The zone's name.
    pub zone: String,
    /// Messages of the classes Session and Durable that were received; what a resume acknowledges.
    pub received: u64,
    /// The newest resume ticket.
    pub ticket: Option<Bytes>,
    /// How often the gate sends a heartbeat; zero before the greeting.
    pub heartbeat: Duration,
    /// How long the session can be resumed after its connection is lost.
    pub resume_window: Duration,
    /// Round trip as the gate measured it; zero before the first heartbeat was answered.
    pub round_trip: Duration,
    /// Mean deviation of the round trip.
    pub jitter: Duration,
    /// Whether the connection is greeted: what a gate says before is not the session's, and does not count.
    is_attached: bool,
}

impl Session {
    /// Takes note of a received frame, and says which acknowledgement it asks for. A malformed control message changes nothing.
    pub fn note(&mut self, frame: &Frame) -> Option<HeartbeatAck> {
        if frame.info().is_some_and(|info| info.delivery.is_reliable()) {
            self.received = self.received.saturating_add(u64::from(self.is_attached));
            return None;
        }
        match frame.kind() {
            Heartbeat::KIND => {
                let beat: Heartbeat = frame.decode().ok()?;
                self.round_trip = Duration::from_micros(beat.rtt_us.into());
                self.jitter = Duration::from_micros(beat.jitter_us.into());
                return Some(HeartbeatAck { stamp_us: beat.stamp_us, received: self.received });
            }
            ResumeTicket::KIND => self.ticket = Some(frame.decode::<ResumeTicket>().ok()?.ticket),
            Welcome::KIND => self.welcome(frame.decode().ok()?),
            Resumed::KIND => self.resumed(&frame.decode().ok()?),
            _ => {}
        }
        None
    }

    /// As it is for a new connection that has not resumed yet.
    pub(crate) fn detached(&self) -> Self {
        Self { is_attached: false, ..self.clone() }
    }

    /// What brings the session back; `None` while it has no ticket.
    pub fn resume(&self) -> Option<Resume> {
        let ticket = self.ticket.clone()?;
        Some(Resume { protocol_version: proto::PROTOCOL_VERSION, ticket, received: self.received })
    }

    /// After so long a silence the connection is as good as lost.
    pub fn silence_max(&self) -> Duration {
        if self.heartbeat.is_zero() { Duration::from_secs(30) } else { self.heartbeat * 3 }
    }

    fn welcome(&mut self, welcome: Welcome) {
        *self = Self {
            id: welcome.session,
            zone: welcome.zone,
            is_attached: true,
            heartbeat: Duration::from_millis(welcome.heartbeat_ms.into()),
            resume_window: Duration::from_millis(welcome.resume_window_ms.into()),
            ..Self::default()
        };
    }

    fn resumed(&mut self, resumed: &Resumed) {
        self.is_attached = true;
        self.id = resumed.session;
        self.heartbeat = Duration::from_millis(resumed.heartbeat_ms.into());
        self.resume_window = Duration::from_millis(resumed.resume_window_ms.into());
        if !resumed.continued {
            self.received = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::client::{CellMoves, Fault, Said};

    use super::*;

    fn welcome() -> Frame {
        Frame::encode(1, &Welcome { session: 9, zone: "dev".into(), heartbeat_ms: 5000, resume_window_ms: 60_000 })
    }

    #[test]
    fn only_reliable_messages_count() {
        let mut session = Session::default();
        session.note(&welcome());
        session.note(&Frame::encode(0, &Said::default()));
        session.note(&Frame::encode(0, &CellMoves::default()));
        session.note(&Frame::encode(3, &Fault::default()));
        session.note(&Frame::from_body(0x7777, 0, b""));
        let ack = session.note(&Frame::encode(0, &Heartbeat { stamp_us: 42, rtt_us: 900, jitter_us: 30 })).unwrap();
        assert_eq!(ack, HeartbeatAck { stamp_us: 42, received: 2 });
        assert_eq!(session.round_trip, Duration::from_micros(900));
        assert_eq!(session.silence_max(), Duration::from_secs(15));
    }

    #[test]
    fn the_count_goes_on_at_the_same_gate_and_starts_again_at_another() {
        let mut session = Session::default();
        session.note(&welcome());
        session.note(&Frame::encode(0, &ResumeTicket { ticket: "old".into(), valid_ms: 1 }));
        session.note(&Frame::encode(0, &ResumeTicket { ticket: "new".into(), valid_ms: 1 }));
        session.note(&Frame::encode(0, &Said::default()));
        assert_eq!(session.resume().unwrap().ticket, "new");
        session.note(&Frame::encode(0, &Resumed { session: 9, continued: true, ..Resumed::default() }));
        assert_eq!(session.resume().unwrap().received, 1);
        session.note(&Frame::encode(0, &Resumed { session: 9, continued: false, ..Resumed::default() }));
        assert_eq!(session.resume().unwrap().received, 0);
    }

    #[test]
    fn what_a_gate_says_before_it_resumes_does_not_count() {
        let mut session = Session::default();
        session.note(&welcome());
        session.note(&Frame::encode(0, &Said::default()));
        let mut again = session.detached();
        again.note(&Frame::encode(1, &Fault::default()));
        assert_eq!(again.received, 1);
        again.note(&Frame::encode(2, &Resumed { session: 9, continued: true, ..Resumed::default() }));
        again.note(&Frame::encode(0, &Said::default()));
        assert_eq!(again.received, 2);
    }

    #[test]
    fn a_malformed_control_message_changes_nothing() {
        let mut session = Session::default();
        session.note(&welcome());
        let before = session.clone();
        for kind in [Heartbeat::KIND, ResumeTicket::KIND, Welcome::KIND, Resumed::KIND] {
            assert_eq!(session.note(&Frame::from_body(kind, 0, &[0xff])), None);
        }
        assert_eq!(session, before);
    }
}
