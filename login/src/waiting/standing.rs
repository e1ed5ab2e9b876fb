//! Telling those who wait how they stand, and the metrics of both queues.

use std::{hash::Hash, sync::Arc, time::Duration};

use proto::{
    Frame,
    client::{QueueReason, Queued},
};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Held, TELL_PERIOD, Waiting};
use crate::queue::{Queue, Standing};

/// A client hears of its place at least so often, so that it knows that it still has one.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// Near the front every step is told; farther back, one of a twentieth.
const NEAR_FRONT: usize = 20;
const NOTICEABLE_PART: usize = 20;

impl Waiting {
    /// Tells whoever stands noticeably elsewhere than it was told, once a period; who waits for less than one needs to hear nothing.
    pub(super) async fn tell(self: Arc<Self>) {
        let mut period = interval(TELL_PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stopped = self.desk.tasks().stopped();
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                () = &mut stopped => return,
                _ = period.tick() => (),
            }
            tell_all(&mut self.hash(), QueueReason::Logins);
            tell_all(&mut self.room(), QueueReason::ZoneFull);
            gauges("logins", &mut self.hash());
            gauges("room", &mut self.room());
        }
    }
}

/// How long the one who waits longest has done so.
pub(super) fn longest<K: Clone + Eq + Hash>(queue: &mut Queue<K, Held>) -> Duration {
    queue.standings(Instant::now()).map(|(_, held)| held.since.elapsed()).max().unwrap_or_default()
}

fn gauges<K: Clone + Eq + Hash>(reason: &'static str, queue: &mut Queue<K, Held>) {
    metrics::gauge!("paifang_login_queue_count", "reason" => reason).set(queue.len() as f64);
    metrics::gauge!("paifang_login_queue_longest_seconds", "reason" => reason).set(longest(queue).as_secs_f64());
}

fn tell_all<K: Clone + Eq + Hash>(queue: &mut Queue<K, Held>, reason: QueueReason) {
    let now = Instant::now();
    for (standing, held) in queue.standings(now) {
        let waits = now.saturating_duration_since(held.since);
        if TELL_PERIOD <= waits && is_worth_telling(held.told, standing.position, now) {
            held.told = Some((standing.position, now));
            // Of class Frame: a client that does not read gets the newest one when it does.
            let _ = held.link.deliver(held.request.session, Frame::encode(0, &queued(&standing, reason)));
        }
    }
}

fn is_worth_telling(told: Option<(usize, Instant)>, position: usize, now: Instant) -> bool {
    let Some((told, when)) = told else { return true };
    let is_noticeable = if told <= NEAR_FRONT { told != position } else { told / NOTICEABLE_PART <= told.abs_diff(position) };
    is_noticeable || TELL_AGAIN <= now.saturating_duration_since(when)
}

fn queued(standing: &Standing, reason: QueueReason) -> Queued {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let wait_ms = standing.wait.map_or(0, |wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1));
    Queued { position: number(standing.position), waiting: number(standing.length), wait_ms, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_near_the_front_and_strides_far_back_are_told() {
        let now = Instant::now();
        assert!(is_worth_telling(None, 1, now));
        for (told, position, worth) in [(3, 2, true), (3, 3, false), (1000, 951, false), (1000, 950, true)] {
            assert_eq!(is_worth_telling(Some((told, now)), position, now), worth, "{told} {position}");
        }
        assert!(is_worth_telling(Some((3, now)), 3, now + TELL_AGAIN));
    }

    #[test]
    fn a_wait_that_is_not_known_is_zero_and_a_known_one_is_not() {
        let standing = Standing { position: 2, length: 5, wait: None };
        assert_eq!(queued(&standing, QueueReason::Logins).wait_ms, 0);
        let soon = Standing { wait: Some(Duration::ZERO), ..standing };
        assert_eq!(queued(&soon, QueueReason::Logins).wait_ms, 1);
    }
}
