//! Trades that are being agreed on: the rules, without network. Center carries what is offered and knows nothing of its worth.
//!
//! A trade is open until both have confirmed the same revision; then it is settling, and nobody changes or leaves it any more. All of this
//! is gone with the process: an open trade then never was, and of a settling one the scenes find out from dc.

use std::{collections::BTreeMap, time::Duration};

use proto::{
    client::{Goods, TradeState},
    ids::PlayerId,
};
use tokio::time::Instant;

/// An open trade in which nothing changes for so long is over: who waits in it can trade with nobody else.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// Names a trade, and the unit that it becomes.
pub(crate) type TradeId = [u8; 16];

/// What one of the two has said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Side {
    pub player: PlayerId,
    pub name: String,
    pub goods: Goods,
    pub confirmed: bool,
}

/// A trade.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trade {
    pub id: TradeId,
    pub sides: [Side; 2],
    pub revision: u32,
    pub settling: bool,
    /// When one of the two last changed something.
    pub changed: Instant,
}

/// Why a trade can't be changed so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The player trades already.
    Busy(PlayerId),
    /// It has no such trade.
    NoTrade,
    /// Both have confirmed.
    Settling,
    /// What is confirmed is not what is offered now.
    Outdated,
    /// Nobody gives anything.
    Empty,
}

/// All trades. Each player has one at the most, so they are as many as half the players.
#[derive(Debug, Default)]
pub(crate) struct Trades {
    all: BTreeMap<TradeId, Trade>,
    of: BTreeMap<PlayerId, TradeId>,
}

impl Trade {
    /// As one of the two sees it.
    pub(crate) fn seen_by(&self, player: PlayerId) -> TradeState {
        let [one, two] = &self.sides;
        let (mine, theirs) = if one.player == player { (one, two) } else { (two, one) };
        TradeState {
            id: self.id.to_vec().into(),
            with: theirs.name.clone(),
            revision: self.revision,
            mine: Some(mine.goods.clone()),
            theirs: Some(theirs.goods.clone()),
            confirmed_by_me: mine.confirmed,
            confirmed_by_them: theirs.confirmed,
        }
    }

    fn side(&mut self, player: PlayerId) -> &mut Side {
        let [one, two] = &mut self.sides;
        if one.player == player { one } else { two }
    }
}

impl Trades {
    /// Opens a trade between two; opening it again changes nothing.
    pub(crate) fn open(&mut self, id: TradeId, sides: [(PlayerId, String); 2], now: Instant) -> Result<Trade, Refused> {
        for (player, _) in &sides {
            match self.of.get(player) {
                Some(has) if *has != id => return Err(Refused::Busy(*player)),
                _ => (),
            }
        }
        if let Some(known) = self.all.get(&id) {
            let same = sides.iter().all(|(player, _)| known.sides.iter().any(|side| side.player == *player));
            return if same { Ok(known.clone()) } else { Err(Refused::Busy(sides[0].0)) };
        }
        self.of.extend(sides.iter().map(|(player, _)| (*player, id)));
        let sides = sides.map(|(player, name)| Side { player, name, goods: Goods::default(), confirmed: false });
        let trade = Trade { id, sides, revision: 1, settling: false, changed: now };
        self.all.insert(id, trade.clone());
        Ok(trade)
    }

    /// The player's trade of this id, if nothing is decided.
    pub(crate) fn opened(&mut self, player: PlayerId, id: TradeId) -> Result<&mut Trade, Refused> {
        let has = self.of.get(&player).is_some_and(|has| *has == id);
        match self.all.get_mut(&id).filter(|_| has) {
            None => Err(Refused::NoTrade),
            Some(trade) if trade.settling => Err(Refused::Settling),
            Some(trade) => Ok(trade),
        }
    }

    /// A player offers something else; nobody has confirmed that.
    pub(crate) fn set(&mut self, player: PlayerId, id: TradeId, goods: Goods, now: Instant) -> Result<Trade, Refused> {
        let trade = self.opened(player, id)?;
        trade.side(player).goods = goods;
        trade.revision = trade.revision.wrapping_add(1);
        trade.changed = now;
        trade.sides.iter_mut().for_each(|side| side.confirmed = false);
        Ok(trade.clone())
    }

    /// A player agrees to a revision. The trade is settling if the other has too.
    pub(crate) fn confirm(&mut self, player: PlayerId, id: TradeId, revision: u32, now: Instant) -> Result<Trade, Refused> {
        let trade = self.opened(player, id)?;
        if trade.revision != revision {
            return Err(Refused::Outdated);
        }
        if trade.sides.iter().all(|side| side.goods == Goods::default()) {
            return Err(Refused::Empty);
        }
        let side = trade.side(player);
        if !std::mem::replace(&mut side.confirmed, true) {
            trade.changed = now;
        }
        trade.settling = trade.sides.iter().all(|side| side.confirmed);
        Ok(trade.clone())
    }

    /// A player leaves its trade, or goes elsewhere. None: it has none, or what it has is decided.
    pub(crate) fn leave(&mut self, player: PlayerId) -> Option<Trade> {
        let id = *self.of.get(&player)?;
        if self.all.get(&id)?.settling { None } else { self.end(id) }
    }

    /// Whether the player trades.
    pub(crate) fn of(&self, player: PlayerId) -> bool {
        self.of.contains_key(&player)
    }

    /// The trade is over.
    pub(crate) fn end(&mut self, id: TradeId) -> Option<Trade> {
        let ended = self.all.remove(&id)?;
        for side in &ended.sides {
            self.of.remove(&side.player);
        }
        Some(ended)
    }

