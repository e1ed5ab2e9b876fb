//! Speed as a debt: each step adds its length to a player's debt, time pays it off, and a step that would raise the debt above
//! the allowance is refused. Standing still saves nothing up: a debt is never below zero.

use super::grid::Position;

/// What a player may owe, in milliseconds of walking: a second of late arrivals and a quarter for the jitter of the network.
const ALLOWANCE_MS: u64 = 1_250;
/// Farther than this (10 km) no step is looked at. It keeps squares far from the end of 64 bits.
const STEP_MAX_CM: u64 = 1_000_000;

/// One player's debt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Thousandths of a centimetre, as it stood in tick `at`.
    debt: u64,
    at: u64,
}

/// How fast players may walk, and how long a tick is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pace {
    /// Centimetres a second.
    pub speed: u32,
    /// Ticks a second.
    pub tick_hz: u32,
}

impl Budget {
    /// Charges a step in tick `now`; false, and nothing charged, if it was too fast.
    pub fn charge(&mut self, pace: Pace, now: u64, from: Position, to: Position) -> bool {
        self.pay(pace, now);
        let Some(length) = length_milli_cm(from, to) else { return false };
        let debt = self.debt.saturating_add(length);
        let good = debt <= u64::from(pace.speed) * ALLOWANCE_MS;
        if good {
            self.debt = debt;
        }
        good
    }

    fn pay(&mut self, pace: Pace, now: u64) {
        let ticks = now.saturating_sub(self.at);
        let per_tick = u64::from(pace.speed) * 1_000 / u64::from(pace.tick_hz.max(1));
        self.debt = self.debt.saturating_sub(ticks.saturating_mul(per_tick));
        self.at = now;
    }
}

/// The length of a step in thousandths of a centimetre, so that a walk of many short diagonals is no faster than one long one.
fn length_milli_cm(from: Position, to: Position) -> Option<u64> {
    let along = |one: i32, two: i32| (i64::from(one) - i64::from(two)).unsigned_abs();
    let (x, y) = (along(from.x, to.x), along(from.y, to.y));
    if STEP_MAX_CM < x || STEP_MAX_CM < y {
        return None;
    }
    Some(((x * x + y * y) * 1_000_000).isqrt())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACE: Pace = Pace { speed: 800, tick_hz: 10 };

    fn at(x: i32, y: i32) -> Position {
        Position { x, y }
    }

    #[test]
    fn walking_at_full_speed_is_never_refused() {
        let mut budget = Budget::default();
        assert!((1..1_000u64).all(|tick| {
            let from = i32::try_from(tick).unwrap() * 80;
            budget.charge(PACE, tick, at(from, 0), at(from + 80, 0))
        }));
    }

    #[test]
    fn steps_that_arrive_late_together_are_good() {
        let mut budget = Budget::default();
        assert!((0..10).all(|step| budget.charge(PACE, 100, at(step * 80, 0), at(step * 80 + 80, 0))));
    }

    #[test]
    fn a_pause_saves_nothing_up() {
        let mut budget = Budget::default();
        assert!(!budget.charge(PACE, 1_000_000, at(0, 0), at(1_001, 0)), "a second and a quarter of walking is the most at once");
        assert!(budget.charge(PACE, 1_000_000, at(0, 0), at(1_000, 0)));
        assert!(!budget.charge(PACE, 1_000_000, at(1_000, 0), at(1_001, 0)));
    }

    #[test]
    fn extremes_are_refused() {
        let mut budget = Budget::default();
        assert!(!budget.charge(PACE, u64::MAX, at(i32::MIN, i32::MIN), at(i32::MAX, i32::MAX)));
        assert!(budget.charge(PACE, 0, at(i32::MAX, 0), at(i32::MAX, 0)), "standing is free, even if ticks went back");
    }

    proptest! {
        #[test]
        fn nobody_is_faster_than_allowed(steps in proptest::collection::vec((0..3u64, -400..400i32, -400..400i32), 1..200)) {
            let (mut budget, mut now, mut here, mut walked) = (Budget::default(), 0, at(0, 0), 0.0f64);
            for (wait, x, y) in steps {
                now += wait;
                let to = at(here.x + x, here.y + y);
                if budget.charge(PACE, now, here, to) {
                    here = to;
                    walked += f64::from(x * x + y * y).sqrt();
                }
            }
            let elapsed_s = f64::from(u32::try_from(now).unwrap()) / 10.0;
            prop_assert!(walked <= 800.0 * (elapsed_s + 1.25) + 1.0, "{walked} cm in {elapsed_s} s");
        }
    }
}
