//! Reads: each call sees what was committed before it.

use std::collections::HashMap;

use mysql_async::{Row, Value};
use prost::Message;
use proto::{
    ids::ItemId,
    internal::{AuditRecord, GmAccountReply, RankBy, RankEntry, Relation, RelationTo, RoleVersion, Sanction},
    record::{Mail, PlayerRecord},
};
use service::cache::ranking::Standing;

use super::{
    counter,
    failure::{Class, Failure},
    pace::statements,
    pool::{Database, Session, column, key, number, text},
};
use crate::ledger::facts::Numbers;
use crate::store::{LIST_MAX, RECORD_FORMAT, Reader, RelationsOf, StoreError, StoredAccount, StoredPlayer, ranked_column, read_mail};

/// Items of one question at most.
const ITEMS_MAX: usize = 1024;
/// Friends or blockers of one answer at most.
const WHO_MAX: u32 = 10_000;
const PLAYER: &str = "SELECT player, format, body, owner, epoch, version, revision FROM players WHERE";

/// Reads from MySQL, each call on a connection of the pool.
pub(super) struct MysqlReader(Database);

impl MysqlReader {
    pub(super) fn new(database: Database) -> Self {
        Self(database)
    }

    /// A connection that was lost is no answer, and reading twice does no harm.
    #[expect(clippy::needless_pass_by_value, reason = "a closure that is written where it is passed")]
    fn read<T>(&self, read: impl AsyncFn(&mut Session) -> Result<T, Failure>) -> Result<T, StoreError> {
        let once = async || read(&mut self.0.session().await?).await;
        let done = self.0.wait(async {
            match once().await {
                Err(failure) if failure.class == Class::Lost && failure.reason != "timeout" => once().await,
                done => done,
            }
        });
        Ok(done?)
    }

    fn players(&self, sql: &str, of: &Value) -> Result<Vec<StoredPlayer>, StoreError> {
        self.read(async |session| session.rows(sql, vec![of.clone()]).await?.iter().map(player).collect())
    }

    fn mails(&self, condition: &str, values: &[Value]) -> Result<Vec<Mail>, StoreError> {
        let sql = format!("SELECT format, body FROM mails WHERE {condition}");
        let rows = self.read(async |session| session.rows(&sql, values.to_vec()).await)?;
        let mail = |row: &Row| read_mail(column(row, 0)?, &column::<Vec<u8>>(row, 1)?);
        rows.iter().map(mail).collect()
    }

    fn account_where(&self, condition: &str, value: &Value) -> Result<Option<StoredAccount>, StoreError> {
        let sql = format!("SELECT account, name, password_hash FROM accounts WHERE {condition}");
        self.read(async |session| {
            let Some(row) = session.first(&sql, vec![value.clone()]).await? else { return Ok(None) };
            Ok(Some(StoredAccount { account: number(&row, 0)?, name: column(&row, 1)?, password_hash: column(&row, 2)? }))
        })
    }
}

impl Reader for MysqlReader {
    fn player(&self, player: u64) -> Result<Option<StoredPlayer>, StoreError> {
        Ok(self.players(&format!("{PLAYER} player = ?"), &key(player))?.pop())
    }

    fn set_aside(&self, player: u64) -> Result<Option<StoredPlayer>, StoreError> {
        let sql = "SELECT player, format, body, '', 0, version, 0 FROM set_aside WHERE player = ? ORDER BY version DESC LIMIT 1";
        Ok(self.players(sql, &key(player))?.pop())
    }

    fn player_named(&self, name_key: &str) -> Result<Option<u64>, StoreError> {
        self.read(async |session| {
            let row = session.first("SELECT player FROM players WHERE name_key = ?", vec![text(name_key)]).await?;
            row.map(|row| number(&row, 0)).transpose()
        })
    }

    fn versions_of(&self, account: u64) -> Result<Vec<RoleVersion>, StoreError> {
        let version = |row: &Row| Ok(RoleVersion { player: number(row, 0)?, version: number(row, 1)? });
        let sql = "SELECT player, version FROM players WHERE account = ? ORDER BY player";
        self.read(async |session| session.rows(sql, vec![key(account)]).await?.iter().map(version).collect())
    }

