//! No coin and no item is made or lost, whatever happens to dc under players who trade (I2): by their own count, by the events, and by
//! what the store holds.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::sys::signal::Signal;
use rusqlite::OpenFlags;
use serde_json::Value;
use service::random::Rng;

use crate::{
    harness::{PATIENCE, Seed, Zone, said, signal, zone_command, zone_file},
    purse,
};

const BOTS: u64 = 200;
const KILLS: usize = 50;
/// The bots are told to end when all is done; long before this.
const BOTS_FOR: &str = "30m";
/// They log in, fight, and log in again before they trade.
const TRADING_WITHIN: Duration = Duration::from_secs(240);
/// A dc that serves is killed after a random part of this.
const MOMENT_MAX: Duration = Duration::from_millis(1_500);
/// `zone up` gives a process up that dies a fourth time within five seconds.
const DEATHS_MAX: usize = 3;
const DEATHS_PERIOD: Duration = Duration::from_millis(5_200);

#[test]
fn zone_conserves_coins_and_items_when_dc_is_killed_fifty_times_under_two_hundred_traders() {
    let seed = Seed::new();
    let owner = tempfile::tempdir().expect("make a folder");
    std::fs::write(owner.path().join("test.yaml"), arena()).expect("write the zone file");
    let zone = Zone::start_in(owner.path());
    let (count, seeded) = (BOTS.to_string(), seed.0.to_string());
    let args = ["bots", "--count", &count, "--for", BOTS_FOR, "--profile", "trade", "--reconnect", "--seed", &seeded, "--json"];
    let bots = zone.spawn(&args);
    trades_after(&zone, 0.0, TRADING_WITHIN);
    let made = Held::made(&zone);

    let mut moments = Moments::new(seed.0);
    for kill in 0..KILLS {
        // Each death finds a zone that trades.
        let before = zone.metric("center-1", TRADES);
        trades_after(&zone, before, PATIENCE);
        moments.next();
        kill_dc(&zone, kill);
    }
    let before = zone.metric("center-1", TRADES);
    trades_after(&zone, before, PATIENCE);

    let report = bots.end();
    let trades = &report["trades"];
    assert_eq!((report["logged_in"].as_u64(), report["login_failed"].as_u64()), (Some(BOTS), Some(0)), "{report:#}");
    assert_eq!(trades["conserved"], true, "{report:#}");
    assert!(trades["done"].as_u64() >= Some(2 * KILLS as u64), "{report:#}");
    assert_eq!(report["errors"].get("RATE_LIMITED"), None, "{report:#}");

    assert!(zone.stop().success());
    let dc = owner.path().join("dc-1");
    let held = Held::in_store(owner.path());
    assert_eq!(held, made, "what the store holds is not what was made less what was used up: {report:#}");
    assert_eq!((trades["coins_after"].as_u64(), trades["items_after"].as_u64()), (Some(held.coins), Some(held.items.len() as u64)));
    let verified = zone_command(owner.path(), &["dc", "verify"]).arg(&dc).output().expect("run `zone dc verify`");
    assert!(verified.status.success(), "{}", said(&verified));
}

/// The development zone with game enough for everybody where they begin.
fn arena() -> String {
    let herd = "kind: boar, count: 24, level: 1, x_m: 140, y_m: 140, within_m: 60";
    let file = zone_file();
    assert!(file.contains(herd), "deploy/zone.yaml has boars in the meadow");
    file.replace(herd, "kind: boar, count: 200, level: 1, x_m: 100, y_m: 100, within_m: 60")
}

const TRADES: &str = "paifang_center_trades_total";

