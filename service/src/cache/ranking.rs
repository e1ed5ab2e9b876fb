//! Rankings: a sorted set of all players by level and one by coins, each with a last member that says that the set is whole.
//!
//! A set from which keys were lost would look like a ranking and be none. So the sets are filled by a [`Writer`], from the store, and
//! after that changed in a chain: each change names the one before it, and Redis takes it only if that is the last one it has and both
//! sets are whole. A change that was lost, a flush, an eviction, a failover to a server that lacks the last changes: the next change (an
//! empty one every few seconds) finds the chain broken, and the writer builds anew. The chain expires when its writer is away, so that
//! nobody reads a ranking that nobody keeps.

use std::sync::LazyLock;

use deadpool_redis::redis::{Script, pipe};
use proto::internal::{RankBy, RankEntry};

use super::{Away, Cache, Handle, redis::Redis};

/// How long the chain lives without a change, in seconds.
const CHAIN_S: u32 = 30;
/// How long sets that are being built live, in seconds.
const BUILD_S: u32 = 600;
/// The last member of a set that is whole; names have no such character, and numbers come before it.
const WHOLE: &str = "~";
/// Scores are doubles: from here on they no longer tell all numbers of coins apart.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// Players ranked at once: Redis does nothing else meanwhile.
pub const RANKED_MAX: usize = 500;

/// Begins to build: nobody reads a ranking from now on.
static BEGIN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('DEL', KEYS[2], KEYS[3])
         redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
         for i = 4, 5 do
           redis.call('DEL', KEYS[i])
           redis.call('ZADD', KEYS[i], '+inf', '~')
           redis.call('EXPIRE', KEYS[i], ARGV[2])
         end",
    )
});

/// Adds players to what is being built.
static ADD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "for i = 1, #ARGV, 3 do
           redis.call('ZADD', KEYS[1], ARGV[i + 1], ARGV[i])
           redis.call('ZADD', KEYS[2], ARGV[i + 2], ARGV[i])
         end",
    )
});

/// Puts what was built in its place, if it is this build that was begun last and nothing of it is lost.
static FINISH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
         for i = 4, 5 do
           if not redis.call('ZSCORE', KEYS[i], '~') or redis.call('ZCARD', KEYS[i]) ~= tonumber(ARGV[4]) + 1 then return 0 end
         end
         for i = 4, 5 do
           redis.call('PERSIST', KEYS[i])
           redis.call('RENAME', KEYS[i], KEYS[i - 2])
         end
         redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
         return 1",
    )
});

/// The next change of the chain.
static CHANGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
         for i = 2, 3 do
           if not redis.call('ZSCORE', KEYS[i], '~') then return 0 end
         end
         for i = 4, #ARGV, 3 do
           if ARGV[i + 1] == '' then
             redis.call('ZREM', KEYS[2], ARGV[i])
             redis.call('ZREM', KEYS[3], ARGV[i])
           else
             redis.call('ZADD', KEYS[2], ARGV[i + 1], ARGV[i])
             redis.call('ZADD', KEYS[3], ARGV[i + 2], ARGV[i])
           end
         end
         redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
         return 1",
    )
});

/// Where a player stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The player.
    pub player: u64,
    /// Its name, which never changes.
    pub name: String,
    /// Level and coins; none: the role was deleted.
    pub of: Option<(u32, u64)>,
}

impl Standing {
    /// Of equals the older role is first: scores are negative, and members rise with the player's number.
    fn scores(&self) -> (String, String) {
        match self.of {
            Some((level, coins)) => (format!("-{level}"), format!("-{coins}")),
            None => (String::new(), String::new()),
        }
    }

    fn member(&self) -> String {
        format!("{:020}:{}", self.player, self.name)
    }
}

/// Fills the sets and keeps them. A zone has one, in its dc; of two, each finds its chain broken by the other, and nobody reads wrong.
#[derive(Debug)]
pub struct Writer {
    handle: Handle,
    /// No other writer has it.
    run: String,
    builds: u64,
    changes: u64,
    /// The chain is its own and unbroken, as far as it knows.
    whole: bool,
}

impl Writer {
    /// None for a zone without a cache. `run` names this run of the process.
    pub fn new(cache: &Cache, run: &str) -> Option<Self> {
        let Cache::Redis(handle) = cache else { return None };
        Some(Self { handle: handle.clone(), run: run.into(), builds: 0, changes: 0, whole: false })
    }

    /// Whether the sets have to be built anew before a change.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// A change was lost.
    pub fn lost(&mut self) {
        self.whole = false;
    }

