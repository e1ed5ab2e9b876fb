//! Kill points: named places where a test can end the process as a crash would.
//!
//! `PAIFANG_KILL_AT=journal_torn` aborts at the first pass of that point, `PAIFANG_KILL_AT=journal_torn:3` at the third. Without the variable
//! a point costs one atomic load, so points are in every build: what a test kills is what runs.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// The variable that names the point.
pub const VARIABLE: &str = "PAIFANG_KILL_AT";

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

struct Armed {
    point: String,
    /// Passes before the last one.
    left: AtomicU64,
}

impl Armed {
    fn from_environment() -> Option<Self> {
        Self::parse(&std::env::var(VARIABLE).ok()?)
    }

    /// `point` or `point:nth`; none if empty.
    fn parse(text: &str) -> Option<Self> {
        let (point, nth) = match text.split_once(':') {
            Some((point, nth)) => (point, nth.parse().unwrap_or(1)),
            None => (text, 1),
        };
        let left = AtomicU64::new(u64::max(nth, 1) - 1);
        (!point.is_empty()).then(|| Self { point: point.into(), left })
    }

    /// Whether this pass is the one.
    fn is_due(&self, point: &str) -> bool {
        self.point == point && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

/// Ends the process here if this point is the one that [`VARIABLE`] names.
pub fn point(name: &str) {
    point_after(name, || ());
}

/// As [`point`], but does something first: what a crash in the middle of it would leave.
pub fn point_after(name: &str, work: impl FnOnce()) {
    let Some(armed) = ARMED.get_or_init(Armed::from_environment) else { return };
    if armed.is_due(name) {
        work();
        eprintln!("ending at the kill point {name}, as {VARIABLE} says");
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_due_at_its_pass() {
        let third = Armed::parse("here:3").unwrap();
        let due: Vec<bool> = ["here", "there", "here", "there", "here"].iter().map(|point| third.is_due(point)).collect();
        assert_eq!(due, [false, false, false, false, true]);
        assert!(Armed::parse("here").unwrap().is_due("here"));
        assert!(Armed::parse("").is_none());
    }
}
