//! The framing of client connections: `u32 length | u16 kind | u16 flags | u32 seq | body`, little-endian.
//!
//! `length` counts what follows it. A [`Frame`] keeps the bytes as they travel, so that a gate passes them on uncopied.
//! `seq` is chosen by the client for a request, repeated in the answer, and 0 in what the zone says unasked.
//! On WebSocket each binary message is one or more whole frames.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::kinds::{self, ClientMessage, Direction, KindInfo, TO_CLIENT_BODY_MAX, TO_SERVER_BODY_MAX};

/// Bytes of `length`.
pub const LENGTH_BYTES: usize = 4;
/// Bytes of a frame before its body.
pub const HEAD_BYTES: usize = 12;

/// A whole frame: at least [`HEAD_BYTES`], `length` true.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The peer announced more than the direction or the kind allows.
    #[error("frame of {length} bytes; at most {max} are allowed")]
    TooLong {
        /// The announced length.
        length: usize,
        /// The longest that is allowed.
        max: usize,
    },
    /// The peer announced less than a head.
    #[error("frame of {0} bytes; a head alone has 8")]
    TooShort(usize),
    /// No kind has this number in this direction.
    #[error("unknown kind {0:#06x}")]
    UnknownKind(u16),
    /// The body is no message of its kind.
    #[error("body is no {0}")]
    Malformed(&'static str),
    /// Bytes are left over, or missing, where exactly one frame was expected.
    #[error("not exactly one frame")]
    NotOne,
}

impl Frame {
    /// Frames a message.
    ///
    /// # Panics
    /// When the body is longer than its kind allows: the sender has to cut lists before.
    pub fn encode<M: ClientMessage>(seq: u32, message: &M) -> Self {
        let body = message.encoded_len();
        assert!(body <= M::INFO.body_max, "{} of {body} bytes; at most {} are allowed", M::INFO.name, M::INFO.body_max);
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES + body);
        put_head(&mut bytes, M::KIND, seq, body);
        message.encode(&mut bytes).expect("the buffer has room for the body");
        Self(bytes.freeze())
    }

    /// Frames a body that is already encoded. For tools and tests, which also send what is no message.
    pub fn from_body(kind: u16, seq: u32, body: &[u8]) -> Self {
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES + body.len());
        put_head(&mut bytes, kind, seq, body.len());
        bytes.put_slice(body);
        Self(bytes.freeze())
    }

    /// Takes bytes that must be exactly one frame, as a link hands them over.
    ///
    /// # Errors
    /// When they are not.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, FrameError> {
        let length = bytes.first_chunk::<LENGTH_BYTES>().map(|prefix| u32::from_le_bytes(*prefix) as usize);
        match length {
            Some(length) if HEAD_BYTES <= bytes.len() && bytes.len() - LENGTH_BYTES == length => Ok(Self(bytes)),
            _ => Err(FrameError::NotOne),
        }
    }

    /// The number of its kind.
    pub fn kind(&self) -> u16 {
        u16::from_le_bytes([self.0[4], self.0[5]])
    }

    /// Reserved; 0.
    pub fn flags(&self) -> u16 {
        u16::from_le_bytes([self.0[6], self.0[7]])
    }

    /// The request that this is, or answers; 0 if neither.
    pub fn seq(&self) -> u32 {
        u32::from_le_bytes([self.0[8], self.0[9], self.0[10], self.0[11]])
    }

    /// The row of its kind, if the kind is known.
    pub fn info(&self) -> Option<&'static KindInfo> {
        kinds::info(self.kind())
    }

    /// The body, sharing the frame's memory.
    pub fn body(&self) -> Bytes {
        self.0.slice(HEAD_BYTES..)
    }

    /// The whole frame, sharing its memory.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The whole frame.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The message, if the frame is of its kind.
    ///
    /// # Errors
    /// When it is of another kind, or the body is malformed.
    pub fn decode<M: ClientMessage>(&self) -> Result<M, FrameError> {
        if self.kind() != M::KIND {
            return Err(FrameError::UnknownKind(self.kind()));
        }
        M::decode(self.body()).map_err(|_| FrameError::Malformed(M::INFO.name))
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.info().map_or("unknown", |info| info.name);
        write!(to, "Frame({name} {:#06x} seq {} body {} bytes)", self.kind(), self.seq(), self.0.len() - HEAD_BYTES)
    }
}

