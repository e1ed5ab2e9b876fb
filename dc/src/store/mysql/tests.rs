//! The store on a private MariaDB: what every store must do, and what goes wrong on a server.

use std::{
    sync::{Mutex, Weak, mpsc},
    time::Duration,
};

use proto::record::PlayerRecord;
use service::config::SecretSource;
use tokio::runtime::Runtime;

use super::*;
use crate::store::{
    Command, Reply, Row,
    conformance::{self, Home, conformance, number, reader, row, rows, with_many_players, with_players},
};
use mariadb::MariaDb;
use proxy::Proxy;

mod history;
#[path = "../../../tests/support/mariadb.rs"]
mod mariadb;
#[path = "../../../tests/support/proxy.rs"]
mod proxy;

/// The server of all tests that do not harm it: started by the first, gone with the last.
static SERVER: Mutex<(Weak<MariaDb>, u32)> = Mutex::new((Weak::new(), 0));

/// How many wait for a lock now. (The tables of locks are refreshed only for who has not read them for 100 ms, so a loop never sees it.)
const LOCK_WAITS: &str =
    "SELECT VARIABLE_VALUE FROM information_schema.global_status WHERE VARIABLE_NAME = 'INNODB_ROW_LOCK_CURRENT_WAITS'";

/// A database of its own.
struct Base {
    server: Arc<MariaDb>,
    name: String,
    runtime: Runtime,
}

impl Base {
    /// `None`, having said why: there is no server on this machine.
    fn new() -> Option<Self> {
        if let Some(why) = MariaDb::missing() {
            println!("skipped: {why}");
            return None;
        }
        let mut shared = SERVER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let server = shared.0.upgrade().unwrap_or_else(|| {
            let server = Arc::new(MariaDb::start());
            shared.0 = Arc::downgrade(&server);
            server
        });
        shared.1 += 1;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Some(Self { server, name: format!("zone{}", shared.1), runtime })
    }

    fn try_open(&self, port: u16, migrations: &[Migration]) -> Result<Opened, OpenError> {
        let url = self.server.database(&self.name, port);
        let _runtime = self.runtime.enter();
        let url_source = SecretSource::Env("UNUSED".into());
        let config = MysqlConfig { url: url_source, ca: None, connections_max: 3, statement_timeout: Duration::from_secs(5) };
        open_with(&config, &url, Random::new(1), migrations)
    }

    fn sql(&self, sql: &str) -> String {
        self.server.sql(&format!("USE {};\n{sql}", self.name))
    }
}

impl Home for Base {
    fn open(&self) -> Opened {
        self.try_open(self.server.port, MIGRATIONS).unwrap()
    }
}

conformance!(Base::new());

#[test]
fn a_transaction_that_was_left_open_is_not_handed_on() {
    let Some(base) = Base::new() else { return };
    drop(base.open());
    let opts = Opts::from_url(&base.server.database(&base.name, base.server.port)).unwrap();
    base.runtime.block_on(async {
        let database = Database::new(opts, None, 1, Duration::from_secs(5)).unwrap();
        let mut leaving = database.session().await.unwrap();
        let id = "SELECT CONNECTION_ID(), @@in_transaction";
        leaving.run("START TRANSACTION").await.unwrap();
        leaving.execute("UPDATE counters SET value = 77 WHERE name = 'player'", Vec::new()).await.unwrap();
        let before = leaving.first(id, Vec::new()).await.unwrap().unwrap();
        assert_eq!(number_of(&before, 1), 1);
        drop(leaving);
        let mut next = database.session().await.unwrap();
        let after = next.first(id, Vec::new()).await.unwrap().unwrap();
        assert_eq!(number_of(&after, 0), number_of(&before, 0), "it is the same connection");
        assert_eq!(number_of(&after, 1), 0, "without the transaction");
        assert_eq!(counter(&mut next, "player").await.unwrap(), 0);
    });
}

fn number_of(row: &mysql_async::Row, index: usize) -> u64 {
    pool::number(row, index).unwrap()
}

