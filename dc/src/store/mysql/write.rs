//! Records and units, within a transaction that is already begun.

use std::time::{Duration, Instant};

use mysql_async::Value;
use prost::Message;
use proto::{client::Item, names};

use super::{
    failure::{Class, Failure},
    mails,
    pace::statements,
    pool::{Session, column, key, number, text},
};
use crate::store::{Batch, PendingUnit, REASON_MAX, RECORD_FORMAT, Row};

/// `saved_ms` of a row that was inserted, which no row of a player that exists ever is.
const INSERTED: i64 = -1;

/// Writes rows and units. `rows_max`: of a statement. Returns what the slowest statement took.
///
/// Items leave all players and mails before any comes to one, or an item that moves would be at two for a moment.
pub(super) async fn records(session: &mut Session, batch: &Batch, rows_max: usize) -> Result<Duration, Failure> {
    mails::free(session, batch).await?;
    let leaving: Vec<u64> = batch.rows.iter().filter(|row| row.items_changed || row.deleted).map(|row| row.player).collect();
    let mut slowest = in_lists(session, "DELETE FROM items WHERE player IN", &leaving, rows_max).await?;
    let (deleted, living): (Vec<&Row>, Vec<&Row>) = batch.rows.iter().partition(|row| row.deleted);
    let bodies: Vec<Vec<u8>> = living.iter().map(|row| row.record.encode_to_vec()).collect();
    let sizes: Vec<usize> = bodies.iter().map(|body| 256 + body.len()).collect();
    for range in statements(&sizes, rows_max) {
        let started = Instant::now();
        players(session, &living[range.clone()], &bodies[range], batch.now_ms).await?;
        slowest = slowest.max(started.elapsed());
    }
    for row in deleted {
        delete(session, row, batch.now_ms).await?;
    }
    let changed = living.iter().filter(|row| row.items_changed);
    let items = changed.flat_map(|row| row.record.items.iter().map(|item| (item, row.player))).collect();
    slowest = slowest.max(insert_items(session, items, rows_max).await?);
    mails::keep(session, batch).await?;
    units(session, &batch.units, batch.units_floor).await?;
    Ok(slowest)
}

/// The columns of a row in an upsert, in the order of [`values`]. `revision` is the last to change: the others are guarded by it.
const UPDATED: [&str; 8] = ["level", "map", "coins", "owner", "epoch", "version", "format", "body"];

/// Writes newer revisions of rows that there are, in one statement: what it does not find newer, it leaves alone.
async fn players(session: &mut Session, rows: &[&Row], bodies: &[Vec<u8>], now_ms: i64) -> Result<(), Failure> {
    // A name that another player has meanwhile is a duplicate key too: that row is not the one that is meant.
    let newer = "players.player = VALUES(player) AND players.revision < VALUES(revision)";
    let mut sql = String::from(
        "INSERT INTO players (player, account, name, name_key, level, map, coins, owner, epoch, version, revision, format, body, saved_ms) VALUES ",
    );
    let one = format!("(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {INSERTED})");
    sql.push_str(&vec![one; rows.len()].join(", "));
    sql.push_str(" ON DUPLICATE KEY UPDATE ");
    for name in UPDATED {
        sql.push_str(&format!("{name} = IF({newer}, VALUES({name}), players.{name}), "));
    }
    sql.push_str(&format!("saved_ms = IF({newer}, ?, saved_ms), revision = IF({newer}, VALUES(revision), players.revision)"));
    let mut all: Vec<Value> = rows.iter().zip(bodies).flat_map(|(row, body)| values(row, body)).collect();
    all.push(Value::Int(now_ms));
    // The server counts 2 for a row that it changed, 1 for one that it inserted, 0 for one that it left alone.
    let changed = session.execute(&sql, all).await?;
    if changed == 2 * rows.len() as u64 { Ok(()) } else { check(session, rows).await }
}

fn values(row: &Row, body: &[u8]) -> [Value; 13] {
    let record = &row.record;
    [
        key(row.player),
        key(record.account),
        text(&record.name),
        text(&names::player_key(&record.name)),
        Value::UInt(record.level.into()),
        text(&record.map),
        key(record.coins),
        text(&row.owner),
        key(row.epoch),
        key(row.version),
        key(row.revision),
        Value::Int(RECORD_FORMAT),
        Value::Bytes(body.to_vec()),
    ]
}

/// Not all rows were changed: that is right for those that were stored before, by a batch whose outcome was unknown.
async fn check(session: &mut Session, rows: &[&Row]) -> Result<(), Failure> {
    let sql = format!("SELECT player, revision, saved_ms FROM players WHERE player IN ({})", marks(rows.len()));
    let found = session.rows(&sql, rows.iter().map(|row| key(row.player)).collect()).await?;
    let mut stored = std::collections::HashMap::new();
    for row in &found {
        stored.insert(number(row, 0)?, (number(row, 1)?, column::<i64>(row, 2)?));
    }
    for row in rows {
        match stored.get(&row.player) {
            None | Some((_, INSERTED)) => return Err(Failure::refused(format!("player {} is gone from the database", row.player))),
            Some((revision, _)) if *revision == row.revision => (),
            Some((revision, _)) => {
                let text = format!("player {} has revision {revision}: somebody else writes to this database", row.player);
                return Err(Failure::refused(text));
            }
        }
    }
    Ok(())
}

