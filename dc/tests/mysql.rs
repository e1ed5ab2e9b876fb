//! dc on a private MariaDB that fails in every way that a database fails, under load: saves are acknowledged all the time, dc catches up,
//! and at the end every acknowledged save is in the database exactly once.

#[path = "support/load.rs"]
mod load;
#[path = "support/mariadb.rs"]
mod mariadb;
#[path = "support/proxy.rs"]
mod proxy;

use std::time::Duration;

use load::{Dc, Load, Pair, WITHIN, eventually};
use mariadb::MariaDb;
use proto::internal::ProfileFind;
use proxy::Proxy;
use service::ProcessKind;

/// Pairs of players of a load.
const PAIRS: u64 = 8;
/// Units that are acknowledged before, during, and after a fault.
const SOME: u64 = 25 * PAIRS;
const DATABASE: &str = "zone_load";

/// Skips the test, with the reason, where there can be no server.
macro_rules! server {
    ($server:expr) => {{
        if let Some(why) = MariaDb::missing() {
            println!("skipped: {why}");
            return;
        }
        $server
    }};
}

/// A dc under load on a server.
struct Zone {
    dc: Dc,
    load: Load,
}

impl Zone {
    async fn start(server: &MariaDb, port: u16) -> Self {
        let data = tempfile::tempdir().unwrap();
        let url = server.database(DATABASE, port);
        let dc = Dc::start(data.path(), &url).await;
        let load = Load::start(&dc, data, PAIRS).await;
        load.more(SOME).await;
        Self { dc, load }
    }

    /// The fault is there: dc notices it, and goes on acknowledging saves.
    async fn goes_on(&self) {
        eventually("dc says that its store fails", || self.dc.fails()).await;
        self.load.more(SOME).await;
        assert!(self.dc.fails(), "the store fails as long as the fault is there");
    }

    /// The fault is gone: dc catches up with everything that was acknowledged, before it is stopped.
    async fn ends(self, server: &MariaDb) {
        self.load.more(SOME).await;
        let (_data, pairs) = self.load.end().await;
        eventually("the database has what was acknowledged", || is_all_there(server, &pairs)).await;
        eventually("dc says that its store is well", || !self.dc.fails()).await;
        self.dc.stop().await;
        check(server, &pairs);
    }
}

fn of_database(server: &MariaDb, sql: &str) -> Result<String, String> {
    server.try_sql(&format!("USE {DATABASE}; {sql}"))
}

/// Player, version and coins of everybody, as the database must have them.
fn rows(pairs: &[Pair]) -> String {
    let mut rows: Vec<(u64, String)> = pairs.iter().flat_map(|pair| pair.players.into_iter().zip(pair.rows())).collect();
    rows.sort();
    rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>().join("\n")
}

fn is_all_there(server: &MariaDb, pairs: &[Pair]) -> bool {
    of_database(server, "SELECT player, version, coins FROM players ORDER BY player").is_ok_and(|found| found == rows(pairs))
}