#[test]
fn a_statement_without_an_answer_costs_its_connection() {
    let Some(base) = Base::new() else { return };
    drop(base.open());
    let opts = Opts::from_url(&base.server.database(&base.name, base.server.port)).unwrap();
    base.runtime.block_on(async {
        let database = Database::new(opts, None, 1, Duration::from_millis(300)).unwrap();
        let mut session = database.session().await.unwrap();
        let late = session.first("SELECT SLEEP(2)", Vec::new()).await.unwrap_err();
        assert_eq!((late.class, late.reason), (Class::Lost, "timeout"));
        assert_eq!(session.run("SELECT 1").await.unwrap_err().class, Class::Lost, "its answer is nobody's");
        drop(session);
        let row = database.session().await.unwrap().first("SELECT 5", Vec::new()).await.unwrap().unwrap();
        assert_eq!(number_of(&row, 0), 5);
    });
}

#[test]
fn newer_and_edited_databases_are_refused() {
    let Some(base) = Base::new() else { return };
    drop(base.open());
    let refused =
        |migrations: &[Migration]| format!("{:#}", anyhow::Error::from(base.try_open(base.server.port, migrations).err().unwrap()));
    assert!(refused(&MIGRATIONS[..2]).contains("start a newer program"));
    let mut edited = MIGRATIONS.to_vec();
    edited[0].sql = "SELECT 1";
    assert!(refused(&edited).contains("sql/ was edited"));
}

#[test]
fn an_interrupted_migration_goes_on_where_it_stopped() {
    let Some(base) = Base::new() else { return };
    let second = |sql| [MIGRATIONS[0], Migration { number: 2, name: "second", sql }];
    let interrupted =
        second("CREATE TABLE one (a BIGINT);\nINSERT INTO one VALUES (5);\nCREATE TABLE two (a BIGINT);\nINSERT INTO two VALUES (6);\n");
    base.server.database(&base.name, 0);
    base.sql("CREATE TABLE two (b BIGINT)");
    let refused = base.try_open(base.server.port, &interrupted).err().unwrap();
    assert!(format!("{:#}", anyhow::Error::from(refused)).contains("statement 3 of migration 2"));
    base.sql("DROP TABLE two; CREATE TABLE two (a BIGINT)"); // as if it had been made and not noted
    base.sql("UPDATE schema_progress SET done = 2");
    base.try_open(base.server.port, &interrupted).unwrap();
    assert_eq!(base.sql("SELECT COUNT(*) FROM one; SELECT COUNT(*) FROM two; SELECT COUNT(*) FROM schema_progress"), "1\n1\n0");
}

#[test]
fn two_that_open_a_new_database_at_once_migrate_it_once() {
    let Some(base) = Base::new() else { return };
    let opened: Vec<Opened> = std::thread::scope(|scope| {
        let opening: Vec<_> = (0..2).map(|_| scope.spawn(|| base.open())).collect();
        opening.into_iter().map(|opening| opening.join().unwrap()).collect()
    });
    assert_eq!(opened.len(), 2);
    assert_eq!(base.sql("SELECT COUNT(*) FROM schema_migrations"), MIGRATIONS.len().to_string());
}

#[test]
fn tables_are_of_the_right_kind_whatever_the_servers_defaults_are() {
    let Some(base) = Base::new() else { return };
    drop(base.open());
    let kinds = "SELECT DISTINCT engine, table_collation FROM information_schema.tables WHERE table_schema = DATABASE()";
    assert_eq!(base.sql(kinds), "InnoDB\tutf8mb4_bin");
    let indexed = |table: &str, column: &str| {
        base.sql(&format!(
            "SELECT COUNT(*) FROM information_schema.statistics
             WHERE table_schema = DATABASE() AND table_name = '{table}' AND column_name = '{column}' AND seq_in_index = 1"
        ))
    };
    for (table, column) in [("accounts", "name"), ("players", "name_key"), ("players", "account"), ("items", "item"), ("items", "player")] {
        assert_eq!(indexed(table, column), "1", "{table}.{column}");
    }
}

