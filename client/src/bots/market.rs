//! What all bots have together, before they trade and after: trade moves coins and items, and neither makes nor loses any.

use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use proto::client::Sheet;
use serde::Serialize;

use super::Shared;

/// The counts of a run of trading bots.
#[derive(Debug, Default)]
pub(crate) struct Market {
    pub(crate) done: AtomicU64,
    pub(crate) ended: AtomicU64,
    before: Mutex<Count>,
    after: Mutex<Count>,
}

#[derive(Debug, Default)]
struct Count {
    bots: u64,
    unknown: u64,
    coins: u128,
    items: HashSet<Bytes>,
    twice: u64,
}

impl Count {
    fn add(&mut self, sheet: Option<Sheet>) {
        self.bots += 1;
        let Some(sheet) = sheet else {
            self.unknown += 1;
            return;
        };
        self.coins += u128::from(sheet.coins);
        for item in sheet.items {
            if !self.items.insert(item.id) {
                self.twice += 1;
            }
        }
    }
}

/// What trade came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Trades {
    /// Sides of trades that took place, as told to bots: two a trade.
    pub done: u64,
    /// Sides of trades that did not.
    pub ended: u64,
    /// Coins of all bots before they traded.
    pub coins_before: u128,
    /// And after.
    pub coins_after: u128,
    /// Items of all bots before they traded.
    pub items_before: usize,
    /// And after.
    pub items_after: usize,
    /// Items that came to light, or were lost.
    pub items_wrong: u64,
    /// Items that two bots have.
    pub items_twice: u64,
    /// Bots that could not be counted.
    pub uncounted: u64,
    /// Whether everybody was counted, and together they have exactly what they had.
    pub conserved: bool,
}

impl Market {
    /// A bot was counted; none: it could not be.
    pub(crate) fn counted(&self, sheet: Option<Sheet>, after: bool) {
        let count = if after { &self.after } else { &self.before };
        count.lock().expect("no holder panics").add(sheet);
    }

    /// Whether every bot was counted, so that they may trade.
    pub(crate) fn is_open(&self, shared: &Shared) -> bool {
        shared.totals.logged_in.load(Relaxed) <= self.before.lock().expect("no holder panics").bots
    }

    pub(crate) fn report(&self) -> Trades {
        let (before, after) = (self.before.lock().expect("no holder panics"), self.after.lock().expect("no holder panics"));
        let items_wrong = before.items.symmetric_difference(&after.items).count() as u64;
        let (items_twice, uncounted) = (before.twice + after.twice, before.unknown + after.unknown);
        Trades {
            done: self.done.load(Relaxed),
            ended: self.ended.load(Relaxed),
            coins_before: before.coins,
            coins_after: after.coins,
            items_before: before.items.len(),
            items_after: after.items.len(),
            items_wrong,
            items_twice,
            uncounted,
            conserved: before.coins == after.coins && items_wrong == 0 && items_twice == 0 && uncounted == 0 && before.bots == after.bots,
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::client::Item;

    use super::*;

    fn sheet(coins: u64, items: &[u8]) -> Option<Sheet> {
        let item = |id: &u8| Item { id: vec![*id; 16].into(), kind: "tusk".into(), count: 1 };
        Some(Sheet { coins, items: items.iter().map(item).collect(), ..Sheet::default() })
    }

    fn conserved(before: &[Option<Sheet>], after: &[Option<Sheet>]) -> bool {
        let market = Market::default();
        before.iter().for_each(|sheet| market.counted(sheet.clone(), false));
        after.iter().for_each(|sheet| market.counted(sheet.clone(), true));
        market.report().conserved
    }

    #[test]
    fn what_moves_is_conserved_and_what_is_made_or_lost_is_not() {
        let before = [sheet(5, &[1]), sheet(0, &[2])];
        assert!(conserved(&before, &[sheet(2, &[1, 2]), sheet(3, &[])]));
        assert!(!conserved(&before, &[sheet(2, &[1, 2]), sheet(4, &[])]), "a coin more");
        assert!(!conserved(&before, &[sheet(2, &[1, 2]), sheet(3, &[2])]), "an item twice");
        assert!(!conserved(&before, &[sheet(2, &[1]), sheet(3, &[])]), "an item lost");
        assert!(!conserved(&before, &[sheet(5, &[1, 2]), None]), "somebody was not counted");
    }
}