    /// Begins to build.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn begin(&mut self) -> Result<(), Away> {
        self.whole = false;
        self.builds += 1;
        let mut begin = BEGIN.prepare_invoke();
        self.keys().into_iter().for_each(|key| _ = begin.key(key));
        begin.arg(self.building()).arg(BUILD_S);
        self.redis().run("begin a ranking", |connection| Box::pin(async move { begin.invoke_async::<()>(connection).await })).await
    }

    /// Adds players, at most [`RANKED_MAX`], to what is being built.
    ///
    /// # Errors
    /// When it is unknown whether they are added: the build has failed.
    pub async fn add(&self, standings: &[Standing]) -> Result<(), Away> {
        if standings.is_empty() {
            return Ok(());
        }
        let [.., level, coins] = self.keys();
        let mut add = ADD.key(level);
        add.key(coins);
        for standing in standings {
            let (level, coins) = standing.scores();
            add.arg(standing.member()).arg(level).arg(coins);
        }
        self.redis().run("build a ranking", |connection| Box::pin(async move { add.invoke_async::<()>(connection).await })).await
    }

    /// Puts what was built, of so many players, in its place. `false`: something of it was lost meanwhile.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn finish(&mut self, players: u64) -> Result<bool, Away> {
        self.changes = 0;
        let mut finish = FINISH.prepare_invoke();
        self.keys().into_iter().for_each(|key| _ = finish.key(key));
        finish.arg(self.building()).arg(self.link(0)).arg(CHAIN_S).arg(players);
        let finished: u8 =
            self.redis().run("finish a ranking", |connection| Box::pin(async move { finish.invoke_async(connection).await })).await?;
        self.whole = finished == 1;
        Ok(self.whole)
    }

    /// The next change, of at most [`RANKED_MAX`] players; none of them: is all well? Afterwards [`Writer::is_whole`] says so.
    pub async fn change(&mut self, standings: &[Standing]) {
        if !self.whole {
            return;
        }
        let [chain, level, coins, ..] = self.keys();
        let mut change = CHANGE.key(chain);
        change.key(level).key(coins).arg(self.link(self.changes)).arg(self.link(self.changes + 1)).arg(CHAIN_S);
        for standing in standings {
            let (level, coins) = standing.scores();
            change.arg(standing.member()).arg(level).arg(coins);
        }
        let taken: Result<u8, Away> =
            self.redis().run("change a ranking", |connection| Box::pin(async move { change.invoke_async(connection).await })).await;
        self.changes += 1;
        self.whole = taken == Ok(1);
    }

    fn redis(&self) -> &Redis {
        &self.handle.0
    }

    /// Chain, level, coins, and the two that are being built.
    fn keys(&self) -> [String; 5] {
        let (redis, built) = (self.redis(), format!("rank:{}:{}", self.run, self.builds));
        let level = key_of(redis, RankBy::Level);
        let coins = key_of(redis, RankBy::Coins);
        [redis.key("rank:chain"), level, coins, redis.key(&format!("{built}:level")), redis.key(&format!("{built}:coins"))]
    }

    fn building(&self) -> String {
        format!("building {} {}", self.run, self.builds)
    }

    fn link(&self, change: u64) -> String {
        format!("{} {} {change}", self.run, self.builds)
    }
}

fn key_of(redis: &Redis, by: RankBy) -> String {
    redis.key(if by == RankBy::Coins { "rank:coins" } else { "rank:level" })
}

/// Whether the chain is there, the score of the last member, and the first members with their scores.
type Read = (bool, Option<f64>, Vec<(String, f64)>);

pub(super) async fn read(redis: &Redis, by: RankBy, limit: u32) -> Option<Vec<RankEntry>> {
    let last = isize::try_from(limit.checked_sub(1)?).ok()?;
    let (chain, set) = (redis.key("rank:chain"), key_of(redis, by));
    let mut pipe = pipe();
    pipe.atomic().exists(chain).zscore(&set, WHOLE).zrange_withscores(&set, 0, last);
    let read: Result<Read, Away> =
        redis.run("read a ranking", |connection| Box::pin(async move { pipe.query_async(connection).await })).await;
    let (kept, whole, members) = read.ok()?;
    if !kept || whole.is_none() {
        return None;
    }
    members.iter().filter(|(member, _)| member != WHOLE).map(|(member, score)| entry(member, *score)).collect()
}

/// None where a score is not exact: dc knows better.
fn entry(member: &str, score: f64) -> Option<RankEntry> {
    let (player, name) = member.split_once(':')?;
    let value = -score;
    // A float in this range is a whole number of the type, exactly.
    (0.0..EXACT_MAX).contains(&value).then_some(())?;
    Some(RankEntry { player: player.parse().ok()?, name: name.into(), value: value as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_says_who_it_is() {
        let standing = Standing { player: 7, name: "Ann:B".into(), of: Some((3, 0)) };
        assert_eq!(standing.scores(), ("-3".into(), "-0".into()));
        assert_eq!(entry(&standing.member(), -3.0), Some(RankEntry { player: 7, name: "Ann:B".into(), value: 3 }));
        assert_eq!(entry(&standing.member(), -EXACT_MAX), None);
        assert_eq!(entry("7", -1.0), None);
        assert!(standing.member().as_str() < WHOLE);
    }
}
