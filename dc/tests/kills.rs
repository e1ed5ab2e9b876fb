//! dc, the program, is killed with -9 at the n-th call of every kind with which it changes a file (FAULTS 9, 11), for n from 1 to the last:
//! every acknowledged trade is there after the next start, the one that was under way whole or not at all (I1, I2), no version is older and
//! the store never ahead of memory (I5), and a recovery that is killed and done again comes to the same state (I6).
//!
//! Of many calls of a kind the first and some others are swept; `PAIFANG_SWEEP=all` sweeps them all.

#[path = "support/mariadb.rs"]
mod mariadb;
#[path = "support/pair.rs"]
mod pair;
#[path = "support/program.rs"]
mod program;
#[path = "support/strace.rs"]
mod strace;

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use mariadb::MariaDb;
use pair::Pair;
use program::{Folder, Program, WITHIN, forget_log, log};
use proto::internal::Durability;
use service::random::Rng;
use strace::Strace;

/// Of every kind of call the first so many are swept, and so many of the others.
const FIRST: u64 = 12;
const OTHERS: u64 = 3;
/// Chooses the others.
const SEED: u64 = 9;
/// Trades of each pair in the script.
const TRADES: u64 = 10;
/// Bytes beside what a record needs: a segment is full after four trades.
const BALLAST: usize = 8 << 10;
/// Segments that a sweep may come to.
const SEGMENTS: u32 = 1000;
/// All kinds of call that change a file; those that this machine's kernel has not are passed over.
const CALLS: &str = "write,writev,pwrite64,fdatasync,fsync,ftruncate,?rename,?renameat,?renameat2,?link,linkat,?unlink,unlinkat";
/// A batch as soon as there is something, and small segments.
const BUSY: [(&str, &str); 2] = [("flush_period_s", "0.05"), ("journal_segment_bytes", "65536")];
/// No batch before the state was looked at.
const IDLE: (&str, &str) = ("flush_period_s", "60");

/// Skips the test, with the reason, on a machine without strace.
macro_rules! traced {
    () => {
        if let Some(why) = Strace::missing() {
            return println!("skipped: {why}");
        }
    };
}

/// A zone that is killed again and again, and goes on every time.
struct Zone {
    folder: Folder,
    dc: Option<Program>,
    pairs: Vec<Pair>,
    runs: u64,
}

impl Zone {
    async fn start(folder: Folder) -> Self {
        let dc = Program::start(&folder, &[]).await;
        let pairs = vec![Pair::make(&dc.links, 1).await, Pair::make(&dc.links, 2).await];
        Self { folder, dc: Some(dc), pairs, runs: 0 }
    }

    fn dc(&mut self) -> &mut Program {
        self.dc.as_mut().expect("it was started")
    }

    async fn restart(&mut self, keys: &[(&str, &str)]) {
        self.kill().await;
        forget_log(&self.folder);
        self.dc = Some(Program::start(&self.folder, keys).await);
    }

    async fn kill(&mut self) {
        if let Some(dc) = self.dc.take() {
            dc.kill().await;
        }
    }

    /// Both pairs trade until one is not answered, one of them in class D1, which a killed process keeps too. False: dc ended meanwhile.
    async fn trade(&mut self) -> bool {
        self.runs += 1;
        let (owner, links) = (format!("scene-1/{}", self.runs), self.dc().links.clone());
        for pair in &mut self.pairs {
            if pair.claim(&links, &owner).await.is_err() {
                return false;
            }
        }
        for _ in 0..TRADES {
            for (pair, class) in self.pairs.iter_mut().zip([Durability::D2, Durability::D1]) {
                if pair.trade(&links, class, BALLAST).await.is_err() {
                    return false;
                }
            }
        }
        true
    }

