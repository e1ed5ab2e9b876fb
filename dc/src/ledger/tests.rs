//! The rules one by one; [`model`] checks them together, in random order, against a sequential model.

pub(crate) mod cast;
mod deals;
mod mailboxes;
mod model;
pub(crate) mod people;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use proto::{client::Item, internal::CallFaultCode};

use super::*;

pub(crate) const LIMITS: Limits = Limits { dirty_bytes_max: 1 << 30, cache_bytes_max: 1 << 30, mail_max: 3 };

/// What a store would have: applies batches, and checks that each leaves no item at two players and no version lower.
#[derive(Default)]
pub(crate) struct Disk {
    pub players: BTreeMap<u64, StoredPlayer>,
    pub units: Vec<(UnitId, Lsn)>,
    pub mails: BTreeMap<UnitId, Mail>,
    pub people: people::Stored,
}

impl Disk {
    pub fn with_players(records: Vec<PlayerRecord>) -> Self {
        let stored = |record: PlayerRecord| StoredPlayer { owner: String::new(), epoch: 0, version: 1, revision: 1, record };
        Self { players: records.into_iter().map(|record| (record.player, stored(record))).collect(), ..Self::default() }
    }

    /// A ledger that knows all players.
    pub fn start(&self) -> Ledger {
        let mut ledger = Ledger::new(LIMITS, &self.units);
        self.people.begin(&mut ledger);
        self.players.values().for_each(|stored| ledger.load(stored.clone()).unwrap());
        ledger
    }

    pub fn flush(&mut self, ledger: &mut Ledger) {
        let batch = ledger.batch();
        for row in &batch.rows {
            if row.deleted {
                self.players.remove(&row.player);
                continue;
            }
            let stored = self.players.get_mut(&row.player).unwrap();
            assert!(stored.revision < row.revision && stored.version <= row.version && stored.epoch <= row.epoch, "{row:?}");
            let (record, owner) = ((*row.record).clone(), row.owner.to_string());
            *stored = StoredPlayer { record, owner, epoch: row.epoch, version: row.version, revision: row.revision };
        }
        for mail in crate::store::mails_after(&batch) {
            self.mails.insert(UnitId::parse(&mail.id).unwrap().unwrap(), mail.clone());
        }
        self.people.apply(&batch);
        self.units.extend(batch.units.iter().filter_map(|unit| Some((unit.id?, unit.lsn))));
        ledger.stored(&batch, &HashSet::new());
        assert!(!ledger.is_dirty() && ledger.dirty_bytes() == 0);
        let items: Vec<_> = self.players.values().flat_map(|stored| &stored.record.items).map(|item| item.id.clone()).collect();
        assert_eq!(items.len(), items.iter().collect::<HashSet<_>>().len(), "an item at two players");
    }
}

pub(crate) fn record(player: u64, coins: u64, items: &[u8]) -> PlayerRecord {
    let item = |id: &u8| Item { id: vec![*id; 16].into(), kind: "sword".into(), count: 1 };
    let items = items.iter().map(item).collect();
    PlayerRecord { player, account: player * 10, name: format!("p{player}"), coins, items, ..PlayerRecord::default() }
}

fn save(owner: &str, epoch: u64, version: u64, record: PlayerRecord) -> PlayerSave {
    PlayerSave { player: record.player, owner: owner.into(), epoch, version, record: Some(record) }
}

fn unit(id: &[u8], saves: Vec<PlayerSave>) -> CommitUnit {
    CommitUnit { id: id.to_vec().into(), saves, ..CommitUnit::default() }
}

fn commit(ledger: &mut Ledger, saves: Vec<PlayerSave>) -> Result<Lsn, Refusal> {
    ledger.commit(&unit(&[], saves), &Elsewhere::new())
}

