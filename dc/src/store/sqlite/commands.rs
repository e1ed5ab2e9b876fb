//! Commands on SQLite. A refused command changes nothing and does not disturb the others of its transaction.

use prost::Message;
use proto::{
    internal::{AuditRecord, Relation, Sanction, SanctionKind},
    names,
    record::PlayerRecord,
};
use rusqlite::{OptionalExtension, Params, Transaction};

use super::{key, read, unsigned};
use crate::{
    refusal::Refusal,
    store::{Command, CommandResult, LIST_MAX, RECORD_FORMAT, Reply, SanctionsWanted, StoreError},
};

/// The version and the revision of a role that was just made.
const FIRST: i64 = 1;

type Ran = Result<CommandResult, StoreError>;

pub(super) fn run(to: &Transaction<'_>, command: &Command, now_ms: i64) -> Ran {
    match command {
        Command::AccountCreate { name, password_hash } => account_create(to, name, password_hash, now_ms),
        Command::RoleCreate { record, roles_max } => role_create(to, record, *roles_max, now_ms),
        Command::RelationSet { player, other, relation: Relation::Unspecified, .. } => {
            execute(to, "DELETE FROM relations WHERE player = ?1 AND other = ?2", (key(*player), key(*other)))?;
            Ok(Ok(Reply::Done))
        }
        Command::RelationSet { player, other, relation, relations_max } => {
            relation_set(to, *player, *other, *relation, *relations_max, now_ms)
        }
        Command::SanctionAdd { sanction } => sanction_add(to, sanction, now_ms),
        Command::SanctionLift { kind, account, address, by } => sanction_lift(to, *kind, *account, address, by, now_ms),
        Command::GmAccountCreate { name, password_hash, role } => gm_account_create(to, (name, password_hash, role), now_ms),
        Command::AuditAppend { record } => audit_append(to, record, now_ms),
        Command::AuditOutcome { audit, outcome } => {
            match execute(to, "UPDATE audit SET outcome = ?2 WHERE audit = ?1", (key(*audit), outcome))? {
                0 => Ok(Err(Refusal::NotFound("audit record"))),
                _ => Ok(Ok(Reply::Done)),
            }
        }
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

fn relation_set(to: &Transaction<'_>, player: u64, other: u64, relation: Relation, relations_max: u32, now_ms: i64) -> Ran {
    for one in [player, other] {
        if !exists(to, "SELECT 1 FROM players WHERE player = ?1", [key(one)])? {
            return Ok(Err(Refusal::NotFound("player")));
        }
    }
    let others: i64 = query(to, "SELECT COUNT(*) FROM relations WHERE player = ?1 AND other <> ?2", (key(player), key(other)))?;
    if i64::from(relations_max) <= others {
        return Ok(Err(Refusal::Limit(relations_max, "friends and blocks")));
    }
    let row = (key(player), key(other), relation as i32, now_ms);
    execute(
        to,
        "INSERT INTO relations (player, other, relation, since_ms) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (player, other) DO UPDATE SET relation = excluded.relation, since_ms = excluded.since_ms
         WHERE excluded.relation <> relations.relation",
        row,
    )?;
    Ok(Ok(Reply::Done))
}

fn sanction_add(to: &Transaction<'_>, sanction: &Sanction, now_ms: i64) -> Ran {
    if sanction.account != 0 && !exists(to, "SELECT 1 FROM accounts WHERE account = ?1", [key(sanction.account)])? {
        return Ok(Err(Refusal::NotFound("account")));
    }
    let number = next_number(to, "sanction")?;
    let from_ms = if sanction.from_ms == 0 { now_ms } else { sanction.from_ms };
    let (account, until_ms) = (key(sanction.account), sanction.until_ms);
    execute(
        to,
        "INSERT INTO sanctions (sanction, kind, account, address, reason, made_by, from_ms, until_ms, lifted_by, lifted_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, '', 0)",
        (number, sanction.kind, account, &sanction.address, &sanction.reason, &sanction.by, from_ms, until_ms),
    )?;
    Ok(Ok(Reply::Number(unsigned(number))))
}

fn sanction_lift(to: &Transaction<'_>, kind: SanctionKind, account: u64, address: &str, by: &str, now_ms: i64) -> Ran {
    let wanted = SanctionsWanted { kind: Some(kind), against: Some((account, address.into())), now_ms, limit: LIST_MAX };
    let lifted = read::sanctions(to, &wanted)?;
    for sanction in &lifted {
        execute(to, "UPDATE sanctions SET lifted_by = ?2, lifted_ms = ?3 WHERE sanction = ?1", (key(sanction.id), by, now_ms))?;
    }
    Ok(if lifted.is_empty() { Err(Refusal::NotFound("sanction")) } else { Ok(Reply::Lifted(lifted)) })
}

fn gm_account_create(to: &Transaction<'_>, (name, password_hash, role): (&str, &str, &str), now_ms: i64) -> Ran {
    if exists(to, "SELECT 1 FROM gm_accounts WHERE name = ?1", [name])? {
        return Ok(Err(Refusal::NameTaken));
    }
    let row = (name, password_hash, role, now_ms);
    execute(to, "INSERT INTO gm_accounts (name, password_hash, role, created_ms) VALUES (?1, ?2, ?3, ?4)", row)?;
    Ok(Ok(Reply::Done))
}

fn audit_append(to: &Transaction<'_>, record: &AuditRecord, now_ms: i64) -> Ran {
    let number = next_number(to, "audit")?;
    let at_ms = if record.at_ms == 0 { now_ms } else { record.at_ms };
    let AuditRecord { by, role, address, command, arguments, reason, outcome, .. } = record;
    execute(
        to,
        "INSERT INTO audit (audit, at_ms, made_by, role, address, command, arguments, reason, outcome)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        (number, at_ms, by, role, address, command, arguments, reason, outcome),
    )?;
    Ok(Ok(Reply::Number(unsigned(number))))
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
