//! Two runs of dc that take one database from each other and write the same row, each after it has read it (FAULTS 36): under REPEATABLE READ
//! two transactions may read the same and write one after the other, and what the first wrote is lost.
//!
//! Checked as Elle does it: the row is a list, every write appends a number of its own to the list that was read, and everything that was
//! read and written is put down. Then every read must be a beginning of the last list, every append that was acknowledged must be in it
//! once, and none that was refused.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::store::StoredPlayer;

const PLAYER: u64 = 1;
/// How often each run takes the database, and how often it then writes unless the other one takes it.
const TURNS: u64 = 40;
const WRITES: u64 = 4;

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Refused,
    Unknown,
}

/// What one run, or one who only reads, has put down.
#[derive(Default)]
struct History {
    /// In their order: the version, and the list.
    reads: Vec<(u64, Vec<u64>)>,
    appends: Vec<(u64, Outcome)>,
}

impl History {
    fn read(&mut self, reader: &dyn Reader) -> (StoredPlayer, Vec<u64>) {
        let stored = reader.player(PLAYER).unwrap().unwrap();
        let list: Vec<u64> = stored.record.rules.chunks(8).map(|number| u64::from_le_bytes(number.try_into().unwrap())).collect();
        self.reads.push((stored.version, list.clone()));
        (stored, list)
    }

    /// Takes the database again and again, and appends numbers from this one on.
    fn write(mut self, base: &Base, from: u64) -> Self {
        let mut numbers = from..;
        for _ in 0..TURNS {
            // The other one may be in the way of taking it.
            let Ok(mut opened) = base.try_open(base.server.port, MIGRATIONS) else { continue };
            for number in numbers.by_ref().take(WRITES as usize) {
                let outcome = self.append(&mut opened, number);
                self.appends.push((number, outcome));
                if outcome == Outcome::Refused {
                    break;
                }
            }
        }
        self
    }

    fn append(&mut self, opened: &mut Opened, number: u64) -> Outcome {
        let (stored, mut list) = self.read(reader(opened));
        list.push(number);
        let rules = list.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>().into();
        let record = Arc::new(PlayerRecord { rules, ..stored.record });
        let row = Row { record, version: stored.version + 1, items_changed: false, ..row(opened, PLAYER, stored.revision + 1, &[]) };
        match opened.store.apply(&rows(vec![row])) {
            Ok(_) => Outcome::Done,
            Err(StoreError::Unavailable(_)) => Outcome::Unknown,
            Err(_) => Outcome::Refused,
        }
    }
}

fn check(histories: &[History], last: &[u64]) {
    for history in histories {
        for (_, read) in &history.reads {
            assert!(last.starts_with(read), "read and gone again: {read:?} of {last:?}");
        }
        for pair in history.reads.windows(2) {
            assert!(pair[0].0 <= pair[1].0 && pair[0].1.len() <= pair[1].1.len(), "it went back: {pair:?}");
        }
        for (number, outcome) in &history.appends {
            let times = last.iter().filter(|there| *there == number).count();
            let fits = match outcome {
                Outcome::Done => times == 1,
                Outcome::Refused => times == 0,
                Outcome::Unknown => times <= 1,
            };
            assert!(fits, "{number} was {outcome:?} and is there {times} times: {last:?}");
        }
    }
}

#[test]
fn two_runs_that_write_one_row_lose_no_update_of_each_other() {
    let Some(base) = Base::new() else { return };
    let watching = with_players(&base).readers.remove(0);
    let ended = AtomicBool::new(false);
    let histories = std::thread::scope(|scope| {
        let runs = [1, 1_000_000].map(|from| {
            let base = &base;
            scope.spawn(move || History::default().write(base, from))
        });
        let ended = &ended;
        let watcher = scope.spawn(move || {
            let mut history = History::default();
            while !ended.load(Ordering::SeqCst) {
                history.read(&*watching);
            }
            history.read(&*watching);
            history
        });
        let mut histories = runs.map(|run| run.join().unwrap()).into_iter().collect::<Vec<_>>();
        ended.store(true, Ordering::SeqCst);
        histories.push(watcher.join().unwrap());
        histories
    });
    let (version, last) = histories[2].reads.last().unwrap();
    check(&histories, last);
    assert_eq!(*version, 1 + last.len() as u64, "a version a write");
    let count = |outcome| histories.iter().flat_map(|history| &history.appends).filter(|append| append.1 == outcome).count();
    assert!(TURNS as usize <= count(Outcome::Done) && 0 < count(Outcome::Refused), "they did not meet: {} done", count(Outcome::Done));
}
