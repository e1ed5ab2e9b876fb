//! Which journal the database belongs to, and how all players are taken from their owners. Nobody else writes meanwhile: dc is starting, or
//! is not running.

use mysql_async::Value;

use super::{
    failure::Failure,
    pool::{Database, column, key, number},
};
use crate::{journal::id::JournalId, store::EPOCH_LEAP};

/// Numbers of players of one statement.
const PLAYERS_MAX: u64 = 10_000;

pub(super) async fn journal(database: &Database) -> Result<Option<JournalId>, Failure> {
    let mut session = database.session().await?;
    let Some(row) = session.first("SELECT journal FROM journals ORDER BY number DESC LIMIT 1", Vec::new()).await? else { return Ok(None) };
    let id: Vec<u8> = column(&row, 0)?;
    let id = id.try_into().map_err(|_| Failure::refused("the id of a journal has not 16 bytes"))?;
    Ok(Some(JournalId(id)))
}

pub(super) async fn take_journal(database: &Database, journal: JournalId, now_ms: i64) -> Result<(), Failure> {
    let sql = "INSERT INTO journals (number, journal, since_ms) SELECT COALESCE(MAX(number), 0) + 1, ?, ? FROM journals";
    let values = vec![Value::Bytes(journal.0.to_vec()), Value::Int(now_ms)];
    database.session().await?.execute(sql, values).await.map(drop)
}

pub(super) async fn dispossess(database: &Database) -> Result<u64, Failure> {
    let mut session = database.session().await?;
    let row = session.first("SELECT COALESCE(MAX(player), 0) FROM players", Vec::new()).await?;
    let last = row.map(|row| number(&row, 0)).transpose()?.unwrap_or(0);
    let sql = "UPDATE players SET owner = '', epoch = epoch + ?, revision = revision + 1 WHERE player > ? AND player <= ?";
    let (mut players, mut after) = (0, 0);
    while after < last {
        let values = vec![Value::Int(EPOCH_LEAP), key(after), key(after + PLAYERS_MAX)];
        players += session.execute(sql, values).await?;
        after += PLAYERS_MAX;
    }
    Ok(players)
}
