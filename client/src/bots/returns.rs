//! Who lost its connection and came back, and when: as moments on the machine's clock, because whoever broke the connections is another
//! process, and alone knows since when to count.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// Moments that are kept of each kind; what comes after is counted only.
const MOMENTS_MAX: usize = 200_000;
/// Reasons that are told apart; they are this crate's names and the fault codes', so there are fewer.
const REASONS_MAX: usize = 200;

/// The returns of a run's bots since they were started. Moments are microseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returns {
    /// When a gate took a ticket.
    pub resumed_us: Vec<u64>,
    /// When a bot that was away heard where it stands.
    pub inside_us: Vec<u64>,
    /// Returns of both kinds of which no moment is kept.
    pub untold: u64,
    /// Bots that logged in again, because their session could not be resumed.
    pub anew: u64,
    /// Bots that stay away.
    pub gave_up: u64,
    /// Attempts to resume that failed, by reason.
    pub refused: BTreeMap<String, u64>,
}

impl Returns {
    /// The moment that it is now.
    pub fn now_us() -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// Adds those of other bots.
    pub fn add(&mut self, other: &Returns) {
        for (moments, more) in [(&mut self.resumed_us, &other.resumed_us), (&mut self.inside_us, &other.inside_us)] {
            more.iter().for_each(|moment| note(moments, &mut self.untold, *moment));
        }
        self.untold = self.untold.saturating_add(other.untold);
        self.anew = self.anew.saturating_add(other.anew);
        self.gave_up = self.gave_up.saturating_add(other.gave_up);
        for (reason, more) in &other.refused {
            let count = self.refused.entry(reason.clone()).or_default();
            *count = count.saturating_add(*more);
        }
    }

    pub(super) fn resumed(&mut self) {
        note(&mut self.resumed_us, &mut self.untold, Self::now_us());
    }

    pub(super) fn inside(&mut self) {
        note(&mut self.inside_us, &mut self.untold, Self::now_us());
    }

    pub(super) fn anew(&mut self) {
        self.anew = self.anew.saturating_add(1);
    }

    pub(super) fn gave_up(&mut self) {
        self.gave_up = self.gave_up.saturating_add(1);
    }

    pub(super) fn refused(&mut self, reason: &str) {
        if let Some(count) = self.refused.get_mut(reason) {
            *count = count.saturating_add(1);
        } else if self.refused.len() < REASONS_MAX {
            self.refused.insert(reason.to_owned(), 1);
        }
    }
}

fn note(moments: &mut Vec<u64>, untold: &mut u64, moment: u64) {
    if moments.len() < MOMENTS_MAX {
        moments.push(moment);
    } else {
        *untold = untold.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_of_several_processes_add_up_and_stay_bounded() {
        let mut one = Returns { resumed_us: vec![1], untold: 2, ..Returns::default() };
        one.refused("silent");
        let mut other = Returns { inside_us: vec![7; MOMENTS_MAX], gave_up: 1, ..Returns::default() };
        other.refused("silent");
        other.inside();
        one.add(&other);
        assert_eq!((one.resumed_us.len(), one.inside_us.len(), one.untold, one.gave_up), (1, MOMENTS_MAX, 3, 1));
        assert_eq!(one.refused, BTreeMap::from([("silent".into(), 2)]));
        one.add(&Returns { inside_us: vec![8], ..Returns::default() });
        assert_eq!((one.inside_us.len(), one.untold), (MOMENTS_MAX, 4));
    }
}
