//! The writer over a store that does as it is told.

use std::sync::mpsc;

use proto::{
    internal::{AuditRecord, CallFaultCode, CommitUnit, PlayerSave},
    record::PlayerRecord,
};

use super::*;
use crate::{
    journal::{self, id::JournalId, queue::Queue, tests::Memory, thread::JournalThread},
    ledger::{Elsewhere, Limits},
    store::{Reply, StoredPlayer},
};

/// What the store does with the next batch.
type Order = Result<(), StoreError>;

/// Waits for an order before each batch, and shows what it stored.
struct Ordered {
    orders: mpsc::Receiver<Order>,
    stored: mpsc::Sender<Batch>,
    aside: mpsc::Sender<Vec<u64>>,
    /// It refuses every batch with this player, or with a fact of this change.
    refuses: u64,
}

impl Store for Ordered {
    fn applied_lsn(&mut self) -> Result<Lsn, StoreError> {
        Ok(0)
    }

    fn apply(&mut self, batch: &Batch) -> Result<Vec<CommandResult>, StoreError> {
        if batch.rows.iter().any(|row| row.player == self.refuses) || batch.facts.iter().any(|pending| pending.lsn == self.refuses) {
            return Err(StoreError::Refused("as told".into()));
        }
        self.orders.recv().map_err(|_| StoreError::Fatal("no more orders".into()))??;
        self.stored.send(batch.clone()).unwrap();
        Ok(batch.commands.iter().map(|_| Ok(Reply::Done)).collect())
    }

    fn journal(&mut self) -> Result<Option<JournalId>, StoreError> {
        Ok(None)
    }

    fn take_journal(&mut self, _: JournalId, _: i64) -> Result<(), StoreError> {
        Ok(())
    }

