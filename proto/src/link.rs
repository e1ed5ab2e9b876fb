//! The framing of links between processes, the numbers of what travels on them, and the bodies that are no protobuf.
//!
//! A link frame is `u32 length | u16 kind | u16 flags | u64 id | body`, little-endian; `length` counts what follows it.
//! `id` is a session, a call, or a group, as the kind says. Client frames travel whole, as the body of [`FORWARD`] and [`DELIVER`].
//! [`Call`] and [`Notice`] tie each message of `link.proto` to its number.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{frame::Frame, internal};

/// Bytes of a link frame before its body.
pub const HEAD_BYTES: usize = 16;
/// The longest body of one link frame. Longer calls and answers travel in several frames; notices and groups must fit.
pub const BODY_MAX: usize = 64 * 1024;
/// The longest call or answer, put together.
pub const CALL_BODY_MAX: usize = 4 * 1024 * 1024;

/// Handshake: [`internal::LinkHello`].
pub const HELLO: u16 = 0x0001;
/// Handshake: [`internal::LinkProof`].
pub const PROOF: u16 = 0x0002;
/// Handshake: [`internal::LinkRefused`].
pub const REFUSED: u16 = 0x0003;
/// Heartbeat; `id` is a stamp that comes back in [`PONG`].
pub const PING: u16 = 0x0004;
/// Answer to [`PING`].
pub const PONG: u16 = 0x0005;
/// The answer to a call, whose number is the `id`. With [`flags::FAULT`] it is an [`internal::CallFault`].
pub const ANSWER: u16 = 0x0006;

/// Gate to backend: a client frame; `id` is its session.
pub const FORWARD: u16 = 0x0010;
/// Backend to gate: a frame for one client; `id` is its session.
pub const DELIVER: u16 = 0x0011;
/// Backend to gate: the session (body, [`put_session`]) joins group `id`.
pub const GROUP_JOIN: u16 = 0x0012;
/// Backend to gate: the session (body) leaves group `id`.
pub const GROUP_LEAVE: u16 = 0x0013;
/// Backend to gate: a client frame for all of group `id` ([`Publish`]).
pub const GROUP_PUBLISH: u16 = 0x0014;
/// Backend to gate: group `id` is no more.
pub const GROUP_DROP: u16 = 0x0015;
/// Backend to gate: the tick's publishing is done; the gate writes what it gathered. `id` is the tick.
pub const TICK_END: u16 = 0x0016;

/// Bits of a link frame's `flags`.
pub mod flags {
    /// The answer is a fault.
    pub const FAULT: u16 = 1;
    /// More parts of this call or answer follow.
    pub const MORE: u16 = 2;
}

/// A request on a link and the type of its answer.
pub trait Call: prost::Message + Default + 'static {
    /// Number on the wire, `0x01xx`.
    const KIND: u16;
    /// Name, for logs and metrics.
    const NAME: &'static str;
    /// What a good answer is.
    type Answer: prost::Message + Default + 'static;
}

/// A one-way message on a link.
pub trait Notice: prost::Message + Default + 'static {
    /// Number on the wire, `0x02xx`.
    const KIND: u16;
    /// Name, for logs and metrics.
    const NAME: &'static str;
}

macro_rules! calls {
    ($($number:literal $call:ident => $answer:ident;)*) => {
        $(impl Call for internal::$call {
            const KIND: u16 = $number;
            const NAME: &'static str = stringify!($call);
            type Answer = internal::$answer;
        })*

        /// All numbers of calls with their names.
        pub const CALLS: &[(u16, &str)] = &[$(($number, stringify!($call))),*];
    };
}

macro_rules! notices {
    ($($number:literal $notice:ident;)*) => {
        $(impl Notice for internal::$notice {
            const KIND: u16 = $number;
            const NAME: &'static str = stringify!($notice);
        })*

        /// All numbers of notices with their names.
        pub const NOTICES: &[(u16, &str)] = &[$(($number, stringify!($notice))),*];
    };
}

