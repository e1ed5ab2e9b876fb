//! Reads on SQLite: each call sees what was committed before it.

use std::{collections::HashMap, path::Path};

use anyhow::Context;
use prost::Message;
use proto::{
    ids::ItemId,
    internal::{AuditRecord, GmAccountReply, RankBy, RankEntry, Relation, RelationTo, RoleVersion, Sanction},
    record::{Mail, PlayerRecord},
};
use rusqlite::{OptionalExtension, named_params};
use service::cache::ranking::Standing;

use super::{BUSY_TIMEOUT, Connection, OpenFlags, StoredPlayer, facts, key, unsigned};
use crate::ledger::facts::Numbers;
use crate::store::{LIST_MAX, RECORD_FORMAT, Reader, RelationsOf, StoreError, StoredAccount, ranked_column, read_mail};

/// Reads from SQLite.
pub(super) struct SqliteReader(Connection);

impl SqliteReader {
    pub(super) fn open(file: &Path) -> anyhow::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags).with_context(|| format!("open {} for reading", file.display()))?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Self(connection))
    }

    fn players(&self, sql: &str, of: u64) -> Result<Vec<StoredPlayer>, StoreError> {
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = statement.query([key(of)])?;
        let mut players = Vec::new();
        while let Some(row) = rows.next()? {
            players.push(player(row)?);
        }
        Ok(players)
    }

    fn mails(&self, sql: &str, of: impl rusqlite::Params) -> Result<Vec<Mail>, StoreError> {
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = statement.query(of)?;
        let mut mails = Vec::new();
        while let Some(row) = rows.next()? {
            let (format, body): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
            mails.push(read_mail(format, &body)?);
        }
        Ok(mails)
    }

    fn account_where(&self, sql: &str, value: impl rusqlite::ToSql) -> Result<Option<StoredAccount>, StoreError> {
        let account =
            |row: &rusqlite::Row<'_>| Ok(StoredAccount { account: unsigned(row.get(0)?), name: row.get(1)?, password_hash: row.get(2)? });
        Ok(self.0.prepare_cached(sql)?.query_row([value], account).optional()?)
    }

    fn who(&self, player: u64, relation: Relation) -> Result<Vec<u64>, StoreError> {
        let mut statement =
            self.0.prepare_cached("SELECT player FROM relations WHERE other = ?1 AND relation = ?2 ORDER BY player LIMIT 10000")?;
        let rows = statement.query_map((key(player), relation as i32), |row| row.get(0).map(unsigned))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Reader for SqliteReader {
    fn player(&self, player: u64) -> Result<Option<StoredPlayer>, StoreError> {
        let sql = "SELECT player, format, body, owner, epoch, version, revision FROM players WHERE player = ?1";
        Ok(self.players(sql, player)?.pop())
    }

    fn set_aside(&self, player: u64) -> Result<Option<StoredPlayer>, StoreError> {
        let sql = "SELECT player, format, body, '', 0, version, 0 FROM set_aside WHERE player = ?1 ORDER BY version DESC LIMIT 1";
        Ok(self.players(sql, player)?.pop())
    }

    fn player_named(&self, name_key: &str) -> Result<Option<u64>, StoreError> {
        let mut statement = self.0.prepare_cached("SELECT player FROM players WHERE name_key = ?1")?;
        Ok(statement.query_row([name_key], |row| row.get(0).map(unsigned)).optional()?)
    }

    fn versions_of(&self, account: u64) -> Result<Vec<RoleVersion>, StoreError> {
        let mut statement = self.0.prepare_cached("SELECT player, version FROM players WHERE account = ?1 ORDER BY player")?;
        let version = |row: &rusqlite::Row<'_>| Ok(RoleVersion { player: unsigned(row.get(0)?), version: unsigned(row.get(1)?) });
        Ok(statement.query_map([key(account)], version)?.collect::<Result<_, _>>()?)
    }

    fn foremost(&self, by: RankBy, limit: u32) -> Result<Vec<RankEntry>, StoreError> {
        let column = ranked_column(by);
        let sql = format!("SELECT player, name, {column} FROM players ORDER BY {column} DESC, player LIMIT ?1");
        let entry =
            |row: &rusqlite::Row<'_>| Ok(RankEntry { player: unsigned(row.get(0)?), name: row.get(1)?, value: unsigned(row.get(2)?) });
        Ok(self.0.prepare_cached(&sql)?.query_map([limit], entry)?.collect::<Result<_, _>>()?)
    }

    fn standings(&self, after: u64, limit: u32) -> Result<Vec<Standing>, StoreError> {
        let sql = "SELECT player, name, level, coins FROM players WHERE player > ?1 ORDER BY player LIMIT ?2";
        let standing = |row: &rusqlite::Row<'_>| {
            Ok(Standing { player: unsigned(row.get(0)?), name: row.get(1)?, of: Some((row.get(2)?, unsigned(row.get(3)?))) })
        };
        Ok(self.0.prepare_cached(sql)?.query_map((key(after), limit), standing)?.collect::<Result<_, _>>()?)
    }

    fn holders(&self, items: &[ItemId]) -> Result<HashMap<ItemId, u64>, StoreError> {
        let mut statement = self.0.prepare_cached("SELECT player FROM items WHERE item = ?1")?;
        let mut holders = HashMap::new();
        for item in items {
            let holder: Option<i64> = statement.query_row([&item.to_bytes()[..]], |row| row.get(0)).optional()?;
            holders.extend(holder.map(|player| (*item, unsigned(player))));
        }
        Ok(holders)
    }

    fn mail(&self, id: &[u8; 16]) -> Result<Option<Mail>, StoreError> {
        Ok(self.mails("SELECT format, body FROM mails WHERE mail = ?1", [&id[..]])?.pop())
    }

    fn mails_of(&self, player: u64, limit: u32) -> Result<Vec<Mail>, StoreError> {
        let sql = "SELECT format, body FROM mails WHERE player = ?1 AND taken_ms = 0 ORDER BY sent_ms, mail LIMIT ?2";
        self.mails(sql, (key(player), limit))
    }

    fn account_named(&self, name: &str) -> Result<Option<StoredAccount>, StoreError> {
        self.account_where("SELECT account, name, password_hash FROM accounts WHERE name = ?1", name)
    }

    fn account(&self, account: u64) -> Result<Option<StoredAccount>, StoreError> {
        self.account_where("SELECT account, name, password_hash FROM accounts WHERE account = ?1", key(account))
    }

    fn relations(&self, player: u64) -> Result<RelationsOf, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT relations.other, players.name, relations.relation FROM relations JOIN players ON players.player = relations.other
             WHERE relations.player = ?1 ORDER BY players.name_key",
        )?;
        let to = |row: &rusqlite::Row<'_>| Ok(RelationTo { player: unsigned(row.get(0)?), name: row.get(1)?, relation: row.get(2)? });
        let outgoing = statement.query_map([key(player)], to)?.collect::<Result<_, _>>()?;
        Ok(RelationsOf { outgoing, befriended_by: self.who(player, Relation::Friend)?, blocked_by: self.who(player, Relation::Block)? })
    }

    fn sanctions(&self, now_ms: i64, after: u64, limit: u32) -> Result<Vec<Sanction>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT sanction, kind, sanctions.account, address, COALESCE(accounts.name, ''), reason, made_by, from_ms, until_ms
             FROM sanctions LEFT JOIN accounts ON accounts.account = sanctions.account
             WHERE lifted_ms = 0 AND (until_ms = 0 OR until_ms > ?1) AND sanction > ?2 ORDER BY sanction LIMIT ?3",
        )?;
        Ok(statement.query_map((now_ms, key(after), limit), sanction)?.collect::<Result<_, _>>()?)
    }

    fn numbers(&self) -> Result<Numbers, StoreError> {
        facts::numbers(&self.0)
    }

    fn gm_accounts(&self, limit: u32) -> Result<Vec<GmAccountReply>, StoreError> {
        let mut statement = self.0.prepare_cached("SELECT name, password_hash, role FROM gm_accounts ORDER BY name LIMIT ?1")?;
        Ok(statement.query_map([limit], gm_account)?.collect::<Result<_, _>>()?)
    }

    fn gm_account(&self, name: &str) -> Result<Option<GmAccountReply>, StoreError> {
        let mut statement = self.0.prepare_cached("SELECT name, password_hash, role FROM gm_accounts WHERE name = ?1")?;
        Ok(statement.query_row([name], gm_account).optional()?)
    }

    fn audit(&self, by: &str, command: &str, limit: u32) -> Result<Vec<AuditRecord>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT audit, at_ms, made_by, role, address, command, arguments, reason, outcome FROM audit
             WHERE (:by = '' OR made_by = :by) AND (:command = '' OR command = :command) ORDER BY audit DESC LIMIT :limit",
        )?;
        let rows = statement.query_map(named_params! { ":by": by, ":command": command, ":limit": limit.min(LIST_MAX) }, |row| {
            Ok(AuditRecord {
                id: unsigned(row.get(0)?),
                at_ms: row.get(1)?,
                by: row.get(2)?,
                role: row.get(3)?,
                address: row.get(4)?,
                command: row.get(5)?,
                arguments: row.get(6)?,
                reason: row.get(7)?,
                outcome: row.get(8)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn gm_account(row: &rusqlite::Row<'_>) -> rusqlite::Result<GmAccountReply> {
    Ok(GmAccountReply { name: row.get(0)?, password_hash: row.get(1)?, role: row.get(2)? })
}

fn sanction(row: &rusqlite::Row<'_>) -> rusqlite::Result<Sanction> {
    Ok(Sanction {
        id: unsigned(row.get(0)?),
        kind: row.get(1)?,
        account: unsigned(row.get(2)?),
        address: row.get(3)?,
        account_name: row.get(4)?,
        reason: row.get(5)?,
        by: row.get(6)?,
        from_ms: row.get(7)?,
        until_ms: row.get(8)?,
    })
}

fn player(row: &rusqlite::Row<'_>) -> Result<StoredPlayer, StoreError> {
    let (player, format) = (unsigned(row.get(0)?), row.get::<_, i64>(1)?);
    if format != RECORD_FORMAT {
        return Err(StoreError::Refused(format!("player {player} is stored in format {format}, this program knows {RECORD_FORMAT}")));
    }
    let body: Vec<u8> = row.get(2)?;
    let record = PlayerRecord::decode(&body[..]).map_err(|err| StoreError::Refused(format!("player {player} can't be decoded: {err}")))?;
    if record.player != player {
        return Err(StoreError::Refused(format!("the row of player {player} has the record of {}", record.player)));
    }
    let (owner, epoch, version, revision) = (row.get(3)?, unsigned(row.get(4)?), unsigned(row.get(5)?), unsigned(row.get(6)?));
    Ok(StoredPlayer { record, owner, epoch, version, revision })
}