    /// Everything comes to be stored, and the journal to have one segment. False: dc ended meanwhile.
    async fn is_stored(&mut self) -> bool {
        let started = Instant::now();
        while let Some(detail) = self.dc().detail() {
            if detail["dirty"] == 0 && detail["journal_segments"] == 1 {
                return true;
            }
            assert!(started.elapsed() < WITHIN, "it is not stored: {detail}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    async fn script(&mut self) -> bool {
        self.trade().await && self.is_stored().await
    }

    /// Kills it at the n-th call of a kind, and looks what is there. False: the script ended before that call.
    async fn killed_at(&mut self, call: &str, n: u64, files: &[PathBuf]) -> bool {
        let tracer = Strace::inject(self.dc().pid, &format!("{call}:signal=KILL:when={n}"), files);
        let went_on = self.script().await;
        drop(tracer);
        let was_killed = !went_on || !self.dc().runs();
        if was_killed {
            self.recover(&format!("killed at {call} number {n}")).await;
        }
        was_killed
    }

    /// Starts it anew twice, looks what is there, and goes on.
    async fn recover(&mut self, place: &str) {
        self.restart(&[IDLE]).await;
        let first = (state(&self.folder).await, self.look(place));
        self.restart(&[]).await;
        let second = (state(&self.folder).await, self.look(place));
        assert_eq!(first, second, "{place}: the second recovery comes to another state");
    }

    /// Looks what is there; trades of each pair.
    fn look(&mut self, place: &str) -> Vec<u64> {
        let dc = self.dc.as_ref().expect("it was started");
        self.pairs.iter_mut().map(|pair| pair.check(dc, place)).collect()
    }

    /// Sweeps the calls on some files while the script runs.
    async fn sweep(&mut self, calls: &str, files: &[PathBuf], tally: &mut Tally) {
        let record = self.folder.path.join("calls");
        let tracer = Strace::record(self.dc().pid, calls, files, &record);
        assert!(self.script().await, "nobody kills it");
        tracer.detach();
        for (call, n) in tally.places("serving", &record) {
            let was_killed = self.killed_at(&call, n, files).await;
            tally.tried(was_killed);
        }
    }

    /// Kills it with all that the script brought in the journal, none of it in the store, and half a record more.
    async fn tear(&mut self) {
        assert!(self.is_stored().await);
        self.restart(&[IDLE]).await;
        assert!(self.trade().await);
        self.kill().await;
        let files = std::fs::read_dir(self.folder.journal()).unwrap().map(|entry| entry.unwrap().path());
        let newest = files.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).max().unwrap();
        let whole = std::fs::read(&newest).unwrap();
        let mut file = std::fs::OpenOptions::new().append(true).open(newest).unwrap();
        file.write_all(&whole[whole.len() - 100..]).unwrap();
    }

    /// Starts it under a tracer, and ends it. False: it was killed before it served.
    async fn serves_under(&mut self, tracer: &[String]) -> bool {
        serves_under(tracer, &self.folder).await
    }
}

async fn serves_under(tracer: &[String], folder: &Folder) -> bool {
    match Program::start_under(tracer, folder, &[IDLE]).await {
        Ok(dc) => {
            dc.kill().await;
            true
        }
        Err(_) => false,
    }
}

/// The hash of the state that dc has logged at its start.
async fn state(folder: &Folder) -> String {
    let started = Instant::now();
    loop {
        if let Some((_, rest)) = log(folder).split_once(" state=") {
            return rest.split_whitespace().next().unwrap().into();
        }
        assert!(started.elapsed() < WITHIN, "no state in the log");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Where it was killed.
struct Tally {
    chance: Rng,
    kills: u64,
    tries: u64,
}

impl Tally {
    fn new() -> Self {
        Self { chance: Rng::new(SEED), kills: 0, tries: 0 }
    }

    /// Which calls of a record are swept.
    fn places(&mut self, when: &str, record: &Path) -> Vec<(String, u64)> {
        let lasts = strace::lasts(record);
        println!("calls while {when}: {lasts:?}");
        assert!(!lasts.is_empty());
        lasts.into_iter().flat_map(|(call, last)| self.choose(last).into_iter().map(move |n| (call.clone(), n))).collect()
    }

    fn choose(&mut self, last: u64) -> Vec<u64> {
        if std::env::var("PAIFANG_SWEEP").is_ok_and(|which| which == "all") {
            return (1..=last).collect();
        }
        let others = (0..OTHERS).filter(|_| FIRST < last).map(|_| FIRST + 1 + self.chance.below(last - FIRST));
        (1..=last.min(FIRST)).chain(others).collect()
    }

    fn tried(&mut self, was_killed: bool) {
        (self.tries, self.kills) = (self.tries + 1, self.kills + u64::from(was_killed));
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        println!("{} kills at {} places", self.kills, self.tries);
        // How a run falls into batches and segments differs a little, so that a last call is not always reached.
        assert!(std::thread::panicking() || self.tries <= 2 * self.kills, "{} kills of {}", self.kills, self.tries);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_serves_at_any_write_sync_or_removal() {
    traced!();
    let folder = Folder::new(&BUSY);
    let groups = [folder.journal_paths(SEGMENTS), folder.database_paths()];
    let (mut zone, mut tally) = (Zone::start(folder).await, Tally::new());
    for files in groups {
        zone.sweep(CALLS, &files, &mut tally).await;
    }
    assert!(zone.script().await, "it goes on");
    zone.kill().await;
}

/// As above with a server behind it: what was sent to it, and whether it was carried out, is unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_serves_with_mariadb_behind_it() {
    traced!();
    if let Some(why) = MariaDb::missing() {
        return println!("skipped: {why}");
    }
    let server = MariaDb::start();
    let folder = Folder::new(&BUSY).on(&server.database("zone_kills", server.port));
    let files = folder.journal_paths(SEGMENTS);
    let (mut zone, mut tally) = (Zone::start(folder).await, Tally::new());
    zone.sweep("fdatasync,?unlink,unlinkat", &files, &mut tally).await;
    zone.sweep("sendto", &[], &mut tally).await;
    assert!(zone.script().await, "it goes on");
    zone.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_recovers_from_a_torn_journal_that_the_store_lacks() {
    traced!();
    let folder = Folder::new(&BUSY);
    let (files, record) = (folder.journal_paths(SEGMENTS), folder.path.join("calls"));
    let (mut zone, mut tally) = (Zone::start(folder).await, Tally::new());
    zone.tear().await;
    assert!(zone.serves_under(&strace::recording(CALLS, &files, &record)).await, "nobody kills it");
    zone.recover("killed after a recovery").await;
    for (call, n) in tally.places("recovering", &record) {
        zone.tear().await;
        let serves = zone.serves_under(&strace::injecting(&format!("{call}:signal=KILL:when={n}"), &files)).await;
        tally.tried(!serves);
        zone.recover(&format!("killed at {call} number {n} of a recovery")).await;
    }
    zone.kill().await;
}

/// The tables of the database, the journal's first segment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_starts_for_the_first_time() {
    traced!();
    let all = |folder: &Folder| [folder.journal_paths(2), folder.database_paths()].concat();
    let (folder, mut tally) = (Folder::new(&BUSY), Tally::new());
    let record = folder.path.join("calls");
    assert!(serves_under(&strace::recording(CALLS, &all(&folder), &record), &folder).await, "nobody kills it");
    for (call, n) in tally.places("starting", &record) {
        let folder = Folder::new(&BUSY);
        let serves = serves_under(&strace::injecting(&format!("{call}:signal=KILL:when={n}"), &all(&folder)), &folder).await;
        tally.tried(!serves);
        let mut zone = Zone::start(folder).await;
        assert!(zone.trade().await);
        zone.kill().await;
    }
}
