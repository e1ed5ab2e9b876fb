//! The writer over a store that does as it is told.

use std::sync::mpsc;

use proto::{
    internal::{CallFaultCode, CommitUnit, PlayerSave},
    record::PlayerRecord,
};

use super::*;
use crate::{
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
    /// It refuses every batch with this player.
    refuses: u64,
}

impl Store for Ordered {
    fn apply(&mut self, batch: &Batch) -> Result<Vec<CommandResult>, StoreError> {
        if batch.rows.iter().any(|row| row.player == self.refuses) {
            return Err(StoreError::Refused("as told".into()));
        }
        self.orders.recv().map_err(|_| StoreError::Fatal("no more orders".into()))??;
        self.stored.send(batch.clone()).unwrap();
        Ok(batch.commands.iter().map(|_| Ok(Reply::Done)).collect())
    }

    fn set_aside(&mut self, batch: &Batch, _: &str) -> Result<(), StoreError> {
        self.aside.send(batch.rows.iter().map(|row| row.player).collect()).unwrap();
        Ok(())
    }

    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

struct Fixture {
    shared: Shared,
    orders: mpsc::Sender<Order>,
    stored: mpsc::Receiver<Batch>,
    aside: mpsc::Receiver<Vec<u64>>,
}

/// A writer for players 1 to 9, all of scene `a`, that flushes D0 saves once an hour.
fn start(refuses: u64) -> Fixture {
    let mut ledger = Ledger::new(Limits { dirty_bytes_max: 1 << 20, cache_bytes_max: 0 }, &[]);
    for player in 1..=9 {
        let record = PlayerRecord { player, ..PlayerRecord::default() };
        ledger.load(StoredPlayer { record, owner: "a".into(), epoch: 1, version: 0, revision: 1 }).unwrap();
    }
    let shared = Shared::new(ledger);
    let (orders, take_orders) = mpsc::channel();
    let (show, stored) = mpsc::channel();
    let (show_aside, aside) = mpsc::channel();
    let store = Box::new(Ordered { orders: take_orders, stored: show, aside: show_aside, refuses });
    tokio::spawn(Writer { shared: shared.clone(), store, flush_period: Duration::from_secs(3600) }.run());
    Fixture { shared, orders, stored, aside }
}

impl Fixture {
    /// Saves in memory; what is returned ends when it is stored.
    fn save(&self, players: &[u64], version: u64) -> impl Future<Output = Result<(), Refusal>> + use<> {
        let save = |&player: &u64| {
            let record = Some(PlayerRecord { player, coins: version, ..PlayerRecord::default() });
            PlayerSave { player, owner: "a".into(), epoch: 1, version, record }
        };
        let unit = CommitUnit { id: Default::default(), saves: players.iter().map(save).collect() };
        let waiting = self.shared.with(|state| {
            let lsn = state.ledger.commit(&unit, &Elsewhere::new())?;
            Ok(state.wait(lsn, players.to_vec()))
        });
        async move {
            match waiting? {
                Some(stored) => stored.await.unwrap_or_else(|_| Err(lost())),
                None => Ok(()),
            }
        }
    }

    /// Saves in memory, for class D0.
    fn save_in_memory(&self, player: u64, version: u64) {
        let record = Some(PlayerRecord { player, coins: version, ..PlayerRecord::default() });
        let save = PlayerSave { player, owner: "a".into(), epoch: 1, version, record };
        let unit = CommitUnit { id: Default::default(), saves: vec![save] };
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
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_wait_while_a_batch_is_stored_go_in_the_next() {
    let zone = start(0);
    let first = zone.save(&[1], 1);
    // The first batch is under way as soon as the writer has taken it; what comes now is in it or in the next.
    let (second, third, last) = (zone.save(&[2], 1), zone.save(&[1, 3], 2), zone.save(&[1], 3));
    (0..2).for_each(|_| zone.order(Ok(())));
    for saved in [first.await, second.await, third.await, last.await] {
        saved.unwrap();
    }
    let mut newest: Vec<_> = zone.stored().await;
    if !newest.contains(&(3, 2)) {
        newest = zone.stored().await;
    }
    assert!(newest.contains(&(1, 3)) && newest.contains(&(3, 2)), "{newest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn saves_in_memory_are_stored_once_with_the_next_that_waits() {
    let zone = start(0);
    zone.order(Ok(()));
    (1..=5).for_each(|version| zone.save_in_memory(1, version));
    zone.save(&[2], 1).await.unwrap();
    assert_eq!(zone.stored().await, [(1, 5), (2, 1)]);
    assert!(!zone.shared.look(|state| state.ledger.is_dirty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_store_acknowledges_nothing_and_catches_up_by_itself() {
    let zone = start(0);
    let waiting = zone.save(&[1], 1);
    zone.order(Err(StoreError::Unavailable("disk full".into())));
    let refusal = waiting.await.unwrap_err();
    assert_eq!(refusal.code(), CallFaultCode::CallUnavailable);
    assert!(refusal.to_string().contains("disk full"), "{refusal}");
    assert!(zone.shared.look(|state| state.ledger.is_dirty()));
    zone.order(Ok(()));
    assert_eq!(zone.stored().await, [(1, 1)]);
    zone.save(&[1], 1).await.expect("the resend finds it stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_does_not_block_the_others() {
    let zone = start(2);
    zone.save_in_memory(4, 1);
    let (tied, other) = (zone.save(&[2, 3], 1), zone.save(&[1], 1));
    (0..4).for_each(|_| zone.order(Ok(())));
    assert_eq!(tied.await.unwrap_err().code(), CallFaultCode::CallInternal);
    other.await.unwrap();
    assert_eq!(zone.aside.recv().unwrap(), [2, 3]);
    assert_eq!(zone.save(&[3], 2).await.unwrap_err().code(), CallFaultCode::CallUnavailable, "it is read-only");
    zone.save(&[4], 2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_ends_the_writer_and_acknowledges_nothing() {
    let zone = start(0);
    let waiting = zone.save(&[1], 1);
    zone.order(Err(StoreError::Fatal("sync failed".into())));
    assert_eq!(waiting.await.unwrap_err().code(), CallFaultCode::CallUnavailable);
    assert!(zone.shared.ended().await.unwrap_err().to_string().contains("sync failed"));
    assert_eq!(zone.save(&[1], 2).await.unwrap_err().code(), CallFaultCode::CallUnavailable);
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
async fn a_stop_gives_up_when_the_store_stays_away() {
    let zone = start(0);
    zone.save_in_memory(1, 1);
    (0..STOP_TRIES).for_each(|_| zone.order(Err(StoreError::Unavailable("disk full".into()))));
    assert!(zone.shared.close().await.unwrap_err().to_string().contains("1 records are not stored"));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_beyond_the_queue_are_refused() {
    let zone = start(0);
    let command = Command::AuditOutcome { audit: 1, outcome: "x".repeat(COMMANDS_BYTES_MAX) };
    assert_eq!(zone.shared.command(command).await.unwrap_err().code(), CallFaultCode::CallUnavailable);
}