calls! {
    // gate, login and scene to center
    0x0101 SessionResume   => SessionResumed;
    0x0102 SessionClaim    => SessionClaimed;
    0x0103 PlayerEnter     => PlayerEntered;
    0x0104 LinePick        => LinePicked;
    0x0105 PlayerHanded    => Done;
    // center to scene
    0x0110 SceneEnter      => SceneEntered;
    0x0111 SceneLeave      => Done;
    0x0112 SceneTeleport   => Done;
    0x0113 LineOpen        => Done;
    0x0114 LineClose       => Done;
    0x0115 SceneChangeLine => Done;
    0x0116 SceneMute       => Done;
    0x0118 GoodsLook       => GoodsSeen;
    0x0119 TradePrepare    => TradePrepared;
    0x011a TradeSettle     => Done;
    // to dc
    0x0120 AccountCreate   => AccountReply;
    0x0121 AccountFind     => AccountReply;
    0x0122 RoleListCall    => RoleListed;
    0x0123 RoleCreate      => RoleReply;
    0x0124 RoleDelete      => Done;
    0x0125 PlayerClaim     => PlayerClaimed;
    0x0126 PlayerTake      => PlayerClaimed;
    0x0127 Commit          => Committed;
    0x0128 PlayerHandoff   => PlayerHandedOff;
    0x0129 PlayerRelease   => Done;
    0x012a ProfileFind     => PlayerProfile;
    0x012b RelationSet     => Relations;
    0x012c RelationList    => Relations;
    0x012d SanctionAdd     => Sanctions;
    0x012e SanctionLift    => Sanctions;
    0x012f SanctionList    => Sanctions;
    0x0130 GmAccountFind   => GmAccountReply;
    0x0131 GmAccountCreate => GmAccountReply;
    0x0132 AuditAppend     => AuditReply;
    0x0133 AuditOutcome    => Done;
    0x0134 AuditList       => AuditReply;
    0x0138 UnitFind        => UnitFound;
    0x0139 MailFind        => MailListed;
    0x013d RankList        => RankListed;
    0x013e RankRebuild     => RankRebuilt;
    // to logsvc
    0x0140 EventsAppend    => EventsStored;
}

notices! {
    0x0201 SessionOpened;
    0x0202 SessionLost;
    0x0203 SessionBack;
    0x0204 SessionEnded;
    0x0205 SessionAuthenticated;
    0x0206 SessionBound;
    0x0207 SessionUnbound;
    0x0208 SessionClose;
    0x0209 GateReport;
    0x020a SceneReport;
    0x020c PlayerLeft;
    0x020d PlayerLevel;
    0x020e SceneParty;
    0x020f MailNotice;
}

/// A link frame: the head's facts and the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFrame {
    /// What it is.
    pub kind: u16,
    /// See [`flags`].
    pub flags: u16,
    /// Session, call or group.
    pub id: u64,
    /// What it says.
    pub body: Bytes,
}

/// Why bytes are no link frame. The link can't go on after one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkFrameError {
    /// The peer announced more than [`BODY_MAX`].
    #[error("link frame of {0} bytes")]
    TooLong(usize),
    /// The peer announced less than a head.
    #[error("link frame of {0} bytes; a head alone has 12")]
    TooShort(usize),
}

impl LinkFrame {
    /// Bytes that the frame takes on the wire.
    pub fn wire_len(&self) -> usize {
        HEAD_BYTES + self.body.len()
    }

    /// Writes the head; the body follows it on the wire.
    ///
    /// # Panics
    /// When the body is longer than [`BODY_MAX`].
    pub fn put_head(&self, to: &mut BytesMut) {
        assert!(self.body.len() <= BODY_MAX, "link frame {:#06x} with a body of {} bytes", self.kind, self.body.len());
        let length = HEAD_BYTES - 4 + self.body.len();
        to.put_u32_le(u32::try_from(length).expect("a body is shorter than 4 GiB"));
        to.put_u16_le(self.kind);
        to.put_u16_le(self.flags);
        to.put_u64_le(self.id);
    }