    fn foremost(&self, by: RankBy, limit: u32) -> Result<Vec<RankEntry>, StoreError> {
        let column_name = ranked_column(by);
        let sql = format!("SELECT player, name, {column_name} FROM players ORDER BY {column_name} DESC, player LIMIT ?");
        let entry = |row: &Row| Ok(RankEntry { player: number(row, 0)?, name: column(row, 1)?, value: number(row, 2)? });
        self.read(async |session| session.rows(&sql, vec![Value::UInt(limit.into())]).await?.iter().map(entry).collect())
    }

    fn standings(&self, after: u64, limit: u32) -> Result<Vec<Standing>, StoreError> {
        let sql = "SELECT player, name, level, coins FROM players WHERE player > ? ORDER BY player LIMIT ?";
        let standing = |row: &Row| {
            let of = Some((column(row, 2)?, number(row, 3)?));
            Ok(Standing { player: number(row, 0)?, name: column(row, 1)?, of })
        };
        self.read(async |session| {
            let values = vec![key(after), Value::UInt(limit.into())];
            session.rows(sql, values).await?.iter().map(standing).collect()
        })
    }

    fn holders(&self, items: &[ItemId]) -> Result<HashMap<ItemId, u64>, StoreError> {
        self.read(async |session| holders(session, items).await)
    }

    fn mail(&self, id: &[u8; 16]) -> Result<Option<Mail>, StoreError> {
        Ok(self.mails("mail = ?", &[Value::Bytes(id.to_vec())])?.pop())
    }

    fn mails_of(&self, player: u64, limit: u32) -> Result<Vec<Mail>, StoreError> {
        self.mails("player = ? AND taken_ms = 0 ORDER BY sent_ms, mail LIMIT ?", &[key(player), Value::UInt(limit.into())])
    }

    fn account_named(&self, name: &str) -> Result<Option<StoredAccount>, StoreError> {
        self.account_where("name = ?", &text(name))
    }

    fn account(&self, account: u64) -> Result<Option<StoredAccount>, StoreError> {
        self.account_where("account = ?", &key(account))
    }

    fn relations(&self, player: u64) -> Result<RelationsOf, StoreError> {
        let to = |row: &Row| Ok(RelationTo { player: number(row, 0)?, name: column(row, 1)?, relation: column(row, 2)? });
        self.read(async |session| {
            // The three answers are of one moment.
            session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
            let outgoing = session
                .rows(
                    "SELECT relations.other, players.name, relations.relation FROM relations JOIN players ON players.player = relations.other
                     WHERE relations.player = ? ORDER BY players.name_key",
                    vec![key(player)],
                )
                .await?;
            let outgoing = outgoing.iter().map(to).collect::<Result<_, Failure>>()?;
            let befriended_by = who(session, player, Relation::Friend).await?;
            let blocked_by = who(session, player, Relation::Block).await?;
            session.run("COMMIT").await?;
            Ok(RelationsOf { outgoing, befriended_by, blocked_by })
        })
    }

    fn sanctions(&self, now_ms: i64, after: u64, limit: u32) -> Result<Vec<Sanction>, StoreError> {
        let sql = "SELECT sanction, kind, sanctions.account, address, COALESCE(accounts.name, ''), reason, made_by, from_ms, until_ms
             FROM sanctions LEFT JOIN accounts ON accounts.account = sanctions.account
             WHERE lifted_ms = 0 AND (until_ms = 0 OR until_ms > ?) AND sanction > ? ORDER BY sanction LIMIT ?";
        let values = [Value::Int(now_ms), key(after), Value::UInt(limit.into())];
        self.read(async |session| session.rows(sql, values.to_vec()).await?.iter().map(sanction).collect())
    }

    fn numbers(&self) -> Result<Numbers, StoreError> {
        self.read(async |session| {
            let (audits, sanctions) = (counter(session, "audit").await?, counter(session, "sanction").await?);
            Ok(Numbers { audits, sanctions })
        })
    }

    fn gm_accounts(&self, limit: u32) -> Result<Vec<GmAccountReply>, StoreError> {
        let sql = "SELECT name, password_hash, role FROM gm_accounts ORDER BY name LIMIT ?";
        self.read(async |session| session.rows(sql, vec![Value::UInt(limit.into())]).await?.iter().map(gm_account).collect())
    }

