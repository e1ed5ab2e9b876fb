//! The calls of this side of a link that wait for their answer.
//!
//! Full? Each entry belongs to a waiting future and goes with it, so the callers' own bounds hold here.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use bytes::Bytes;
use proto::internal::CallFault;
use tokio::sync::oneshot;

/// What the peer answered.
pub(super) type Answered = Result<Bytes, CallFault>;

#[derive(Default)]
pub(super) struct Calls(Mutex<State>);

#[derive(Default)]
struct State {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<Answered>>,
    is_closed: bool,
}

/// One waiting call; forgotten when dropped.
pub(super) struct Waiting<'a> {
    calls: &'a Calls,
    number: u64,
    answer: oneshot::Receiver<Answered>,
}

impl Calls {
    /// A new call; `None` when the link is down.
    pub(super) fn register(&self) -> Option<Waiting<'_>> {
        let mut state = self.lock();
        if state.is_closed {
            return None;
        }
        state.last += 1;
        let number = state.last;
        let (sender, answer) = oneshot::channel();
        state.waiting.insert(number, sender);
        Some(Waiting { calls: self, number, answer })
    }

    /// Hands over an answer; one that nobody waits for any more is dropped.
    pub(super) fn answer(&self, number: u64, answered: Answered) {
        let waiting = self.lock().waiting.remove(&number);
        if let Some(waiting) = waiting {
            // Its future may have been dropped at this moment.
            let _ = waiting.send(answered);
        }
    }

    /// The link is down: all waiting calls fail, and later ones too.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.waiting.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of the calls panics")
    }
}

impl Waiting<'_> {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The answer; `None` when the link went down.
    pub(super) async fn answered(&mut self) -> Option<Answered> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.calls.lock().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_finds_its_call_and_a_dropped_call_is_forgotten() {
        let calls = Calls::default();
        let mut first = calls.register().unwrap();
        let second = calls.register().unwrap();
        calls.answer(first.number(), Ok("one".into()));
        assert_eq!(first.answered().await, Some(Ok("one".into())));
        let number = second.number();
        drop(second);
        calls.answer(number, Ok("two".into()));
        drop(first);
        assert!(calls.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn calls_fail_when_the_link_closes() {
        let calls = Calls::default();
        let mut waiting = calls.register().unwrap();
        calls.close();
        assert_eq!(waiting.answered().await, None);
        assert!(calls.register().is_none());
    }
}
