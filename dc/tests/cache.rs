//! dc and a real Redis: what the store has comes to be in the cache, and the same is answered with and without it.

#[path = "../../service/tests/support/redis.rs"]
mod redis;

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use proto::{
    client::Role,
    internal::{
        AccountCreate, AccountFind, Commit, CommitUnit, Durability, PlayerClaim, PlayerRelease, PlayerSave, ProfileFind, RankBy, RankEntry,
        RankList, RankRebuild, RoleCreate, RoleDelete, RoleListCall,
    },
    link::{Call, LinkFrame},
    record::PlayerRecord,
};
use redis::Redis;
use service::{Handler, IncomingCall, Link, Links, Process, ProcessKind, Zone, cache::Cache, config::CacheConfig, link::LinkConfig};

const WITHIN: Duration = Duration::from_secs(20);

/// A login that is asked nothing.
struct Silent;

impl Handler for Silent {
    async fn on_up(&self, _: &Link) {}
    async fn on_down(&self, _: &Link) {}
    async fn on_frame(&self, _: &Link, _: LinkFrame) {}
    async fn on_call(&self, _: &Link, call: IncomingCall) {
        call.unknown();
    }
}

/// dc, as a login sees it.
struct Dc {
    process: Process,
    login: Process,
    links: Links,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Dc {
    async fn start(data: &Path, cache: CacheConfig) -> Self {
        let mut zone = Zone { cache, ..Zone::for_test(service::config::DEV_ZONE).unwrap() };
        zone.processes.retain(|id, _| ["dc-1", "login-1"].contains(&id.0.as_str()));
        for process in zone.processes.values_mut() {
            (process.link, process.admin) = (free(), free());
        }
        let process = Process::for_test(&zone, "dc-1", data);
        let running = tokio::spawn(dc::run(process.clone()));
        process.ready.ready().await;
        let login = Process::for_test(&zone, "login-1", data);
        let links = Links::start_with(LinkConfig::of(&login), Arc::new(Silent)).await.unwrap();
        links.wait(ProcessKind::Dc, WITHIN).await.unwrap();
        Self { process, login, links, running }
    }

    async fn stop(self) {
        self.process.tasks.stop_token().cancel();
        self.running.await.unwrap().unwrap();
        self.process.tasks.stop(WITHIN).await.unwrap();
        self.login.tasks.stop(WITHIN).await.unwrap();
    }

    fn cache(&self) -> &Cache {
        &self.login.cache
    }

    async fn call<C: Call>(&self, call: &C) -> C::Answer {
        self.links.call(ProcessKind::Dc, call, WITHIN).await.unwrap_or_else(|err| panic!("{}: {err}", C::NAME))
    }

    async fn account(&self, name: &str) -> u64 {
        self.call(&AccountCreate { name: name.into(), password_hash: "hash".into() }).await.account
    }

    async fn role(&self, account: u64, name: &str) -> u64 {
        let record = PlayerRecord { account, name: name.into(), map: "meadow".into(), level: 1, ..PlayerRecord::default() };
        self.call(&RoleCreate { record: Some(record), roles_max: 4 }).await.role.unwrap().player
    }

    /// The player plays a little, and leaves.
    async fn plays(&self, player: u64, level: u32, coins: u64) {
        let claimed = self.call(&PlayerClaim { player, owner: "scene-1/1".into() }).await;
        let record = PlayerRecord { level, coins, ..claimed.record.unwrap() };
        let (owner, epoch) = ("scene-1/1".to_owned(), claimed.epoch);
        let save = PlayerSave { player, owner, epoch, version: claimed.version + 1, record: Some(record) };
        let units = vec![CommitUnit { saves: vec![save.clone()], ..CommitUnit::default() }];
        let committed = self.call(&Commit { units, durability: Durability::D2.into() }).await;
        assert_eq!(committed.units[0].refused, 0, "{committed:?}");
        self.call(&PlayerRelease { save: Some(save) }).await;
    }

    /// The roles of a login, from the cache if it has them all as new as dc says.
    async fn cached_roles(&self, account: &str) -> Option<Vec<Role>> {
        let found = self.call(&AccountFind { name: account.into(), address: String::new() }).await;
        self.cache().roles(found.account, &found.roles).await
    }

    async fn ranking(&self, by: RankBy) -> Vec<RankEntry> {
        self.call(&RankList { by: by.into(), limit: 10 }).await.entries
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn until(what: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !what().await {
        assert!(started.elapsed() < WITHIN, "it does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Three roles, two of which have played.
async fn played(dc: &Dc) -> [u64; 3] {
    let (alice, bob) = (dc.account("alice").await, dc.account("bob").await);
    let players = [dc.role(alice, "Ann").await, dc.role(alice, "Bo").await, dc.role(bob, "Cy").await];
    dc.plays(players[1], 7, 30).await;
    dc.plays(players[2], 7, 90).await;
    players
}

fn of(entries: &[RankEntry]) -> Vec<(&str, u64)> {
    entries.iter().map(|entry| (entry.name.as_str(), entry.value)).collect()
}

/// The cache comes to answer what dc answers.
async fn agrees(dc: &Dc) {
    for by in [RankBy::Level, RankBy::Coins] {
        until(async || dc.cache().ranking(by, 10).await == Some(dc.ranking(by).await)).await;
    }
    for (number, account) in [(1, "alice"), (2, "bob")] {
        let roles = dc.call(&RoleListCall { account: number }).await.roles;
        until(async || dc.cached_roles(account).await.as_ref() == Some(&roles)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_has_comes_to_be_in_the_cache_and_stays_right() {
    let Some(mut redis) = Redis::start() else { return };
    let data = tempfile::tempdir().unwrap();
    let dc = Dc::start(data.path(), redis.config(data.path())).await;
    let [_, bo, cy] = played(&dc).await;
    agrees(&dc).await;
    until(async || dc.ranking(RankBy::Level).await.len() == 3 && of(&dc.ranking(RankBy::Level).await)[0].1 == 7).await;
    assert_eq!(of(&dc.cache().ranking(RankBy::Level, 10).await.unwrap()), [("Bo", 7), ("Cy", 7), ("Ann", 1)]);
    assert_eq!(of(&dc.cache().ranking(RankBy::Coins, 1).await.unwrap()), [("Cy", 90)]);
    until(async || dc.cache().name("bO").await.map(|holder| holder.player) == Some(bo)).await;

    redis.ask(&["FLUSHALL"]);
    assert_eq!(dc.cache().ranking(RankBy::Level, 10).await, None);
    let rebuilt = dc.call(&RankRebuild {}).await;
    assert_eq!((rebuilt.cached, rebuilt.players), (true, 3));
    agrees(&dc).await;
    assert_eq!(dc.call(&ProfileFind { name: "cY".into(), player: 0 }).await.player, cy);
    until(async || dc.cache().name("cy").await.map(|holder| holder.player) == Some(cy)).await;

    dc.call(&RoleDelete { account: 1, player: bo }).await;
    until(async || dc.cache().name("Bo").await.is_none()).await;
    until(async || dc.cached_roles("alice").await.is_some_and(|roles| roles.len() == 1)).await;
    until(async || dc.cache().ranking(RankBy::Level, 10).await.is_some_and(|ranking| ranking.len() == 2)).await;

    // A role that is played is newer than what the cache has at once.
    dc.plays(cy, 9, 91).await;
    assert!(dc.cached_roles("bob").await.is_none_or(|roles| roles[0].level == 9));

    redis.kill();
    dc.plays(cy, 10, 92).await;
    assert_eq!(dc.cached_roles("bob").await, None);
    assert_eq!(dc.call(&RoleListCall { account: 2 }).await.roles[0].level, 10);
    redis.up();
    agrees(&dc).await;
    dc.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dc_starts_without_redis_and_fills_it_when_it_comes() {
    let Some(mut redis) = Redis::start() else { return };
    let data = tempfile::tempdir().unwrap();
    redis.kill();
    let dc = Dc::start(data.path(), redis.config(data.path())).await;
    played(&dc).await;
    let refused = dc.links.call(ProcessKind::Dc, &RankRebuild {}, WITHIN).await;
    assert!(refused.is_err_and(|err| err.to_string().contains("the cache is away")));
    redis.up();
    agrees(&dc).await;
    dc.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_without_redis_answers_the_same() {
    let data = tempfile::tempdir().unwrap();
    let dc = Dc::start(data.path(), CacheConfig::None).await;
    played(&dc).await;
    until(async || of(&dc.ranking(RankBy::Coins).await) == [("Cy", 90), ("Bo", 30), ("Ann", 0)]).await;
    until(async || of(&dc.ranking(RankBy::Level).await) == [("Bo", 7), ("Cy", 7), ("Ann", 1)]).await;
    assert!(!dc.call(&RankRebuild {}).await.cached);
    assert_eq!(dc.cached_roles("alice").await, None);
    let roles = dc.call(&RoleListCall { account: 1 }).await.roles;
    assert_eq!(roles.iter().map(|role| (role.name.as_str(), role.level)).collect::<Vec<_>>(), [("Ann", 1), ("Bo", 7)]);
    dc.stop().await;
}
