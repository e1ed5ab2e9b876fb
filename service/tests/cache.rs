//! The cache over a real Redis: what is in it, what may be lost of it, and that nobody ever gets something older than asked for.

#[path = "support/redis.rs"]
mod support;

use std::{
    collections::BTreeMap,
    io::Read,
    time::{Duration, Instant},
};

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use proto::{
    client::Role,
    internal::{RankBy, RoleVersion},
    record::Profile,
};
use service::cache::{
    Away, Cache, Entry,
    ranking::{Standing, Writer},
};
use support::Redis;

/// How long a test waits for what must come.
const WITHIN: Duration = Duration::from_secs(20);

fn open(redis: &Redis) -> Cache {
    let data = tempfile::tempdir().unwrap();
    Cache::open(&redis.zone(data.path()), data.path()).unwrap()
}

/// A player of account 1 whose coins are its version.
fn entry(player: u64, version: u64) -> Entry {
    let role = Role { player, name: format!("Player{player}"), level: 1, coins: version, ..Role::default() };
    Entry { profile: Profile { role: Some(role), account: 1, version }, deleted: false }
}

/// The version that is served to who needs at least this one.
async fn served(cache: &Cache, player: u64, floor: u64) -> Option<u64> {
    let roles = cache.roles(1, &[RoleVersion { player, version: floor }]).await?;
    Some(roles[0].coins)
}

/// Waits until something comes of it.
async fn until<T>(mut what: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(done) = what().await {
            return done;
        }
        assert!(started.elapsed() < WITHIN, "it does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn standing(player: u64, of: Option<(u32, u64)>) -> Standing {
    Standing { player, name: format!("Player{player}"), of }
}

async fn ranked(cache: &Cache, by: RankBy, limit: u32) -> Option<Vec<(u64, u64)>> {
    Some(cache.ranking(by, limit).await?.iter().map(|entry| (entry.player, entry.value)).collect())
}

async fn built(cache: &Cache, standings: &[Standing]) -> Writer {
    let mut writer = Writer::new(cache, "dc-1/1").unwrap();
    writer.begin().await.unwrap();
    writer.add(standings).await.unwrap();
    assert!(writer.finish(standings.len() as u64).await.unwrap());
    writer
}

#[tokio::test]
async fn a_profile_is_served_whole_as_new_as_asked_and_only_to_its_account() {
    let Some(redis) = Redis::start() else { return };
    let cache = open(&redis);
    assert_eq!(served(&cache, 1, 0).await, None);
    cache.put(&[entry(1, 5), entry(2, 7)]).await.unwrap();
    cache.put(&[entry(1, 4)]).await.unwrap();
    assert_eq!((served(&cache, 1, 5).await, served(&cache, 1, 6).await), (Some(5), None));
    let both = |second| [RoleVersion { player: 1, version: 5 }, RoleVersion { player: 2, version: second }];
    assert_eq!(cache.roles(1, &both(7)).await.map(|roles| roles.len()), Some(2));
    assert_eq!(cache.roles(1, &both(8)).await, None, "one role is older: dc is asked for all");
    assert_eq!(cache.roles(2, &both(7)).await, None, "another account's");
    assert_eq!(cache.roles(1, &[]).await, Some(Vec::new()), "an account without roles");
}

#[tokio::test]
async fn a_name_is_its_newest_roles_until_that_is_deleted() {
    let Some(redis) = Redis::start() else { return };
    let cache = open(&redis);
    let named = |player, deleted| {
        let mut entry = entry(player, 1);
        entry.profile.role.as_mut().unwrap().name = "Ann".into();
        Entry { deleted, ..entry }
    };
    let holder = async || cache.name("aNN").await.map(|holder| (holder.player, holder.name));
    cache.put(&[named(1, false)]).await.unwrap();
    assert_eq!(holder().await, Some((1, "Ann".into())));
    cache.put(&[named(1, true)]).await.unwrap();
    cache.put(&[named(1, false)]).await.unwrap();
    assert_eq!(holder().await, None, "what was read before it was deleted does not bring it back");
    cache.put(&[named(2, false)]).await.unwrap();
    cache.put(&[named(1, true)]).await.unwrap();
    assert_eq!(holder().await, Some((2, "Ann".into())));
}

#[derive(Clone, Debug)]
enum Step {
    /// Writes that reach Redis in any order.
    Put(Vec<(u64, u64)>),
    Read(u64, u64),
    Lose(u64),
    Flush,
    /// A failover to a server that lacks what was written since the last snapshot.
    Snapshot,
    Failover,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (player, version) = (1..4u64, 0..12u64);
    let step = prop_oneof![
        6 => prop::collection::vec((player.clone(), version.clone()), 1..4).prop_map(Step::Put),
        6 => (player.clone(), version).prop_map(|(player, floor)| Step::Read(player, floor)),
        1 => player.prop_map(Step::Lose),
        1 => Just(Step::Flush),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Failover),
    ];
    prop::collection::vec(step, 1..30)
}

