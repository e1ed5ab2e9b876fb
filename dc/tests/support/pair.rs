//! Two players who trade one coin and one item to and fro, each time as one unit: what is lost, done twice or done by half shows.
#![allow(dead_code, reason = "every test that takes this file in uses another part of it")]

use proto::{
    client::Item,
    internal::{AccountCreate, Commit, CommitUnit, Durability, PlayerClaim, PlayerSave, RoleCreate},
    record::PlayerRecord,
};
use service::{Links, ProcessKind};

use crate::program::{Player, Program, WITHIN, shown_id};

/// Coins of a player at the start.
const COINS: u64 = 100_000;

pub struct Pair {
    pub names: [String; 2],
    players: [u64; 2],
    item: Item,
    /// As it was acknowledged last.
    saves: [PlayerSave; 2],
    /// Trades that were acknowledged.
    pub trades: u64,
    /// Of the players, before the first trade.
    version: u64,
}

impl Pair {
    /// Makes the players.
    pub async fn make(links: &Links, n: u64) -> Self {
        let create = AccountCreate { name: format!("account{n}"), password_hash: "hash".into() };
        let account = links.call(ProcessKind::Dc, &create, WITHIN).await.unwrap().account;
        let names = ["Ann", "Bo"].map(|name| format!("{name}{n}"));
        let mut players = [0; 2];
        for (player, name) in players.iter_mut().zip(&names) {
            let record = PlayerRecord { account, name: name.clone(), map: "meadow".into(), coins: COINS, ..PlayerRecord::default() };
            let made = links.call(ProcessKind::Dc, &RoleCreate { record: Some(record), roles_max: 4 }, WITHIN).await.unwrap();
            *player = made.role.unwrap().player;
        }
        let item = Item { id: u128::from(n).to_be_bytes().to_vec().into(), kind: "sword".into(), count: 1 };
        let mut pair = Self { names, players, item, saves: Default::default(), trades: 0, version: 0 };
        pair.claim(links, "scene-1/1").await.unwrap();
        pair.version = pair.saves[0].version;
        pair
    }

    /// Makes this the owner of both.
    pub async fn claim(&mut self, links: &Links, owner: &str) -> Result<(), String> {
        for (player, save) in self.players.into_iter().zip(&mut self.saves) {
            let claim = PlayerClaim { player, owner: owner.into() };
            let held = links.call(ProcessKind::Dc, &claim, WITHIN).await.map_err(|err| err.to_string())?;
            *save = PlayerSave { player, owner: owner.into(), epoch: held.epoch, version: held.version, record: held.record };
        }
        Ok(())
    }

    /// The next trade, asked once. `ballast`: bytes that each record has beside what it needs.
    pub async fn trade(&mut self, links: &Links, class: Durability, ballast: usize) -> Result<(), String> {
        let number = self.trades + 1;
        let mut next = self.saves.clone();
        for (n, save) in next.iter_mut().enumerate() {
            save.version += 1;
            let record = save.record.as_mut().unwrap();
            record.coins = if n == 0 { COINS - number } else { COINS + number };
            record.items = if n == holder(number) { vec![self.item.clone()] } else { Vec::new() };
            record.rules = vec![7; ballast].into();
        }
        let id = (u128::from(self.players[0]) << 64 | u128::from(number)).to_be_bytes().to_vec();
        let unit = CommitUnit { id: id.into(), saves: next.to_vec(), ..CommitUnit::default() };
        let commit = Commit { units: vec![unit], durability: class.into() };
        let answer = links.call(ProcessKind::Dc, &commit, WITHIN).await.map_err(|err| err.to_string())?;
        match answer.units.into_iter().next().unwrap() {
            taken if taken == Default::default() => {
                (self.saves, self.trades) = (next, number);
                Ok(())
            }
            refused => Err(refused.text),
        }
    }

    /// As dc shows them.
    pub fn shown(&self, dc: &Program) -> [Player; 2] {
        [0, 1].map(|n| dc.player(&self.names[n]))
    }

    /// Every acknowledged trade is there, and whole, and at most one more: the one that was under way. Returns how many, and goes on from there.
    pub fn check(&mut self, dc: &Program, place: &str) -> u64 {
        let shown = self.shown(dc);
        let [ann, bo] = &shown;
        assert_eq!(ann.coins + bo.coins, 2 * COINS, "{place}: coins were made or lost: {shown:?}");
        let trades = COINS - ann.coins;
        assert!((self.trades..=self.trades + 1).contains(&trades), "{place}: {} trades were acknowledged, {trades} are there", self.trades);
        for (n, player) in shown.iter().enumerate() {
            assert_eq!(player.version, self.version + trades, "{place}: half of a trade: {shown:?}");
            assert!(player.stored <= player.version, "{place}: the store is ahead of memory: {shown:?}");
            let items = if 0 < trades && n == holder(trades) { vec![shown_id(&self.item)] } else { Vec::new() };
            assert_eq!(player.items, items, "{place}: who has the item: {shown:?}");
        }
        self.trades = trades;
        trades
    }
}

/// Who has the item after a trade.
fn holder(trade: u64) -> usize {
    usize::from(trade.is_multiple_of(2))
}
