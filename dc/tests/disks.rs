//! dc, the program, on a journal's disk that is full (FAULTS 43), whose syncs fail (44), or take seconds (45): nothing that was
//! acknowledged is lost, nothing is acknowledged that was not synced, and what needs no sync goes on.

#[path = "support/disk.rs"]
mod disk;
#[path = "support/pair.rs"]
mod pair;
#[path = "support/program.rs"]
mod program;
#[path = "support/strace.rs"]
mod strace;

use std::time::{Duration, Instant};

use disk::{Disk, Kind};
use pair::Pair;
use program::{Folder, Program, WITHIN};
use proto::internal::{Durability, ProfileFind};
use service::{Links, ProcessKind};
use strace::Strace;

/// The store takes nothing, so that only the journal makes anything safe.
const IDLE: [(&str, &str); 1] = [("flush_period_s", "60")];
/// As a shell says that a program aborted.
const ABORTED: i32 = 128 + 6;
/// Bytes of changes that may wait for the journal (`LOG_BYTES_MAX`), and those of the unit that is the last to be taken.
const WAITING_BYTES_MAX: u64 = 65 << 20;

macro_rules! traced {
    () => {
        if let Some(why) = Strace::missing() {
            return println!("skipped: {why}");
        }
    };
}

/// Trades of class D2, all of them acknowledged.
async fn trade(pair: &mut Pair, dc: &Program, trades: usize) {
    for _ in 0..trades {
        pair.trade(&dc.links, Durability::D2, 1000).await.unwrap();
    }
}

async fn reads(links: &Links, pair: &Pair) {
    let find = ProfileFind { player: 0, name: pair.names[0].clone() };
    links.call(ProcessKind::Dc, &find, WITHIN).await.unwrap();
}

