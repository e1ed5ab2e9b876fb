//! Commands, within a transaction that is already begun. A refused command changes nothing and does not disturb the others.

use mysql_async::Value;
use prost::Message;
use proto::{names, record::PlayerRecord};

use super::{
    failure::Failure,
    pool::{Session, key, number, text},
};
use crate::{
    refusal::Refusal,
    store::{Command, CommandResult, RECORD_FORMAT, Reply},
};

/// The version and the revision of a role that was just made.
const FIRST: i64 = 1;

type Ran = Result<CommandResult, Failure>;

pub(super) async fn run(to: &mut Session, command: &Command, now_ms: i64) -> Ran {
    match command {
        Command::AccountCreate { name, password_hash } => account_create(to, name, password_hash, now_ms).await,
        Command::RoleCreate { record, roles_max } => role_create(to, record, *roles_max, now_ms).await,
        Command::GmAccountCreate { name, password_hash, role } => gm_account_create(to, (name, password_hash, role), now_ms).await,
    }
}

async fn account_create(to: &mut Session, name: &str, password_hash: &str, now_ms: i64) -> Ran {
    if exists(to, "SELECT 1 FROM accounts WHERE name = ?", vec![text(name)]).await? {
        return Ok(Err(Refusal::NameTaken));
    }
    let account = next_number(to, "account").await?;
    let row = vec![key(account), text(name), text(password_hash), Value::Int(now_ms)];
    to.execute("INSERT INTO accounts (account, name, password_hash, created_ms) VALUES (?, ?, ?, ?)", row).await?;
    Ok(Ok(Reply::Number(account)))
}

async fn role_create(to: &mut Session, record: &PlayerRecord, roles_max: u32, now_ms: i64) -> Ran {
    if !exists(to, "SELECT 1 FROM accounts WHERE account = ?", vec![key(record.account)]).await? {
        return Ok(Err(Refusal::NotFound("account")));
    }
    let name_key = names::player_key(&record.name);
    if exists(to, "SELECT 1 FROM players WHERE name_key = ?", vec![text(&name_key)]).await? {
        return Ok(Err(Refusal::NameTaken));
    }
    let roles = count(to, "SELECT COUNT(*) FROM players WHERE account = ?", vec![key(record.account)]).await?;
    if u64::from(roles_max) <= roles {
        return Ok(Err(Refusal::Limit(roles_max, "roles")));
    }
    let player = next_number(to, "player").await?;
    let record = PlayerRecord { player, ..record.clone() };
    let row = vec![
        key(player),
        key(record.account),
        text(&record.name),
        text(&name_key),
        Value::UInt(record.level.into()),
        text(&record.map),
        key(record.coins),
        Value::Int(FIRST),
        Value::Int(FIRST),
        Value::Int(RECORD_FORMAT),
        Value::Bytes(record.encode_to_vec()),
        Value::Int(now_ms),
    ];
    to.execute(
        "INSERT INTO players (player, account, name, name_key, level, map, coins, owner, epoch, version, revision, format, body, saved_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, '', 0, ?, ?, ?, ?, ?)",
        row,
    )
    .await?;
    Ok(Ok(Reply::Number(player)))
}

async fn gm_account_create(to: &mut Session, (name, password_hash, role): (&str, &str, &str), now_ms: i64) -> Ran {
    if exists(to, "SELECT 1 FROM gm_accounts WHERE name = ?", vec![text(name)]).await? {
        return Ok(Err(Refusal::NameTaken));
    }
    let row = vec![text(name), text(password_hash), text(role), Value::Int(now_ms)];
    to.execute("INSERT INTO gm_accounts (name, password_hash, role, created_ms) VALUES (?, ?, ?, ?)", row).await?;
    Ok(Ok(Reply::Done))
}

async fn next_number(to: &mut Session, counter: &str) -> Result<u64, Failure> {
    to.execute_for_id("UPDATE counters SET value = LAST_INSERT_ID(value + 1) WHERE name = ?", vec![text(counter)]).await
}

async fn count(to: &mut Session, sql: &str, values: Vec<Value>) -> Result<u64, Failure> {
    to.first(sql, values).await?.map_or(Ok(0), |row| number(&row, 0))
}

async fn exists(to: &mut Session, sql: &str, values: Vec<Value>) -> Result<bool, Failure> {
    Ok(to.first(sql, values).await?.is_some())
}