/// Waits until more trades than these have come to an end.
fn trades_after(zone: &Zone, before: f64, within: Duration) {
    let deadline = Instant::now() + within;
    while zone.metric("center-1", TRADES) <= before {
        assert!(Instant::now() < deadline, "nobody trades: {before} trades, {:#}", zone.status());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kills dc with SIGKILL, and waits until another one serves.
fn kill_dc(zone: &Zone, kill: usize) {
    let pid = dc_pid(zone).unwrap_or_else(|| panic!("dc does not answer before kill {kill}"));
    signal(pid, Signal::SIGKILL);
    let news = zone.expect_any_news(&["restarted", "gave_up"]);
    assert_eq!((&news["event"], &news["id"]), (&"restarted".into(), &"dc-1".into()), "kill {kill}: {news:#}");
    let deadline = Instant::now() + PATIENCE;
    while zone.admin("dc-1", "/readyz").is_none() || dc_pid(zone) == Some(pid) {
        assert!(Instant::now() < deadline, "no dc after kill {kill}: {:#}", zone.status());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn dc_pid(zone: &Zone) -> Option<i32> {
    let status: Value = serde_json::from_str(&zone.admin("dc-1", "/status")?).ok()?;
    status["pid"].as_i64()?.try_into().ok()
}

/// When dc dies.
struct Moments {
    random: Rng,
    /// The latest, at most [`DEATHS_MAX`].
    deaths: Vec<Instant>,
}

impl Moments {
    fn new(seed: u64) -> Self {
        Self { random: Rng::new(seed), deaths: Vec::new() }
    }

    /// Waits for the next.
    fn next(&mut self) {
        let moment = Instant::now() + Duration::from_millis(self.random.below(MOMENT_MAX.as_millis() as u64));
        let allowed = (self.deaths.len() == DEATHS_MAX).then(|| self.deaths.remove(0) + DEATHS_PERIOD);
        let moment = allowed.map_or(moment, |allowed| moment.max(allowed));
        std::thread::sleep(moment.saturating_duration_since(Instant::now()));
        self.deaths.push(Instant::now());
    }
}

/// Coins and items that there are.
#[derive(Debug, PartialEq)]
struct Held {
    coins: u64,
    items: BTreeSet<String>,
}

impl Held {
    fn in_store(folder: &std::path::Path) -> Self {
        let store = purse::open(folder, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let one = |sql| store.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("read dc's database");
        let coins =
            one("SELECT COALESCE(SUM(coins), 0) FROM players") + one("SELECT COALESCE(SUM(coins), 0) FROM mails WHERE taken_ms = 0");
        assert_eq!(one("SELECT COUNT(*) FROM set_aside"), 0, "dc's store refused records");
        let mut select = store.prepare("SELECT lower(hex(item)) FROM items").expect("read items");
        let rows = select.query_map([], |row| row.get(0)).expect("read items");
        Self { coins: coins.try_into().expect("coins are not negative"), items: rows.map(|item| item.expect("an item")).collect() }
    }

    /// What the events tell: all that was made until now, less what was used up. Nobody makes any more from here on.
    fn made(zone: &Zone) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis();
        let deadline = Instant::now() + PATIENCE;
        let latest = |kind| zone.json(&["logs", "find", "--kind", kind, "--limit", "10000"]);
        // Events come a moment after what they tell of: when one of a later trade is there, all of the fights are.
        let later = |event: &Value| event["time_ms"].as_u64().is_some_and(|time| now < u128::from(time));
        let coins = loop {
            let coins = latest("coins_changed");
            if all(&coins).iter().any(later) {
                break coins;
            }
            assert!(Instant::now() < deadline, "the events of now do not come");
        };
        Self { coins: coins_made(&coins), items: items_made(&latest("item")) }
    }
}

fn all(events: &Value) -> &[Value] {
    let events = events.as_array().expect("a list of events");
    assert!(events.len() < 10_000, "there are more events than one answer has");
    events
}

fn coins_made(events: &Value) -> u64 {
    let made = all(events).iter().filter(|event| event["cause"] != "trade");
    made.map(|event| event["by"].as_i64().expect("by how many")).sum::<i64>().try_into().expect("more are made than used up")
}

fn items_made(events: &Value) -> BTreeSet<String> {
    let mut items = BTreeSet::new();
    for event in all(events) {
        let item = event["item"].as_str().expect("an item's id").to_owned();
        match event["what"].as_str() {
            Some("created") => assert!(items.insert(item), "an item was made twice: {event:#}"),
            Some("destroyed") => assert!(items.remove(&item), "what there was not was destroyed: {event:#}"),
            _ => (),
        }
    }
    items
}