    /// Takes the next frame off the front of `buffer`; `None` until it is whole.
    ///
    /// # Errors
    /// When the announced length is not allowed.
    pub fn split(buffer: &mut BytesMut) -> Result<Option<Self>, LinkFrameError> {
        let Some(prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length < HEAD_BYTES - 4 {
            return Err(LinkFrameError::TooShort(length));
        }
        if HEAD_BYTES - 4 + BODY_MAX < length {
            return Err(LinkFrameError::TooLong(length));
        }
        if buffer.len() < 4 + length {
            buffer.reserve(4 + length - buffer.len());
            return Ok(None);
        }
        let mut bytes = buffer.split_to(4 + length);
        bytes.advance(4);
        let kind = bytes.get_u16_le();
        let flags = bytes.get_u16_le();
        let id = bytes.get_u64_le();
        Ok(Some(Self { kind, flags, id, body: bytes.freeze() }))
    }
}

/// The body of [`GROUP_JOIN`] and [`GROUP_LEAVE`].
pub fn put_session(session: u64) -> Bytes {
    Bytes::copy_from_slice(&session.to_le_bytes())
}

/// Reads the body of [`GROUP_JOIN`] and [`GROUP_LEAVE`].
pub fn get_session(body: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(body.try_into().ok()?))
}

/// The body of [`GROUP_PUBLISH`]: `u64 except | client frame`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The one session that does not get it; 0: all get it.
    pub except: u64,
    /// What they get.
    pub frame: Frame,
}

impl Publish {
    /// The body.
    pub fn encode(&self) -> Bytes {
        let mut body = BytesMut::with_capacity(8 + self.frame.bytes().len());
        body.put_u64_le(self.except);
        body.put_slice(self.frame.bytes());
        body.freeze()
    }

    /// Reads the body; the frame shares its memory.
    pub fn decode(mut body: Bytes) -> Option<Self> {
        let except = body.try_get_u64_le().ok()?;
        Some(Self { except, frame: Frame::from_bytes(body).ok()? })
    }
}

// A client frame must fit a link frame, or a backend could make one that no gate gets.
const _: () = assert!(8 + crate::frame::HEAD_BYTES + crate::kinds::TO_CLIENT_BODY_MAX <= BODY_MAX);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn link_frames_survive_any_cut(kind: u16, flags: u16, id: u64, body in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..320) {
            let frame = LinkFrame { kind, flags, id, body: body.into() };
            let mut wire = BytesMut::new();
            frame.put_head(&mut wire);
            wire.put_slice(&frame.body);
            prop_assert_eq!(wire.len(), frame.wire_len());
            let cut = cut.min(wire.len() - 1);
            let mut buffer = BytesMut::from(&wire[..cut]);
            prop_assert_eq!(LinkFrame::split(&mut buffer).unwrap(), None);
            buffer.extend_from_slice(&wire[cut..]);
            prop_assert_eq!(LinkFrame::split(&mut buffer).unwrap(), Some(frame));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = LinkFrame::split(&mut buffer) {}
            let _ = Publish::decode(bytes.into());
        }
    }

    #[test]
    fn lengths_out_of_bounds_are_refused() {
        let mut long = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        assert_eq!(LinkFrame::split(&mut long), Err(LinkFrameError::TooLong(u32::MAX as usize)));
        let mut short = BytesMut::from(&3u32.to_le_bytes()[..]);
        assert_eq!(LinkFrame::split(&mut short), Err(LinkFrameError::TooShort(3)));
    }

    #[test]
    fn numbers_are_used_once() {
        let mut numbers: Vec<u16> = CALLS.iter().chain(NOTICES).map(|(number, _)| *number).collect();
        numbers.extend([HELLO, PROOF, REFUSED, PING, PONG, ANSWER, FORWARD, DELIVER]);
        numbers.extend([GROUP_JOIN, GROUP_LEAVE, GROUP_PUBLISH, GROUP_DROP, TICK_END]);
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
    }

    #[test]
    fn publish_round_trips() {
        let frame = Frame::encode(0, &crate::client::Say { text: "hi".into() });
        let publish = Publish { except: 7, frame };
        assert_eq!(Publish::decode(publish.encode()), Some(publish));
        assert_eq!(get_session(&put_session(9)), Some(9));
    }
}
