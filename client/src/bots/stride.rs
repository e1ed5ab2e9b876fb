//! Steps over a map at a legal speed. Pure.

use std::time::Duration;

use proto::client::Position;

/// How far two places are apart, in centimetres, rounded down.
pub(crate) fn distance(from: Position, to: Position) -> i64 {
    let (dx, dy) = apart(from, to);
    // Below 2^66 before the root, below 2^34 after it.
    dx.hypot(dy) as i64
}

/// How far one may go in `period`, in centimetres, at `percent` of the fastest.
pub(crate) fn length(speed_max: u32, period: Duration, percent: u32) -> i64 {
    let travelled = u128::from(speed_max) * period.as_millis() * u128::from(percent) / 100_000;
    i64::try_from(travelled).unwrap_or(i64::MAX)
}

/// A step of at most `length` from one place towards another; the other place itself if it is that near.
pub(crate) fn towards(from: Position, to: Position, length: i64) -> Position {
    let (dx, dy) = apart(from, to);
    let whole = dx.hypot(dy);
    if whole <= length as f64 {
        return to;
    }
    let share = length as f64 / whole;
    // Rounded towards the start, so that a step is never longer than allowed. A part of a difference of two i32 fits.
    let moved = |start: i32, way: f64| i32::try_from(i64::from(start) + (way * share) as i64).unwrap_or(start);
    Position { x: moved(from.x, dx), y: moved(from.y, dy) }
}

fn apart(from: Position, to: Position) -> (f64, f64) {
    (f64::from(to.x) - f64::from(from.x), f64::from(to.y) - f64::from(from.y))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_step_is_too_long_and_none_leads_away(x: i32, y: i32, to_x: i32, to_y: i32, length in 0i64..100_000) {
            let (from, to) = (Position { x, y }, Position { x: to_x, y: to_y });
            let step = towards(from, to, length);
            prop_assert!(distance(from, step) <= length);
            prop_assert!(distance(step, to) <= distance(from, to) + 1);
        }
    }

    #[test]
    fn a_walk_arrives() {
        let (mut at, goal) = (Position { x: 10_000, y: 10_000 }, Position { x: 13_000, y: 6_000 });
        let length = length(800, Duration::from_millis(100), 80);
        assert_eq!(length, 64);
        for _ in 0..80 {
            at = towards(at, goal, length);
        }
        assert_eq!(at, goal);
    }
}