/// What Redis must have: a model of it.
#[derive(Clone, Debug, Default)]
struct Model {
    has: BTreeMap<u64, u64>,
    snapshot: BTreeMap<u64, u64>,
}

#[tokio::test]
async fn never_older_than_asked_and_never_older_than_what_is_there() {
    let Some(redis) = Redis::start() else { return };
    let (one, other) = (open(&redis), open(&redis));
    let mut runner = TestRunner::default();
    for _ in 0..150 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        redis.ask(&["FLUSHALL"]);
        let mut model = Model::default();
        for step in &steps {
            walk(&redis, (&one, &other), &mut model, step, &steps).await;
        }
    }
}

async fn walk(redis: &Redis, (one, other): (&Cache, &Cache), model: &mut Model, step: &Step, steps: &[Step]) {
    match step {
        Step::Put(writes) => {
            let (first, second) = writes.split_at(writes.len() / 2);
            let entries = |writes: &[(u64, u64)]| writes.iter().map(|(player, version)| entry(*player, *version)).collect::<Vec<_>>();
            let (first, second) = (entries(first), entries(second));
            // At once, over two connections.
            let (first, second) = tokio::join!(one.put(&first), other.put(&second));
            assert_eq!((first, second), (Ok(()), Ok(())));
            for (player, version) in writes {
                let has = model.has.entry(*player).or_insert(*version);
                *has = (*has).max(*version);
            }
        }
        Step::Read(player, floor) => {
            let there = model.has.get(player).copied();
            let expected = there.filter(|version| floor <= version);
            assert_eq!(served(one, *player, *floor).await, expected, "player {player}, floor {floor}, {model:?}, {steps:?}");
        }
        Step::Lose(player) => {
            redis.ask(&["DEL", &format!("zone:dev:profile:{player}")]);
            model.has.remove(player);
        }
        Step::Flush => {
            redis.ask(&["FLUSHALL"]);
            model.has.clear();
            model.snapshot.clear();
        }
        Step::Snapshot => model.snapshot = model.has.clone(),
        Step::Failover => {
            redis.ask(&["FLUSHALL"]);
            model.has = model.snapshot.clone();
            let entries: Vec<Entry> = model.has.iter().map(|(player, version)| entry(*player, *version)).collect();
            one.put(&entries).await.unwrap();
        }
    }
}

#[tokio::test]
async fn killed_it_is_only_missed_and_comes_back_by_itself() {
    let Some(mut redis) = Redis::start() else { return };
    let cache = open(&redis);
    cache.put(&[entry(1, 1)]).await.unwrap();
    redis.ask(&["SAVE"]);
    cache.put(&[entry(1, 2)]).await.unwrap();
    redis.kill();
    for _ in 0..20 {
        assert_eq!(served(&cache, 1, 0).await, None);
    }
    assert_eq!(cache.put(&[entry(1, 3)]).await, Err(Away));
    redis.up();
    assert_eq!(until(async || served(&cache, 1, 0).await).await, 1, "what it had saved");
    assert_eq!(served(&cache, 1, 2).await, None, "but not to who knows of a newer one");
    until(async || cache.put(&[entry(1, 3)]).await.ok()).await;
    assert_eq!(served(&cache, 1, 2).await, Some(3));
}

