//! When a client's next message is due: by a schedule that does not wait for answers, in which the clients follow one another.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::clients::{Act, Order};

/// The messages of one client.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// When the order that it is for began.
    since: Option<Instant>,
    last_due: Option<Instant>,
    /// When what is not answered yet was due.
    unanswered: VecDeque<Instant>,
}

impl Schedule {
    /// When the next message of an order is due that began at `since`; none, where it is not to send.
    pub(super) fn next(&mut self, order: &Order, since: Instant, number: usize) -> Option<Instant> {
        if order.act != Act::Echo {
            return None;
        }
        if self.since != Some(since) {
            *self = Self { since: Some(since), ..Self::default() };
        }
        let period = Duration::from_secs_f64(1.0 / order.per_s.max(0.01));
        let first = since + period.mul_f64((number % 997) as f64 / 997.0);
        Some(self.last_due.map_or(first, |last| last + period))
    }

    /// The message that was due then is sent.
    pub(super) fn sent(&mut self, due: Instant) {
        self.last_due = Some(due);
        self.unanswered.push_back(due);
    }

    /// The oldest one is answered: how long after it was due.
    pub(super) fn answered(&mut self) -> Option<Duration> {
        self.unanswered.pop_front().map(|due| due.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_goes_by_its_own_time_and_not_on_from_the_last_one() {
        let order = Order { act: Act::Echo, for_ms: 1000, per_s: 20.0 };
        let (first, second) = (Instant::now(), Instant::now() + Duration::from_secs(10));
        let mut schedule = Schedule::default();
        for sent in 0..3 {
            let due = schedule.next(&order, first, 0).unwrap();
            assert_eq!(due - first, Duration::from_millis(50) * sent, "it does not wait for answers");
            schedule.sent(due);
        }
        assert!(schedule.answered().is_some());
        assert_eq!(schedule.next(&Order { act: Act::Read, ..order }, second, 0), None);
        assert!(schedule.answered().is_some(), "the answer was still on its way");
        assert_eq!(schedule.next(&order, second, 0), Some(second));
        assert_eq!(schedule.answered(), None, "it is an answer to the last order");
    }
}
