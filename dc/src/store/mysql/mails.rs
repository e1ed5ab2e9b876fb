//! Mails, within a transaction that is already begun. Their items leave the mail before the rows of a batch are written, and come to it
//! after.

use std::collections::BTreeMap;

use mysql_async::Value;
use prost::Message;

use super::{
    failure::Failure,
    pace::statements,
    pool::{Session, key},
    write,
};
use crate::{
    ledger::mails::IN_THE_MAIL,
    store::{Batch, RECORD_FORMAT, mails_after},
};

/// The items of the batch's mails are nowhere.
pub(super) async fn free(session: &mut Session, batch: &Batch) -> Result<(), Failure> {
    let items = mails_after(batch).into_iter().flat_map(|mail| &mail.items);
    let items: Vec<&[u8]> = items.map(|item| (&item.id[..], ())).collect::<BTreeMap<_, _>>().into_keys().collect();
    for range in statements(&vec![16; items.len()], usize::MAX) {
        let some = &items[range];
        let sql = format!("DELETE FROM items WHERE player = ? AND item IN ({})", write::marks(some.len()));
        let ids = some.iter().map(|item| Value::Bytes(item.to_vec()));
        session.execute(&sql, std::iter::once(key(IN_THE_MAIL)).chain(ids).collect()).await?;
    }
    Ok(())
}

/// The mails are as the batch leaves them. One that was taken stays so.
pub(super) async fn keep(session: &mut Session, batch: &Batch) -> Result<(), Failure> {
    let mails = mails_after(batch);
    let bodies: Vec<Vec<u8>> = mails.iter().map(|mail| mail.encode_to_vec()).collect();
    let sizes: Vec<usize> = bodies.iter().map(|body| 128 + body.len()).collect();
    for range in statements(&sizes, usize::MAX) {
        // `taken_ms` is the last to change: `body` is guarded by it.
        let sql = format!(
            "INSERT INTO mails (mail, player, sender, coins, sent_ms, taken_ms, format, body) VALUES {} ON DUPLICATE KEY UPDATE
             body = IF(mails.taken_ms = 0, VALUES(body), mails.body), taken_ms = IF(mails.taken_ms = 0, VALUES(taken_ms), mails.taken_ms)",
            vec!["(?, ?, ?, ?, ?, ?, ?, ?)"; range.len()].join(", ")
        );
        let values = mails[range.clone()].iter().zip(&bodies[range]).flat_map(|(mail, body)| {
            let (id, body) = (Value::Bytes(mail.id.to_vec()), Value::Bytes(body.clone()));
            let (sent, taken, format) = (Value::Int(mail.sent_ms), Value::Int(mail.taken_ms), Value::Int(RECORD_FORMAT));
            [id, key(mail.to), key(mail.from), key(mail.coins), sent, taken, format, body]
        });
        session.execute(&sql, values.collect()).await?;
    }
    let waiting = mails.iter().filter(|mail| mail.taken_ms == 0);
    let items = waiting.flat_map(|mail| mail.items.iter().map(|item| (item, IN_THE_MAIL))).collect();
    write::insert_items(session, items, usize::MAX).await.map(drop)
}