/// Moves a player to the deleted ones. Done twice it is done once: then there is nothing left to move.
async fn delete(session: &mut Session, row: &Row, now_ms: i64) -> Result<(), Failure> {
    let newest = "UPDATE players SET version = ?, format = ?, body = ? WHERE player = ? AND revision < ?";
    let body = Value::Bytes(row.record.encode_to_vec());
    session.execute(newest, vec![key(row.version), Value::Int(RECORD_FORMAT), body, key(row.player), key(row.revision)]).await?;
    let keep = "INSERT INTO deleted_players (player, account, name, version, format, body, deleted_ms)
        SELECT player, account, name, version, format, body, ? FROM players WHERE player = ?";
    session.execute(keep, vec![Value::Int(now_ms), key(row.player)]).await?;
    session.execute("DELETE FROM players WHERE player = ?", vec![key(row.player)]).await?;
    session.execute("DELETE FROM relations WHERE player = ? OR other = ?", vec![key(row.player), key(row.player)]).await?;
    Ok(())
}

/// The primary key of `items` refuses an item that is at another player.
pub(super) async fn insert_items(session: &mut Session, mut all: Vec<(&Item, u64)>, rows_max: usize) -> Result<Duration, Failure> {
    all.sort_by(|(one, _), (other, _)| one.id.cmp(&other.id));
    let sizes: Vec<usize> = all.iter().map(|(item, _)| 64 + item.kind.len()).collect();
    let mut slowest = Duration::ZERO;
    for range in statements(&sizes, rows_max) {
        let some = &all[range];
        let sql = format!("INSERT INTO items (item, player, kind, amount) VALUES {}", vec!["(?, ?, ?, ?)"; some.len()].join(", "));
        let values = some
            .iter()
            .flat_map(|(item, player)| [Value::Bytes(item.id.to_vec()), key(*player), text(&item.kind), Value::UInt(item.count.into())]);
        let started = Instant::now();
        session.execute(&sql, values.collect()).await?;
        slowest = slowest.max(started.elapsed());
    }
    Ok(slowest)
}

async fn units(session: &mut Session, units: &[PendingUnit], floor: u64) -> Result<(), Failure> {
    let with_id: Vec<_> = units.iter().filter_map(|unit| unit.id.map(|id| (id, unit.lsn))).collect();
    for range in statements(&vec![64; with_id.len()], usize::MAX) {
        let some = &with_id[range];
        let sql = format!(
            "INSERT INTO applied_units (unit, sequence) VALUES {} ON DUPLICATE KEY UPDATE unit = applied_units.unit",
            vec!["(?, ?)"; some.len()].join(", ")
        );
        session.execute(&sql, some.iter().flat_map(|(id, lsn)| [Value::Bytes(id.0.to_vec()), key(*lsn)]).collect()).await?;
    }
    if !with_id.is_empty() {
        session.execute("DELETE FROM applied_units WHERE sequence < ?", vec![key(floor)]).await?;
    }
    Ok(())
}

/// Keeps a refused record. What made it refused may make this refused too: then the reason stays, without the body.
pub(super) async fn set_aside(session: &mut Session, row: &Row, now_ms: i64, reason: &str) -> Result<(), Failure> {
    let sql = "INSERT INTO set_aside (player, version, at_ms, reason, format, body) VALUES (?, ?, ?, ?, ?, ?)";
    let reason: String = reason.chars().take(REASON_MAX).collect();
    let values = |body: Vec<u8>| {
        let (version, format) = (key(row.version), Value::Int(RECORD_FORMAT));
        vec![key(row.player), version, Value::Int(now_ms), text(&reason), format, Value::Bytes(body)]
    };
    match session.execute(sql, values(row.record.encode_to_vec())).await {
        Err(failure) if failure.class == Class::Refused => {
            tracing::error!(player = row.player, text = %failure.text, "the database does not take the body of a record that is set aside");
            // A packet that was too large has cost the connection: then the writer tries again, and finds the same.
            session.execute(sql, values(Vec::new())).await.map(drop)
        }
        done => done.map(drop),
    }
}

/// Runs `sql (?, ?, ...)` over all players; returns what the slowest statement took.
async fn in_lists(session: &mut Session, sql: &str, players: &[u64], rows_max: usize) -> Result<Duration, Failure> {
    let mut slowest = Duration::ZERO;
    for range in statements(&vec![16; players.len()], rows_max) {
        let some = &players[range];
        let started = Instant::now();
        session.execute(&format!("{sql} ({})", marks(some.len())), some.iter().map(|player| key(*player)).collect()).await?;
        slowest = slowest.max(started.elapsed());
    }
    Ok(slowest)
}

pub(super) fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}