    fn gm_account(&self, name: &str) -> Result<Option<GmAccountReply>, StoreError> {
        self.read(async |session| {
            let row = session.first("SELECT name, password_hash, role FROM gm_accounts WHERE name = ?", vec![text(name)]).await?;
            row.as_ref().map(gm_account).transpose()
        })
    }

    fn audit(&self, by: &str, command: &str, limit: u32) -> Result<Vec<AuditRecord>, StoreError> {
        let mut conditions = Vec::new();
        let mut values = Vec::new();
        for (condition, value) in [("made_by = ?", by), ("command = ?", command)] {
            if !value.is_empty() {
                conditions.push(condition);
                values.push(text(value));
            }
        }
        let filter = if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
        values.push(Value::UInt(limit.min(LIST_MAX).into()));
        let sql = format!(
            "SELECT audit, at_ms, made_by, role, address, command, arguments, reason, outcome FROM audit {filter}
             ORDER BY audit DESC LIMIT ?"
        );
        self.read(async |session| session.rows(&sql, values.clone()).await?.iter().map(audited).collect())
    }
}

/// Who holds these items; also for the writer.
pub(super) async fn holders(session: &mut Session, items: &[ItemId]) -> Result<HashMap<ItemId, u64>, Failure> {
    let mut holders = HashMap::new();
    for range in statements(&vec![16; items.len()], ITEMS_MAX) {
        let some = &items[range];
        let sql = format!("SELECT item, player FROM items WHERE item IN ({})", vec!["?"; some.len()].join(", "));
        let values = some.iter().map(|item| Value::Bytes(item.to_bytes().to_vec())).collect();
        for row in session.rows(&sql, values).await? {
            let item: Vec<u8> = column(&row, 0)?;
            let item = ItemId::from_bytes(&item).ok_or_else(|| Failure::refused("the id of an item has not 16 bytes"))?;
            holders.insert(item, number(&row, 1)?);
        }
    }
    Ok(holders)
}

async fn who(session: &mut Session, player: u64, relation: Relation) -> Result<Vec<u64>, Failure> {
    let sql = format!("SELECT player FROM relations WHERE other = ? AND relation = ? ORDER BY player LIMIT {WHO_MAX}");
    let rows = session.rows(&sql, vec![key(player), Value::Int(i64::from(relation as i32))]).await?;
    rows.iter().map(|row| number(row, 0)).collect()
}

fn gm_account(row: &Row) -> Result<GmAccountReply, Failure> {
    Ok(GmAccountReply { name: column(row, 0)?, password_hash: column(row, 1)?, role: column(row, 2)? })
}

fn sanction(row: &Row) -> Result<Sanction, Failure> {
    Ok(Sanction {
        id: number(row, 0)?,
        kind: column(row, 1)?,
        account: number(row, 2)?,
        address: column(row, 3)?,
        account_name: column(row, 4)?,
        reason: column(row, 5)?,
        by: column(row, 6)?,
        from_ms: column(row, 7)?,
        until_ms: column(row, 8)?,
    })
}

fn audited(row: &Row) -> Result<AuditRecord, Failure> {
    Ok(AuditRecord {
        id: number(row, 0)?,
        at_ms: column(row, 1)?,
        by: column(row, 2)?,
        role: column(row, 3)?,
        address: column(row, 4)?,
        command: column(row, 5)?,
        arguments: column(row, 6)?,
        reason: column(row, 7)?,
        outcome: column(row, 8)?,
    })
}

fn player(row: &Row) -> Result<StoredPlayer, Failure> {
    let (player, format) = (number(row, 0)?, column::<i64>(row, 1)?);
    if format != RECORD_FORMAT {
        return Err(Failure::refused(format!("player {player} is stored in format {format}, this program knows {RECORD_FORMAT}")));
    }
    let body: Vec<u8> = column(row, 2)?;
    let record = PlayerRecord::decode(&body[..]).map_err(|err| Failure::refused(format!("player {player} can't be decoded: {err}")))?;
    if record.player != player {
        return Err(Failure::refused(format!("the row of player {player} has the record of {}", record.player)));
    }
    let (owner, epoch, version, revision) = (column(row, 3)?, number(row, 4)?, number(row, 5)?, number(row, 6)?);
    Ok(StoredPlayer { record, owner, epoch, version, revision })
}
