//! The rule for a process that dies: it is started again, but not for ever.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Restarts within [`PERIOD`] at most.
pub(super) const RESTARTS_MAX: usize = 3;
/// What counts as one crash loop.
pub(super) const PERIOD: Duration = Duration::from_secs(5);

/// The restarts of one process.
#[derive(Debug, Default)]
pub(super) struct Restarts(VecDeque<Instant>);

impl Restarts {
    /// The process died: whether it may be started again.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        while self.0.front().is_some_and(|earlier| *earlier + PERIOD <= now) {
            self.0.pop_front();
        }
        if RESTARTS_MAX <= self.0.len() {
            return false;
        }
        self.0.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_loop_ends_and_a_rare_death_does_not_count() {
        let (mut restarts, start) = (Restarts::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!([0, 100, 200, 300].map(|ms| restarts.allow(at(ms))), [true, true, true, false]);
        assert!(restarts.allow(at(5000)), "the first restart is five seconds ago");
        assert!(!restarts.allow(at(5050)));
        let mut rare = Restarts::default();
        assert!((0..100).all(|count| rare.allow(at(count * 2000))));
    }
}
