//! Cuts what a client sent into frames. Pure.
//!
//! A frame of an unknown kind is passed over whole, since its length is sound: the client is told, and the connection goes on.

use bytes::{Buf, BytesMut};
use proto::{
    Frame, FrameError,
    frame::{self, HEAD_BYTES, LENGTH_BYTES},
    kinds::Direction,
};

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A frame of a kind that clients may send, no longer than its kind allows.
    Frame(Frame),
    /// A frame of a kind that does not exist, or that a client may not send.
    Unknown {
        /// Its number.
        kind: u16,
        /// The request that it would be.
        seq: u32,
    },
}

/// Takes the next one off the front of `buffer`; `None` until it is whole.
///
/// # Errors
/// When the announced length is not allowed: the connection can't go on.
pub(crate) fn next(buffer: &mut BytesMut) -> Result<Option<Incoming>, FrameError> {
    match frame::split(buffer, Direction::ToServer) {
        Ok(frame) => Ok(frame.map(Incoming::Frame)),
        Err(FrameError::UnknownKind(kind)) => Ok(pass_over(buffer, kind)),
        Err(error) => Err(error),
    }
}

/// `frame::split` has checked the length against the direction before it looked at the kind, so what is waited for here is short.
fn pass_over(buffer: &mut BytesMut, kind: u16) -> Option<Incoming> {
    let head = buffer.first_chunk::<HEAD_BYTES>()?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let seq = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    if buffer.len() < LENGTH_BYTES + length {
        return None;
    }
    buffer.advance(LENGTH_BYTES + length);
    Some(Incoming::Unknown { kind, seq })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::{ClientMessage, client::Welcome, kinds::TO_SERVER_BODY_MAX};

    use super::*;

    #[test]
    fn unknown_kinds_are_passed_over_and_what_follows_is_read() {
        let mut buffer = BytesMut::new();
        buffer.extend_from_slice(Frame::from_body(0x7777, 5, &[1; 100]).bytes());
        buffer.extend_from_slice(Frame::from_body(Welcome::KIND, 6, &[]).bytes());
        let say = Frame::encode(7, &proto::client::Say { text: "hi".into() });
        buffer.extend_from_slice(say.bytes());
        assert_eq!(next(&mut buffer), Ok(Some(Incoming::Unknown { kind: 0x7777, seq: 5 })));
        assert_eq!(next(&mut buffer), Ok(Some(Incoming::Unknown { kind: Welcome::KIND, seq: 6 })));
        assert_eq!(next(&mut buffer), Ok(Some(Incoming::Frame(say))));
        assert_eq!(next(&mut buffer), Ok(None));
    }

    #[test]
    fn an_unknown_kind_that_is_too_long_ends_the_connection() {
        let long = Frame::from_body(0x7777, 5, &[0; TO_SERVER_BODY_MAX + 1]);
        let mut buffer = BytesMut::from(&long.bytes()[..20]);
        assert!(matches!(next(&mut buffer), Err(FrameError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_every_step_consumes(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            let mut left = buffer.len();
            while let Ok(Some(_)) = next(&mut buffer) {
                prop_assert!(buffer.len() < left);
                left = buffer.len();
            }
        }
    }
}