#[test]
fn a_second_dc_takes_the_database_over_and_the_first_notices() {
    let Some(base) = Base::new() else { return };
    let mut first = with_players(&base);
    let mut second = base.open();
    let batch = rows(vec![row(&second, 1, 2, &[1])]);
    assert!(matches!(first.store.apply(&batch), Err(StoreError::Fatal(why)) if why.contains("took the database over")));
    assert_eq!(reader(&second).player(1).unwrap().unwrap().version, 1);
    second.store.apply(&batch).expect("the first holds no lock");
}

#[test]
fn a_deadlock_with_another_session_is_tried_again() {
    let Some(base) = Base::new() else { return };
    let mut opened = with_players(&base);
    let batch = rows(vec![row(&opened, 1, 2, &[1]), row(&opened, 2, 2, &[2])]);
    let mut other = base.server.session();
    // It has 2 and wants 1; dc gets 1 and wants 2. It has changed more than dc, so dc is the one that is rolled back.
    other.run(&format!("USE {}; CREATE TABLE weight (a BIGINT) ENGINE = InnoDB", base.name));
    other.run("START TRANSACTION; INSERT INTO weight SELECT seq FROM seq_1_to_2000; UPDATE players SET map = 'x' WHERE player = 2");
    let (tell, told) = mpsc::channel();
    let storing = std::thread::spawn(move || {
        tell.send(()).unwrap();
        opened.store.apply(&batch).map(|_| opened)
    });
    told.recv().unwrap();
    let waits = || base.server.sql(LOCK_WAITS);
    while waits() == "0" {
        std::thread::yield_now();
    }
    other.begin("UPDATE players SET map = 'x' WHERE player = 1; COMMIT");
    let opened = storing.join().unwrap().unwrap();
    for player in [1, 2] {
        assert_eq!(reader(&opened).player(player).unwrap().unwrap().version, 2);
    }
}

#[test]
fn a_lock_that_stays_is_waited_for_within_bounds() {
    let Some(base) = Base::new() else { return };
    let mut opened = with_players(&base);
    let batch = rows(vec![row(&opened, 1, 2, &[1])]);
    let mut other = base.server.session();
    other.run(&format!("USE {}; START TRANSACTION; UPDATE players SET map = 'x' WHERE player = 1", base.name));
    base.sql("SET GLOBAL innodb_lock_wait_timeout = 50");
    let storing = std::thread::spawn(move || opened.store.apply(&batch).map(|_| opened));
    while base.server.sql(LOCK_WAITS) == "0" {
        std::thread::yield_now();
    }
    other.run("ROLLBACK");
    let opened = storing.join().unwrap().unwrap();
    assert_eq!(reader(&opened).player(1).unwrap().unwrap().version, 2);
}

/// Every way in which a row can be wrong for a server: the others are stored, and dc is told which it was.
#[test]
fn a_poison_row_is_set_aside_and_the_rest_is_stored() {
    let Some(base) = Base::new() else { return };
    let poisons = [
        ("ALTER TABLE players MODIFY map VARCHAR(8) NOT NULL", "too long", "forest-of-the-north", "meadow"),
        ("ALTER TABLE players MODIFY map VARCHAR(8) CHARACTER SET utf8mb3 NOT NULL", "bad UTF-8", "🐗", "meadow"),
        ("ALTER TABLE players ADD CONSTRAINT maps CHECK (map <> 'void')", "a constraint", "void", "meadow"),
        (
            "CREATE TRIGGER refuse BEFORE UPDATE ON players FOR EACH ROW
             IF NEW.map = 'void' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no such map'; END IF",
            "a trigger",
            "void",
            "meadow",
        ),
    ];
    let mut opened = with_many_players(&base, 40);
    for (n, (alter, what, bad, good)) in poisons.into_iter().enumerate() {
        base.sql(&format!("DELIMITER //\n{alter}//\n"));
        let revision = 2 + n as u64;
        let on_map = |player: u64| {
            let row = row(&opened, player, revision, &[]);
            let map = if player == 7 { bad } else { good };
            Row { record: Arc::new(PlayerRecord { map: map.into(), ..(*row.record).clone() }), ..row }
        };
        let batch = Batch { lsn: revision, ..rows((1..=40).map(on_map).collect()) };
        assert!(matches!(opened.store.apply(&batch), Err(StoreError::Refused(_))), "{what}");
        for part in batch.parts() {
            let stored = opened.store.apply(&part);
            let Err(StoreError::Refused(reason)) = &stored else {
                assert_ne!(part.rows[0].player, 7, "{what}: {stored:?}");
                continue;
            };
            assert_eq!(part.rows[0].player, 7, "{what}: {reason}");
            opened.store.set_aside(&part, reason).unwrap();
        }
        assert_eq!(base.sql(&format!("SELECT player, LENGTH(reason) > 0 FROM set_aside WHERE version = {revision}")), "7\t1", "{what}");
        assert_eq!(base.sql(&format!("SELECT COUNT(*) FROM players WHERE version = {revision}")), "39", "{what}");
        base.sql("ALTER TABLE players DROP CONSTRAINT IF EXISTS maps; DROP TRIGGER IF EXISTS refuse; ALTER TABLE players MODIFY map VARCHAR(64) NOT NULL");
    }
}