/// Takes the next frame off the front of `buffer`; `None` until it is whole.
///
/// The announced length is checked against the direction as soon as it is there, and against the kind as soon as that is:
/// nothing is reserved for a frame that will be refused.
///
/// # Errors
/// When what the peer announced is not allowed. The connection can't go on after that.
pub fn split(buffer: &mut BytesMut, direction: Direction) -> Result<Option<Frame>, FrameError> {
    let Some(prefix) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*prefix) as usize;
    let head = HEAD_BYTES - LENGTH_BYTES;
    let body_max = match direction {
        Direction::ToServer => TO_SERVER_BODY_MAX,
        Direction::ToClient => TO_CLIENT_BODY_MAX,
    };
    if length < head {
        return Err(FrameError::TooShort(length));
    }
    if head + body_max < length {
        return Err(FrameError::TooLong { length, max: head + body_max });
    }
    let Some(start) = buffer.first_chunk::<{ LENGTH_BYTES + 2 }>() else { return Ok(None) };
    let kind = u16::from_le_bytes([start[4], start[5]]);
    let info = kinds::info(kind).filter(|info| info.direction == direction).ok_or(FrameError::UnknownKind(kind))?;
    if head + info.body_max < length {
        return Err(FrameError::TooLong { length, max: head + info.body_max });
    }
    if buffer.len() < LENGTH_BYTES + length {
        buffer.reserve(LENGTH_BYTES + length - buffer.len());
        return Ok(None);
    }
    Ok(Some(Frame(buffer.split_to(LENGTH_BYTES + length).freeze())))
}

/// Takes all frames of one WebSocket message.
///
/// # Errors
/// When one is not allowed, or the last is not whole.
pub fn split_all(message: Bytes, direction: Direction) -> Result<Vec<Frame>, FrameError> {
    let mut buffer = BytesMut::from(message);
    let mut frames = Vec::new();
    while buffer.has_remaining() {
        frames.push(split(&mut buffer, direction)?.ok_or(FrameError::NotOne)?);
    }
    Ok(frames)
}

fn put_head(to: &mut BytesMut, kind: u16, seq: u32, body: usize) {
    let length = u32::try_from(HEAD_BYTES - LENGTH_BYTES + body).expect("a body is shorter than 4 GiB");
    to.put_u32_le(length);
    to.put_u16_le(kind);
    to.put_u16_le(0);
    to.put_u32_le(seq);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::client::{Hello, Say};

    proptest! {
        #[test]
        fn a_frame_survives_any_cut(text in ".{0,200}", seq: u32, cut in 0usize..300) {
            let frame = Frame::encode(seq, &Say { text: text.clone() });
            let bytes = frame.bytes().clone();
            let cut = cut.min(bytes.len());
            let mut buffer = BytesMut::from(&bytes[..cut]);
            let early = split(&mut buffer, Direction::ToServer).unwrap();
            prop_assert_eq!(early.is_some(), cut == bytes.len());
            let whole = match early {
                Some(frame) => frame,
                None => {
                    buffer.extend_from_slice(&bytes[cut..]);
                    split(&mut buffer, Direction::ToServer).unwrap().unwrap()
                }
            };
            prop_assert_eq!(whole.seq(), seq);
            prop_assert_eq!(whole.decode::<Say>().unwrap().text, text);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = split(&mut buffer, Direction::ToServer) {
                let _ = kinds::body_to_json(frame.kind(), &frame.body());
            }
            let _ = split_all(bytes.clone().into(), Direction::ToClient);
            let _ = Frame::from_bytes(bytes.into());
        }
    }

    #[test]
    fn lengths_are_refused_before_anything_is_reserved() {
        for length in [u32::MAX, 1 << 20] {
            let mut buffer = BytesMut::from(&length.to_le_bytes()[..]);
            let before = buffer.capacity();
            assert!(matches!(split(&mut buffer, Direction::ToServer), Err(FrameError::TooLong { .. })));
            assert_eq!(buffer.capacity(), before);
        }
        let mut buffer = BytesMut::from(&0u32.to_le_bytes()[..]);
        assert_eq!(split(&mut buffer, Direction::ToServer), Err(FrameError::TooShort(0)));
    }

    #[test]
    fn a_kind_has_its_own_limit() {
        let long = Frame::from_body(Hello::KIND, 1, &[0; 200]);
        let mut buffer = BytesMut::from(&long.bytes()[..6]);
        assert_eq!(split(&mut buffer, Direction::ToServer), Err(FrameError::TooLong { length: 208, max: 136 }));
    }

    #[test]
    fn a_client_may_not_speak_as_the_zone() {
        let frame = Frame::from_body(crate::client::Welcome::KIND, 1, &[]);
        let mut buffer = BytesMut::from(&frame.bytes()[..]);
        assert_eq!(split(&mut buffer, Direction::ToServer), Err(FrameError::UnknownKind(2)));
    }
}
