//! Mails on SQLite. Their items leave the mail before the rows of a batch are written, and come to it after.

use std::collections::HashSet;

use prost::Message;
use proto::record::Mail;
use rusqlite::Transaction;

use super::{Batch, RECORD_FORMAT, StoreError, key};
use crate::{ledger::mails::IN_THE_MAIL, store::mails_after};

/// The items of the batch's mails are nowhere.
pub(super) fn free(transaction: &Transaction<'_>, batch: &Batch) -> Result<(), StoreError> {
    let items: HashSet<&[u8]> = mails_after(batch).into_iter().flat_map(|mail| &mail.items).map(|item| &item.id[..]).collect();
    let mut delete = transaction.prepare_cached("DELETE FROM items WHERE item = ?1 AND player = ?2")?;
    for item in items {
        delete.execute((item, key(IN_THE_MAIL)))?;
    }
    Ok(())
}

/// The mails are as the batch leaves them.
pub(super) fn keep(transaction: &Transaction<'_>, batch: &Batch) -> Result<(), StoreError> {
    for mail in mails_after(batch) {
        upsert(transaction, mail)?;
        if mail.taken_ms != 0 {
            continue;
        }
        let mut insert = transaction.prepare_cached("INSERT INTO items (item, player, kind, amount) VALUES (?1, ?2, ?3, ?4)")?;
        for item in &mail.items {
            insert.execute((&item.id[..], key(IN_THE_MAIL), &item.kind, item.count))?;
        }
    }
    Ok(())
}

fn upsert(transaction: &Transaction<'_>, mail: &Mail) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "INSERT INTO mails (mail, player, sender, coins, sent_ms, taken_ms, format, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (mail) DO UPDATE SET taken_ms = excluded.taken_ms, body = excluded.body WHERE mails.taken_ms = 0",
        )?
        .execute((
            &mail.id[..],
            key(mail.to),
            key(mail.from),
            key(mail.coins),
            mail.sent_ms,
            mail.taken_ms,
            RECORD_FORMAT,
            mail.encode_to_vec(),
        ))?;
    Ok(())
}