#[test]
fn a_server_that_does_not_take_writes_is_no_reason_to_set_anybody_aside() {
    let Some(base) = Base::new() else { return };
    let mut opened = with_players(&base);
    let batch = rows(vec![row(&opened, 1, 2, &[1])]);
    for (harm, heal) in [
        ("RENAME TABLE items TO gone", "RENAME TABLE gone TO items"),
        ("ALTER TABLE players CHANGE level rank_of BIGINT NOT NULL", "ALTER TABLE players CHANGE rank_of level BIGINT NOT NULL"),
    ] {
        base.sql(harm);
        assert!(matches!(opened.store.apply(&batch), Err(StoreError::Unavailable(_))), "{harm}");
        base.sql(heal);
    }
    opened.store.apply(&batch).unwrap();
}

/// The answer to a commit is lost: whether it was done or not, the command is done once and its result is told.
#[test]
fn a_commit_without_an_answer_is_done_once() {
    let Some(base) = Base::new() else { return };
    drop(base.open());
    let proxy = Proxy::of(base.server.port);
    let mut opened = base.try_open(proxy.port, MIGRATIONS).unwrap();
    let mut made = 0;
    for cut_after_ms in 0..25 {
        let create = Command::AccountCreate { name: format!("account{cut_after_ms}"), password_hash: "hash".into() };
        let batch = Batch { lsn: cut_after_ms, now_ms: 1, commands: vec![create], ..Batch::default() };
        // Each message waits, so that the cut falls between two statements, before the commit, or between it and its answer.
        proxy.delay(Duration::from_millis(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(cut_after_ms));
                proxy.cut();
            });
            match opened.store.apply(&batch) {
                Ok(results) => {
                    made += 1;
                    assert_eq!(number(results[0].clone()), made, "no number is left out or given twice");
                }
                Err(StoreError::Unavailable(_)) => {
                    made = base.sql("SELECT value FROM counters WHERE name = 'account'").parse().unwrap();
                }
                Err(err) => panic!("{err}"),
            }
        });
    }
    assert_eq!(base.sql("SELECT COUNT(*) FROM accounts").parse::<u64>().unwrap(), made);
    assert!(20 < made, "nearly all were done: {made}");
}