/// Nothing is lost, and nothing is there twice: versions, coins, units, items.
fn check(server: &MariaDb, pairs: &[Pair]) {
    let found = |sql: &str| of_database(server, sql).unwrap();
    assert_eq!(found("SELECT player, version, coins FROM players ORDER BY player"), rows(pairs));
    let mut items: Vec<String> = pairs.iter().map(Pair::item).collect();
    items.sort();
    assert_eq!(found("SELECT HEX(item), player FROM items ORDER BY item"), items.join("\n"));
    let units: u64 = pairs.iter().map(|pair| pair.units).sum();
    assert_eq!(found("SELECT COUNT(*) FROM applied_units"), units.to_string());
    assert_eq!(found("SELECT COUNT(*) FROM set_aside"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn down_for_ten_seconds_and_back() {
    let mut server = server!(MariaDb::start());
    let zone = Zone::start(&server, server.port).await;
    server.stop();
    let down = std::time::Instant::now();
    while down.elapsed() < Duration::from_secs(10) {
        zone.goes_on().await;
    }
    server.up();
    zone.ends(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_in_the_middle_of_its_work() {
    let mut server = server!(MariaDb::start());
    let zone = Zone::start(&server, server.port).await;
    for _ in 0..3 {
        zone.load.more(PAIRS).await;
        server.kill();
        zone.load.more(PAIRS).await;
        server.up();
    }
    zone.ends(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_with_its_connections_open() {
    let server = server!(MariaDb::start());
    let zone = Zone::start(&server, server.port).await;
    server.freeze();
    zone.goes_on().await;
    server.thaw();
    zone.ends(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_only() {
    let server = server!(MariaDb::start());
    let zone = Zone::start(&server, server.port).await;
    server.sql("SET GLOBAL read_only = 1");
    zone.goes_on().await;
    server.sql("SET GLOBAL read_only = 0");
    zone.ends(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_disk_full() {
    let server = match server!(MariaDb::start_on_tmpfs(160 * 1024 * 1024)) {
        Ok(server) => server,
        Err(why) => return println!("skipped: {why}"),
    };
    let zone = Zone::start(&server, server.port).await;
    let ballast = server.fill(256 * 1024);
    zone.load.ballast(60 * 1024);
    zone.goes_on().await;
    std::fs::remove_file(ballast).unwrap();
    zone.ends(&server).await;
}

/// Acknowledgements do not wait for the database: many come while one statement is under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_by_half_a_second_a_statement() {
    let server = server!(MariaDb::start());
    let proxy = Proxy::of(server.port);
    let zone = Zone::start(&server, proxy.port).await;
    proxy.delay(Duration::from_millis(500));
    zone.load.more(2 * SOME).await;
    let before = of_database(&server, "SELECT value FROM counters WHERE name = 'applied_lsn'").unwrap();
    eventually("it gets on, if slowly", || {
        of_database(&server, "SELECT value FROM counters WHERE name = 'applied_lsn'").unwrap() != before
    })
    .await;
    proxy.delay(Duration::ZERO);
    zone.ends(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_again_and_again() {
    let server = server!(MariaDb::start());
    let proxy = Proxy::of(server.port);
    let zone = Zone::start(&server, proxy.port).await;
    for _ in 0..30 {
        zone.load.more(PAIRS / 2).await;
        proxy.cut();
    }
    proxy.refuse(true);
    proxy.cut();
    zone.goes_on().await;
    proxy.refuse(false);
    zone.ends(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn out_of_connections() {
    let server = server!(MariaDb::start_with(&["--max-connections=10"]));
    let zone = Zone::start(&server, server.port).await;
    // All that there are, and the one that is kept for root.
    let mut sessions = vec![server.session()];
    sessions[0].run("SELECT 1");
    let of_dc = "SELECT GROUP_CONCAT(id) FROM information_schema.processlist WHERE user = 'dc'";
    let taken = std::time::Instant::now();
    loop {
        let ids = sessions[0].run(of_dc);
        if ids == "NULL" && sessions.len() == 11 {
            break;
        }
        assert!(taken.elapsed() < WITHIN, "dc has connections still: {ids}");
        for id in ids.split(',').filter(|id| *id != "NULL") {
            sessions[0].begin(&format!("KILL {id}"));
        }
        let mut more = server.session();
        if more.try_run("SELECT 1").is_some() {
            sessions.push(more);
        }
    }
    zone.goes_on().await;
    drop(sessions);
    zone.ends(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_session_in_the_way() {
    let server = server!(MariaDb::start());
    let zone = Zone::start(&server, server.port).await;
    let mut other = server.session();
    other.run(&format!("USE {DATABASE}"));
    // From the last player to the first, while dc goes from the first to the last: they meet.
    for _ in 0..10 {
        other.begin("START TRANSACTION");
        for player in (1..=2 * PAIRS).rev() {
            other.begin(&format!("SELECT revision FROM players WHERE player = {player} FOR UPDATE"));
        }
        other.begin("SELECT COUNT(*) FROM items FOR UPDATE");
        other.begin("ROLLBACK");
        zone.load.more(PAIRS).await;
    }
    other.run("SELECT 1");
    zone.ends(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_changed_under_load() {
    let server = server!(MariaDb::start());
    let zone = Zone::start(&server, server.port).await;
    of_database(&server, "ALTER TABLE players ADD COLUMN note VARCHAR(20) NOT NULL DEFAULT ''").unwrap();
    zone.load.more(SOME).await;
    of_database(&server, "ALTER TABLE players DROP COLUMN note, FORCE").unwrap();
    zone.ends(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_it_refuses() {
    let server = server!(MariaDb::start());
    let zone = Zone::start(&server, server.port).await;
    let trigger = "CREATE TRIGGER poison BEFORE UPDATE ON players FOR EACH ROW
         IF NEW.name = 'Bo3' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'as the test wants it'; END IF";
    server.sql(&format!("USE {DATABASE};\nDELIMITER //\n{trigger}//\n"));
    eventually("a pair is told that it is read-only", || zone.load.ended() == 1).await;
    zone.load.more(SOME).await;
    let (_data, pairs) = zone.load.end().await;
    let (refused, well): (Vec<Pair>, Vec<Pair>) = pairs.into_iter().partition(|pair| pair.refused.is_some());
    let [refused] = &refused[..] else { panic!("one pair is refused, not {}", refused.len()) };
    let others = format!(
        "SELECT player, version, coins FROM players WHERE player NOT IN ({}, {}) ORDER BY player",
        refused.players[0], refused.players[1]
    );
    eventually("the others are stored", || of_database(&server, &others).is_ok_and(|found| found == rows(&well))).await;
    // Both of the pair are set aside as they were in that batch, and again as they were acknowledged until dc knew of it.
    let aside = "SELECT player, MAX(version), SUM(reason LIKE '%as the test wants it%') FROM set_aside GROUP BY player ORDER BY player";
    let newest = refused.players.map(|player| format!("{player}\t{}\t1", refused.version())).join("\n");
    eventually("the newest that was acknowledged is set aside", || of_database(&server, aside).is_ok_and(|found| found == newest)).await;
    for player in refused.players {
        let find = ProfileFind { player, name: String::new() };
        assert_eq!(zone.dc.links.call(ProcessKind::Dc, &find, WITHIN).await.unwrap().version, refused.version());
    }
    let item = format!("SELECT COUNT(*) FROM items WHERE HEX(item) = '{:032X}'", refused.players[0]);
    assert_eq!(of_database(&server, &item).unwrap(), "1");
    eventually("dc says that its store is well", || !zone.dc.fails()).await;
    zone.dc.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn started_before_the_database() {
    let mut server = server!(MariaDb::start());
    let url = server.database(DATABASE, server.port);
    server.stop();
    let data = tempfile::tempdir().unwrap();
    let path = data.path().to_owned();
    let starting = tokio::spawn(async move { Dc::start(&path, &url).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!starting.is_finished());
    server.up();
    let dc = tokio::time::timeout(WITHIN, starting).await.expect("dc starts").unwrap();
    let load = Load::start(&dc, data, 1).await;
    load.more(5).await;
    Zone { dc, load }.ends(&server).await;
}