/// Players 1 (with item 1), 2 and 3, each with 100 coins, claimed by `a` with epoch 1, at version 2.
fn claimed() -> (Disk, Ledger) {
    let mut disk = Disk::with_players(vec![record(1, 100, &[1]), record(2, 100, &[]), record(3, 100, &[])]);
    let mut ledger = disk.start();
    for player in 1..=3 {
        let held = ledger.claim(player, "a").unwrap();
        assert_eq!((held.epoch, held.version), (1, 1));
        let record = PlayerRecord { level: 1, ..(*held.record).clone() };
        commit(&mut ledger, vec![save("a", 1, 2, record)]).unwrap();
    }
    disk.flush(&mut ledger);
    (disk, ledger)
}

fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> CallFaultCode {
    result.unwrap_err().code()
}

#[test]
fn versions_rise_by_one_and_a_resend_is_taken_once() {
    let (_, mut ledger) = claimed();
    let first = commit(&mut ledger, vec![save("a", 1, 3, record(1, 90, &[1]))]).unwrap();
    assert_eq!(commit(&mut ledger, vec![save("a", 1, 3, record(1, 90, &[1]))]), Ok(first));
    for (version, coins) in [(3, 91), (2, 90), (5, 90), (u64::MAX, 90)] {
        let refused = commit(&mut ledger, vec![save("a", 1, version, record(1, coins, &[1]))]);
        assert_eq!(code(refused), CallFaultCode::CallStaleVersion, "version {version}");
    }
}

#[test]
fn the_first_save_after_a_load_may_be_further_on() {
    let (disk, _) = claimed();
    let mut ledger = disk.start();
    commit(&mut ledger, vec![save("a", 1, 9, record(1, 90, &[1]))]).unwrap();
    assert_eq!(code(commit(&mut ledger, vec![save("a", 1, 11, record(1, 90, &[1]))])), CallFaultCode::CallStaleVersion);
}

#[test]
fn only_the_owner_with_its_epoch_writes() {
    let (_, mut ledger) = claimed();
    ledger.claim(1, "b").unwrap();
    for (owner, epoch) in [("a", 1), ("a", 2), ("b", 1), ("", 2)] {
        let refused = commit(&mut ledger, vec![save(owner, epoch, 3, record(1, 90, &[1]))]);
        assert_eq!(code(refused), CallFaultCode::CallStaleOwner, "{owner} {epoch}");
    }
    commit(&mut ledger, vec![save("b", 2, 3, record(1, 90, &[1]))]).unwrap();
}

#[test]
fn a_handoff_and_a_release_done_twice_are_done_once() {
    let (_, mut ledger) = claimed();
    let handed = save("a", 1, 3, record(1, 90, &[1]));
    let (epoch, lsn) = ledger.handoff(&handed, "b", &Elsewhere::new()).unwrap();
    assert_eq!(ledger.handoff(&handed, "b", &Elsewhere::new()), Ok((epoch, lsn)));
    assert_eq!(code(ledger.handoff(&handed, "c", &Elsewhere::new())), CallFaultCode::CallStaleOwner);
    assert_eq!(code(ledger.take(1, "a", 1)), CallFaultCode::CallStaleOwner);
    assert_eq!(ledger.take(1, "b", epoch).unwrap().record.coins, 90);

    let released = save("b", epoch, 4, record(1, 80, &[1]));
    let lsn = ledger.release(&released, &Elsewhere::new()).unwrap();
    assert_eq!(ledger.release(&released, &Elsewhere::new()), Ok(lsn));
    assert_eq!(code(commit(&mut ledger, vec![save("b", epoch, 5, record(1, 70, &[1]))])), CallFaultCode::CallStaleOwner);
    assert_eq!(ledger.claim(1, "c").unwrap().epoch, epoch + 1);
    assert_eq!(code(ledger.release(&released, &Elsewhere::new())), CallFaultCode::CallStaleOwner);
}