#[test]
fn a_large_batch_that_is_interrupted_goes_on() {
    let Some(base) = Base::new() else { return };
    drop(with_many_players(&base, 2000));
    let proxy = Proxy::of(base.server.port);
    let mut opened = base.try_open(proxy.port, MIGRATIONS).unwrap();
    let pattern = row(&opened, 1, 2, &[]);
    let at = |player: u64| {
        let record = PlayerRecord { player, account: 1, name: format!("Player{player}"), ..PlayerRecord::default() };
        Row { player, record: Arc::new(record), ..pattern.clone() }
    };
    let batch = Batch { lsn: 9, ..rows((1..=2000).map(at).collect()) };
    let mut tries = 0;
    std::thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel::<()>();
        let proxy = &proxy;
        scope.spawn(move || {
            for pause in [5, 9, 14, 20, 27, 35] {
                if stopped.recv_timeout(Duration::from_millis(pause)) != Err(mpsc::RecvTimeoutError::Timeout) {
                    return;
                }
                proxy.cut();
            }
        });
        while let Err(err) = opened.store.apply(&batch) {
            assert!(matches!(err, StoreError::Unavailable(_)), "{err}");
            tries += 1;
            assert!(tries < 100, "it never gets to the end");
        }
        drop(stop);
    });
    assert_eq!(base.sql("SELECT COUNT(*), MIN(version), MAX(version) FROM players"), "2000\t2\t2");
    assert_eq!(opened.store.applied_lsn(), Ok(9));
}

#[test]
fn an_item_that_was_dropped_and_picked_up_moves_in_a_large_batch() {
    let Some(base) = Base::new() else { return };
    let mut opened = with_many_players(&base, 1000);
    opened.store.apply(&rows(vec![row(&opened, 1000, 2, &[5])])).unwrap();
    // No unit ties the last player, who dropped it, to the first, who has it.
    let all = (1..=1000).map(|player| Row {
        items_changed: player == 1 || player == 1000,
        ..row(&opened, player, 3, if player == 1 { &[5] } else { &[] })
    });
    let batch = rows(all.collect());
    opened.store.apply(&batch).unwrap();
    assert_eq!(base.sql("SELECT player FROM items"), "1");
}

#[test]
fn opening_waits_for_a_server_that_is_away_and_refuses_a_wrong_password() {
    let Some(base) = Base::new() else { return };
    let refused = |url: String| {
        let _runtime = base.runtime.enter();
        let config =
            MysqlConfig { url: SecretSource::Env("X".into()), ca: None, connections_max: 2, statement_timeout: Duration::from_secs(2) };
        open(&config, &url, Random::new(1)).err().unwrap()
    };
    let url = base.server.database(&base.name, base.server.port);
    assert!(matches!(refused(url.replace("a-password-of-tests", "wrong")), OpenError::Refused(_)));
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert!(matches!(refused(base.server.database(&base.name, unused)), OpenError::Away(_)));
    let bad = refused("mysql:/nothing".into());
    assert!(format!("{:#}", anyhow::Error::from(bad)).contains("mysql://USER:PASSWORD@HOST"));
}

/// How fast a backlog drains. Not a check of anything but that it does; the figure is printed.
#[test]
fn a_backlog_drains_in_large_transactions() {
    let Some(base) = Base::new() else { return };
    let mut opened = with_players(&base);
    let pattern = row(&opened, 1, 2, &[]);
    base.sql(
        "INSERT INTO players SELECT seq, account, CONCAT('Player', seq), CONCAT('player', seq), level, map, coins, owner, epoch, version,
         revision, format, body, saved_ms FROM players, seq_3_to_20000 WHERE player = 1",
    );
    for revision in 2..=4 {
        let at = |player: u64| {
            let rules = vec![7; 500].into(); // the size of a player of the game, about
            let record = PlayerRecord { player, account: 1, name: format!("Player{player}"), rules, ..PlayerRecord::default() };
            Row { player, record: Arc::new(record), revision, version: revision, items_changed: false, ..pattern.clone() }
        };
        let batch = Batch { lsn: revision, ..rows((1..=20_000).map(at).collect()) };
        let started = Instant::now();
        opened.store.apply(&batch).unwrap();
        println!("drained {:.0} rows/s", 20_000.0 / started.elapsed().as_secs_f64());
    }
    assert_eq!(base.sql("SELECT COUNT(*) FROM players WHERE version = 4"), "20000");
    assert!(matches!(
        conformance::run(&mut opened, Command::AccountCreate { name: "z".into(), password_hash: "x".into() }),
        Ok(Reply::Number(_))
    ));
}
