//! What characters have, put into the database of a zone that does not run: earning it would take a test minutes.

use std::path::Path;

use prost::Message;
use proto::{
    client::{Item, Position},
    record::PlayerRecord,
};
use rusqlite::{Connection, OpenFlags};

/// What a character is to have, and where it is to stand.
pub struct Purse {
    pub name: String,
    pub coins: u64,
    /// Each is one item more, with this id.
    pub items: Vec<[u8; 16]>,
    pub map: String,
    pub at: Position,
}

/// Fills the purses of characters that are there. `folder`: the zone's.
pub fn fill(folder: &Path, purses: &[Purse]) {
    let mut store = open(folder, OpenFlags::SQLITE_OPEN_READ_WRITE);
    let filling = store.transaction().expect("begin");
    for purse in purses {
        let (player, body): (i64, Vec<u8>) = filling
            .query_row("SELECT player, body FROM players WHERE name = ?1", [&purse.name], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap_or_else(|err| panic!("find {}: {err}", purse.name));
        let mut record = PlayerRecord::decode(&body[..]).expect("a record");
        (record.coins, record.map, record.position) = (purse.coins, purse.map.clone(), Some(purse.at));
        for id in &purse.items {
            record.items.push(Item { id: id.to_vec().into(), kind: "tusk".into(), count: 1 });
            filling
                .execute("INSERT INTO items (item, player, kind, amount) VALUES (?1, ?2, 'tusk', 1)", (&id[..], player))
                .expect("an item");
        }
        let coins = i64::try_from(purse.coins).expect("so many coins fit");
        let changed = filling.execute(
            "UPDATE players SET coins = ?1, map = ?2, body = ?3 WHERE player = ?4",
            (coins, &purse.map, record.encode_to_vec(), player),
        );
        assert_eq!(changed.expect("update a player"), 1);
    }
    filling.commit().expect("commit");
}

/// The database of a zone's dc.
pub fn open(folder: &Path, flags: OpenFlags) -> Connection {
    Connection::open_with_flags(folder.join("dc-1/players.sqlite"), flags).expect("open dc's database")
}
