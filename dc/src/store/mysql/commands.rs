//! Commands, within a transaction that is already begun. A refused command changes nothing and does not disturb the others.

use mysql_async::Value;
use prost::Message;
use proto::{
    internal::{AuditRecord, Relation, Sanction, SanctionKind},
    names,
    record::PlayerRecord,
};

use super::{
    failure::Failure,
    pool::{Session, key, number, text},
    read,
};
use crate::{
    refusal::Refusal,
    store::{Command, CommandResult, LIST_MAX, RECORD_FORMAT, Reply, SanctionsWanted},
};

/// The version and the revision of a role that was just made.
const FIRST: i64 = 1;

type Ran = Result<CommandResult, Failure>;

pub(super) async fn run(to: &mut Session, command: &Command, now_ms: i64) -> Ran {
    match command {
        Command::AccountCreate { name, password_hash } => account_create(to, name, password_hash, now_ms).await,
        Command::RoleCreate { record, roles_max } => role_create(to, record, *roles_max, now_ms).await,
        Command::RelationSet { player, other, relation: Relation::Unspecified, .. } => {
            to.execute("DELETE FROM relations WHERE player = ? AND other = ?", vec![key(*player), key(*other)]).await?;
            Ok(Ok(Reply::Done))
        }
        Command::RelationSet { player, other, relation, relations_max } => {
            relation_set(to, *player, *other, *relation, *relations_max, now_ms).await
        }
        Command::SanctionAdd { sanction } => sanction_add(to, sanction, now_ms).await,
        Command::SanctionLift { kind, account, address, by } => sanction_lift(to, *kind, *account, address, by, now_ms).await,
        Command::GmAccountCreate { name, password_hash, role } => gm_account_create(to, (name, password_hash, role), now_ms).await,
        Command::AuditAppend { record } => audit_append(to, record, now_ms).await,
        Command::AuditOutcome { audit, outcome } => audit_outcome(to, *audit, outcome).await,
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

async fn relation_set(to: &mut Session, player: u64, other: u64, relation: Relation, relations_max: u32, now_ms: i64) -> Ran {
    for one in [player, other] {
        if !exists(to, "SELECT 1 FROM players WHERE player = ?", vec![key(one)]).await? {
            return Ok(Err(Refusal::NotFound("player")));
        }
    }
    let others = count(to, "SELECT COUNT(*) FROM relations WHERE player = ? AND other <> ?", vec![key(player), key(other)]).await?;
    if u64::from(relations_max) <= others {
        return Ok(Err(Refusal::Limit(relations_max, "friends and blocks")));
    }
    // `since_ms` first: it looks at the relation that is still there.
    to.execute(
        "INSERT INTO relations (player, other, relation, since_ms) VALUES (?, ?, ?, ?) ON DUPLICATE KEY UPDATE
         since_ms = IF(relations.relation <> VALUES(relation), VALUES(since_ms), relations.since_ms), relation = VALUES(relation)",
        vec![key(player), key(other), Value::Int(i64::from(relation as i32)), Value::Int(now_ms)],
    )
    .await?;
    Ok(Ok(Reply::Done))
}

async fn sanction_add(to: &mut Session, sanction: &Sanction, now_ms: i64) -> Ran {
    if sanction.account != 0 && !exists(to, "SELECT 1 FROM accounts WHERE account = ?", vec![key(sanction.account)]).await? {
        return Ok(Err(Refusal::NotFound("account")));
    }
    let number = next_number(to, "sanction").await?;
    let from_ms = if sanction.from_ms == 0 { now_ms } else { sanction.from_ms };
    let row = vec![
        key(number),
        Value::Int(sanction.kind.into()),
        key(sanction.account),
        text(&sanction.address),
        text(&sanction.reason),
        text(&sanction.by),
        Value::Int(from_ms),
        Value::Int(sanction.until_ms),
    ];
    to.execute(
        "INSERT INTO sanctions (sanction, kind, account, address, reason, made_by, from_ms, until_ms, lifted_by, lifted_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', 0)",
        row,
    )
    .await?;
    Ok(Ok(Reply::Number(number)))
}

async fn sanction_lift(to: &mut Session, kind: SanctionKind, account: u64, address: &str, by: &str, now_ms: i64) -> Ran {
    let wanted = SanctionsWanted { kind: Some(kind), against: Some((account, address.into())), now_ms, limit: LIST_MAX };
    let lifted = read::sanctions(to, &wanted).await?;
    for sanction in &lifted {
        let values = vec![text(by), Value::Int(now_ms), key(sanction.id)];
        to.execute("UPDATE sanctions SET lifted_by = ?, lifted_ms = ? WHERE sanction = ?", values).await?;
    }
    Ok(if lifted.is_empty() { Err(Refusal::NotFound("sanction")) } else { Ok(Reply::Lifted(lifted)) })
}

async fn gm_account_create(to: &mut Session, (name, password_hash, role): (&str, &str, &str), now_ms: i64) -> Ran {
    if exists(to, "SELECT 1 FROM gm_accounts WHERE name = ?", vec![text(name)]).await? {
        return Ok(Err(Refusal::NameTaken));
    }
    let row = vec![text(name), text(password_hash), text(role), Value::Int(now_ms)];
    to.execute("INSERT INTO gm_accounts (name, password_hash, role, created_ms) VALUES (?, ?, ?, ?)", row).await?;
    Ok(Ok(Reply::Done))
}

async fn audit_append(to: &mut Session, record: &AuditRecord, now_ms: i64) -> Ran {
    let number = next_number(to, "audit").await?;
    let at_ms = if record.at_ms == 0 { now_ms } else { record.at_ms };
    let AuditRecord { by, role, address, command, arguments, reason, outcome, .. } = record;
    let mut row = vec![key(number), Value::Int(at_ms)];
    row.extend([by, role, address, command, arguments, reason, outcome].map(|column| text(column)));
    to.execute(
        "INSERT INTO audit (audit, at_ms, made_by, role, address, command, arguments, reason, outcome)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    )
    .await?;
    Ok(Ok(Reply::Number(number)))
}

/// An outcome that is there already changes no row, which is no reason to say that the record is not there.
async fn audit_outcome(to: &mut Session, audit: u64, outcome: &str) -> Ran {
    if !exists(to, "SELECT 1 FROM audit WHERE audit = ?", vec![key(audit)]).await? {
        return Ok(Err(Refusal::NotFound("audit record")));
    }
    to.execute("UPDATE audit SET outcome = ? WHERE audit = ?", vec![text(outcome), key(audit)]).await?;
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
