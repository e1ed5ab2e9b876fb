//! What somebody is given who waits for the journal: an outcome that is known later.
//!
//! A call that waits costs no task: what is to be done with the outcome is kept with it, and done by whoever brings it.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

use crate::{refusal::Refusal, writer::lost};

/// Safe, or why not.
pub(crate) type Outcome = Result<(), Refusal>;
type Then = Box<dyn FnOnce(Outcome) + Send>;

/// The side that brings the outcome. Dropped, it brings that nobody knows.
pub(crate) struct Promise(Arc<Slot>);

/// The side that waits.
pub(crate) struct Promised(Arc<Slot>);

#[derive(Default)]
struct Slot(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Open,
    Known(Outcome),
    Awaited(Then),
    Done,
}

/// The two sides.
pub(crate) fn promise() -> (Promise, Promised) {
    let slot = Arc::new(Slot::default());
    (Promise(slot.clone()), Promised(slot))
}

impl Promise {
    /// Brings the outcome, and does with it what is to be done.
    pub(crate) fn keep(self, outcome: Outcome) {
        self.0.bring(outcome);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.bring(Err(lost())); // too late if it was kept
    }
}

impl Promised {
    /// Does this with the outcome: now, if it is known, or on the thread that brings it. It must be short and wait for nothing.
    pub(crate) fn then(self, then: impl FnOnce(Outcome) + Send + 'static) {
        let mut state = self.0.lock();
        match std::mem::replace(&mut *state, State::Done) {
            State::Known(outcome) => {
                drop(state);
                then(outcome);
            }
            State::Open | State::Awaited(_) | State::Done => *state = State::Awaited(Box::new(then)),
        }
    }

    /// Waits for the outcome. Cancel-safe.
    pub(crate) async fn outcome(self) -> Outcome {
        let (answer, answered) = oneshot::channel();
        // Whoever gave up waiting needs no answer.
        self.then(move |outcome| _ = answer.send(outcome));
        answered.await.unwrap_or_else(|_| Err(lost()))
    }
}

impl Slot {
    /// The first outcome counts.
    fn bring(&self, outcome: Outcome) {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Done) {
            State::Open => *state = State::Known(outcome),
            State::Awaited(then) => {
                drop(state);
                then(outcome);
            }
            known @ (State::Known(_) | State::Done) => *state = known,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with it")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn told(promised: Promised) -> mpsc::Receiver<Outcome> {
        let (sender, receiver) = mpsc::channel();
        promised.then(move |outcome| sender.send(outcome).unwrap());
        receiver
    }

    #[test]
    fn the_outcome_is_told_once_whichever_side_is_first() {
        let (promise, promised) = promise();
        let waiting = told(promised);
        assert!(waiting.try_recv().is_err());
        promise.keep(Ok(()));
        assert_eq!(waiting.try_iter().collect::<Vec<_>>(), [Ok(())]);

        let (promise, promised) = super::promise();
        promise.keep(Ok(()));
        assert_eq!(told(promised).try_iter().collect::<Vec<_>>(), [Ok(())]);
    }

    #[tokio::test]
    async fn a_promise_that_is_dropped_is_told_to_be_lost() {
        let (promise, promised) = promise();
        let waiting = told(promised);
        drop(promise);
        assert_eq!(waiting.try_iter().collect::<Vec<_>>(), [Err(lost())]);

        let (promise, promised) = super::promise();
        drop(promise);
        assert_eq!(promised.outcome().await, Err(lost()));
    }
}
