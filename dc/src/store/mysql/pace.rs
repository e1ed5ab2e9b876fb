//! How many rows go into a transaction and into a statement. Pure.
//!
//! The number doubles while statements are quick and halves when they are slow. What counts is the time beyond a bare round trip: on a
//! server that is far away, or behind a slow network, fewer rows a statement would only mean more round trips.

use std::{ops::Range, time::Duration};

/// Rows of a transaction at least and at most.
pub(super) const ROWS_MIN: usize = 16;
pub(super) const ROWS_MAX: usize = 8192;
/// Rows of a statement at most: with 14 values each they are far below the 65,535 values that a statement can have.
pub(super) const STATEMENT_ROWS_MAX: usize = 1024;
/// Bytes of a statement, about, unless a single row has more.
pub(super) const STATEMENT_BYTES_MAX: usize = 1024 * 1024;
/// A statement that takes longer than a round trip by this is slow: others wait for the rows that it has locked.
const SLOW: Duration = Duration::from_millis(500);
/// One that takes less is quick.
const QUICK: Duration = Duration::from_millis(100);

/// The number of rows that suits the server now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    rows: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rows: 256 }
    }
}

impl Pace {
    /// Rows of the next transaction, if so many wait.
    pub(super) fn rows(self) -> usize {
        self.rows
    }

    /// A transaction of `rows` rows was done; `slowest` of its statements took so long, and a round trip so long.
    pub(super) fn took(&mut self, rows: usize, slowest: Duration, round_trip: Duration) {
        let worked = slowest.saturating_sub(round_trip);
        if SLOW < worked {
            self.rows = (self.rows / 2).max(ROWS_MIN);
        } else if worked < QUICK && self.rows <= rows {
            self.rows = (self.rows * 2).min(ROWS_MAX); // a small one says nothing about a large one
        }
    }

    /// There was no answer in time: the next try asks for less.
    pub(super) fn unanswered(&mut self) {
        self.rows = (self.rows / 2).max(ROWS_MIN);
    }
}

/// Cuts rows of these sizes into statements. Each has a power of two of rows, so that a few prepared statements serve all numbers.
pub(super) fn statements(bytes: &[usize], rows_max: usize) -> Vec<Range<usize>> {
    let mut cuts = Vec::new();
    let mut from = 0;
    while from < bytes.len() {
        let (mut rows, mut size) = (0, 0);
        for row in &bytes[from..] {
            size += row;
            if rows == rows_max.min(STATEMENT_ROWS_MAX) || (0 < rows && STATEMENT_BYTES_MAX < size) {
                break;
            }
            rows += 1;
        }
        let rows = 1 << rows.max(1).ilog2();
        cuts.push(from..from + rows);
        from += rows;
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIP: Duration = Duration::from_millis(1);

    #[test]
    fn it_grows_while_quick_and_shrinks_while_slow() {
        let mut pace = Pace::default();
        for _ in 0..20 {
            pace.took(pace.rows(), Duration::from_millis(20), TRIP);
        }
        assert_eq!(pace.rows(), ROWS_MAX);
        pace.took(ROWS_MAX, Duration::from_millis(300), TRIP);
        assert_eq!(pace.rows(), ROWS_MAX, "neither quick nor slow");
        for _ in 0..20 {
            pace.took(pace.rows(), Duration::from_millis(700), TRIP);
        }
        assert_eq!(pace.rows(), ROWS_MIN);
        pace.unanswered();
        assert_eq!(pace.rows(), ROWS_MIN);
    }

    #[test]
    fn a_far_server_is_no_slow_one_and_a_small_batch_is_no_proof() {
        let mut pace = Pace::default();
        let far = Duration::from_millis(500);
        pace.took(256, far + TRIP, far);
        assert_eq!(pace.rows(), 512);
        pace.took(3, TRIP, TRIP);
        assert_eq!(pace.rows(), 512);
    }

    #[test]
    fn statements_have_powers_of_two_and_keep_to_their_bytes() {
        let lengths = |bytes: &[usize], max| statements(bytes, max).iter().map(Range::len).collect::<Vec<_>>();
        assert_eq!(lengths(&[100; 1000], 512), [512, 256, 128, 64, 32, 8]);
        assert_eq!(lengths(&[STATEMENT_BYTES_MAX / 2; 5], 512), [2, 2, 1]);
        assert_eq!(lengths(&[2 * STATEMENT_BYTES_MAX, 1], 512), [1, 1], "a row that is too large goes alone");
        assert!(lengths(&[], 512).is_empty());
        assert!(statements(&[1; 5000], 5000).iter().all(|rows| rows.len() <= STATEMENT_ROWS_MAX));
    }
}