#[tokio::test]
async fn blocked_it_holds_nobody_up() {
    let Some(redis) = Redis::start() else { return };
    let cache = open(&redis);
    cache.put(&[entry(1, 6)]).await.unwrap();
    let mut sleep = redis.begin(&["DEBUG", "SLEEP", "3"]);
    sleep.set_nonblocking(true).unwrap();
    until(async || cache.put(&[entry(1, 5)]).await.err()).await;
    for _ in 0..1000 {
        assert_eq!(served(&cache, 1, 0).await, None);
    }
    let still = sleep.read(&mut [0; 8]).is_err_and(|err| err.kind() == std::io::ErrorKind::WouldBlock);
    assert!(still, "a thousand reads and more were answered while Redis slept");
    // What the write left in its socket is read by Redis when it wakes up.
    assert_eq!(until(async || served(&cache, 1, 0).await).await, 6);

    redis.ask(&["CLIENT", "PAUSE", "1000", "ALL"]);
    assert_eq!(served(&cache, 1, 0).await, None);
    assert_eq!(until(async || served(&cache, 1, 6).await).await, 6);
}

#[tokio::test]
async fn evicted_it_is_only_missed() {
    let Some(redis) = Redis::start() else { return };
    let cache = open(&redis);
    let standings: Vec<Standing> = (1..=300).map(|player| standing(player, Some((1, player)))).collect();
    let mut writer = built(&cache, &standings).await;
    redis.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]);
    redis.ask(&["CONFIG", "SET", "maxmemory", "3mb"]);
    let mut hits = 0;
    for round in 0..20u64 {
        let entries: Vec<Entry> = (1..=500).map(|player| entry(round * 500 + player, round + 1)).collect();
        // Refused for want of memory is away, too.
        let _ = cache.put(&entries).await;
        writer.change(&[standing(7, Some((2, round)))]).await;
        for player in [round * 500 + 1, round * 500 + 500, 1] {
            let version = served(&cache, player, 1).await;
            assert!(version.is_none_or(|version| version == (player - 1) / 500 + 1));
            hits += u32::from(version.is_some());
        }
        let ranking = ranked(&cache, RankBy::Coins, 400).await;
        assert!(ranking.is_none_or(|ranking| ranking.len() == 300), "whole or not at all");
    }
    assert!(hits > 0, "something stays");
    assert!(!redis.ask(&["INFO", "stats"]).contains("evicted_keys:0"), "something was evicted");
}

#[tokio::test]
async fn a_ranking_is_in_order_and_follows_changes() {
    let Some(redis) = Redis::start() else { return };
    let cache = open(&redis);
    assert_eq!(ranked(&cache, RankBy::Level, 10).await, None, "nobody has built it");
    let mut writer = built(&cache, &[standing(10, Some((3, 50))), standing(2, Some((3, 7))), standing(1, Some((1, 50)))]).await;
    assert_eq!(ranked(&cache, RankBy::Level, 10).await, Some(vec![(2, 3), (10, 3), (1, 1)]), "of equals the older role is first");
    assert_eq!(ranked(&cache, RankBy::Coins, 2).await, Some(vec![(1, 50), (10, 50)]));
    writer.change(&[standing(1, Some((9, 0))), standing(10, None), standing(3, Some((1, 1)))]).await;
    assert!(writer.is_whole());
    assert_eq!(ranked(&cache, RankBy::Level, 10).await, Some(vec![(1, 9), (2, 3), (3, 1)]));
    assert_eq!(ranked(&cache, RankBy::Coins, 10).await, Some(vec![(2, 7), (3, 1), (1, 0)]));
    assert_eq!(ranked(&cache, RankBy::Coins, 0).await, None);
    // Doubles don't tell such numbers apart: dc does.
    writer.change(&[standing(3, Some((1, i64::MAX as u64)))]).await;
    assert_eq!(ranked(&cache, RankBy::Coins, 10).await, None);
}

