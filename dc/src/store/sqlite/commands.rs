//! Commands on SQLite. A refused command changes nothing and does not disturb the others of its transaction.

use prost::Message;
use proto::{names, record::PlayerRecord};
use rusqlite::{OptionalExtension, Params, Transaction};

use super::{key, unsigned};
use crate::{
    refusal::Refusal,
    store::{Command, CommandResult, RECORD_FORMAT, Reply, StoreError},
};

/// The version and the revision of a role that was just made.
const FIRST: i64 = 1;

type Ran = Result<CommandResult, StoreError>;

pub(super) fn run(to: &Transaction<'_>, command: &Command, now_ms: i64) -> Ran {
    match command {
        Command::AccountCreate { name, password_hash } => account_create(to, name, password_hash, now_ms),
        Command::RoleCreate { record, roles_max } => role_create(to, record, *roles_max, now_ms),
        Command::GmAccountCreate { name, password_hash, role } => gm_account_create(to, (name, password_hash, role), now_ms),
    }
}

fn account_create(to: &Transaction<'_>, name: &str, password_hash: &str, now_ms: i64) -> Ran {
    if exists(to, "SELECT 1 FROM accounts WHERE name = ?1", [name])? {
        return Ok(Err(Refusal::NameTaken));
    }
    let account = next_number(to, "account")?;
    let row = (account, name, password_hash, now_ms);
    execute(to, "INSERT INTO accounts (account, name, password_hash, created_ms) VALUES (?1, ?2, ?3, ?4)", row)?;
    Ok(Ok(Reply::Number(unsigned(account))))
}

fn role_create(to: &Transaction<'_>, record: &PlayerRecord, roles_max: u32, now_ms: i64) -> Ran {
    if !exists(to, "SELECT 1 FROM accounts WHERE account = ?1", [key(record.account)])? {
        return Ok(Err(Refusal::NotFound("account")));
    }
    let name_key = names::player_key(&record.name);
    if exists(to, "SELECT 1 FROM players WHERE name_key = ?1", [&name_key])? {
        return Ok(Err(Refusal::NameTaken));
    }
    let roles: i64 = query(to, "SELECT COUNT(*) FROM players WHERE account = ?1", [key(record.account)])?;
    if i64::from(roles_max) <= roles {
        return Ok(Err(Refusal::Limit(roles_max, "roles")));
    }
    let player = next_number(to, "player")?;
    let record = PlayerRecord { player: unsigned(player), ..record.clone() };
    to.prepare_cached(
        "INSERT INTO players (player, account, name, name_key, level, map, coins, owner, epoch, version, revision, format, body, saved_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, '', 0, ?8, ?8, ?9, ?10, ?11)",
    )?
    .execute((
        player,
        key(record.account),
        &record.name,
        &name_key,
        record.level,
        &record.map,
        key(record.coins),
        FIRST,
        RECORD_FORMAT,
        record.encode_to_vec(),
        now_ms,
    ))?;
    Ok(Ok(Reply::Number(unsigned(player))))
}

fn gm_account_create(to: &Transaction<'_>, (name, password_hash, role): (&str, &str, &str), now_ms: i64) -> Ran {
    if exists(to, "SELECT 1 FROM gm_accounts WHERE name = ?1", [name])? {
        return Ok(Err(Refusal::NameTaken));
    }
    let row = (name, password_hash, role, now_ms);
    execute(to, "INSERT INTO gm_accounts (name, password_hash, role, created_ms) VALUES (?1, ?2, ?3, ?4)", row)?;
    Ok(Ok(Reply::Done))
}

fn next_number(to: &Transaction<'_>, counter: &str) -> Result<i64, StoreError> {
    execute(to, "UPDATE counters SET value = value + 1 WHERE name = ?1", [counter])?;
    query(to, "SELECT value FROM counters WHERE name = ?1", [counter])
}

fn execute(to: &Transaction<'_>, sql: &str, values: impl Params) -> Result<usize, StoreError> {
    Ok(to.prepare_cached(sql)?.execute(values)?)
}

fn query(to: &Transaction<'_>, sql: &str, values: impl Params) -> Result<i64, StoreError> {
    Ok(to.prepare_cached(sql)?.query_row(values, |row| row.get(0))?)
}

fn exists(to: &Transaction<'_>, sql: &str, values: impl Params) -> Result<bool, StoreError> {
    Ok(to.prepare_cached(sql)?.query_row(values, |_| Ok(())).optional()?.is_some())
}
