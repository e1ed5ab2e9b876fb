//! Round trip and jitter of a connection, by RFC 6298: smoothed over heartbeats. Pure; times are microseconds passed in.

use std::collections::VecDeque;

/// Heartbeats whose answer is still awaited; the oldest is forgotten beyond this.
const OUTSTANDING_MAX: usize = 8;

/// The measurements of one connection.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    outstanding: VecDeque<u64>,
    smoothed_us: Option<(u32, u32)>,
}

impl Pulse {
    /// A heartbeat with this stamp is sent.
    pub(crate) fn sent(&mut self, stamp_us: u64) {
        if self.outstanding.len() == OUTSTANDING_MAX {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back(stamp_us);
    }

    /// The heartbeat with this stamp came back. A stamp that was never sent, or came back before, measures nothing.
    pub(crate) fn answered(&mut self, stamp_us: u64, now_us: u64) {
        let Some(place) = self.outstanding.iter().position(|sent| *sent == stamp_us) else { return };
        self.outstanding.drain(..=place);
        let sample = u32::try_from(now_us.saturating_sub(stamp_us)).unwrap_or(u32::MAX);
        self.smoothed_us = Some(match self.smoothed_us {
            None => (sample, sample / 2),
            Some((rtt, jitter)) => (blend(rtt, sample, 8), blend(jitter, rtt.abs_diff(sample), 4)),
        });
    }

    /// Round trip and its mean deviation in microseconds; 0 before the first answer.
    pub(crate) fn measured_us(&self) -> (u32, u32) {
        self.smoothed_us.unwrap_or((0, 0))
    }
}

/// `old` moved by one `share`-th towards `new`.
fn blend(old: u32, new: u32, share: u64) -> u32 {
    let blended = (u64::from(old) * (share - 1) + u64::from(new)) / share;
    u32::try_from(blended).expect("between two u32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_sets_and_the_next_ones_smooth() {
        let mut pulse = Pulse::default();
        assert_eq!(pulse.measured_us(), (0, 0));
        pulse.sent(1_000);
        pulse.answered(1_000, 9_000);
        assert_eq!(pulse.measured_us(), (8_000, 4_000));
        pulse.sent(10_000);
        pulse.answered(10_000, 26_000);
        assert_eq!(pulse.measured_us(), (9_000, 5_000));
    }

    #[test]
    fn a_made_up_or_repeated_stamp_measures_nothing() {
        let mut pulse = Pulse::default();
        pulse.sent(1_000);
        pulse.answered(999, 5_000);
        assert_eq!(pulse.measured_us(), (0, 0));
        pulse.answered(1_000, 3_000);
        pulse.answered(1_000, 1_000_000);
        assert_eq!(pulse.measured_us(), (2_000, 1_000));
    }

    #[test]
    fn unanswered_heartbeats_are_forgotten() {
        let mut pulse = Pulse::default();
        (0..1000).for_each(|stamp| pulse.sent(stamp));
        assert_eq!(pulse.outstanding.len(), OUTSTANDING_MAX);
        pulse.answered(3, 10);
        assert_eq!(pulse.measured_us(), (0, 0));
    }
}