#[tokio::test]
async fn a_ranking_that_lost_something_is_none() {
    let Some(mut redis) = Redis::start() else { return };
    let cache = open(&redis);
    let everybody = [standing(1, Some((1, 1))), standing(2, Some((2, 2)))];
    for lost in ["zone:dev:rank:chain", "zone:dev:rank:level", "zone:dev:rank:coins", "everything"] {
        let mut writer = built(&cache, &everybody).await;
        match lost {
            "everything" => redis.ask(&["FLUSHALL"]),
            key => redis.ask(&["DEL", key]),
        };
        writer.change(&[standing(1, Some((5, 5)))]).await;
        assert!(!writer.is_whole(), "{lost}");
        let (level, coins) = (ranked(&cache, RankBy::Level, 9).await, ranked(&cache, RankBy::Coins, 9).await);
        assert!(level.is_none() || coins.is_none(), "{lost}");
        assert!(level.into_iter().chain(coins).all(|ranking| ranking.len() == 2), "{lost}");
    }
    // A failover to a server that lacks the last change.
    let mut writer = built(&cache, &everybody).await;
    redis.ask(&["SAVE"]);
    writer.change(&[standing(1, Some((5, 5)))]).await;
    assert!(writer.is_whole());
    redis.kill();
    redis.up();
    until(async || ranked(&cache, RankBy::Level, 9).await).await;
    writer.change(&[]).await;
    assert!(!writer.is_whole(), "the change is missing");
    // And while it is built anew nobody reads it.
    writer.begin().await.unwrap();
    assert_eq!(ranked(&cache, RankBy::Level, 9).await, None);
}

#[tokio::test]
async fn of_two_builds_only_the_last_and_whole_one_counts() {
    let Some(redis) = Redis::start() else { return };
    let cache = open(&redis);
    let mut old = Writer::new(&cache, "dc-1/1").unwrap();
    let mut new = Writer::new(&cache, "dc-1/2").unwrap();
    old.begin().await.unwrap();
    old.add(&[standing(1, Some((1, 1)))]).await.unwrap();
    new.begin().await.unwrap();
    new.add(&[standing(1, Some((2, 2)))]).await.unwrap();
    assert!(!old.finish(1).await.unwrap());
    assert!(!new.finish(2).await.unwrap(), "a player is missing");
    assert!(new.finish(1).await.unwrap());
    old.change(&[standing(1, Some((7, 7)))]).await;
    assert_eq!(ranked(&cache, RankBy::Level, 9).await, Some(vec![(1, 2)]));
}

#[tokio::test]
async fn a_zone_without_a_cache_finds_nothing_and_loses_nothing() {
    assert_eq!(served(&Cache::None, 1, 0).await, None);
    assert_eq!(Cache::None.name("Ann").await, None);
    assert_eq!(ranked(&Cache::None, RankBy::Level, 1).await, None);
    assert_eq!(Cache::None.put(&[entry(1, 1)]).await, Ok(()));
    assert!(Writer::new(&Cache::None, "dc-1/1").is_none());
}

#[test]
fn a_url_that_is_none_is_refused_without_showing_it() {
    let data = tempfile::tempdir().unwrap();
    let mut zone = service::Zone::for_test(service::config::DEV_ZONE).unwrap();
    let url = service::config::SecretSource::File("redis.url".into());
    zone.cache = service::config::CacheConfig::Redis(service::config::RedisConfig { url, ca: None, connections_max: 1 });
    assert!(format!("{:#}", Cache::open(&zone, data.path()).unwrap_err()).contains("redis.url"));
    std::fs::write(data.path().join("redis.url"), "http://:hunter2@nowhere").unwrap();
    let refused = format!("{:#}", Cache::open(&zone, data.path()).unwrap_err());
    assert!(refused.contains("URL of Redis") && !refused.contains("hunter2"), "{refused}");
}

#[tokio::test]
async fn what_the_dc_of_another_journal_wrote_goes_and_other_zones_are_left_alone() {
    let Some(redis) = Redis::start() else { return };
    let cache = open(&redis);
    cache.belong("one").await.unwrap();
    let many: Vec<Entry> = (1..=1_200).map(|player| entry(player, 9)).collect();
    cache.put(&many).await.unwrap();
    built(&cache, &[standing(1, Some((5, 9)))]).await;
    cache.belong("one").await.unwrap();
    assert_eq!(served(&cache, 1_200, 9).await, Some(9), "it is of this journal");
    redis.ask(&["SET", "zone:another:profile:1", "x"]);
    cache.belong("two").await.unwrap();
    for player in [1, 600, 1_200] {
        assert_eq!(served(&cache, player, 0).await, None);
    }
    assert_eq!(ranked(&cache, RankBy::Level, 5).await, None);
    assert!(redis.ask(&["GET", "zone:another:profile:1"]).contains('x'));
    cache.put(&[entry(1, 3)]).await.unwrap();
    cache.belong("two").await.unwrap();
    assert_eq!(served(&cache, 1, 3).await, Some(3), "an older version than before the restore is written and stays");
}
