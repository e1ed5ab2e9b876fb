//! Of which journal the cache is. After the restore of an older database dc has a new journal, and what was written before is newer than
//! what is true now: it has to go.

use deadpool_redis::redis::cmd;

use super::{Away, redis::Redis};

/// Keys that are looked at, and removed, at once.
const KEYS: u32 = 500;

/// Empties the cache of the zone unless it is of this journal. Broken off, it is done again by the next.
pub(super) async fn belong(redis: &Redis, journal: &str) -> Result<(), Away> {
    let key = redis.key("journal");
    let asked = key.clone();
    let found: Option<String> =
        redis.run("read the journal", |connection| Box::pin(async move { cmd("GET").arg(asked).query_async(connection).await })).await?;
    if found.as_deref() == Some(journal) {
        return Ok(());
    }
    let removed = empty(redis).await?;
    if 0 < removed {
        tracing::info!(removed, journal, "emptied the cache: it was of another journal");
    }
    let journal = journal.to_owned();
    redis
        .run("write the journal", |connection| Box::pin(async move { cmd("SET").arg(key).arg(journal).query_async(connection).await }))
        .await
}

/// Removes all keys of the zone; returns how many.
async fn empty(redis: &Redis) -> Result<u64, Away> {
    let (mut cursor, mut removed) = (0u64, 0);
    loop {
        let pattern = redis.key("*");
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(KEYS);
        let (next, keys): (u64, Vec<String>) =
            redis.run("look for keys", |connection| Box::pin(async move { scan.query_async(connection).await })).await?;
        if !keys.is_empty() {
            removed += keys.len() as u64;
            let mut unlink = cmd("UNLINK");
            unlink.arg(keys);
            redis.run("remove keys", |connection| Box::pin(async move { unlink.query_async::<()>(connection).await })).await?;
        }
        match next {
            0 => return Ok(removed),
            next => cursor = next,
        }
    }
}