    /// Ends the open trades in which nothing has changed for long.
    pub(crate) fn end_idle(&mut self, now: Instant) -> Vec<Trade> {
        self.end_open(|trade| IDLE_MAX <= now.saturating_duration_since(trade.changed))
    }

    /// Ends the open trades of which `gone` says that one of the two is not there.
    pub(crate) fn end_if(&mut self, gone: impl Fn(PlayerId) -> bool) -> Vec<Trade> {
        self.end_open(|trade| trade.sides.iter().any(|side| gone(side.player)))
    }

    fn end_open(&mut self, over: impl Fn(&Trade) -> bool) -> Vec<Trade> {
        let over: Vec<TradeId> = self.all.values().filter(|trade| !trade.settling && over(trade)).map(|trade| trade.id).collect();
        over.into_iter().filter_map(|id| self.end(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: TradeId = [7; 16];
    const A: PlayerId = PlayerId(1);
    const B: PlayerId = PlayerId(2);

    fn coins(coins: u64) -> Goods {
        Goods { coins, items: Vec::new() }
    }

    fn sides(one: PlayerId, two: PlayerId) -> [(PlayerId, String); 2] {
        [one, two].map(|player| (player, format!("P{player}")))
    }

    fn opened() -> Trades {
        opened_at(Instant::now())
    }

    fn opened_at(now: Instant) -> Trades {
        let mut trades = Trades::default();
        trades.open(ID, sides(A, B), now).unwrap();
        trades
    }

    #[test]
    fn both_confirm_the_same_and_then_nothing_changes() {
        let mut trades = opened();
        assert_eq!(trades.confirm(A, ID, 1, Instant::now()), Err(Refused::Empty));
        assert_eq!(trades.set(A, ID, coins(5), Instant::now()).unwrap().revision, 2);
        assert_eq!(trades.confirm(B, ID, 1, Instant::now()), Err(Refused::Outdated));
        assert!(!trades.confirm(B, ID, 2, Instant::now()).unwrap().settling);
        assert_eq!(
            trades.set(A, ID, coins(1), Instant::now()).unwrap().sides.map(|side| side.confirmed),
            [false, false],
            "what B agreed to is gone"
        );
        trades.confirm(A, ID, 3, Instant::now()).unwrap();
        let seen = trades.confirm(B, ID, 3, Instant::now()).unwrap().seen_by(B);
        assert_eq!((seen.with.as_str(), seen.theirs, seen.mine), ("P1", Some(coins(1)), Some(coins(0))));
        assert_eq!(trades.set(A, ID, coins(0), Instant::now()), Err(Refused::Settling));
        assert_eq!(trades.leave(A), None);
        assert!(trades.end(ID).is_some());
        assert_eq!(trades.confirm(A, ID, 3, Instant::now()), Err(Refused::NoTrade));
    }

    #[test]
    fn each_has_one_trade() {
        let mut trades = opened();
        assert!(trades.open(ID, sides(A, B), Instant::now()).is_ok(), "asked twice is done once");
        assert_eq!(trades.open([8; 16], sides(PlayerId(3), B), Instant::now()), Err(Refused::Busy(B)));
        assert!(matches!(trades.open(ID, sides(PlayerId(3), PlayerId(4)), Instant::now()), Err(Refused::Busy(_))), "another's id");
        assert_eq!(trades.set(PlayerId(3), ID, coins(1), Instant::now()), Err(Refused::NoTrade));
        assert!(trades.leave(B).is_some());
        assert!(trades.open([8; 16], sides(PlayerId(3), B), Instant::now()).is_ok());
        assert_eq!(trades.end_if(|player| player == B).len(), 1);
        assert!(trades.all.is_empty() && trades.of.is_empty());
    }

    #[test]
    fn an_open_trade_without_a_change_for_long_is_over() {
        let start = Instant::now();
        let mut trades = opened_at(start);
        trades.set(A, ID, coins(1), start + IDLE_MAX / 2).unwrap();
        assert!(trades.end_idle(start + IDLE_MAX).is_empty(), "an offer is a change");
        trades.confirm(A, ID, 2, start + IDLE_MAX).unwrap();
        trades.confirm(A, ID, 2, start + IDLE_MAX * 2 - Duration::from_secs(1)).unwrap();
        assert!(trades.end_idle(start + IDLE_MAX * 2 - Duration::from_secs(1)).is_empty(), "so is that one agrees");
        assert_eq!(trades.end_idle(start + IDLE_MAX * 2).len(), 1, "but not twice to the same");
        let mut settling = opened_at(start);
        settling.set(A, ID, coins(1), start).unwrap();
        for player in [A, B] {
            settling.confirm(player, ID, 2, start).unwrap();
        }
        assert!(settling.end_idle(start + IDLE_MAX * 2).is_empty(), "what is settling ends by what becomes of it");
    }

    proptest! {
        #[test]
        fn what_settles_is_what_both_saw(steps in proptest::collection::vec((0..3u8, any::<bool>(), 0..3u64, 0..6u32), 1..40)) {
            let mut trades = opened();
            let mut offered = [0, 0];
            let mut seen = [None, None];
            for (what, first, amount, revision) in steps {
                let (player, at) = if first { (A, 0) } else { (B, 1) };
                match what {
                    0 => if trades.set(player, ID, coins(amount), Instant::now()).is_ok() {
                        offered[at] = amount;
                        seen = [None, None];
                    },
                    _ => if let Ok(trade) = trades.confirm(player, ID, revision, Instant::now()) {
                        seen[at] = Some(trade.sides.clone().map(|side| side.goods.coins));
                        if trade.settling {
                            prop_assert_eq!(seen, [Some(offered), Some(offered)]);
                        }
                    },
                }
            }
        }
    }
}