#[test]
fn a_release_of_what_was_saved_before_changes_only_the_owner() {
    let (mut disk, mut ledger) = claimed();
    let record = PlayerRecord { level: 1, ..record(1, 100, &[1]) };
    ledger.release(&save("a", 1, 2, record), &Elsewhere::new()).unwrap();
    disk.flush(&mut ledger);
    assert_eq!((disk.players[&1].owner.as_str(), disk.players[&1].version), ("", 2));
}

#[test]
fn a_unit_is_applied_whole_or_not_at_all() {
    let (_, mut ledger) = claimed();
    let refused = commit(&mut ledger, vec![save("a", 1, 3, record(1, 50, &[])), save("b", 1, 3, record(2, 150, &[1]))]);
    assert_eq!(code(refused), CallFaultCode::CallStaleOwner);
    assert_eq!((ledger.peek(1).unwrap().version, ledger.peek(1).unwrap().record.coins), (2, 100));
    commit(&mut ledger, vec![save("a", 1, 3, record(1, 50, &[])), save("a", 1, 3, record(2, 150, &[1]))]).unwrap();
    assert_eq!(ledger.peek(2).unwrap().record.coins, 150);
}

#[test]
fn a_unit_done_twice_is_done_once_after_a_restart_too() {
    let (mut disk, mut ledger) = claimed();
    let trade = unit(&[7; 16], vec![save("a", 1, 3, record(1, 50, &[])), save("a", 1, 3, record(2, 150, &[1]))]);
    let lsn = ledger.commit(&trade, &Elsewhere::new()).unwrap();
    commit(&mut ledger, vec![save("a", 1, 4, record(1, 40, &[]))]).unwrap();
    assert_eq!(ledger.commit(&trade, &Elsewhere::new()), Ok(lsn));
    disk.flush(&mut ledger);
    let mut restarted = disk.start();
    assert_eq!(restarted.commit(&trade, &Elsewhere::new()), Ok(lsn));
    assert!(lsn <= restarted.lsn(), "or its resend would wait for a change that never comes");
    assert_eq!(restarted.peek(1).unwrap().record.coins, 40);
}

#[test]
fn an_item_that_a_player_out_of_memory_has_is_refused() {
    let (disk, _) = claimed();
    let mut ledger = Ledger::new(LIMITS, &[]);
    ledger.load(disk.players[&2].clone()).unwrap();
    let steal = save("a", 1, 3, record(2, 100, &[1]));
    let unknown = ledger.unknown_items([&steal].into_iter());
    assert_eq!(unknown.len(), 1);
    let refused = ledger.commit(&unit(&[], vec![steal.clone()]), &Elsewhere::from([(unknown[0], 1)]));
    assert_eq!(code(refused), CallFaultCode::CallInvalid);
    ledger.commit(&unit(&[], vec![steal]), &Elsewhere::new()).unwrap();
}

#[test]
fn records_that_break_the_rules_are_refused() {
    let (_, mut ledger) = claimed();
    let good = record(1, 100, &[1]);
    let bad = [
        PlayerRecord { account: 99, ..good.clone() },
        PlayerRecord { name: "other".into(), ..good.clone() },
        PlayerRecord { coins: u64::MAX, ..good.clone() },
        PlayerRecord { rules: vec![0; save::RECORD_BYTES_MAX].into(), ..good.clone() },
        record(1, 100, &[1, 1]),
    ];
    for record in bad {
        assert_eq!(code(commit(&mut ledger, vec![save("a", 1, 3, record)])), CallFaultCode::CallInvalid);
    }
    let rich = vec![save("a", 1, 3, record(1, save::COINS_MAX, &[1])), save("a", 1, 3, record(2, 1, &[]))];
    assert_eq!(code(commit(&mut ledger, rich)), CallFaultCode::CallInvalid);
    assert_eq!(code(commit(&mut ledger, vec![])), CallFaultCode::CallInvalid);
    let twice = vec![save("a", 1, 3, good.clone()), save("a", 1, 3, good)];
    assert_eq!(code(commit(&mut ledger, twice)), CallFaultCode::CallInvalid);
    assert_eq!(code(ledger.commit(&unit(&[1; 3], vec![]), &Elsewhere::new())), CallFaultCode::CallInvalid);
    assert!(!ledger.is_dirty());
}