    fn dispossess(&mut self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn set_aside(&mut self, batch: &Batch, _: &str) -> Result<(), StoreError> {
        let facts = batch.facts.iter().map(|pending| pending.lsn);
        self.aside.send(batch.rows.iter().map(|row| row.player).chain(facts).collect()).unwrap();
        Ok(())
    }

    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn make(password_hash: &str) -> Command {
    Command::AccountCreate { name: "alice".into(), password_hash: password_hash.into() }
}

struct Fixture {
    shared: Shared,
    orders: mpsc::Sender<Order>,
    stored: mpsc::Receiver<Batch>,
    aside: mpsc::Receiver<Vec<u64>>,
    disk: Memory,
}

/// A writer for players 1 to 9, all of scene `a`, that flushes D0 saves once an hour.
fn start(refuses: u64) -> Fixture {
    let mut ledger = Ledger::new(Limits { dirty_bytes_max: 1 << 20, cache_bytes_max: 0, mail_max: 3 }, &[]);
    for player in 1..=9 {
        let record = PlayerRecord { player, ..PlayerRecord::default() };
        ledger.load(StoredPlayer { record, owner: "a".into(), epoch: 1, version: 0, revision: 1 }).unwrap();
    }
    let disk = Memory::default();
    let journal = journal::open_on(Box::new(disk.clone()), 1 << 20, 0, service::random::Rng::new(1), |_| Ok(())).unwrap();
    let shared = Shared::new(ledger, Queue::new(1 << 30, journal.size(), 0, 0));
    let journal = JournalThread::start(shared.clone(), journal).unwrap();
    let (orders, take_orders) = mpsc::channel();
    let (show, stored) = mpsc::channel();
    let (show_aside, aside) = mpsc::channel();
    let store = Box::new(Ordered { orders: take_orders, stored: show, aside: show_aside, refuses });
    tokio::spawn(Writer { shared: shared.clone(), store, journal, flush_period: Duration::from_secs(3600) }.run());
    Fixture { shared, orders, stored, aside, disk }
}

impl Fixture {
    /// Saves; what is returned ends when it is in the journal.
    fn save(&self, players: &[u64], version: u64) -> impl Future<Output = Result<(), Refusal>> + use<> {
        let save = |&player: &u64| {
            let record = Some(PlayerRecord { player, coins: version, ..PlayerRecord::default() });
            PlayerSave { player, owner: "a".into(), epoch: 1, version, record }
        };
        let unit = CommitUnit { id: Default::default(), saves: players.iter().map(save).collect(), ..CommitUnit::default() };
        let waiting = self.shared.with(|state| {
            let lsn = state.ledger.commit(&unit, &Elsewhere::new())?;
            Ok(state.journal.wait(lsn, Durability::D2))
        });
        async move {
            match waiting? {
                Some(synced) => synced.outcome().await,
                None => Ok(()),
            }
        }
    }

    /// Saves in memory, for class D0.
    fn save_in_memory(&self, player: u64, version: u64) {
        let record = Some(PlayerRecord { player, coins: version, ..PlayerRecord::default() });
        let save = PlayerSave { player, owner: "a".into(), epoch: 1, version, record };
        let unit = CommitUnit { id: Default::default(), saves: vec![save], ..CommitUnit::default() };
        self.shared.with(|state| state.ledger.commit(&unit, &Elsewhere::new())).unwrap();
    }

    fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }

    /// Players and versions of the next stored batch.
    async fn stored(&self) -> Vec<(u64, u64)> {
        loop {
            match self.stored.try_recv() {
                Ok(batch) if batch.rows.is_empty() => (),
                Ok(batch) => return batch.rows.iter().map(|row| (row.player, row.version)).collect(),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// Has the store asked: a batch is due at once.
    async fn command(&self) -> CommandResult {
        self.shared.command(make("hash")).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_saves_are_stored_once_with_the_next_command() {
    let zone = start(0);
    for version in 1..=5 {
        zone.save(&[1], version).await.expect("the journal has it, the store has no order yet");
    }
    zone.save_in_memory(2, 1);
    zone.order(Ok(()));
    assert_eq!(zone.command().await, Ok(Reply::Done));
    assert_eq!(zone.stored().await, [(1, 5), (2, 1)]);
    assert!(!zone.shared.look(|state| state.ledger.is_dirty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_saves_are_acknowledged_and_commands_are_not() {
    let zone = start(0);
    zone.save(&[1], 1).await.unwrap();
    zone.order(Err(StoreError::Unavailable("down".into())));
    let refusal = zone.command().await.unwrap_err();
    assert_eq!(refusal.code(), CallFaultCode::CallUnavailable);
    assert!(refusal.to_string().contains("the database is away") && !refusal.to_string().contains("down"), "{refusal}");
    zone.save(&[1], 2).await.unwrap();
    assert!(zone.shared.look(|state| state.ledger.is_dirty()));
    zone.order(Ok(()));
    assert_eq!(zone.stored().await, [(1, 2)], "it catches up by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_does_not_block_the_others() {
    let zone = start(2);
    zone.save_in_memory(4, 1);
    zone.save(&[2, 3], 1).await.unwrap();
    zone.save(&[1], 1).await.unwrap();
    (0..4).for_each(|_| zone.order(Ok(())));
    assert_eq!(zone.command().await, Ok(Reply::Done));
    assert_eq!(zone.aside.recv().unwrap(), [2, 3]);
    assert_eq!(zone.save(&[3], 2).await.unwrap_err().code(), CallFaultCode::CallUnavailable, "it is read-only");
    zone.save(&[4], 2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_fact_is_set_aside_and_does_not_block_the_others() {
    let zone = start(12);
    let numbers: Vec<u64> = (0..5).map(|_| zone.shared.with(|state| state.ledger.audit(AuditRecord::default())).unwrap().1).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    (0..7).for_each(|_| _ = zone.shared.with(|state| state.ledger.audit(AuditRecord::default())).unwrap());
    (0..9).for_each(|_| zone.order(Ok(())));
    assert_eq!(zone.command().await, Ok(Reply::Done));
    assert_eq!(zone.aside.recv().unwrap(), [12]);
    let mut stored: Vec<u64> = zone.stored.try_iter().flat_map(|batch| batch.facts).map(|pending| pending.lsn).collect();
    stored.sort_unstable();
    assert_eq!(stored, (1..=11).collect::<Vec<_>>());
    assert!(!zone.shared.look(|state| state.ledger.is_dirty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_while_a_record_is_refused_is_set_aside_too() {
    let zone = start(2);
    zone.save(&[2], 1).await.unwrap();
    zone.save(&[4], 1).await.unwrap();
    let shared = zone.shared.clone();
    let command = tokio::spawn(async move { shared.command(make("hash")).await });
    assert_eq!(zone.aside.recv().unwrap(), [2]);
    // The store waits with the other part, and the player is not yet known to be refused.
    zone.save(&[2], 2).await.unwrap();
    (0..3).for_each(|_| zone.order(Ok(())));
    assert_eq!(command.await.unwrap(), Ok(Reply::Done));
    assert_eq!(zone.aside.recv().unwrap(), [2], "its newer version");
    assert_eq!(zone.save(&[2], 3).await.unwrap_err().code(), CallFaultCode::CallUnavailable, "it is read-only");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_ends_the_writer() {
    let zone = start(0);
    zone.save(&[1], 1).await.unwrap();
    zone.order(Err(StoreError::Fatal("sync failed".into())));
    assert_eq!(zone.command().await.unwrap_err().code(), CallFaultCode::CallUnavailable);
    assert!(zone.shared.ended().await.unwrap_err().to_string().contains("sync failed"));
    assert_eq!(zone.save(&[1], 2).await.unwrap_err().code(), CallFaultCode::CallUnavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_d2_lets_d0_go_on_and_the_store_makes_room() {
    let zone = start(0);
    zone.disk.fill(true);
    let refused = zone.save(&[1], 1).await.unwrap_err();
    assert!(refused.code() == CallFaultCode::CallUnavailable && refused.to_string().contains("No space left"), "{refused}");
    assert!(zone.shared.look(|state| state.admit(Durability::D0).is_ok() && state.admit(Durability::D2).is_err()));
    zone.save_in_memory(1, 2);
    zone.order(Ok(()));
    assert_eq!(zone.command().await, Ok(Reply::Done));
    assert_eq!(zone.stored().await, [(1, 2)], "the store is ahead of a journal that can't be written");
    assert!(zone.shared.look_mut(|state| state.ledger.log().is_empty()));
    zone.disk.fill(false);
    while zone.shared.look(|state| state.admit(Durability::D2).is_err()) {
        tokio::task::yield_now().await;
    }
    zone.save(&[1], 3).await.expect("it goes on by itself when there is room");
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_stores_what_is_left_and_refuses_the_rest() {
    let zone = start(0);
    zone.save_in_memory(1, 1);
    zone.order(Ok(()));
    zone.shared.close().await.unwrap();
    assert_eq!(zone.stored().await, [(1, 1)]);
    assert_eq!(zone.save(&[1], 2).await, Err(stopping()));
}

#[tokio::test(start_paused = true)]
async fn a_stop_leaves_to_the_journal_what_the_store_does_not_take() {
    let zone = start(0);
    zone.save_in_memory(1, 1);
    (0..STOP_TRIES).for_each(|_| zone.order(Err(StoreError::Unavailable("down".into()))));
    zone.shared.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_beyond_the_queue_are_refused() {
    let zone = start(0);
    assert_eq!(zone.shared.command(make(&"x".repeat(COMMANDS_BYTES_MAX))).await.unwrap_err().code(), CallFaultCode::CallUnavailable);
}
