//! Calls and answers longer than one frame: cut by the sender, put together by the receiver.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use proto::link::{ANSWER, BODY_MAX, CALL_BODY_MAX, LinkFrame, flags};

/// Bodies that may be in the making at once on one link. Full? A peer that is one of ours has one at a time: the link is closed.
const UNFINISHED_MAX: usize = 4;

/// The frames of a long body: all but the last have [`flags::MORE`].
pub(super) fn cut(kind: u16, flags: u16, id: u64, mut body: Bytes) -> Vec<LinkFrame> {
    let mut parts = Vec::with_capacity(body.len().div_ceil(BODY_MAX));
    while BODY_MAX < body.len() {
        parts.push(LinkFrame { kind, flags: flags | flags::MORE, id, body: body.split_to(BODY_MAX) });
    }
    parts.push(LinkFrame { kind, flags, id, body });
    parts
}

/// Why a peer's parts are not put together. The link can't go on after one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PartsError {
    #[error("a call or an answer is longer than {CALL_BODY_MAX} bytes")]
    TooLong,
    #[error("more than {UNFINISHED_MAX} calls and answers are unfinished at once")]
    TooMany,
    #[error("the parts of a call are of two kinds")]
    Mixed,
}

/// The bodies that are in the making on one link: at most [`UNFINISHED_MAX`] of [`CALL_BODY_MAX`].
#[derive(Default)]
pub(super) struct Assembly {
    // Calls and answers have numbers of their own, made by different sides.
    unfinished: HashMap<(bool, u64), (u16, BytesMut)>,
}

impl Assembly {
    /// Takes a frame of a call or an answer; gives the body when it is whole.
    pub(super) fn add(&mut self, frame: &LinkFrame) -> Result<Option<Bytes>, PartsError> {
        let key = (frame.kind == ANSWER, frame.id);
        let is_last = frame.flags & flags::MORE == 0;
        if is_last && (self.unfinished.is_empty() || !self.unfinished.contains_key(&key)) {
            return Ok(Some(frame.body.clone()));
        }
        if UNFINISHED_MAX <= self.unfinished.len() && !self.unfinished.contains_key(&key) {
            return Err(PartsError::TooMany);
        }
        let (kind, body) = self.unfinished.entry(key).or_insert_with(|| (frame.kind, BytesMut::new()));
        if *kind != frame.kind {
            return Err(PartsError::Mixed);
        }
        if CALL_BODY_MAX < body.len() + frame.body.len() {
            return Err(PartsError::TooLong);
        }
        body.extend_from_slice(&frame.body);
        Ok(if is_last { self.unfinished.remove(&key).map(|(_, body)| body.freeze()) } else { None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(kind: u16, flags: u16, id: u64, length: usize) -> LinkFrame {
        LinkFrame { kind, flags, id, body: vec![7; length].into() }
    }

    #[test]
    fn a_cut_body_is_put_together_whatever_comes_between() {
        let body: Bytes = (0..3 * BODY_MAX + 5).map(|at| (at % 251) as u8).collect::<Vec<_>>().into();
        let parts = cut(0x0127, 0, 8, body.clone());
        assert_eq!(parts.len(), 4);
        let mut assembly = Assembly::default();
        for part in &parts[..3] {
            assert_eq!(assembly.add(part), Ok(None));
            let between = LinkFrame { kind: ANSWER, flags: 0, id: 8, body: "other".into() };
            assert_eq!(assembly.add(&between), Ok(Some("other".into())));
        }
        assert_eq!(assembly.add(&parts[3]), Ok(Some(body)));
        assert!(assembly.unfinished.is_empty());
    }

    #[test]
    fn a_body_of_exactly_one_frame_is_not_cut() {
        assert_eq!(cut(0x0127, 0, 8, vec![0; BODY_MAX].into()).len(), 1);
        assert_eq!(cut(0x0127, 0, 8, vec![0; 2 * BODY_MAX].into()).len(), 2);
    }

    #[test]
    fn unfinished_bodies_are_bounded() {
        let mut assembly = Assembly::default();
        for id in 0..UNFINISHED_MAX as u64 {
            assert_eq!(assembly.add(&part(0x0127, flags::MORE, id, 1)), Ok(None));
        }
        assert_eq!(assembly.add(&part(0x0127, flags::MORE, 99, 1)), Err(PartsError::TooMany));
        assert_eq!(assembly.add(&part(0x0126, flags::MORE, 0, 1)), Err(PartsError::Mixed));
        for _ in 0..CALL_BODY_MAX / BODY_MAX - 1 {
            assert_eq!(assembly.add(&part(0x0127, flags::MORE, 1, BODY_MAX)), Ok(None));
        }
        assert_eq!(assembly.add(&part(0x0127, 0, 1, BODY_MAX)), Err(PartsError::TooLong));
    }
}