/// Tries a trade until it is taken.
async fn taken_again(pair: &mut Pair, dc: &Program) {
    let started = Instant::now();
    while let Err(why) = pair.trade(&dc.links, Durability::D2, 1000).await {
        assert!(started.elapsed() < WITHIN, "it is not taken again: {why}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Kills dc, starts it anew, and looks whether all is there.
async fn recovers(dc: Program, folder: &Folder, pairs: &mut [&mut Pair]) {
    dc.kill().await;
    is_all_there(folder, pairs).await;
}

async fn is_all_there(folder: &Folder, pairs: &mut [&mut Pair]) {
    let dc = Program::start(folder, &[]).await;
    for pair in pairs {
        pair.check(&dc, "after the fault");
        pair.claim(&dc.links, "scene-1/2").await.unwrap();
        trade(pair, &dc, 1).await;
    }
    dc.kill().await;
}

async fn full(kind: Kind) {
    let folder = Folder::new(&IDLE);
    let disk = match Disk::mount(kind, &folder.journal(), &folder.path.join("image")) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped: {why}"),
    };
    let mut dc = Program::start(&folder, &[]).await;
    let (mut first, mut second) = (Pair::make(&dc.links, 1).await, Pair::make(&dc.links, 2).await);
    let mut third = Pair::make(&dc.links, 3).await;
    trade(&mut first, &dc, 3).await;

    let ballast = disk.fill();
    for pair in [&mut first, &mut second] {
        let refused = pair.trade(&dc.links, Durability::D2, 50_000).await.unwrap_err();
        assert!(refused.contains("nothing new is safe") && refused.contains("No space left on device"), "{refused}");
    }
    assert!(dc.detail().unwrap()["journal_failing"].as_str().unwrap().contains("No space left"));
    assert_eq!(dc.get("/readyz").unwrap()["trouble"], "disk full");
    reads(&dc.links, &first).await;
    third.trade(&dc.links, Durability::D0, 1000).await.unwrap();

    std::fs::remove_file(ballast).unwrap();
    taken_again(&mut first, &dc).await;
    assert!(dc.detail().unwrap()["journal_failing"].is_null() && dc.get("/readyz").unwrap()["trouble"].is_null());
    trade(&mut second, &dc, 2).await;
    assert!(dc.runs(), "without a restart");
    // What was taken in class D0 before a trade that was synced is as safe.
    recovers(dc, &folder, &mut [&mut first, &mut second, &mut third]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_in_memory() {
    full(Kind::Tmpfs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_with_ext4() {
    full(Kind::Ext4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_with_xfs() {
    full(Kind::Xfs).await;
}

/// What the disk has after a sync that failed is unknown: dc ends at once, and only the next start reads what is there.
async fn a_sync_fails(error: &str, nth: u64) {
    let folder = Folder::new(&IDLE);
    let dc = Program::start(&folder, &[]).await;
    let mut pair = Pair::make(&dc.links, 1).await;
    trade(&mut pair, &dc, 3).await;
    let tracer = Strace::inject(dc.pid, &format!("fdatasync:error={error}:when={nth}"), &folder.journal_paths(1));
    for n in 1..=nth {
        let traded = pair.trade(&dc.links, Durability::D2, 1000).await;
        assert_eq!(traded.is_ok(), n < nth, "trade {n}: {traded:?}");
    }
    assert_eq!(dc.ended().await, ABORTED);
    drop(tracer);
    assert_eq!(pair.trades, 3 + nth - 1);
    is_all_there(&folder, &mut [&mut pair]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_once_ends_the_process_and_its_batch_is_not_acknowledged() {
    traced!();
    a_sync_fails("EIO", 1).await;
    a_sync_fails("EIO", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_at_the_sync_only_ends_the_process() {
    traced!();
    a_sync_fails("ENOSPC", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_sync_takes_seconds_only_what_needs_it_waits() {
    traced!();
    let folder = Folder::new(&IDLE);
    let dc = Program::start(&folder, &[]).await;
    let (mut waits, mut goes_on) = (Pair::make(&dc.links, 1).await, Pair::make(&dc.links, 2).await);
    let tracer = Strace::inject(dc.pid, "fdatasync:delay_enter=5000000", &folder.journal_paths(3));
    let links = dc.links.clone();
    let waiting = tokio::spawn(async move {
        waits.trade(&links, Durability::D2, 1000).await.unwrap();
        waits
    });
    let mut answered = 0;
    while !waiting.is_finished() {
        goes_on.trade(&dc.links, Durability::D0, 1000).await.unwrap();
        reads(&dc.links, &goes_on).await;
        answered += u64::from(!waiting.is_finished());
    }
    assert!(10 <= answered, "{answered} trades and reads were answered while the sync was under way");
    let mut waits = waiting.await.unwrap();
    tracer.detach();
    trade(&mut goes_on, &dc, 1).await;
    recovers(dc, &folder, &mut [&mut waits, &mut goes_on]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_slow_sync_is_bounded() {
    traced!();
    let folder = Folder::new(&IDLE);
    let dc = Program::start(&folder, &[]).await;
    let (mut pair, mut other) = (Pair::make(&dc.links, 1).await, Pair::make(&dc.links, 2).await);
    let tracer = Strace::inject(dc.pid, "fdatasync:delay_enter=5000000", &folder.journal_paths(3));
    let links = dc.links.clone();
    let syncing = tokio::spawn(async move {
        other.trade(&links, Durability::D2, 1000).await.unwrap();
        other
    });
    let refused = loop {
        match pair.trade(&dc.links, Durability::D0, 250_000).await {
            Ok(()) => assert!(pair.trades < 2000, "there is no bound"),
            Err(refused) => break refused,
        }
    };
    let waiting = dc.detail().unwrap()["journal_waiting_bytes"].as_u64().unwrap();
    assert!(waiting <= WAITING_BYTES_MAX && refused.contains("wait"), "{waiting} bytes: {refused}");
    tracer.detach();
    let mut other = syncing.await.unwrap();
    taken_again(&mut pair, &dc).await;
    recovers(dc, &folder, &mut [&mut pair, &mut other]).await;
}