#[test]
fn a_deleted_role_is_gone_and_its_items_are_free() {
    let (mut disk, mut ledger) = claimed();
    assert_eq!(code(ledger.delete(10, 1)), CallFaultCode::CallStaleOwner);
    ledger.release(&save("a", 1, 3, record(1, 100, &[1])), &Elsewhere::new()).unwrap();
    assert_eq!(code(ledger.delete(20, 1)), CallFaultCode::CallNotFound);
    ledger.delete(10, 1).unwrap();
    assert_eq!(code(ledger.claim(1, "a")), CallFaultCode::CallNotFound);
    assert_eq!(ledger.read(1).unwrap_err().code(), CallFaultCode::CallNotFound);
    commit(&mut ledger, vec![save("a", 1, 3, record(2, 100, &[1]))]).unwrap();
    disk.flush(&mut ledger);
    assert!(ledger.peek(1).is_none() && !disk.players.contains_key(&1));
}

#[test]
fn what_changes_while_a_batch_is_stored_stays_dirty() {
    let (mut disk, mut ledger) = claimed();
    commit(&mut ledger, vec![save("a", 1, 3, record(1, 90, &[1, 2]))]).unwrap();
    let batch = ledger.batch();
    commit(&mut ledger, vec![save("a", 1, 4, record(1, 80, &[1, 2]))]).unwrap();
    ledger.stored(&batch, &HashSet::new());
    let rest = ledger.batch();
    assert_eq!((rest.rows.len(), rest.rows[0].version, rest.rows[0].items_changed), (1, 4, false));
    disk.flush(&mut ledger);
    assert!(ledger.batch().is_empty());
}

#[test]
fn above_the_limit_nothing_is_taken_until_the_store_catches_up() {
    let (mut disk, _) = claimed();
    let mut ledger = Ledger::new(Limits { dirty_bytes_max: 1, ..LIMITS }, &[]);
    disk.players.values().for_each(|stored| ledger.load(stored.clone()).unwrap());
    let first = save("a", 1, 3, record(1, 90, &[1]));
    commit(&mut ledger, vec![first]).unwrap();
    assert_eq!(code(commit(&mut ledger, vec![save("a", 1, 3, record(2, 90, &[]))])), CallFaultCode::CallUnavailable);
    assert_eq!(code(ledger.claim(2, "b")), CallFaultCode::CallUnavailable);
    ledger.read(2).unwrap();
    disk.flush(&mut ledger);
    commit(&mut ledger, vec![save("a", 1, 3, record(2, 90, &[]))]).unwrap();
}

#[test]
fn what_the_store_refused_is_read_only_and_its_unit_not_done() {
    let (_, mut ledger) = claimed();
    let trade = unit(&[7; 16], vec![save("a", 1, 3, record(1, 50, &[])), save("a", 1, 3, record(2, 150, &[1]))]);
    ledger.commit(&trade, &Elsewhere::new()).unwrap();
    let (batch, refused) = (ledger.batch(), HashSet::from([1, 2]));
    assert!(ledger.put_aside(&batch, &refused).rows.is_empty(), "nothing was saved since");
    ledger.stored(&batch, &refused);
    assert!(!ledger.is_dirty(), "it is not tried again");
    assert_eq!(code(ledger.commit(&trade, &Elsewhere::new())), CallFaultCode::CallUnavailable);
    assert_eq!(code(ledger.claim(1, "b")), CallFaultCode::CallUnavailable);
    assert_eq!(Arc::clone(&ledger.read(1).unwrap().record).coins, 50);
    assert_eq!(ledger.set_aside_records(), 2);
    commit(&mut ledger, vec![save("a", 1, 3, record(3, 90, &[]))]).unwrap();
}
