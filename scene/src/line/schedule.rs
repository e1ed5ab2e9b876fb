//! When ticks are due: at a fixed rate that does not drift, with a bound on how much is made up for.

use std::{collections::VecDeque, time::Duration};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::ladder::WHOLE_PERMILLE;

/// Ticks that a line may be late before it gives up catching up: its time then runs slower than the clock.
const CATCH_UP_MAX: u32 = 5;

/// When the next tick is due.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// From tick to tick when time is whole.
    whole: Duration,
    period: Duration,
    due: Instant,
}

/// How long a line waits for its first tick, so that the lines of a zone do not all tick at once: gates would then have everything to write
/// in one part of each period, and nothing in the other. `turn` is the line's place among those of the zone, `clock` the same clock for all.
///
/// Places of a period go by the golden ratio: any first few are far apart, however many more there will be (Knuth, TAOCP 3, 6.4).
pub(crate) fn first_in(turn: u32, tick_hz: u32, clock: Duration) -> Duration {
    let period = u64::try_from(period(tick_hz).as_nanos()).expect("a second at most");
    let place = (u64::from(turn.wrapping_mul(0x9e37_79b9)) * period) >> 32;
    let passed = u64::try_from(clock.as_nanos() % u128::from(period)).expect("less than a period");
    Duration::from_nanos((place + period - passed) % period)
}

fn period(tick_hz: u32) -> Duration {
    Duration::from_secs(1) / tick_hz.max(1)
}

impl Schedule {
    /// The first tick is due at `first`.
    pub(crate) fn new(tick_hz: u32, first: Instant) -> Self {
        let whole = period(tick_hz);
        Self { whole, period: whole, due: first }
    }

    /// From here on so many thousandths of the clock's time pass in the world.
    pub(crate) fn pace(&mut self, permille: u32) {
        self.period = self.whole * WHOLE_PERMILLE / permille.max(1);
    }

    /// How long to sleep before the next tick.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }

    /// A tick has ended; true if the one after it is due already.
    pub(crate) fn ticked(&mut self, now: Instant) -> bool {
        self.due += self.period;
        let late = now.saturating_duration_since(self.due);
        if self.period * CATCH_UP_MAX < late {
            // What is missed is missed; its place in the period stays.
            self.due = now - Duration::from_nanos(u64::try_from(late.as_nanos() % self.period.as_nanos()).expect("less than a period"));
        }
        self.due <= now
    }
}

/// How long the ticks of the last minute took, and all of them.
#[derive(Debug)]
pub(crate) struct TickTimes {
    parts: VecDeque<(Instant, Histogram<u64>)>,
    all: Histogram<u64>,
}

/// A part of the minute, in seconds.
const PART_S: u64 = 10;
/// Parts of the minute.
const PARTS: usize = 6;
/// Longest tick that is told apart from longer ones, in microseconds.
const LONGEST_US: u64 = 60_000_000;

impl TickTimes {
    /// No tick yet.
    pub(crate) fn new() -> Self {
        Self { parts: VecDeque::new(), all: histogram() }
    }

    /// A tick took so long.
    pub(crate) fn record(&mut self, now: Instant, took: Duration) {
        let fresh = self.parts.back().is_some_and(|(since, _)| now.saturating_duration_since(*since).as_secs() < PART_S);
        if !fresh {
            self.parts.push_back((now, histogram()));
            self.parts.drain(..self.parts.len().saturating_sub(PARTS));
        }
        let took_us = u64::try_from(took.as_micros()).unwrap_or(LONGEST_US).max(1);
        self.all.saturating_record(took_us);
        if let Some((_, part)) = self.parts.back_mut() {
            part.saturating_record(took_us);
        }
    }

    /// All ticks so far: microseconds and how many ticks took so long. Who reads it twice knows the ticks between.
    pub(crate) fn counts_us(&self) -> Vec<(u64, u64)> {
        self.all.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value())).collect()
    }

    /// Milliseconds: the median, the 99th percentile, the longest.
    pub(crate) fn figures_ms(&self) -> [f64; 3] {
        let mut all = histogram();
        for (_, part) in &self.parts {
            all.add(part).expect("all parts have the same bounds");
        }
        let ms = |us: u64| f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / 1_000.0;
        [ms(all.value_at_quantile(0.5)), ms(all.value_at_quantile(0.99)), ms(all.max())]
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 2).expect("these bounds are good")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_do_not_drift() {
        let start = Instant::now();
        let mut schedule = Schedule::new(10, start);
        assert_eq!(schedule.wait(start), Duration::ZERO);
        assert!(!schedule.ticked(start + Duration::from_millis(30)));
        assert_eq!(schedule.wait(start + Duration::from_millis(30)), Duration::from_millis(70));
    }

    #[test]
    fn ticks_are_farther_apart_when_time_is_slow() {
        let start = Instant::now();
        let mut schedule = Schedule::new(10, start);
        schedule.pace(400);
        assert!(!schedule.ticked(start));
        assert_eq!(schedule.wait(start), Duration::from_millis(250));
    }

    #[test]
    fn a_late_line_catches_up_but_not_without_end() {
        let start = Instant::now();
        let mut schedule = Schedule::new(10, start);
        let now = start + Duration::from_millis(350);
        assert!(schedule.ticked(now) && schedule.ticked(now) && schedule.ticked(now), "three more are due");
        assert!(!schedule.ticked(now));
        let much_later = start + Duration::from_secs(100);
        assert!(schedule.ticked(much_later));
        assert!(!schedule.ticked(much_later), "a hundred seconds are not made up for");
    }

    #[test]
    fn lines_take_turns_whenever_they_are_opened() {
        let place = |turn: u32| {
            let opened = Duration::from_millis(1_000_037 + u64::from(turn) * 11_113);
            Duration::from_nanos((opened + first_in(turn, 10, opened)).subsec_nanos().into()).as_micros() % 100_000
        };
        assert_eq!(place(0), 0);
        let mut places: Vec<u128> = (0..8).map(place).collect();
        places.sort_unstable();
        assert!(places.windows(2).all(|two| 5_000 < two[1] - two[0]), "{places:?}");
    }

    #[test]
    fn figures_forget_after_a_minute() {
        let start = Instant::now();
        let mut times = TickTimes::new();
        times.record(start, Duration::from_millis(500));
        assert!(400.0 < times.figures_ms()[2]);
        for second in 0..70 {
            times.record(start + Duration::from_secs(second), Duration::from_millis(2));
        }
        assert!(times.figures_ms()[2] < 3.0);
        let counts = times.counts_us();
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 71, "none is forgotten here: {counts:?}");
    }
}
