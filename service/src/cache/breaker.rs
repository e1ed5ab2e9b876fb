//! When Redis is asked, and when it is not. Pure.
//!
//! `Closed` (asked) -> after [`FAILURES_MAX`] failures in a row `Open` (not asked) -> after a pause one probe at a time -> `Closed`, or
//! `Open` again for twice as long.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open it.
pub(super) const FAILURES_MAX: u32 = 3;
/// How long it stays open at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(4);
/// Who probes may be cancelled and never say what came of it: after this time the next one probes.
const PROBE_MAX: Duration = Duration::from_secs(1);
const _: () = assert!(super::BOUND.as_millis() < PROBE_MAX.as_millis());

/// What changed, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    Closed,
}

#[derive(Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    Probing { until: Instant },
}

/// The breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    pause: Duration,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { state: State::Closed { failures: 0 }, pause: PAUSE_MIN }
    }

    /// Whether Redis may be asked now. Who is told so says what came of it.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until } | State::Probing { until } if until <= now => {
                self.state = State::Probing { until: now + PROBE_MAX };
                true
            }
            State::Open { .. } | State::Probing { .. } => false,
        }
    }

    pub(super) fn succeeded(&mut self) -> Option<Change> {
        match self.state {
            State::Closed { .. } => {
                self.state = State::Closed { failures: 0 };
                None
            }
            State::Probing { .. } => {
                *self = Self::new();
                Some(Change::Closed)
            }
            // It was asked before the failures that opened this.
            State::Open { .. } => None,
        }
    }

    pub(super) fn failed(&mut self, now: Instant) -> Option<Change> {
        match self.state {
            State::Closed { failures } if failures + 1 < FAILURES_MAX => {
                self.state = State::Closed { failures: failures + 1 };
                None
            }
            State::Closed { .. } => {
                self.state = State::Open { until: now + self.pause };
                Some(Change::Opened)
            }
            State::Probing { .. } => {
                self.pause = (self.pause * 2).min(PAUSE_MAX);
                self.state = State::Open { until: now + self.pause };
                None
            }
            State::Open { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new();
        for failure in 1..=FAILURES_MAX {
            assert!(breaker.admit(now));
            assert_eq!(breaker.failed(now), (failure == FAILURES_MAX).then_some(Change::Opened));
        }
        breaker
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let (mut breaker, now) = (Breaker::new(), Instant::now());
        for _ in 0..10 {
            assert_eq!(breaker.failed(now), None);
            assert_eq!(breaker.failed(now), None);
            assert_eq!(breaker.succeeded(), None);
        }
        assert!(breaker.admit(now));
    }

    #[test]
    fn one_probe_at_a_time_closes_it_or_doubles_the_pause() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        let mut pause = PAUSE_MIN;
        for _ in 0..6 {
            assert!(!breaker.admit(now + pause - Duration::from_millis(1)));
            now += pause;
            assert!(breaker.admit(now), "the probe");
            assert!(!breaker.admit(now), "one at a time");
            assert_eq!(breaker.failed(now), None, "it was open before: nothing changed");
            pause = (pause * 2).min(PAUSE_MAX);
        }
        now += pause;
        assert!(breaker.admit(now));
        assert_eq!(breaker.succeeded(), Some(Change::Closed));
        assert!(breaker.admit(now) && breaker.admit(now));
    }

    #[test]
    fn a_probe_that_is_never_heard_of_again_makes_room_for_the_next() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert!(breaker.admit(now + PAUSE_MIN));
        assert!(!breaker.admit(now + PAUSE_MIN + PROBE_MAX - Duration::from_millis(1)));
        assert!(breaker.admit(now + PAUSE_MIN + PROBE_MAX));
    }

    #[test]
    fn an_answer_from_before_it_opened_does_not_close_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.succeeded(), None);
        assert!(!breaker.admit(now));
    }
}
