//! The shared read cache: what login and center read before they ask dc. dc alone writes it, and only what the store has.
//!
//! Nothing here is ever the reason why a write is called safe, and all of it may be gone at any moment (flushed, evicted, lost in a
//! failover, away): then a read finds nothing, and whoever reads asks dc. Every operation ends within [`BOUND`]; after a few that
//! failed the [`breaker`] answers at once that there is nothing, until a probe finds Redis well again.
//!
//! Keys of the zone `dev`, all of them rebuilt by themselves:
//!
//! | key | value |
//! |---|---|
//! | `zone:dev:profile:<player>` | [`Profile`] with the version of its record before it; a day |
//! | `zone:dev:name:<name key>` | [`NameHolder`] with a version before it; a day |
//! | `zone:dev:rank:level`, `zone:dev:rank:coins` | sorted sets of all players, see [`ranking`] |
//! | `zone:dev:rank:chain` | the last change that the sets have; half a minute |
//! | `zone:dev:rank:<run>:level`, `...:coins` | sets that are being built; ten minutes |
//! | `zone:dev:journal` | the id of the journal of the dc that wrote all this; with another one it all goes |
//!
//! **Never an older version**: a value is written only over one of a lower version, whatever the order in which writes arrive; and
//! whoever reads a profile says which version it has to have at least, as dc told it.

mod breaker;
mod origin;
mod profiles;
pub mod ranking;
mod redis;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use proto::{
    client::Role,
    internal::{RankBy, RankEntry, RoleVersion},
    record::{NameHolder, Profile},
};

use crate::config::{CacheConfig, Zone};
use redis::Redis;

/// How long an operation may take, a new connection included.
pub const BOUND: Duration = Duration::from_millis(200);

/// The cache of a zone. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Cache {
    /// The zone has none: every read finds nothing, and nothing is written.
    None,
    /// Redis.
    Redis(Handle),
}

/// Redis, behind its breaker.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Redis>);

/// Redis did not do it, or did not say so in time. Why is in the log, once for each change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cache is away")]
pub struct Away;

/// What is written of a player.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// As the store has it.
    pub profile: Profile,
    /// The role was deleted.
    pub deleted: bool,
}

impl Cache {
    /// The cache that the zone file names. Nothing is connected yet: a zone starts without it. A relative URL file starts at `data`.
    ///
    /// # Errors
    /// When the URL is not there or is none, or the file of certificates has none.
    pub fn open(zone: &Zone, data: &Path) -> anyhow::Result<Cache> {
        let CacheConfig::Redis(config) = &zone.cache else { return Ok(Cache::None) };
        let url = crate::secret::text(&config.url, data).context("read the URL of Redis")?;
        Ok(Cache::Redis(Handle(Arc::new(Redis::new(&zone.name, &url, config)?))))
    }

    /// Whether the zone has one.
    pub fn is_there(&self) -> bool {
        matches!(self, Cache::Redis(_))
    }

    /// All roles of an account, if each is there at least as new as dc has just said; none if one is missing or older.
    pub async fn roles(&self, account: u64, wanted: &[RoleVersion]) -> Option<Vec<Role>> {
        let Cache::Redis(Handle(redis)) = self else { return None };
        let found = profiles::read(redis, wanted).await;
        let roles: Option<Vec<Role>> =
            found.into_iter().map(|profile| profile.filter(|profile| profile.account == account)?.role).collect();
        count("roles", roles.is_some());
        roles
    }

    /// Who has a name, in any case. A deleted role has none. The role may have been deleted since: what is done to it has to say so.
    pub async fn name(&self, name: &str) -> Option<NameHolder> {
        let Cache::Redis(Handle(redis)) = self else { return None };
        let holder = profiles::name(redis, name).await;
        count("name", holder.is_some());
        holder
    }

    /// The foremost players, of equals the older role first, if the ranking is whole.
    pub async fn ranking(&self, by: RankBy, limit: u32) -> Option<Vec<RankEntry>> {
        let Cache::Redis(Handle(redis)) = self else { return None };
        let ranked = ranking::read(redis, by, limit).await;
        count("ranking", ranked.is_some());
        ranked
    }

    /// Makes sure that nothing is there that the dc of another journal wrote. For dc, before it writes.
    ///
    /// # Errors
    /// When it is unknown whether something is.
    pub async fn belong(&self, journal: &str) -> Result<(), Away> {
        let Cache::Redis(Handle(redis)) = self else { return Ok(()) };
        origin::belong(redis, journal).await
    }

    /// Writes players, each over an older version only. For dc.
    ///
    /// # Errors
    /// When it is unknown whether they are written.
    pub async fn put(&self, entries: &[Entry]) -> Result<(), Away> {
        let Cache::Redis(Handle(redis)) = self else { return Ok(()) };
        profiles::write(redis, entries).await
    }
}

fn count(what: &'static str, hit: bool) {
    metrics::counter!("paifang_cache_reads_total", "what" => what, "outcome" => if hit { "hit" } else { "miss" }).increment(1);
}
