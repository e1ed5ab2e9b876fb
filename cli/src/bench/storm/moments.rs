//! What moments since a storm began say: when so many were back, and how many came in a second. Pure.

use serde::Serialize;

/// When so many of a hundred were back, in seconds since the storm began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct BackAfter {
    pub(super) p50_s: f64,
    pub(super) p99_s: f64,
    pub(super) all_s: f64,
}

/// How many a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rate {
    pub(super) count: usize,
    /// From the first to the last.
    pub(super) mean_per_s: f64,
    /// The most in any second.
    pub(super) peak_per_s: usize,
}

/// A second, in microseconds.
const SECOND_US: u64 = 1_000_000;

impl BackAfter {
    /// Of moments in microseconds, of all of so many players: one who is not back is back at no time, so a part that needs it has none.
    pub(super) fn of(moments_us: &[u64], since_us: u64, players: usize) -> Option<Self> {
        let mut sorted = moments_us.to_vec();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let nth = (players * percent).div_ceil(100).max(1);
            sorted.get(nth - 1).map(|moment| moment.saturating_sub(since_us) as f64 / SECOND_US as f64)
        };
        Some(Self { p50_s: at(50)?, p99_s: at(99)?, all_s: at(100)? })
    }
}

impl Rate {
    /// Of moments in microseconds.
    pub(super) fn of(moments_us: &[u64]) -> Self {
        let mut sorted = moments_us.to_vec();
        sorted.sort_unstable();
        let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else { return Self::default() };
        let span_s = (last - first) as f64 / SECOND_US as f64;
        let mut peak = 0;
        let mut begin = 0;
        for (end, moment) in sorted.iter().enumerate() {
            while SECOND_US <= moment - sorted[begin] {
                begin += 1;
            }
            peak = peak.max(end - begin + 1);
        }
        // Of what took less than a second all came in one.
        Self { count: sorted.len(), mean_per_s: sorted.len() as f64 / span_s.max(1.0), peak_per_s: peak }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_parts_of_all_players_and_not_of_those_who_came() {
        let moments: Vec<u64> = (1..=100).rev().map(|tenth| 5 * SECOND_US + tenth * SECOND_US / 10).collect();
        let back = BackAfter::of(&moments, 5 * SECOND_US, 100).unwrap();
        assert_eq!(back, BackAfter { p50_s: 5.0, p99_s: 9.9, all_s: 10.0 });
        assert_eq!(BackAfter::of(&moments, 0, 101), None, "one is not back");
        assert_eq!(BackAfter::of(&[7 * SECOND_US], 5 * SECOND_US, 1).unwrap().p50_s, 2.0);
    }

    #[test]
    fn the_busiest_second_lies_anywhere() {
        let rate = Rate::of(&[100_000, 900_000, 1_000_000, 1_099_999, 3_100_000]);
        assert_eq!((rate.count, rate.peak_per_s), (5, 4));
        assert!((rate.mean_per_s - 5.0 / 3.0).abs() < 1e-9);
        assert_eq!(Rate::of(&[5, 6]).mean_per_s, 2.0);
        assert_eq!(Rate::of(&[]), Rate::default());
    }
}
