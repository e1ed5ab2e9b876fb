//! A journal of many changes of many players, in many segments (FAULTS 52): replayed, it comes to the state that wrote it. How fast that is
//! tells `zone bench dc`.

use proto::internal::{CommitUnit, PlayerSave};

use super::*;
use crate::ledger::{
    Elsewhere, Ledger,
    tests::{Disk, LIMITS, record},
};

const PLAYERS: u64 = 500;
const TRADES: u64 = 20_000;
const COINS: u64 = 1_000_000;
const OWNER: &str = "scene-1/7";
/// Bytes of a group, so that groups end anywhere in a segment.
const GROUP_BYTES: usize = 10_000;

/// Players who trade a coin, two by chance at a time.
struct Market {
    ledger: Ledger,
    journal: Journal,
    chance: Rng,
    saves: Vec<PlayerSave>,
}

impl Market {
    fn open(memory: &Memory, seed: u64) -> Self {
        let mut ledger = Disk::with_players((1..=PLAYERS).map(|player| record(player, COINS, &[])).collect()).start();
        let (journal, _) = open_memory(memory, 1 << 18, 0).unwrap();
        let claim = |player| {
            let held = ledger.claim(player, OWNER).unwrap();
            let record = Some((*held.record).clone());
            PlayerSave { player, owner: OWNER.into(), epoch: held.epoch, version: held.version, record }
        };
        let saves = (1..=PLAYERS).map(claim).collect();
        Self { ledger, journal, chance: Rng::new(seed), saves }
    }

    fn trade(&mut self, number: u64) {
        let from = self.chance.below(PLAYERS);
        let to = (from + 1 + self.chance.below(PLAYERS - 1)) % PLAYERS;
        let mut next = Vec::new();
        for (index, sign) in [(from, -1), (to, 1)] {
            let save = &mut self.saves[usize::try_from(index).unwrap()];
            save.version += 1;
            let record = save.record.as_mut().unwrap();
            record.coins = record.coins.checked_add_signed(sign).unwrap();
            next.push(save.clone());
        }
        let id = u128::from(number).to_be_bytes().to_vec().into();
        self.ledger.commit(&CommitUnit { id, saves: next, ..CommitUnit::default() }, &Elsewhere::new()).unwrap();
    }

    fn write(&mut self) {
        while !self.ledger.log().is_empty() {
            let group = self.ledger.log().take(GROUP_BYTES);
            self.journal.append(&group).unwrap();
        }
    }
}

/// What a start makes of the journal.
fn recovered(memory: &Memory) -> (Ledger, usize) {
    let mut ledger = Ledger::new(LIMITS, &[]);
    let replay = |entry: &Entry| Ok(ledger.replay(entry)?);
    let journal = open_on(Box::new(memory.clone()), 1 << 18, 0, Rng::new(1), replay).unwrap();
    (ledger, journal.size().segments)
}

#[test]
fn a_long_journal_is_replayed_to_the_state_that_wrote_it() {
    let memory = Memory::default();
    let mut market = Market::open(&memory, 52);
    for number in 1..=TRADES {
        market.trade(number);
        if number.is_multiple_of(100) {
            market.write();
        }
    }
    let (ledger, segments) = recovered(&memory);
    assert!(10 < segments, "{segments} segments");
    assert_eq!(ledger.state_hash(), market.ledger.state_hash());
    let coins: u64 = (1..=PLAYERS).map(|player| ledger.peek(player).unwrap().record.coins).sum();
    assert_eq!(coins, PLAYERS * COINS);
    assert_eq!(recovered(&memory).0.state_hash(), ledger.state_hash(), "the second recovery differs");
}
