//! A player as dc has it, for people: `GET /players/NAME` on the admin port, which `zone dc show` asks.

use std::sync::Arc;

use axum::{Json, Router, extract::Path, http::StatusCode, routing::get};
use proto::{client::Item, names, record::PlayerRecord};
use serde_json::{Value, json};

use super::Desk;
use crate::{ledger::records::Life, refusal::Refusal};

/// The route.
pub(crate) fn routes(desk: Arc<Desk>) -> Router {
    Router::new().route("/players/{name}", get(async move |Path(name): Path<String>| answer(desk.show(&name).await)))
}

fn answer(shown: Result<Value, Refusal>) -> (StatusCode, Json<Value>) {
    match shown {
        Ok(shown) => (StatusCode::OK, Json(shown)),
        Err(refusal) => {
            let status = match refusal {
                Refusal::NotFound(_) => StatusCode::NOT_FOUND,
                Refusal::Unavailable(_) | Refusal::Away(_) => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, Json(json!({ "error": refusal.to_string() })))
        }
    }
}

impl Desk {
    /// The record of a player, by name in any case or by number; its owner and epoch; up to which version it is safe, and where.
    pub(crate) async fn show(&self, name: &str) -> Result<Value, Refusal> {
        let name_key = names::player_key(name);
        let player = match self.named(name_key).await? {
            Some(player) => player,
            None => name.parse().map_err(|_| Refusal::NotFound("player"))?,
        };
        let in_store = self.read(move |reader| Ok(reader.player(player)?.map(|stored| stored.version))).await?;
        self.with_records(&[player], |state| {
            let hot = state.ledger.read(player)?.clone();
            let journal = state.ledger.safe_version(&hot);
            // Memory knows better than a read that is a moment old.
            let store = if hot.stored_lsn == hot.lsn { Some(hot.version) } else { in_store };
            Ok(json!({
                "player": player,
                "name": hot.record.name,
                "owner": *hot.owner,
                "epoch": hot.epoch,
                "version": hot.version,
                "journal_version": journal,
                "store_version": store,
                "read_only": hot.life == Life::SetAside,
                "safe": safe(journal, store),
                "record": record(&hot.record),
            }))
        })
        .await
    }
}

fn safe(journal: u64, store: Option<u64>) -> String {
    let store = store.map_or("none".to_owned(), |version| version.to_string());
    format!("safe up to version {journal} in journal, {store} in database")
}

fn record(record: &PlayerRecord) -> Value {
    let item = |item: &Item| json!({ "id": hex(&item.id), "kind": item.kind, "count": item.count });
    json!({
        "account": record.account,
        "level": record.level,
        "experience": record.experience,
        "coins": record.coins,
        "hp": record.hp,
        "map": record.map,
        "line": record.line,
        "position_cm": record.position.map(|position| json!({ "x": position.x, "y": position.y })),
        "items": record.items.iter().map(item).collect::<Vec<_>>(),
        "rules_bytes": record.rules.len(),
        "created_ms": record.created_ms,
        "seen_ms": record.seen_ms,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
