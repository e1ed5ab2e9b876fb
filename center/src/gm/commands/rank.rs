//! The foremost players: from the cache where it has them, otherwise from dc.

use std::time::Duration;

use proto::internal::{RankBy, RankEntry, RankList, RankRebuild};
use serde_json::{Value, json};

use super::{Effect, Prepared, required};
use crate::{
    center::Center,
    gm::{GmError, arguments::Arguments, of_call},
};

/// Players in an answer, if the GM does not say, and at most.
const ENTRIES: u32 = 20;
const ENTRIES_MAX: u32 = 500;
/// dc reads every player of the zone.
const REBUILD_WITHIN: Duration = Duration::from_secs(60);

pub(super) async fn rank(center: &Center, arguments: &Arguments) -> Result<Prepared, GmError> {
    let action = required(arguments.text("action"), "action")?;
    let limit = arguments.count("limit");
    let (by, value) = match action {
        "rebuild" if limit.is_some() => return Err(GmError::bad_argument("limit", "goes without `rebuild`")),
        "rebuild" => return Ok(Prepared::change(json!({ "rebuilds": "rankings" }), Effect::RebuildRankings)),
        "coins" => (RankBy::Coins, "coins"),
        _ => (RankBy::Level, "level"),
    };
    let limit = limit.unwrap_or(ENTRIES).clamp(1, ENTRIES_MAX);
    let entries = foremost(center, by, limit).await?;
    let row =
        |(place, entry): (usize, RankEntry)| json!({ "rank": place + 1, "name": entry.name, value: entry.value, "player": entry.player });
    Ok(Prepared::Answer(json!({ "players": entries.into_iter().enumerate().map(row).collect::<Vec<Value>>() })))
}

pub(super) async fn do_rebuild(center: &Center) -> Result<Value, GmError> {
    let rebuilt = center.dc_within(&RankRebuild {}, REBUILD_WITHIN).await.map_err(|err| of_call(&err, "there are no rankings"))?;
    Ok(match rebuilt.cached {
        true => json!({ "rebuilt": true, "players": rebuilt.players }),
        false => json!({ "rebuilt": false, "why": "the zone has no cache: rankings are read from the database" }),
    })
}

async fn foremost(center: &Center, by: RankBy, limit: u32) -> Result<Vec<RankEntry>, GmError> {
    if let Some(entries) = center.process.cache.ranking(by, limit).await {
        return Ok(entries);
    }
    let list = RankList { by: by.into(), limit };
    Ok(center.dc(&list).await.map_err(|err| of_call(&err, "there are no rankings"))?.entries)
}
